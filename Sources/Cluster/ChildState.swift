// The life of one supervised child as a value: what happened goes in, what to do comes out. No clock and no process inside.

/// The state machine of one supervised child.
///
/// Time is a `Duration` since any fixed moment, the same for every call. The supervisor does what the returned action says and
/// reports back; a child that was asked to stop is never started again.
public struct ChildState: Sendable, Equatable {
    /// Where the child is in its life.
    public enum Phase: Sendable, Equatable {
        /// Not started yet.
        case idle
        /// The supervisor is starting it.
        case starting
        /// It runs.
        case running(pid: Int32, since: Duration)
        /// It ended by itself and is started again at `until`.
        case waiting(until: Duration)
        /// It was asked to stop and is killed at `killAt`.
        case stopping(pid: Int32, killAt: Duration)
        /// It ended and stays so.
        case stopped
    }

    /// What the supervisor does next.
    public enum Action: Sendable, Equatable {
        /// Nothing.
        case none
        /// Start the process and report ``ChildState/started(pid:at:)`` or ``ChildState/failedToStart(at:)``.
        case start
        /// Call ``ChildState/timeCame(at:)`` at that moment.
        case wake(at: Duration)
        /// Ask the process to end, and call ``ChildState/timeCame(at:)`` at that moment.
        case terminate(pid: Int32, wakeAt: Duration)
        /// End the process by force.
        case kill(pid: Int32)
        /// The child is gone for good.
        case finish
    }

    /// Where the child is.
    public private(set) var phase: Phase = .idle
    /// The pauses between its lives.
    public private(set) var backoff: RestartBackoff
    /// How often it was started.
    public private(set) var starts = 0
    private var stopAsked: Duration?

    /// A child that was not started yet.
    public init(backoff: RestartBackoff = RestartBackoff()) { self.backoff = backoff }

    /// The process id while there is a process.
    public var pid: Int32? {
        switch phase {
        case .running(let pid, _), .stopping(let pid, _): pid
        case .idle, .starting, .waiting, .stopped: nil
        }
    }

    /// The supervisor wants the child to live.
    public mutating func start() -> Action {
        guard case .idle = phase else { return .none }
        phase = .starting
        return .start
    }

    /// The process was started.
    public mutating func started(pid: Int32, at now: Duration) -> Action {
        guard case .starting = phase else { return .none }
        starts += 1
        if let grace = stopAsked {
            phase = .stopping(pid: pid, killAt: now + grace)
            return .terminate(pid: pid, wakeAt: now + grace)
        }
        phase = .running(pid: pid, since: now)
        return .none
    }

    /// The process could not be started.
    public mutating func failedToStart(at now: Duration) -> Action {
        guard case .starting = phase else { return .none }
        return rest(life: .zero, at: now)
    }

    /// The process ended.
    public mutating func exited(at now: Duration) -> Action {
        switch phase {
        case .running(_, let since):
            return rest(life: now - since, at: now)
        case .stopping:
            phase = .stopped
            return .finish
        case .idle, .starting, .waiting, .stopped:
            return .none
        }
    }

    /// A moment that an action named has come.
    public mutating func timeCame(at now: Duration) -> Action {
        switch phase {
        case .waiting(let until):
            guard now >= until else { return .wake(at: until) }
            phase = .starting
            return .start
        case .stopping(let pid, let killAt):
            return now >= killAt ? .kill(pid: pid) : .wake(at: killAt)
        case .idle, .starting, .running, .stopped:
            return .none
        }
    }

    /// The child must end, within `grace`.
    public mutating func stop(at now: Duration, grace: Duration) -> Action {
        switch phase {
        case .idle, .waiting:
            phase = .stopped
            return .finish
        case .starting:
            stopAsked = grace
            return .none
        case .running(let pid, _):
            phase = .stopping(pid: pid, killAt: now + grace)
            return .terminate(pid: pid, wakeAt: now + grace)
        case .stopping, .stopped:
            return .none
        }
    }

    private mutating func rest(life: Duration, at now: Duration) -> Action {
        if stopAsked != nil {
            phase = .stopped
            return .finish
        }
        let until = now + backoff.pause(afterLifeOf: life)
        phase = .waiting(until: until)
        return .wake(at: until)
    }
}
