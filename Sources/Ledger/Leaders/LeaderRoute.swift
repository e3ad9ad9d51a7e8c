// The way to a shard's leader. Patroni's word comes first, libpq's own search through all members second, and neither is believed
// against the timeline: whoever has seen a promotion never goes back to a leader from before it (design §5).

import Foundation
import Postgres
import Synchronization

/// Leads a pool's connections to the leader of one shard, and away from one that is a leader no more.
public final class LeaderRoute: PostgresRoute {
    /// What is known of the leader.
    public struct Knowledge: Sendable, Equatable {
        /// The region that leads, as Patroni tells; nil: not known, or not asked.
        public var region: String?
        /// The highest timeline seen; 0: none yet.
        public var timeline = 0
        /// Patroni says that nobody leads. A Patroni that says nothing is no reason to believe that: leaders go on without it.
        public var isLeaderless = false
    }

    private struct State {
        var knowledge = Knowledge()
        var host = ""
        var port = 0
        /// Grows with every change of leader.
        var epoch = 0
        /// The highest timeline whose incarnation is known to be written.
        var written = 0
        var pools: [PostgresPool] = []
    }

    /// The shard's name.
    public let shard: String
    private let configuration: PostgresConfiguration
    private let state = Mutex(State())
    /// Set when a connection failed: a reason to look for the leader at once.
    let look = Wakeup()

    /// A route to the leader of `shard`.
    /// - Parameter configuration: names all members; `target_session_attrs=read-write` finds the leader among them.
    public init(shard: String, configuration: PostgresConfiguration) {
        self.shard = shard
        self.configuration = configuration
    }

    /// What is known now.
    public var knowledge: Knowledge { state.withLock { $0.knowledge } }

    /// What is known now, and a number that grows with every change of leader: two equal ones mean that nothing changed between them.
    public var standing: (knowledge: Knowledge, epoch: Int) { state.withLock { ($0.knowledge, $0.epoch) } }

    /// A pool of connections to the leader.
    public func pool(limit: Int, waitLimit: Duration) -> PostgresPool {
        let pool = PostgresPool(route: self, limit: limit, waitLimit: waitLimit)
        state.withLock { $0.pools.append(pool) }
        return pool
    }

    /// A pool to each member, whatever its role.
    public func memberPools(limit: Int, waitLimit: Duration) -> [PostgresPool] {
        configuration.members.map { PostgresPool(configuration: $0, limit: limit, waitLimit: waitLimit) }
    }

    /// Takes Patroni's word for who leads. One from before a promotion that was seen counts for nothing.
    func learned(_ view: ShardView) {
        guard let leader = view.liveLeader, !leader.host.isEmpty else { return }
        let pools = state.withLock { state -> [PostgresPool] in
            let timeline = leader.timeline ?? state.knowledge.timeline
            guard timeline >= state.knowledge.timeline else { return [] }
            let isSame =
                state.knowledge.region == leader.region && state.host == leader.host
                && state.port == leader.port
            state.knowledge.region = leader.region
            state.knowledge.isLeaderless = false
            state.knowledge.timeline = timeline
            (state.host, state.port) = (leader.host, leader.port)
            if isSame { return [] }
            state.epoch += 1
            return state.pools
        }
        leaveFormer(pools)
    }

    private func leaveFormer(_ pools: [PostgresPool]) {
        for pool in pools { Task { await pool.leaveFormer() } }
    }

    // MARK: The pool's questions

    /// The leader that Patroni named, else all members.
    public func destination() -> PostgresDestination {
        state.withLock { state in
            var configuration = configuration
            if !state.host.isEmpty {
                configuration.overrides += [("host", state.host), ("port", String(state.port))]
            }
            return PostgresDestination(configuration, epoch: state.epoch)
        }
    }

    // Whether this server leads, and on which timeline.
    private static let standing = """
        SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN 0
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END
        """

    /// Refuses a server that does not lead, and one whose timeline is below the highest seen.
    public func admit(_ session: PostgresSession, of destination: PostgresDestination) throws -> Int {
        guard let row = try session.query(Self.standing).first else {
            throw PostgresError(.protocolViolation, "the server does not say whether it leads")
        }
        guard try !row.bool(0) else { throw PostgresError(.connectFailed, "the member does not lead") }
        let timeline = Int(try row.int4(1))
        let (epoch, pools) = state.withLock { state -> (Int?, [PostgresPool]) in
            if timeline < state.knowledge.timeline { return (nil, []) }
            state.knowledge.isLeaderless = false
            if timeline > state.knowledge.timeline, state.knowledge.timeline > 0 {
                // Whoever came here before was at a former leader, or at this one before its promotion.
                state.knowledge.timeline = timeline
                state.epoch += 1
                return (state.epoch, state.pools)
            }
            state.knowledge.timeline = timeline
            // Another leader may have become known since the connection was begun: it is asked for anew then.
            return (state.epoch == destination.epoch ? state.epoch : nil, [])
        }
        leaveFormer(pools)
        guard let epoch else { throw PostgresError(.connectFailed, "a former leader of shard \(shard)") }
        try writeIncarnation(session, timeline)
        return epoch
    }

    // On this leader alone: whoever has a later commit has this one.
    private static let incarnation = """
        BEGIN; SET LOCAL synchronous_commit = local; SELECT ledger.current_incarnation(); COMMIT
        """

    /// Nobody writes an event on a timeline whose incarnation is not there yet: a reader who saw what is lost now goes back to the first
    /// transaction that the incarnation names, and would miss what was written before it.
    private func writeIncarnation(_ session: PostgresSession, _ timeline: Int) throws {
        if state.withLock({ $0.written >= timeline }) { return }
        do {
            try session.execute(Self.incarnation)
        } catch {
            // A database without this schema, or a role that writes nothing: who finds out says it better.
            let isNotThere = ["3F000", "42883", "42501", "42P01"].contains(error.sqlState ?? "")
            if !isNotThere { throw error }
            try session.execute("ROLLBACK")
            return
        }
        state.withLock { $0.written = max($0.written, timeline) }
    }

    /// Whether connections of an epoch still lead to the leader.
    public func isCurrent(_ epoch: Int) -> Bool { state.withLock { $0.epoch == epoch } }

    /// A connection broke or could not be made.
    public func failed() { look.set() }

    /// Nobody leads at the place that was known: all members are asked again.
    func forget() {
        state.withLock { state in
            (state.host, state.port) = ("", 0)
            state.knowledge.region = nil
            state.knowledge.isLeaderless = true
        }
    }
}
