// A shard that was taken back to a moment: what its operator does in it before nodes come in again.

import Foundation
import Postgres

/// A restored shard, on a session of its owner.
public enum RestoredLedger {
    /// How far a server is that recovers.
    public struct Standing: Sendable {
        /// Whether it still does.
        public var isRecovering: Bool
        /// The newest transaction that is there; nil: none since it was started.
        public var replayed: Date?
    }

    /// The roles of nodes.
    private static let nodes = ["zegel_edge", "zegel_worker", "zegel_api"]

    /// How far a server is.
    public static func standing(_ session: PostgresSession) throws(PostgresError) -> Standing {
        guard
            let row = try session.query(
                "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END"
            ).first
        else { return Standing(isRecovering: true) }
        return Standing(isRecovering: try row.bool(0), replayed: try row.optionalTimestamp(1))
    }

    /// Keeps nodes out, whatever they know, and begins an incarnation: readers of the feed go on from here. Safe to repeat.
    /// - Parameter moment: what the shard was restored to.
    /// - Returns: the incarnation.
    public static func begin(
        _ session: PostgresSession, restoredTo moment: Date
    ) throws(PostgresError) -> UUID {
        for role in nodes { try session.execute("ALTER ROLE \"\(role)\" NOLOGIN") }
        // Of an earlier restore, whose rows are part of this one's history.
        try session.execute("DELETE FROM ledger.reconciled")
        guard let row = try session.query("SELECT ledger.current_incarnation()").first else {
            throw PostgresError(.protocolViolation, "the restored shard names no incarnation")
        }
        let incarnation = try row.uuid(0)
        _ = try session.query(
            "UPDATE ledger.incarnation SET restored_to = $2 WHERE id = $1",
            [.uuid(incarnation), .timestamp(moment)])
        return incarnation
    }

    // To the second: these are bounds with room.
    static func literal(_ moment: Date) -> String { "'\(moment.ISO8601Format())'::timestamptz" }

    /// Makes room for what is told, and remembers how everything stood at the moment. Safe to repeat.
    static func prepare(_ session: PostgresSession, moment: Date) throws(PostgresError) {
        _ = try session.query(
            """
            SELECT ledger.ensure_partitions(($1::timestamptz AT TIME ZONE 'UTC')::date,
                ((now() AT TIME ZONE 'UTC')::date - ($1::timestamptz AT TIME ZONE 'UTC')::date) + 8)
            """, [.timestamp(moment)])
        // What was on its way in never got its 250 from here.
        try session.execute(
            """
            DELETE FROM ledger.content c USING ledger.upload u WHERE c.message_id = u.message_id;
            DELETE FROM ledger.upload;
            DELETE FROM ledger.worker_heartbeat;
            DELETE FROM ledger.dot_in_flight
            """)
        // How all that is open stood at the moment; only the first time.
        try session.execute(
            """
            INSERT INTO ledger.reconciled (message_id, no, knowledge, state, possible_duplicate)
            SELECT message_id, no, 'unknown', CASE state WHEN 'claimed' THEN 'ready' ELSE state END, possible_duplicate
            FROM ledger.delivery ON CONFLICT DO NOTHING
            """)
    }

    /// How a shard that tells what happened since stands.
    public struct Source: Sendable {
        /// PostgreSQL's number of the cluster.
        public var system: UInt64
        /// The timeline that it is on.
        public var timeline: Int
        /// Whether it follows: it may lack the newest commits of its leader.
        public var follows: Bool
        /// Workers whose lease holds: they go on delivering.
        public var livingWorkers: Int
        /// Sessions of edges: they go on taking mail in.
        public var edges: Int
        /// Changes with everything that happens to its mail: events, claims, final dots.
        public var work: String
        /// The version of its schema.
        public var schema: Int32
        /// When its newest transaction was committed; nil: nothing of that is known.
        public var newest: Date?
    }

