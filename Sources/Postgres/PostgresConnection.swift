// A connection as the rest of the program sees it: jobs go in, results come out, nobody blocks.

import Foundation
import Synchronization

/// One connection to the server, with a thread of its own. Jobs run there one after the other; callers await them.
///
/// A connection whose last reference goes away closes itself. It never reconnects: that is `PostgresPool`'s work.
public final class PostgresConnection: Sendable {
    let core: ConnectionCore

    private init(core: ConnectionCore) { self.core = core }

    deinit { core.requestClose() }

    /// Connects. Waits at most the connect timeout for each host of the conninfo.
    /// - Throws: `.connectFailed`, or `.cancelled`.
    public static func connect(
        _ configuration: PostgresConfiguration
    ) async throws(PostgresError) -> PostgresConnection {
        let core = try ConnectionCore(configuration: configuration)
        let outcome: Result<Void, PostgresError> = await withTaskCancellationHandler {
            await withCheckedContinuation { core.start($0) }
        } onCancel: {
            core.abandonConnect()
        }
        try outcome.get()
        return PostgresConnection(core: core)
    }

    /// Runs `work` on the connection's own thread, after the jobs before it.
    ///
    /// When the deadline passes or the calling task is cancelled, a job that waits is dropped, and one that runs gets a cancel
    /// request at the server: the statement at hand fails with `.timeout` or `.cancelled` (SQLSTATE 57014), or, if it is a commit
    /// that waits for its quorum, succeeds with a warning.
    /// - Parameters:
    ///   - deadline: from now, waiting included; nil takes the configuration's default.
    ///   - work: may block its thread; must not let the session escape. A transaction that it leaves open stays open.
    /// - Throws: what `work` throws; `.connectionLost`, `.closed`, `.queueFull`, `.timeout` or `.cancelled` if it never ran.
    public func perform<T: Sendable>(
        deadline: Duration? = nil, _ work: @escaping @Sendable (PostgresSession) throws -> T
    ) async throws -> T {
        let ticket = JobTicket()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<T, any Error>) in
                core.submit(
                    ConnectionJob(
                        ticket: ticket, deadline: .now + (deadline ?? core.configuration.defaultDeadline),
                        run: { session in
                            let outcome = Result { try work(session) }
                            return { continuation.resume(with: outcome) }
                        },
                        fail: { continuation.resume(throwing: $0) }))
            }
        } onCancel: {
            core.cancel(ticket)
        }
    }

    /// Whether a job may succeed. An idle connection notices at once when the server goes away.
    public var isUsable: Bool { core.isUsable }

    /// Whether the last job left a transaction open.
    var isInTransaction: Bool { core.isInTransaction }

    /// Closes the connection after the job that runs now; jobs that wait fail with `.closed`. Returns when it is closed.
    public func close() async {
        await core.close()
    }

    /// Listens on a channel. Use the connection for nothing slow beside it: notifications are taken between jobs.
    /// - Returns: notifications; the newest 64 are kept for a slow reader. Ends when the connection ends: then connect anew and
    ///   look for what was missed.
    public func listen(_ channel: String) async throws -> AsyncStream<PostgresNotification> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: PostgresNotification.self, bufferingPolicy: .bufferingNewest(64))
        core.subscribe(channel, continuation)
        do {
            _ = try await perform { try $0.execute("LISTEN \(quotedIdentifier(channel))") }
        } catch {
            continuation.finish()
            throw error
        }
        return stream
    }
}

/// Names a job, and knows whether its task was cancelled.
final class JobTicket: Sendable {
    private let flag = Atomic<Bool>(false)
    var isCancelled: Bool { flag.load(ordering: .acquiring) }
    func cancel() { flag.store(true, ordering: .releasing) }
}

/// A job on its way to a connection's thread.
struct ConnectionJob: Sendable {
    var ticket: JobTicket
    var deadline: ContinuousClock.Instant
    /// Does the work and returns what hands its result over, to be called when the connection's state is up to date.
    var run: @Sendable (PostgresSession) -> @Sendable () -> Void
    var fail: @Sendable (PostgresError) -> Void
}
