// The planner behind a lock, and the doorbell of the claim loop: it rings when there is room again or news of work.

import Ledger
import Synchronization

/// What is claimed and under way on one shard.
final class WorkLoad: Sendable {
    private struct State {
        var planner: ClaimPlanner
        var isStarved = false
        var isStopping = false
    }

    private let state: Mutex<State>
    /// Rung when a claim may bring something.
    let bell = Wakeup()

    init(_ limits: ClaimPlanner.Limits) { state = Mutex(State(planner: ClaimPlanner(limits))) }

    /// The next request, or nil when there is no room; then the bell rings as room comes.
    func plan() -> ClaimRequest? {
        state.withLock { state in
            let request = state.planner.plan(at: .now)
            state.isStarved = request == nil || request?.excludedLanes.isEmpty == false
            return request
        }
    }

    /// Takes what a claim brought; true: claim again at once.
    func took(_ claimed: [ClaimedDelivery], of request: ClaimRequest) -> Bool {
        state.withLock { $0.planner.took(claimed.map(\.lane), of: request) }
    }

    /// A delivery of the lane began.
    func begun(_ lane: String) {
        let rings = state.withLock { state in
            let isWorthALook = state.planner.begun(lane)
            return isWorthALook && state.isStarved
        }
        if rings { bell.set() }
    }

    /// A delivery of the lane came to an end.
    func ended(_ lane: String) { state.withLock { $0.planner.ended(lane) } }

    /// Deliveries that had not begun are given back or dropped.
    func dropped(_ lanes: [String]) {
        if lanes.isEmpty { return }
        state.withLock { state in
            for lane in lanes { state.planner.dropped(lane) }
        }
        bell.set()
    }

    /// Claimed and not begun; under way.
    var counts: (queued: Int, active: Int) { state.withLock { ($0.planner.queued, $0.planner.active) } }

    /// No more claims.
    func stop() {
        state.withLock { $0.isStopping = true }
        bell.set()
    }

    /// Whether no more is to be claimed.
    var isStopping: Bool { state.withLock { $0.isStopping } }
}
