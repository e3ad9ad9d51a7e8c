// How much to claim, and of which lanes. A value: counts come in, a request comes out. It keeps what is claimed and not begun
// within bounds (law 9), and it keeps a destination that is slow from filling those bounds: a lane's share follows its pace.

import Ledger

/// Plans claims.
public struct ClaimPlanner: Sendable {
    /// The bounds.
    public struct Limits: Sendable {
        /// Most deliveries claimed and not begun, over all lanes.
        public var prefetch: Int
        /// Most of one lane that are under way; also the least that a lane may have waiting.
        public var perDestination: Int
        /// Most deliveries of one claim.
        public var batch: Int
        /// Most lanes of one claim.
        public var lanes: Int

        /// The bounds; all at least 1.
        public init(prefetch: Int, perDestination: Int, batch: Int = 200, lanes: Int = 64) {
            self.prefetch = max(1, prefetch)
            self.perDestination = max(1, perDestination)
            self.batch = max(1, batch)
            self.lanes = max(1, lanes)
        }
    }

    private struct Lane {
        var queued = 0
        var active = 0
        var ended = 0
        var pace = 0
        var isIdle: Bool { queued == 0 && active == 0 && ended == 0 && pace == 0 }
    }

    private let limits: Limits
    private var lanes: [String: Lane] = [:]
    private var afterLane = ""
    private var lanesSeen = 1
    private var begunSincePlan = 0
    private var windowStart: ContinuousClock.Instant?

    /// How long one window of the pace lasts.
    public static let window: Duration = .seconds(1)

    /// Nothing claimed yet.
    public init(_ limits: Limits) { self.limits = limits }

    /// All that is claimed and not begun.
    public var queued: Int { lanes.values.reduce(0) { $0 + $1.queued } }
    /// All that is under way.
    public var active: Int { lanes.values.reduce(0) { $0 + $1.active } }

    /// A delivery of the lane began.
    /// - Returns: whether there may be room for a claim now that there was not before: told now and then, not each time.
    @discardableResult
    public mutating func begun(_ name: String) -> Bool {
        var lane = lanes[name] ?? Lane()
        lane.queued -= 1
        lane.active += 1
        lanes[name] = lane
        begunSincePlan += 1
        return lane.queued == 0 || lane.queued == allowance(lane) / 2 || begunSincePlan >= leastClaim
    }

    /// The least that a claim asks for: half-empty ones cost as much as full ones.
    private var leastClaim: Int { max(1, min(limits.batch, limits.prefetch) / 8) }

    /// A delivery of the lane came to an end, whatever end.
    public mutating func ended(_ lane: String) {
        lanes[lane, default: Lane()].active -= 1
        lanes[lane, default: Lane()].ended += 1
    }

    /// A delivery of the lane that had not begun is given back or dropped.
    public mutating func dropped(_ lane: String) {
        lanes[lane, default: Lane()].queued -= 1
    }

    /// What a lane may have waiting: what it can begin at once, or what it ended in the last window.
    private func allowance(_ lane: Lane) -> Int {
        min(limits.prefetch, max(limits.perDestination, max(lane.pace, lane.ended)))
    }

    /// The next request; nil when there is no room. Lanes that have their share waiting are left out.
    public mutating func plan(at now: ContinuousClock.Instant) -> ClaimRequest? {
        roll(at: now)
        begunSincePlan = 0
        var counted = 0
        var excluded: [String] = []
        for (name, lane) in lanes {
            let allowance = allowance(lane)
            counted += min(lane.queued, allowance)
            // A quarter of a share at a time, so that claims stay few and full.
            if lane.queued > allowance * 3 / 4 { excluded.append(name) }
        }
        let room = min(limits.batch, limits.prefetch - counted)
        guard room >= leastClaim else { return nil }
        return ClaimRequest(
            limit: Int32(clamping: room),
            perLane: Int32(clamping: max(limits.perDestination, 2 * room / max(1, lanesSeen))),
            lanes: Int32(clamping: limits.lanes), excludedLanes: excluded.sorted(), afterLane: afterLane)
    }

    /// Takes what a claim brought.
    /// - Returns: whether to claim again at once: there is probably more.
    public mutating func took(_ claimed: [String], of request: ClaimRequest) -> Bool {
        var names: Set<String> = []
        for lane in claimed {
            lanes[lane, default: Lane()].queued += 1
            names.insert(lane)
        }
        if !names.isEmpty { lanesSeen = names.count }
        let isFull = claimed.count >= Int(request.limit)
        let wasCutAtLanes = names.count >= Int(request.lanes)
        if isFull || wasCutAtLanes {
            // Go on behind the last lane, so that those late in the alphabet get their turn.
            afterLane = names.max() ?? ""
            return true
        }
        let hadStartedLate = !request.afterLane.isEmpty
        afterLane = ""
        return hadStartedLate
    }

    /// Moves the window of the pace, and forgets lanes with nothing to count.
    private mutating func roll(at now: ContinuousClock.Instant) {
        guard let start = windowStart else {
            windowStart = now
            return
        }
        guard now - start >= Self.window else { return }
        let isFresh = now - start < Self.window * 2
        windowStart = now
        for name in Array(lanes.keys) {
            guard var lane = lanes[name] else { continue }
            lane.pace = isFresh ? lane.ended : 0
            lane.ended = 0
            lanes[name] = lane.isIdle ? nil : lane
        }
    }
}
