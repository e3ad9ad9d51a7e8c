// What a supervisor tells whoever started it: progress, then ready or failed. One JSON object a line.

import Foundation

/// A line of the report.
public enum UpReport: Sendable, Codable, Equatable {
    /// Something is being done.
    case progress(String)
    /// Everything is ready.
    case ready
    /// It cannot be done, and everything was taken down again.
    case failed(String)
}

/// Where a supervisor reports to.
public enum ReportSink: Sendable {
    /// A descriptor that another process reads ``UpReport`` lines from.
    case descriptor(Int32)
    /// People.
    case terminal(@Sendable (String) -> Void)

    /// Reports; false when nobody listens any more.
    @discardableResult
    func send(_ report: UpReport) -> Bool {
        switch self {
        case .terminal(let say):
            if case .progress(let text) = report { say(text) }
            return true
        case .descriptor(let descriptor):
            guard let data = try? JSONEncoder().encode(report) else { return false }
            let line = Array(data) + [0x0A]
            return line.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) == $0.count }
        }
    }

    /// No more reports.
    func end() {
        if case .descriptor(let descriptor) = self { close(descriptor) }
    }
}
