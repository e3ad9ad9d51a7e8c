// Owner of one PGconn of libpq: sends, waits, receives. Everything here happens on the connection's own thread.

import CLibPQ
import Glibc

/// What may end the work at hand: its deadline, or the cancellation of the task that asked.
struct CommandWatch {
    var deadline: ContinuousClock.Instant
    var isCancelled: @Sendable () -> Bool
    /// Why a cancel request was sent, once it was.
    var cause: PostgresError.Code?
    /// When to give the connection up, once a cancel request was sent and the server does not answer it.
    var giveUp: ContinuousClock.Instant?
    /// When to ask again: a server process that had not read its command yet passes a cancel over.
    var askAgain: ContinuousClock.Instant?

    /// How long the server may take to answer a cancel request.
    static let patience: Duration = .seconds(10)

    /// For our own short commands (ROLLBACK), which run even after the job was cancelled.
    static func short() -> CommandWatch {
        CommandWatch(deadline: .now + .seconds(5), isCancelled: { false })
    }

    /// Why no further command may begin.
    func refusal() -> PostgresError? {
        if let cause {
            return PostgresError(cause, "the job was \(cause == .timeout ? "too late" : "cancelled")")
        }
        if isCancelled() { return PostgresError(.cancelled, "the job was cancelled") }
        if deadline <= .now { return PostgresError(.timeout, "the deadline of the job passed") }
        return nil
    }
}

/// Takes what the notice receiver is given. Lives on the connection's thread, as long as the connection.
final class NoticeInbox {
    /// A command that says more than this is not read to its end: the oldest notices go, save those that doubt a commit.
    static let limit = 64
    private var notices: [PostgresNotice] = []

    func add(_ notice: PostgresNotice) {
        if notices.count >= Self.limit {
            notices.remove(at: notices.firstIndex { !$0.doubtsCommit } ?? 0)
        }
        notices.append(notice)
    }

    func take() -> [PostgresNotice] {
        if notices.isEmpty { return [] }
        defer { notices = [] }
        return notices
    }
}

/// One connection. Not Sendable: made, used and finished on one thread.
final class ConnectionHandle {
    private let pointer: OpaquePointer
    private let cancelToken: OpaquePointer?
    private let wakeDescriptor: Int32
    private let abandonment: () -> String?
    let inbox = NoticeInbox()
    var watch = CommandWatch.short()
    /// Nothing more can be asked of this connection.
    private(set) var isLost = false

    /// Connects; blocks this thread for at most the connect timeout of each host.
    /// - Parameters:
    ///   - wakeDescriptor: an eventfd; writing to it makes a waiting handle look at its watch.
    ///   - abandonment: why nothing is to be waited for any more; nil as long as it is.
    init(
        _ configuration: PostgresConfiguration, wakeDescriptor: Int32, abandonment: @escaping () -> String?
    ) throws(PostgresError) {
        let pairs = configuration.keywords
        var keywords = pairs.map { strdup($0.0) }
        var values = pairs.map { strdup($0.1) }
        defer { for text in keywords + values { free(text) } }
        keywords.append(nil)
        values.append(nil)
        var constKeywords = keywords.map { UnsafePointer($0) }
        var constValues = values.map { UnsafePointer($0) }
        guard let pointer = PQconnectdbParams(&constKeywords, &constValues, 1) else {
            throw PostgresError(.connectFailed, "out of memory")
        }
        guard PQstatus(pointer) == CONNECTION_OK else {
            let message = Self.firstLine(PQerrorMessage(pointer))
            PQfinish(pointer)
            throw PostgresError(.connectFailed, message)
        }
        self.pointer = pointer
        self.wakeDescriptor = wakeDescriptor
        self.abandonment = abandonment
        cancelToken = PQgetCancel(pointer)
        PQsetnonblocking(pointer, 1)
        // The inbox outlives the connection: `finish` ends libpq's use of it before this object can go.
        PQsetNoticeReceiver(
            pointer,
            { inbox, result in
                guard let inbox, let result else { return }
                Unmanaged<NoticeInbox>.fromOpaque(inbox).takeUnretainedValue().add(
                    ResultHandle.notice(result))
            }, Unmanaged.passUnretained(inbox).toOpaque())
    }

    /// Closes the connection. Nothing may be called afterwards.
    func finish() {
        PQfreeCancel(cancelToken)
        PQfinish(pointer)
    }

