// The members of a shard as one reader sees them: its own region's first, the others when that one cannot answer.

import Foundation
import Postgres
import Synchronization

/// Reads from whichever member suits, and leaves alone for a moment those that do not answer.
struct ShardMembers: Sendable {
    /// Who may answer.
    enum Source: Sendable {
        /// Members that follow and stream, never a leader: what they show at least two members have on disk.
        case followers
        /// Members that follow, and the leader when none of them can.
        case anyone
        /// The leader alone: it has all that was ever answered for.
        case leader
    }

    /// How long a reader waits for a member to come as far as it must be.
    static let patience = Duration.seconds(2)
    /// How long a member that did not answer is left alone.
    static let holdOff = Duration.seconds(2)
    /// A member that does not say how it stands within this is away.
    private static let standingLimit = Duration.seconds(2)
    private static let pause = Duration.milliseconds(50)

    private enum Obstacle { case away, leads, follows, behind, unknownHistory }
    private enum Attempt<Value: Sendable> {
        case read(ShardReading<Value>)
        case not(Obstacle)
    }

    let shard: String
    let pools: [PostgresPool]
    private let away: AwayMembers

    /// - Parameter pools: one a member, in the order of preference; the only one of a shard that is not replicated.
    init(shard: String, pools: [PostgresPool]) {
        precondition(!pools.isEmpty, "a shard without members")
        self.shard = shard
        self.pools = pools
        away = AwayMembers(count: pools.count)
    }

    /// Reads.
    /// - Parameters:
    ///   - floor: how far the member must have come.
    ///   - knowing: an incarnation that the member must have.
    /// - Throws: `ShardUnreadable`; `UnknownIncarnation` when every member answers and none knows it; what `body` throws.
    func read<Value: Sendable>(
        _ source: Source, floor: ShardPosition?, knowing: UUID? = nil,
        _ body: @escaping @Sendable (PostgresSession) throws -> Value
    ) async throws -> ShardReading<Value> {
        // Without replication the only server is the shard.
        let source = pools.count == 1 ? .anyone : source
        let end = ContinuousClock.now + Self.patience
        while true {
            var obstacles: [Obstacle] = []
            for index in pools.indices {
                switch try await attempt(index, source, floor, knowing, body) {
                case .read(let reading): return reading
                case .not(let obstacle): obstacles.append(obstacle)
                }
            }
            if source == .anyone, let leader = obstacles.firstIndex(of: .leads),
                case .read(let reading) = try await attempt(leader, .leader, floor, knowing, body)
            {
                return reading
            }
            // Only time helps, and only where somebody is on the way.
            let isComing = pools.count > 1 && obstacles.contains { $0 == .behind || $0 == .unknownHistory }
            guard isComing, ContinuousClock.now + Self.pause < end else {
                if obstacles.allSatisfy({ $0 == .unknownHistory }) { throw UnknownIncarnation() }
                throw ShardUnreadable(shard: shard, description: words(obstacles, source))
            }
            try await Task.sleep(for: Self.pause)
        }
    }

    private func words(_ obstacles: [Obstacle], _ source: Source) -> String {
        if obstacles.contains(.behind) || obstacles.contains(.unknownHistory) {
            return "no member of shard \(shard) that answers has come so far yet"
        }
        if source == .followers, obstacles.contains(.leads) {
            return "only the leader of shard \(shard) answers, and the feed is read from members that follow"
        }
        if source == .leader, obstacles.contains(.follows) {
            return "shard \(shard) has no leader at present"
        }
        return "no member of shard \(shard) answers"
    }

    private func attempt<Value: Sendable>(
        _ index: Int, _ source: Source, _ floor: ShardPosition?, _ knowing: UUID?,
        _ body: @escaping @Sendable (PostgresSession) throws -> Value
    ) async throws -> Attempt<Value> {
        guard away.mayTry(index) else { return .not(.away) }
        let known = Set([floor?.incarnation, knowing].compactMap(\.self))
        let isAlone = pools.count == 1
        do {
            return try await pools[index].withConnection { connection -> Attempt<Value> in
                let standing = try await connection.perform(deadline: Self.standingLimit) {
                    try MemberStanding($0, knows: known)
                }
                // Also of one that may not answer: only what nobody knows is foreign.
                guard standing.knows else { return .not(.unknownHistory) }
                if let obstacle = Self.obstacle(standing, source, isAlone: isAlone) { return .not(obstacle) }
                guard standing.has(floor) else { return .not(isAlone ? .unknownHistory : .behind) }
                return try await connection.perform { session in
                    let value = try body(session)
                    // Promoted meanwhile, and what it shows may be its own alone: another member is asked.
                    let after = try MemberStanding(session)
                    if let obstacle = Self.obstacle(after, source, isAlone: isAlone) { return .not(obstacle) }
                    return .read(ShardReading(value: value, position: after.position))
                }
            }
        } catch let error as PostgresError where !isAlone && Self.isOfMember(error) {
            if error.code != .server { away.note(index) }
            return .not(.away)
        }
    }

    private static func obstacle(
        _ standing: MemberStanding, _ source: Source, isAlone: Bool
    ) -> Obstacle? {
        if isAlone { return nil }
        switch source {
        case .followers: return !standing.follows ? .leads : standing.isStreamed ? nil : .behind
        case .anyone: return standing.follows ? nil : .leads
        case .leader: return standing.follows ? .follows : nil
        }
    }

    /// Whether another member may do better: recovery conflicts (40001) and a change of role (55000) are this one's own.
    private static func isOfMember(_ error: PostgresError) -> Bool {
        error.isTransient && error.sqlState != "57014" || error.sqlState == "55000" || error.code == .closed
    }
}

/// When each member may be tried again.
private final class AwayMembers: Sendable {
    private let until: Mutex<[ContinuousClock.Instant]>

    init(count: Int) { until = Mutex(Array(repeating: .now, count: count)) }

    func mayTry(_ index: Int) -> Bool { until.withLock { $0[index] <= .now } }

    func note(_ index: Int) { until.withLock { $0[index] = .now + ShardMembers.holdOff } }
}
