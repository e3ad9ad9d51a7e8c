// Which runner works on which destination. Deliveries queue by lane; a lane gets as many runners as its pace earns, one to start
// with a few, up to the bound per destination; a runner that has emptied its lane rests there with its open session for a moment
// before it leaves. Everything is bounded by what was claimed.

import Foundation
import NIOCore
import Synchronization

/// Hands deliveries to runners.
final class LaneBoard: Sendable {
    private struct Parked {
        let id: UInt64
        let since: ContinuousClock.Instant
        let continuation: CheckedContinuation<PreparedDelivery?, Never>
    }

    private struct Lane {
        var queue = CircularBuffer<PreparedDelivery>(initialCapacity: 16)
        var runners = 0
        var limit: Int
        var parked: [Parked] = []
        var isListed = false
    }

    private struct State {
        var lanes: [LaneKey: Lane] = [:]
        /// Lanes that want a runner, in order.
        var wanting = CircularBuffer<LaneKey>(initialCapacity: 64)
        /// Runners without a lane.
        var idle: [CheckedContinuation<LaneKey?, Never>] = []
        var nextParked: UInt64 = 0
        var isClosed = false
    }

    /// How long a runner rests with its session at an empty lane.
    static let rest: Duration = .seconds(2)
    /// Runners that a lane begins with.
    static let firstRunners = 5

    private let perDestination: Int
    private let state = Mutex(State())

    init(perDestination: Int) { self.perDestination = max(1, perDestination) }

    /// Queues deliveries.
    /// - Returns: those that come too late: the board is closed.
    func offer(_ deliveries: [PreparedDelivery]) -> [PreparedDelivery] {
        var wakes: [() -> Void] = []
        let refused = state.withLock { state -> [PreparedDelivery] in
            if state.isClosed { return deliveries }
            for delivery in deliveries {
                let key = delivery.lane
                var lane =
                    state.lanes.removeValue(forKey: key)
                    ?? Lane(limit: min(Self.firstRunners, perDestination))
                if let parked = lane.parked.popLast() {
                    wakes.append { parked.continuation.resume(returning: delivery) }
                } else {
                    lane.queue.append(delivery)
                    list(key, &lane, &state)
                }
                state.lanes[key] = lane
            }
            assign(&state, &wakes)
            return []
        }
        for wake in wakes { wake() }
        return refused
    }

    /// The next lane that wants a runner; nil when the board is closed.
    func assignment() async -> LaneKey? {
        await withCheckedContinuation { continuation in
            var wakes: [() -> Void] = []
            state.withLock { state in
                if state.isClosed {
                    wakes.append { continuation.resume(returning: nil) }
                    return
                }
                state.idle.append(continuation)
                assign(&state, &wakes)
            }
            for wake in wakes { wake() }
        }
    }

    /// The next delivery of a lane; nil when none waits.
    func next(_ key: LaneKey) -> PreparedDelivery? {
        state.withLock { state in
            guard !state.isClosed else { return nil }
            return state.lanes[key]?.queue.popFirst()
        }
    }