    // MARK: State

    /// No transaction is open.
    var isIdle: Bool { PQtransactionStatus(pointer) == PQTRANS_IDLE }
    /// The server's process for this connection.
    var processID: Int32 { PQbackendPID(pointer) }

    private static func firstLine(_ text: UnsafePointer<CChar>?) -> String {
        guard let text else { return "no message" }
        return String(cString: text).split(separator: "\n").first.map(String.init) ?? "no message"
    }

    func lost() -> PostgresError {
        isLost = true
        return PostgresError(.connectionLost, Self.firstLine(PQerrorMessage(pointer)))
    }

    private func sent(_ outcome: Int32) throws(PostgresError) {
        guard outcome != 1 else { return }
        if PQstatus(pointer) == CONNECTION_BAD { throw lost() }
        throw PostgresError(.protocolViolation, Self.firstLine(PQerrorMessage(pointer)))
    }

    // MARK: Sending. Each only fills libpq's buffer; `flush` sees to it that it leaves.

    func sendSimple(_ sql: String) throws(PostgresError) { try sent(PQsendQuery(pointer, sql)) }

    func sendPrepare(_ name: String, _ text: String, _ types: [PostgresType]) throws(PostgresError) {
        try sent(PQsendPrepare(pointer, name, text, Int32(types.count), types.map(\.rawValue)))
    }

    /// Binary parameters, binary results.
    func sendExecute(_ name: String, _ parameters: [PostgresValue]) throws(PostgresError) {
        guard !parameters.isEmpty else {
            try sent(PQsendQueryPrepared(pointer, name, 0, nil, nil, nil, 1))
            return
        }
        // All parameters in one buffer; libpq copies from there.
        var writer = BinaryWriter()
        var ranges: [Range<Int>?] = []
        for parameter in parameters {
            if case .null = parameter {
                ranges.append(nil)
                continue
            }
            let start = writer.bytes.count
            writer.payload(parameter)
            ranges.append(start..<writer.bytes.count)
        }
        writer.bytes.append(0)  // an empty last value still needs an address
        let lengths = ranges.map { Int32(truncatingIfNeeded: $0?.count ?? 0) }
        let formats = [Int32](repeating: 1, count: ranges.count)
        let outcome = writer.bytes.withUnsafeBytes { raw in
            let values = ranges.map { range in
                range.flatMap {
                    raw.baseAddress?.advanced(by: $0.lowerBound).assumingMemoryBound(to: CChar.self)
                }
            }
            return PQsendQueryPrepared(pointer, name, Int32(ranges.count), values, lengths, formats, 1)
        }
        try sent(outcome)
    }

    func enterPipeline() throws(PostgresError) { try sent(PQenterPipelineMode(pointer)) }
    func syncPipeline() throws(PostgresError) { try sent(PQpipelineSync(pointer)) }
    func leavePipeline() throws(PostgresError) { try sent(PQexitPipelineMode(pointer)) }

