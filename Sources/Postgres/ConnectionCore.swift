// The thread behind a connection and the queue in front of it.

import CLibPQ
import Foundation
import Glibc
import Synchronization

/// Shared by a connection's users and its thread. The libpq handle is a local variable of the thread's main function.
final class ConnectionCore: Sendable {
    /// Jobs that may wait on one connection.
    static let queueLimit = 1024

    private struct State {
        var jobs: [ConnectionJob] = []
        var isClosing = false
        /// Why the connection is not to be waited for any more, not even by the job that runs.
        var abandoned: String?
        var isInTransaction = false
        /// Set once, when the thread has ended or will run no more jobs.
        var ended: PostgresError?
        /// An eventfd, -1 once closed.
        var wake: Int32
        var connecting: CheckedContinuation<Result<Void, PostgresError>, Never>?
        var closeWaiters: [CheckedContinuation<Void, Never>] = []
        var hasFinished = false
        var subscribers: [Subscriber] = []
        var nextSubscriber = 0
    }

    private struct Subscriber {
        var id: Int
        var channel: String
        var continuation: AsyncStream<PostgresNotification>.Continuation
    }

    let configuration: PostgresConfiguration
    private let state: Mutex<State>

    init(configuration: PostgresConfiguration) throws(PostgresError) {
        let wake = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wake >= 0 else { throw PostgresError(.connectFailed, "no file descriptor left") }
        self.configuration = configuration
        state = Mutex(State(wake: wake))
    }

    deinit {
        // Only a core that never started still has it.
        state.withLock { if $0.wake >= 0 { Glibc.close($0.wake) } }
    }

    // MARK: Called from anywhere

    func start(_ continuation: CheckedContinuation<Result<Void, PostgresError>, Never>) {
        if Task.isCancelled {
            continuation.resume(returning: .failure(PostgresError(.cancelled, "connecting was cancelled")))
            return
        }
        let wake = state.withLock {
            $0.connecting = continuation
            return $0.wake
        }
        let thread = Thread { self.main(wake: wake) }
        thread.name = "zegel-postgres"
        thread.stackSize = 1 << 20
        thread.start()
    }

    /// The thread goes on until libpq gives up, then finds that nobody waits.
    func abandonConnect() {
        let waiting = state.withLock { state in
            state.isClosing = true
            return state.connecting.take()
        }
        waiting?.resume(returning: .failure(PostgresError(.cancelled, "connecting was cancelled")))
    }

    func submit(_ job: ConnectionJob) {
        let refusal: PostgresError? = state.withLock { state in
            if let ended = state.ended { return ended }
            if state.isClosing { return PostgresError(.closed, "the connection was closed") }
            // A task cancelled before this moment found no job to drop; one cancelled later finds it.
            if job.ticket.isCancelled {
                return PostgresError(.cancelled, "the job was cancelled before it began")
            }
            if state.jobs.count >= Self.queueLimit {
                return PostgresError(.queueFull, "\(Self.queueLimit) jobs wait on this connection")
            }
            state.jobs.append(job)
            Self.signal(state.wake)
            return nil
        }
        if let refusal { job.fail(refusal) }
    }

    func cancel(_ ticket: JobTicket) {
        ticket.cancel()
        let dropped = state.withLock { state -> ConnectionJob? in
            if let index = state.jobs.firstIndex(where: { $0.ticket === ticket }) {
                return state.jobs.remove(at: index)
            }
            Self.signal(state.wake)
            return nil
        }
        dropped?.fail(PostgresError(.cancelled, "the job was cancelled before it began"))
    }

    var isUsable: Bool { state.withLock { $0.ended == nil && !$0.isClosing } }

    var isInTransaction: Bool { state.withLock { $0.isInTransaction } }

    func requestClose() {
        state.withLock {
            $0.isClosing = true
            Self.signal($0.wake)
        }
    }

    /// Ends the connection at once: a job that waits for the server gets `.connectionLost`, and whoever sent a commit does not know
    /// what became of it.
    func abandon(_ reason: String) {
        state.withLock {
            $0.isClosing = true
            $0.abandoned = $0.abandoned ?? reason
            Self.signal($0.wake)
        }
    }

