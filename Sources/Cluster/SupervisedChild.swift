// Keeps one child alive: feeds its state machine with what happens and does what the machine says.

import Foundation
import Logging
import Synchronization

/// A program that a supervisor keeps alive.
public struct SupervisedProgram: Sendable {
    /// The name of its log and settings: `edge-1`.
    public var name: String
    /// What it does.
    public var role: NodeRole
    /// What it is started with.
    public var specification: ChildSpecification
    /// The signal that asks it to end.
    public var stopSignal: Int32 = SIGTERM
    /// The signal that ends it when it did not within `grace`.
    public var forceSignal: Int32 = SIGKILL
    /// How long it may take to end.
    public var grace: Duration = .seconds(8)
}

/// One supervised child.
public final class SupervisedChild: Sendable {
    private enum Event: Sendable {
        case start
        case exited(ChildExit)
        case timeCame
        case stop
    }

    private struct Visible {
        var pid: Int32?
        var starts = 0
        var lastExit: ChildExit?
        var isFinished = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    /// What it runs.
    public let program: SupervisedProgram
    private let visible = Mutex(Visible())
    private let events: AsyncStream<Event>
    private let feed: AsyncStream<Event>.Continuation
    private let changed: @Sendable () -> Void
    private let logger: Logger

    /// A child that is not started yet.
    /// - Parameter changed: called after every change of its process id.
    public init(_ program: SupervisedProgram, logger: Logger, changed: @escaping @Sendable () -> Void) {
        self.program = program
        self.changed = changed
        self.logger = logger
        (events, feed) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(16))
    }

    /// Its process id while it lives.
    public var pid: Int32? { visible.withLock { $0.pid } }
    /// How often it was started.
    public var starts: Int { visible.withLock { $0.starts } }
    /// How it ended last.
    public var lastExit: ChildExit? { visible.withLock { $0.lastExit } }

    /// Asks ``run()`` to start it.
    public func start() { feed.yield(.start) }

    /// Ends it for good and returns when it has ended.
    public func stop() async {
        feed.yield(.stop)
        await withCheckedContinuation { continuation in
            let isFinished = visible.withLock { state in
                if !state.isFinished { state.waiters.append(continuation) }
                return state.isFinished
            }
            if isFinished { continuation.resume() }
        }
    }

    /// From ``start()`` on, keeps it alive until ``stop()``.
    public func run() async {
        defer {
            let waiters = visible.withLock { state in
                state.isFinished = true
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume() }
        }
        let epoch = ContinuousClock.now
        func now() -> Duration { ContinuousClock.now - epoch }
        await withDiscardingTaskGroup { group in
            var state = ChildState()
            var process: ChildProcess?
            var action = ChildState.Action.none
            var incoming = events.makeAsyncIterator()
            while true {
                switch action {
                case .none:
                    break
                case .start:
                    do throws(ClusterError) {
                        let started = try await ChildProcess.start(program.specification)
                        process = started
                        group.addTask { [feed] in feed.yield(.exited(await started.exit())) }
                        show(pid: started.pid)
                        action = state.started(pid: started.pid, at: now())
                    } catch {
                        logger.error(
                            "cannot start", metadata: ["child": "\(program.name)", "reason": "\(error)"])
                        action = state.failedToStart(at: now())
                    }
                    continue
                case .wake(let at):
                    wake(at: at - now(), in: &group)
                case .terminate(_, let wakeAt):
                    process?.send(signal: program.stopSignal)
                    wake(at: wakeAt - now(), in: &group)
                case .kill:
                    logger.warning("did not end in time", metadata: ["child": "\(program.name)"])
                    process?.send(signal: program.forceSignal)
                case .finish:
                    group.cancelAll()
                    return
                }
                switch await incoming.next() {
                case .start:
                    action = state.start()
                case .exited(let exit):
                    show(pid: nil, exit: exit)
                    action = state.exited(at: now())
                    if case .wake(let at) = action {
                        logger.warning(
                            "ended by itself",
                            metadata: [
                                "child": "\(program.name)", "how": "\(exit)", "again_in": "\(at - now())",
                            ])
                    }
                case .timeCame:
                    action = state.timeCame(at: now())
                case .stop:
                    action = state.stop(at: now(), grace: program.grace)
                case nil:
                    // Cancelled: nobody is left to keep it alive.
                    process?.send(signal: program.forceSignal)
                    action = .finish
                }
            }
        }
    }

    private func wake(at pause: Duration, in group: inout DiscardingTaskGroup) {
        group.addTask { [feed] in
            try? await Task.sleep(for: pause)
            feed.yield(.timeCame)
        }
    }

    private func show(pid: Int32?, exit: ChildExit? = nil) {
        visible.withLock {
            $0.pid = pid
            if pid != nil { $0.starts += 1 }
            if let exit { $0.lastExit = exit }
        }
        changed()
    }
}
