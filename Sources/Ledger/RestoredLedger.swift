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
    /// - Returns: the incarnation.
    public static func begin(_ session: PostgresSession) throws(PostgresError) -> UUID {
        for role in nodes { try session.execute("ALTER ROLE \"\(role)\" NOLOGIN") }
        guard let row = try session.query("SELECT ledger.current_incarnation()").first else {
            throw PostgresError(.protocolViolation, "the restored shard names no incarnation")
        }
        return try row.uuid(0)
    }

    /// Lets nodes in again. Safe to repeat.
    public static func open(_ session: PostgresSession) throws(PostgresError) {
        for role in nodes { try session.execute("ALTER ROLE \"\(role)\" LOGIN") }
    }
}
