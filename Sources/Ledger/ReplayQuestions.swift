// The same bytes in another shard: a message's tags, who holds them elsewhere, and what a shard's members know while it has no leader
// (design §7, "Over shards").

import Foundation
import Postgres

/// A message of another shard with the same bytes and envelope.
public struct ReplayHolder: Sendable, Hashable {
    /// Its id.
    public let message: UUID
    /// Its client has shown that it got the 250.
    public let isAcknowledged: Bool
    /// A worker has claimed it: it may have been delivered.
    public let wasClaimed: Bool

    /// All three.
    public init(message: UUID, isAcknowledged: Bool, wasClaimed: Bool) {
        self.message = message
        self.isAcknowledged = isAcknowledged
        self.wasClaimed = wasClaimed
    }
}

extension WorkLedger {
    /// The tags of messages: today's, and yesterday's in the hours after midnight. Those without are left out: nobody can have repeated
    /// them, or they are marked already.
    public func replayTags(of ids: [UUID]) async throws -> [UUID: [[UInt8]]] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                var tags: [UUID: [[UInt8]]] = [:]
                for row in try session.query(
                    "SELECT id, tag, previous_tag FROM ledger.replay_tags($1)", [.uuidArray(ids)])
                {
                    tags[try row.uuid(0)] = [try row.bytes(1)] + (try row.optionalBytes(2).map { [$0] } ?? [])
                }
                return tags
            }
        }
    }

    private static let holders =
        "SELECT tag, id, is_acknowledged, was_claimed FROM ledger.replay_holders($1)"

    /// Who holds these tags here; tags that nobody holds are left out. A commit of the quorum: that nobody holds one is relied on, and
    /// only a leader that still has the quorum may say so.
    /// Throws `NotDurable` when its commit is not durable.
    public func replayHolders(of tags: [[UInt8]], limit: Duration) async throws -> [[UInt8]: [ReplayHolder]] {
        let rows = try await committed(
            [
                PostgresStatement(DurableMark.statement),
                PostgresStatement(Self.holders, [.bytesArray(tags)]),
            ], limit: limit)
        var holders: [[UInt8]: [ReplayHolder]] = [:]
        for row in rows[1] {
            holders[try row.bytes(0), default: []].append(
                ReplayHolder(
                    message: try row.uuid(1), isAcknowledged: try row.bool(2), wasClaimed: try row.bool(3)))
        }
        return holders
    }

    /// Makes messages of this shard stand, since a replay elsewhere relies on them: those that still have their tag, and so are not
    /// withdrawn. Throws `NotDurable` when its commit is not durable.
    public func relyOn(_ ids: [UUID], limit: Duration) async throws -> Set<UUID> {
        let rows = try await committed(
            [
                PostgresStatement(DurableMark.statement),
                PostgresStatement("SELECT ledger.rely_on_replays($1)", [.uuidArray(ids)]),
            ], limit: limit)
        return Set(try rows[1].map { try $0.uuid(0) })
    }
}

/// One member of a shard, asked while nobody leads.
public struct ReplayMember: Sendable {
    let pool: PostgresPool

    /// - Parameter pool: leads to this member alone.
    public init(pool: PostgresPool) { self.pool = pool }

    // Does the member show all that it has received, and which of the tags does it know? One that starts has not received anything yet:
    // what it has of before may not be shown.
    private static let known = """
        SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn(), false) ELSE true END,
               ARRAY(SELECT ledger.known_replays($1))
        """

    /// Which of these tags the member knows; nil: it may have received more than it shows.
    public func known(of tags: [[UInt8]], limit: Duration) async throws -> Set<[UInt8]>? {
        try await pool.withConnection { connection in
            try await connection.perform(deadline: limit) { session in
                guard let row = try session.query(Self.known, [.bytesArray(tags)]).first, try row.bool(0)
                else {
                    return nil
                }
                return Set(try row.bytesArray(1))
            }
        }
    }
}
