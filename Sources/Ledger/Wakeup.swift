// A flag that one task waits for and anybody sets: how those who commit in batches learn that there is something to commit.

import Synchronization

/// Wakes one waiting task. Setting it while nobody waits is kept for the next wait.
public final class Wakeup: Sendable {
    private struct State {
        var isSet = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// A flag that is not set.
    public init() {}

    /// Wakes the waiter, or lets the next wait return at once.
    public func set() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            if let waiter = state.waiter {
                state.waiter = nil
                return waiter
            }
            state.isSet = true
            return nil
        }
        waiter?.resume()
    }

    /// Returns when set, or when the task is cancelled. One task at a time.
    public func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isSet = state.withLock { state in
                    if state.isSet {
                        state.isSet = false
                        return true
                    }
                    state.waiter = continuation
                    return false
                }
                if isSet { continuation.resume() }
            }
        } onCancel: {
            set()
        }
    }

    /// Returns when set, or at `deadline`.
    public func wait(until deadline: ContinuousClock.Instant) async {
        let alarm = Task {
            try await Task.sleep(until: deadline)
            set()
        }
        await wait()
        alarm.cancel()
    }
}