    private static let source = """
        SELECT (SELECT system_identifier FROM pg_control_system())::text, pg_is_in_recovery(),
               (SELECT count(*) FROM ledger.worker_heartbeat WHERE lease_until > clock_timestamp())::int,
               (SELECT max(version) FROM ledger.schema_migration),
               (SELECT e.at FROM ledger.event e ORDER BY e.arrived DESC, e.id DESC LIMIT 1),
               CASE WHEN pg_is_in_recovery() THEN (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)
                       FROM pg_control_checkpoint() c, pg_control_recovery() r)
                   ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
               (SELECT count(*) FROM pg_stat_activity WHERE usename = 'zegel_edge')::int,
               md5(concat_ws(' ',
                   (SELECT format('%s %s', e.arrived, e.id) FROM ledger.event e ORDER BY e.arrived DESC, e.id DESC LIMIT 1),
                   (SELECT format('%s %s %s', count(*), sum(d.fence), count(*) FILTER (WHERE d.state = 'claimed'))
                    FROM ledger.delivery d),
                   (SELECT string_agg(i::text, ' ' ORDER BY i.worker) FROM ledger.dot_in_flight i),
                   (SELECT m.id FROM ledger.message m ORDER BY m.id DESC LIMIT 1)))
        """

    /// How a source stands, on a session of its owner.
    public static func source(_ session: PostgresSession) throws(PostgresError) -> Source {
        guard let row = try session.query(source).first, let system = UInt64(try row.text(0)) else {
            throw PostgresError(.protocolViolation, "the source does not say how it stands")
        }
        return Source(
            system: system, timeline: Int(try row.int4(5)), follows: try row.bool(1),
            livingWorkers: Int(try row.int4(2)),
            edges: Int(try row.int4(6)), work: try row.text(7), schema: try row.int4(3),
            newest: try row.optionalTimestamp(4))
    }

    /// Octets of WAL that a server that leads has written.
    public static func position(_ session: PostgresSession) throws(PostgresError) -> Int {
        Int(try session.query("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::int8").first?.int8(0) ?? 0)
    }

    /// What is open of each kind of knowledge, and of each state.
    public struct Tally: Sendable, Equatable, Codable {
        /// Deliveries that have ended since.
        public var ended = 0
        /// That had not ended, for certain, and go on.
        public var released = 0
        /// Of which it is not known whether a recipient got them: sent again with their mark, or held as their tenant wants.
        public var inDoubt = 0
        /// Of which nobody knows anything: held.
        public var unknown = 0
        /// Open deliveries that are held, for whatever reason.
        public var held = 0

        /// Nothing.
        public init() {}
    }

    private static let tally = """
        SELECT count(*) FILTER (WHERE knowledge = 'ended')::int, count(*) FILTER (WHERE knowledge = 'open')::int,
               count(*) FILTER (WHERE knowledge = 'doubt')::int, count(*) FILTER (WHERE knowledge = 'unknown')::int,
               (SELECT count(*) FROM ledger.delivery WHERE state = 'held')::int
        FROM ledger.reconciled
        """

    /// How many deliveries there are of each kind.
    public static func tally(_ session: PostgresSession) throws(PostgresError) -> Tally {
        guard let row = try session.query(tally).first else { return Tally() }
        var tally = Tally()
        tally.ended = Int(try row.int4(0))
        tally.released = Int(try row.int4(1))
        tally.inDoubt = Int(try row.int4(2))
        tally.unknown = Int(try row.int4(3))
        tally.held = Int(try row.int4(4))
        return tally
    }

    /// Batch keys by id, still wrapped.
    public static func batchKeys(_ ids: [UUID], _ session: PostgresSession) throws -> [BatchKeyRow] {
        try BatchKeyRow.read(ids, from: "ledger.batch_key", session)
    }

    /// Lets nodes in again. Safe to repeat.
    public static func open(_ session: PostgresSession) throws(PostgresError) {
        for role in nodes { try session.execute("ALTER ROLE \"\(role)\" LOGIN") }
    }
}
