// What was logged, for tests that must see an alarm, or none.

import Logging
import Synchronization

/// Keeps every line that its logger is given.
final class LogRecord: Sendable {
    /// One line.
    struct Line: Sendable {
        /// How grave it is.
        var level: Logger.Level
        /// Its fixed text.
        var message: String
    }

    private let kept = Mutex<[Line]>([])

    /// What was logged so far, in order.
    var lines: [Line] { kept.withLock { $0 } }

    /// A logger whose lines are kept here, all levels.
    var logger: Logger { Logger(label: "test") { _ in Handler(record: self) } }

    private struct Handler: LogHandler {
        let record: LogRecord
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            record.kept.withLock { $0.append(Line(level: event.level, message: "\(event.message)")) }
        }
    }
}