    private var abandonment: String? { state.withLock { $0.abandoned } }

    func close() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let finished = state.withLock { state in
                state.isClosing = true
                Self.signal(state.wake)
                if !state.hasFinished { state.closeWaiters.append(continuation) }
                return state.hasFinished
            }
            if finished { continuation.resume() }
        }
    }

    func subscribe(_ channel: String, _ continuation: AsyncStream<PostgresNotification>.Continuation) {
        let id = state.withLock { state -> Int? in
            if state.ended != nil { return nil }
            state.nextSubscriber += 1
            state.subscribers.append(
                Subscriber(id: state.nextSubscriber, channel: channel, continuation: continuation))
            return state.nextSubscriber
        }
        guard let id else { return continuation.finish() }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { $0.subscribers.removeAll { $0.id == id } }
        }
    }

    private static func signal(_ wake: Int32) {
        guard wake >= 0 else { return }
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    // MARK: The thread

    private func main(wake: Int32) {
        // Signals are for the threads that expect them.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)

        let session: PostgresSession
        do throws(PostgresError) {
            session = PostgresSession(
                handle: try ConnectionHandle(configuration, wakeDescriptor: wake) { [weak self] in
                    self?.abandonment
                })
            session.handle.watch = .short()
            do throws(PostgresError) {
                // A role or database that hides warnings would hide that a commit is not durable.
                try session.execute("SET client_min_messages = warning")
            } catch {
                session.handle.finish()
                throw error
            }
        } catch {
            end(PostgresError(.connectFailed, error.message, sqlState: error.sqlState))
            finished(.failure(error))
            return
        }
        let waiting = state.withLock { $0.connecting.take() }
        waiting?.resume(returning: .success(()))
        end(serve(session))
        session.handle.finish()
        finished(.success(()))
    }

    private enum Turn {
        case job(ConnectionJob)
        case wait
        case close
    }

    /// Runs jobs until the connection ends.
    private func serve(_ session: PostgresSession) -> PostgresError {
        let handle = session.handle
        while true {
            let turn: Turn = state.withLock { state in
                if state.isClosing { return .close }
                return state.jobs.isEmpty ? .wait : .job(state.jobs.removeFirst())
            }
            switch turn {
            case .close:
                return PostgresError(.closed, "the connection was closed")
            case .wait:
                let ready = handle.waitIdle()
                if ready.socket, !handle.receiveIdle(publish) { return handle.lost() }
            case .job(let job):
                let ticket = job.ticket
                handle.watch = CommandWatch(deadline: job.deadline, isCancelled: { ticket.isCancelled })
                if let refusal = handle.watch.refusal() {
                    job.fail(refusal)
                    continue
                }
                let handOver = job.run(session)
                let isOpen = !handle.isIdle
                state.withLock { state in
                    state.isInTransaction = isOpen
                    if handle.isLost { state.ended = PostgresError(.connectionLost, "the connection broke") }
                }
                handOver()
                if handle.isLost {
                    return PostgresError(.connectionLost, "the connection broke in a job before")
                }
                handle.takeNotifications(publish)
            }
        }
    }

    private func publish(_ notification: PostgresNotification) {
        let targets = state.withLock { state in
            state.subscribers.filter { $0.channel == notification.channel }.map(\.continuation)
        }
        for target in targets { target.yield(notification) }
    }

    /// No job runs after this.
    private func end(_ reason: PostgresError) {
        let (jobs, subscribers) = state.withLock { state in
            state.ended = reason
            defer {
                state.jobs = []
                state.subscribers = []
            }
            return (state.jobs, state.subscribers)
        }
        for job in jobs { job.fail(reason) }
        for subscriber in subscribers { subscriber.continuation.finish() }
    }

    private func finished(_ outcome: Result<Void, PostgresError>) {
        let (connecting, waiters) = state.withLock { state in
            state.hasFinished = true
            Glibc.close(state.wake)
            state.wake = -1
            defer { state.closeWaiters = [] }
            return (state.connecting.take(), state.closeWaiters)
        }
        connecting?.resume(returning: outcome)
        for waiter in waiters { waiter.resume() }
    }
}