    /// Feeds a COPY; blocks this thread until the socket has taken it, so that libpq's buffer stays small.
    func putCopy(_ bytes: [UInt8]) throws(PostgresError) {
        let slice = 128 * 1024
        var offset = 0
        while offset < bytes.count {
            let count = min(slice, bytes.count - offset)
            let outcome = bytes.withUnsafeBytes { raw in
                PQputCopyData(
                    pointer, raw.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self),
                    Int32(count))
            }
            if outcome == 0 {
                try wait(forWriting: true)
                continue
            }
            try sent(outcome)
            offset += count
            try flush()
        }
    }

    /// Ends a COPY; with a reason, the server makes an error of it.
    func endCopy(failing reason: String? = nil) throws(PostgresError) {
        while true {
            let outcome = PQputCopyEnd(pointer, reason)
            if outcome != 0 { return try sent(outcome) }
            try wait(forWriting: true)
        }
    }

    /// Sends all that is buffered, reading meanwhile so that neither side waits for the other for ever.
    func flush() throws(PostgresError) {
        while true {
            switch PQflush(pointer) {
            case 0: return
            case 1:
                if try wait(forWriting: true), PQconsumeInput(pointer) == 0 { throw lost() }
            default: throw lost()
            }
        }
    }

    // MARK: Receiving

    /// The next result of the command, nil at its end. A broken connection comes as a failed result, and sets `isLost`.
    func next() throws(PostgresError) -> ResultHandle? {
        while PQisBusy(pointer) == 1 {
            try wait(forWriting: false)
            // After end of file what was read before it is still to be parsed: PQgetResult below does, without blocking.
            if PQconsumeInput(pointer) == 0 { break }
        }
        let result = PQgetResult(pointer).map(ResultHandle.init)
        if PQstatus(pointer) == CONNECTION_BAD { isLost = true }
        if result?.status == .failed, result?.endsConnection == true { isLost = true }
        return result
    }

    /// Takes what came while no command ran.
    /// - Returns: false when the connection is gone.
    func receiveIdle(_ take: (PostgresNotification) -> Void) -> Bool {
        let alive = PQconsumeInput(pointer) == 1 && PQstatus(pointer) == CONNECTION_OK
        takeNotifications(take)
        if !alive { isLost = true }
        return alive
    }

    func takeNotifications(_ take: (PostgresNotification) -> Void) {
        while let notify = PQnotifies(pointer) {
            take(
                PostgresNotification(
                    channel: String(cString: notify.pointee.relname),
                    payload: notify.pointee.extra.map { String(cString: $0) } ?? "",
                    processID: notify.pointee.be_pid))
            PQfreemem(notify)
        }
    }

    // MARK: Waiting

    /// Blocks until something arrives or the wake descriptor is written.
    func waitIdle() -> (socket: Bool, wake: Bool) {
        var descriptors = [
            pollfd(fd: PQsocket(pointer), events: Int16(POLLIN), revents: 0),
            pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0),
        ]
        guard poll(&descriptors, 2, -1) > 0 else { return (false, false) }
        if descriptors[1].revents != 0 { drainWake() }
        return (descriptors[0].revents != 0, descriptors[1].revents != 0)
    }

    private func drainWake() {
        var count: UInt64 = 0
        _ = read(wakeDescriptor, &count, 8)
    }

    /// Blocks until the socket is ready; on the way sends a cancel request if the watch says so.
    /// - Returns: whether the socket is readable.
    @discardableResult
    private func wait(forWriting: Bool) throws(PostgresError) -> Bool {
        while true {
            if let reason = abandonment() {
                isLost = true
                throw PostgresError(.connectionLost, reason)
            }
            let now = ContinuousClock.now
            if let giveUp = watch.giveUp, now >= giveUp {
                isLost = true
                throw PostgresError(
                    watch.cause ?? .timeout, "the server did not answer a cancel request: connection given up"
                )
            }
            if watch.cause == nil {
                if watch.isCancelled() {
                    requestCancel(.cancelled)
                } else if now >= watch.deadline {
                    requestCancel(.timeout)
                }
            } else if let askAgain = watch.askAgain, now >= askAgain {
                sendCancel()
            }
            let until = watch.askAgain.map { min($0, watch.giveUp ?? $0) } ?? watch.deadline
            let milliseconds = Int32(clamping: Int((until - now) / .milliseconds(1)) + 1)
            var descriptors = [
                pollfd(
                    fd: PQsocket(pointer), events: Int16(forWriting ? POLLIN | POLLOUT : POLLIN), revents: 0),
                pollfd(fd: wakeDescriptor, events: Int16(POLLIN), revents: 0),
            ]
            let ready = poll(&descriptors, 2, max(1, milliseconds))
            if ready < 0, errno != EINTR { throw lost() }
            guard ready > 0 else { continue }
            if descriptors[1].revents != 0 { drainWake() }
            if descriptors[0].revents != 0 {
                return descriptors[0].revents & Int16(POLLOUT) != descriptors[0].revents
            }
        }
    }

    /// Asks the server to cancel, over a connection of its own. Returns when the server has passed the signal on, so it can
    /// hardly hit a command after this one; where it does, that one fails with 57014 and is repeated.
    private func requestCancel(_ cause: PostgresError.Code) {
        watch.cause = cause
        watch.giveUp = .now + CommandWatch.patience
        sendCancel()
    }

    private func sendCancel() {
        watch.askAgain = .now + .seconds(1)
        guard let cancelToken else { return }
        var message = [CChar](repeating: 0, count: 256)
        PQcancel(cancelToken, &message, 256)
    }
}
