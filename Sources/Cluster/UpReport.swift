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
public struct ReportSink: Sendable {
    private let deliver: @Sendable (UpReport) -> Bool
    private let close: @Sendable () -> Void

    private init(_ deliver: @escaping @Sendable (UpReport) -> Bool, close: @escaping @Sendable () -> Void) {
        self.deliver = deliver
        self.close = close
    }

    /// A descriptor that another process reads ``UpReport`` lines from.
    public static func descriptor(_ descriptor: Int32) -> ReportSink {
        // Not for children: an end that they hold would never close.
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        return ReportSink {
            guard let data = try? JSONEncoder().encode($0) else { return false }
            let line = Array(data) + [0x0A]
            return line.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) == $0.count }
        } close: {
            Foundation.close(descriptor)
        }
    }

    /// People: progress goes to `say`.
    public static func terminal(
        _ say: @escaping @Sendable (String) -> Void, whenReady: @escaping @Sendable () -> Void
    )
        -> ReportSink
    {
        ReportSink {
            switch $0 {
            case .progress(let text): say(text)
            case .ready: whenReady()
            case .failed: break
            }
            return true
        } close: {
        }
    }

    /// Reports; false when nobody listens any more.
    @discardableResult
    func send(_ report: UpReport) -> Bool { deliver(report) }

    /// No more reports.
    func end() { close() }
}