    /// Rests at an empty lane until a delivery comes; nil when it is time to leave.
    func rest(_ key: LaneKey) async -> PreparedDelivery? {
        await withCheckedContinuation { continuation in
            let answer = state.withLock { state -> PreparedDelivery?? in
                guard !state.isClosed, var lane = state.lanes.removeValue(forKey: key) else {
                    return .some(nil)
                }
                defer { state.lanes[key] = lane }
                if let delivery = lane.queue.popFirst() { return .some(delivery) }
                // Others want a runner and none is idle: this one goes to them.
                if !state.wanting.isEmpty { return .some(nil) }
                state.nextParked += 1
                lane.parked.append(Parked(id: state.nextParked, since: .now, continuation: continuation))
                return nil
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    /// A runner leaves its lane.
    func leave(_ key: LaneKey) {
        var wakes: [() -> Void] = []
        state.withLock { state in
            guard var lane = state.lanes.removeValue(forKey: key) else { return }
            lane.runners -= 1
            list(key, &lane, &state)
            if lane.runners > 0 || !lane.queue.isEmpty { state.lanes[key] = lane }
            assign(&state, &wakes)
        }
        for wake in wakes { wake() }
    }

    /// A delivery of the lane went well: it earns another runner.
    func succeeded(_ key: LaneKey) {
        var wakes: [() -> Void] = []
        state.withLock { state in
            guard var lane = state.lanes.removeValue(forKey: key) else { return }
            if lane.limit < perDestination { lane.limit += 1 }
            list(key, &lane, &state)
            state.lanes[key] = lane
            assign(&state, &wakes)
        }
        for wake in wakes { wake() }
    }

    /// The destination asked for less (421, 4.7.x): half as many runners from now on.
    func slowed(_ key: LaneKey) {
        state.withLock { state in
            guard let limit = state.lanes[key]?.limit else { return }
            state.lanes[key]?.limit = max(1, limit / 2)
        }
    }

    /// The destination cannot be reached: what waits for it shares that fate, and it starts again with one runner.
    /// - Returns: what waited.
    func failed(_ key: LaneKey) -> [PreparedDelivery] {
        state.withLock { state in
            guard state.lanes[key] != nil else { return [] }
            state.lanes[key]?.limit = 1
            let queue = state.lanes[key]?.queue ?? []
            state.lanes[key]?.queue = []
            return Array(queue)
        }
    }

    /// Takes out what a lapsed worker id had claimed.
    func abandon(_ worker: UUID) -> [PreparedDelivery] {
        state.withLock { state in
            var gone: [PreparedDelivery] = []
            for key in Array(state.lanes.keys) {
                guard let queue = state.lanes[key]?.queue, !queue.isEmpty else { continue }
                gone.append(contentsOf: queue.filter { $0.worker == worker })
                state.lanes[key]?.queue = CircularBuffer(queue.filter { $0.worker != worker })
            }
            return gone
        }
    }

    /// Sends away runners that rested long enough. Call it a few times a second.
    func sweep() {
        let now = ContinuousClock.now
        var rested: [Parked] = []
        state.withLock { state in
            for key in Array(state.lanes.keys) {
                guard let parked = state.lanes[key]?.parked, !parked.isEmpty else { continue }
                let isWanted = !state.wanting.isEmpty
                rested.append(contentsOf: parked.filter { isWanted || now - $0.since >= Self.rest })
                state.lanes[key]?.parked = isWanted ? [] : parked.filter { now - $0.since < Self.rest }
            }
        }
        for one in rested { one.continuation.resume(returning: nil) }
    }

    /// Ends it: runners finish what they have and leave.
    /// - Returns: what nobody began.
    func close() -> [PreparedDelivery] {
        var wakes: [() -> Void] = []
        let left = state.withLock { state -> [PreparedDelivery] in
            state.isClosed = true
            var left: [PreparedDelivery] = []
            for key in Array(state.lanes.keys) {
                left.append(contentsOf: state.lanes[key]?.queue ?? [])
                state.lanes[key]?.queue = []
                for parked in state.lanes[key]?.parked ?? [] {
                    wakes.append { parked.continuation.resume(returning: nil) }
                }
                state.lanes[key]?.parked = []
            }
            for idle in state.idle { wakes.append { idle.resume(returning: nil) } }
            state.idle = []
            state.wanting = []
            return left
        }
        for wake in wakes { wake() }
        return left
    }

    private func list(_ key: LaneKey, _ lane: inout Lane, _ state: inout State) {
        guard !lane.isListed, !lane.queue.isEmpty, lane.runners < lane.limit else { return }
        lane.isListed = true
        state.wanting.append(key)
    }

    /// Gives wanting lanes the idle runners.
    private func assign(_ state: inout State, _ wakes: inout [() -> Void]) {
        while let key = state.wanting.first, let idle = state.idle.last {
            state.wanting.removeFirst()
            guard var lane = state.lanes.removeValue(forKey: key) else { continue }
            lane.isListed = false
            if !lane.queue.isEmpty, lane.runners < lane.limit {
                state.idle.removeLast()
                lane.runners += 1
                wakes.append { idle.resume(returning: key) }
                // More than this runner can take at once: another one, behind the other lanes.
                if lane.queue.count > lane.runners { list(key, &lane, &state) }
            }
            state.lanes[key] = lane
        }
    }
}
