// How far a shard has been seen, and what comes of reading it: for readers that must not go back in time.

import Foundation
import Postgres

/// How far somebody has seen a shard: whoever has replayed that far shows at least as much.
public struct ShardPosition: Hashable, Sendable {
    /// The newest incarnation that was there.
    public let incarnation: UUID
    /// The place in the WAL, in octets.
    public let lsn: UInt64

    /// A place.
    public init(incarnation: UUID, lsn: UInt64) {
        self.incarnation = incarnation
        self.lsn = lsn
    }
}

/// What a member answered, and how far it was then.
public struct ShardReading<Value: Sendable>: Sendable {
    /// The answer.
    public let value: Value
    /// The member's place right after; nil for a shard that nobody has written to yet.
    public let position: ShardPosition?
}

/// No member of a shard can answer now; another time one may.
public struct ShardUnreadable: Error, Sendable, CustomStringConvertible {
    /// The shard.
    public let shard: String
    /// Why, in words that any caller may see.
    public let description: String
}

/// A cursor or position in a history that no member of this shard has.
public struct UnknownIncarnation: Error, Sendable {}

/// What a member says of itself.
struct MemberStanding {
    /// It is in recovery: what it shows came from a leader, or lay on its disk.
    var follows: Bool
    /// All that it shows came to it by streaming since it started: its leader had it on disk, and so has it.
    var isStreamed: Bool
    /// Its place; nil: no incarnation yet.
    var position: ShardPosition?
    /// It has the incarnations that were asked for, or was restored to a moment before they began.
    var knows: Bool
    /// Those of them that are from before it was restored: places in them are of another history.
    var former: Set<UUID>

    // The order matters: what has been replayed is asked for before what has been received.
    private static let question = """
        SELECT pg_is_in_recovery(),
               CASE WHEN pg_is_in_recovery()
                   THEN coalesce(pg_last_wal_replay_lsn() <= pg_last_wal_receive_lsn(), false) ELSE false END,
               ((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)
                   - '0/0'::pg_lsn)::int8,
               (SELECT id FROM ledger.incarnation ORDER BY timeline DESC LIMIT 1),
               ARRAY(SELECT i.id FROM ledger.incarnation i WHERE i.id = ANY ($1::uuid[])),
               ARRAY(SELECT a FROM unnest($1::uuid[]) AS asked (a) LEFT JOIN ledger.incarnation i ON i.id = a
                     WHERE i.timeline < (SELECT max(timeline) FROM ledger.incarnation WHERE restored_to IS NOT NULL)
                        OR EXISTS (SELECT 1 FROM ledger.left_incarnation l WHERE l.id = a))
        """

    init(_ session: PostgresSession, knows incarnations: Set<UUID> = []) throws {
        guard let row = try session.query(Self.question, [.uuidArray(Array(incarnations))]).first else {
            throw PostgresError(.protocolViolation, "a member does not say how it stands")
        }
        follows = try row.bool(0)
        isStreamed = try row.bool(1)
        let lsn = UInt64(max(0, try row.int8(2)))
        position = try row.optionalUUID(3).map { ShardPosition(incarnation: $0, lsn: lsn) }
        former = Set(try row.uuidArray(5))
        knows = former.union(try row.uuidArray(4)).isSuperset(of: incarnations)
    }

    /// Whether it has replayed `place`.
    func has(_ place: ShardPosition?) -> Bool {
        guard let place, !former.contains(place.incarnation) else { return true }
        return knows && (position?.lsn ?? 0) >= place.lsn
    }
}
