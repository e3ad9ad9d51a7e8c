// The feed: every event once, in an order in which nothing appears behind a reader (design §5).

import Foundation
import Postgres

/// A place in one shard's feed.
public struct FeedPosition: Hashable, Sendable {
    /// The shard's incarnation that the reader was on.
    public let incarnation: UUID
    /// The transaction of the last event read.
    public let arrived: UInt64
    /// Its id.
    public let id: UUID

    /// A place.
    public init(incarnation: UUID, arrived: UInt64, id: UUID) {
        self.incarnation = incarnation
        self.arrived = arrived
        self.id = id
    }

    /// The least uuid.
    public static let leastID = UUID(uuid: (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
}

/// An event as it is stored, with what opens its sealed parts.
public struct FeedEvent: Sendable {
    /// UUIDv7; stable, so that a repeat is recognised.
    public let id: UUID
    /// Where it stands.
    public let position: FeedPosition
    /// Whose it is.
    public let tenant: String
    /// The message; nil for a mail refused at the edge.
    public let message: UUID?
    /// The recipient's number.
    public let recipient: Int32?
    /// What happened.
    public let kind: EventKind
    /// When.
    public let at: Date
    /// Why.
    public let reasonCode: String?
    /// The message may have reached the recipient more than once.
    public let possibleDuplicate: Bool
    /// `EventDetail`, sealed.
    public let sealedDetail: [UInt8]?
    /// The recipient's address, sealed.
    public let sealedAddress: [UInt8]?
    /// The message's metadata key.
    public let metadataKey: KeyReference?
}

/// Reads of one shard for the api, as role `zegel_api`.
public struct EventLedger: Sendable {
    /// The shard's name.
    public let shard: String
    let members: ShardMembers
    /// How far a member must have come to answer.
    private(set) var floor: ShardPosition?

    /// A shard of one server.
    public init(shard: String, pool: PostgresPool) { self.init(shard: shard, members: [pool]) }

    /// A shard with members in several regions.
    /// - Parameter members: connections to each member, whatever its role: the own region's first. One alone is a shard that is not
    ///   replicated, and is read whatever it is.
    public init(shard: String, members: [PostgresPool]) {
        self.shard = shard
        self.members = ShardMembers(shard: shard, pools: members)
    }

    /// The same shard, never shown as it was before `position`.
    public func notBefore(_ position: ShardPosition?) -> EventLedger {
        var copy = self
        copy.floor = position ?? floor
        return copy
    }

    // Which events follow? Only those of transactions below the oldest one still running: one that commits late sorts later
    // than every reader's place.
    private static let page = """
        SELECT e.id, e.arrived, e.tenant, e.message_id, e.rcpt_no, e.kind, e.at, e.reason_code, e.possible_duplicate,
               e.sealed_detail, r.sealed_address, m.metadata_key_id, m.metadata_key_index, m.wrapped_metadata_key
        FROM (SELECT * FROM ledger.event
              WHERE (arrived, id) > ($1::xid8, $2::uuid) AND arrived < pg_snapshot_xmin(pg_current_snapshot())
                AND ($3::text IS NULL OR tenant = $3)
              ORDER BY arrived, id LIMIT $4) e
        LEFT JOIN ledger.message m ON m.id = e.message_id
        LEFT JOIN ledger.recipient r ON r.message_id = e.message_id AND r.rcpt_no = e.rcpt_no
        ORDER BY e.arrived, e.id
        """

    /// Up to `limit` events after a place, from members that follow: what they show cannot be lost with a leader.
    /// - Parameters:
    ///   - position: nil: from the start.
    ///   - tenant: only this tenant's; nil: all.
    /// - Throws: `ShardUnreadable`; `UnknownIncarnation` for a place that this shard never gave out.
    public func page(after position: FeedPosition?, tenant: String?, limit: Int32) async throws
        -> ShardReading<[FeedEvent]>
    {
        let incarnation = position?.incarnation
        let knowing = incarnation == FeedPosition.leastID ? nil : incarnation
        return try await members.read(.followers, floor: floor, knowing: knowing) { session in
            let (incarnation, start) = try Self.resolve(position, session)
            return try session.query(
                Self.page,
                [
                    .xid8(start?.arrived ?? 0), .uuid(start?.id ?? FeedPosition.leastID),
                    tenant.map { .text($0) } ?? .null, .int4(limit),
                ]
            ).map { row in try Self.event(row, incarnation) }
        }
    }

    /// The present incarnation, and where a reader goes on: one from an older incarnation at the least of its place and the
    /// first transaction of every later one; one from a history that was left by a restore where that began.
    private static func resolve(_ position: FeedPosition?, _ session: PostgresSession) throws -> (
        UUID, FeedPosition?
    ) {
        var known: [(id: UUID, first: UInt64)] = []
        var restored: Int?
        for row in try session.query(
            "SELECT id, first_xid, restored_to IS NOT NULL FROM ledger.incarnation ORDER BY timeline")
        {
            if try row.bool(2), restored == nil { restored = known.count }
            known.append((try row.uuid(0), try row.xid8(1)))
        }
        let newest = known.last?.id ?? FeedPosition.leastID
        guard let position else { return (newest, nil) }
        if position.incarnation == newest { return (newest, position) }
        let later: ArraySlice<(id: UUID, first: UInt64)>
        if position.incarnation == FeedPosition.leastID {
            later = known[...]
        } else if let place = known.firstIndex(where: { $0.id == position.incarnation }) {
            later = known[(place + 1)...]
        } else if let restored,
            try !session.query(
                "SELECT 1 FROM ledger.left_incarnation WHERE id = $1", [.uuid(position.incarnation)]
            ).isEmpty
        {
            // Of a history that came after the moment: all of it was read up to there. The first of several: what is read again has its id.
            let first = FeedPosition(
                incarnation: newest, arrived: known[restored].first, id: FeedPosition.leastID)
            return (newest, first)
        } else {
            throw UnknownIncarnation()
        }
        let least = later.map(\.first).min() ?? position.arrived
        if position.arrived < least { return (newest, position) }
        return (newest, FeedPosition(incarnation: newest, arrived: least, id: FeedPosition.leastID))
    }

    static func event(_ row: PostgresRow, _ incarnation: UUID) throws -> FeedEvent {
        let id = try row.uuid(0)
        var key: KeyReference?
        if let batch = try row.optionalUUID(11) {
            key = KeyReference(batchKeyID: batch, index: try row.int4(12), wrapped: try row.bytes(13))
        }
        return FeedEvent(
            id: id, position: FeedPosition(incarnation: incarnation, arrived: try row.xid8(1), id: id),
            tenant: try row.text(2), message: try row.optionalUUID(3), recipient: try row.optionalInt4(4),
            kind: EventKind(rawValue: try row.text(5)), at: try row.timestamp(6),
            reasonCode: try row.optionalText(7),
            possibleDuplicate: try row.bool(8), sealedDetail: try row.optionalBytes(9),
            sealedAddress: try row.optionalBytes(10), metadataKey: key)
    }

    /// Batch keys (of metadata) by id.
    public func batchKeys(_ ids: [UUID]) async throws -> [BatchKeyRow] {
        try await members.read(.anyone, floor: floor) { session in
            try BatchKeyRow.read(ids, from: "ledger.metadata_batch_key", session)
        }.value
    }
}
