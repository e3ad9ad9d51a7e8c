// Structured logs: one JSON object per line on stderr, without personal data and without secrets.
import Foundation
import Logging
import Settings

/// Starts the log of a process.
public enum LogBootstrap {
    static let writer = LogWriter(descriptor: STDERR_FILENO)

    /// Makes every `Logger` of this process write JSON lines of `level` and above to stderr. Once per process.
    ///
    /// - Parameters:
    ///   - level: least severe lines that are written.
    ///   - node: name of the node, a member of each line.
    public static func start(level: LogLevel, node: String) {
        let writer = writer
        let level = Logger.Level(rawValue: level.rawValue) ?? .info
        LoggingSystem.bootstrap { label in
            JSONLogHandler(label: label, node: node, logLevel: level) { writer.append($0) }
        }
    }

    /// A logger whose JSON lines are appended to a file that only this user reads. Each is written before the call returns.
    /// - Throws: when the file cannot be opened.
    public static func file(_ path: String, label: String) throws -> Logger {
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        let file = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
        return Logger(label: label) { label in
            JSONLogHandler(label: label, node: label, logLevel: .info) { line in
                try? file.write(contentsOf: Data(line))
            }
        }
    }

    /// Waits at most two seconds until the lines so far are written.
    public static func flush() { writer.flush(patience: .seconds(2)) }
}

/// A log handler that makes one JSON object of each line: `time`, `level`, `logger`, `node`, `message`, then the
/// metadata. Members whose names promise a secret or personal data are not written, whoever passes them.
struct JSONLogHandler: LogHandler {
    let label: String
    let node: String
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    let write: @Sendable ([UInt8]) -> Void

    init(
        label: String, node: String, logLevel: Logger.Level, write: @escaping @Sendable ([UInt8]) -> Void
    ) {
        self.label = label
        self.node = node
        self.logLevel = logLevel
        self.write = write
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var line = JSONLine()
        line.member("time", Timestamp.text(Date()))
        line.member("level", event.level.rawValue)
        line.member("logger", label)
        line.member("node", node)
        line.member("message", "\(event.message)")
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { _, new in new } }
        if let own = event.metadata { all.merge(own) { _, new in new } }
        if let error = event.error { all["error"] = "\(error)" }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            line.key(Self.reserved.contains(key) ? "_" + key : key)
            Self.append(value, named: key, to: &line)
        }
        write(line.finished())
    }

    private static let reserved: Set<String> = ["time", "level", "logger", "node", "message"]
    private static let personal: Set<String> = [
        "address", "from", "mail_from", "rcpt", "rcpt_to", "recipient", "recipients", "sender", "subject",
        "to",
    ]
    private static let secret = [
        "authorization", "credential", "dsn", "password", "private", "secret", "token",
    ]

    /// Whether a member of this name must not be written. A net below the rule, not the rule.
    static func isWithheld(_ name: String) -> Bool {
        let name = name.lowercased()
        return personal.contains(name) || secret.contains { name.contains($0) }
    }

    private static func append(_ value: Logger.Metadata.Value, named name: String, to line: inout JSONLine) {
        if isWithheld(name) { return line.quote("(withheld)") }
        switch value {
        case .string(let text): line.quote(text)
        case .stringConvertible(let value): line.quote("\(value)")
        case .array(let values):
            line.raw("[")
            for (i, value) in values.enumerated() {
                if i > 0 { line.raw(",") }
                append(value, named: name, to: &line)
            }
            line.raw("]")
        case .dictionary(let members):
            line.raw("{")
            for (i, (key, value)) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if i > 0 { line.raw(",") }
                line.quote(key)
                line.raw(":")
                append(value, named: key, to: &line)
            }
            line.raw("}")
        }
    }
}
