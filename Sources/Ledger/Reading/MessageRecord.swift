// One message as the api and an operator see it: metadata, recipients, what is open, and its events.

import Foundation
import Postgres

/// A recipient of a message, with its state.
public struct RecipientRecord: Sendable {
    /// Its place in the envelope.
    public let number: Int32
    /// The address, sealed.
    public let sealedAddress: [UInt8]
    /// `open`, `held`, or how it ended.
    public let state: String
}

/// A delivery that is still open.
public struct OpenDelivery: Sendable {
    /// Its number in the message.
    public let number: Int32
    /// Recipient domain.
    public let lane: String
    /// `ready`, `waiting`, `claimed` or `held`.
    public let state: String
    /// When it is tried next.
    public let due: Date
    /// Attempts so far.
    public let attempts: Int32
}

/// Everything but the content.
public struct MessageRecord: Sendable {
    /// The message's id.
    public let id: UUID
    /// Whose it is.
    public let tenant: String
    /// When the edge took it.
    public let acceptedAt: Date
    /// The ruleset's name.
    public let ruleset: String
    /// Bytes of content.
    public let size: Int64
    /// Opens the sealed parts.
    public let metadataKey: KeyReference
    /// `Envelope`, sealed.
    public let sealedEnvelope: [UInt8]
    /// Set when it is a delivery status notification.
    public let reportsOn: UUID?
    /// When it was taken back.
    public let withdrawnAt: Date?
    /// When content and wrapped key went.
    public let shreddedAt: Date?
    /// By number.
    public let recipients: [RecipientRecord]
    /// By number.
    public let openDeliveries: [OpenDelivery]
    /// By time.
    public let events: [FeedEvent]
}

extension EventLedger {
    /// One message; nil when this shard has none of that id (or it is another tenant's).
    /// - Parameter surely: asks the leader, who has every message that a client was ever answered 250 for.
    /// - Throws: `ShardUnreadable`, `UnknownIncarnation`.
    public func message(_ id: UUID, tenant: String?, surely: Bool = false) async throws
        -> ShardReading<MessageRecord?>
    {
        try await members.read(surely ? .leader : .anyone, floor: floor) { session in
            guard
                let row = try session.query(
                    """
                    SELECT tenant, accepted_at, ruleset, size, metadata_key_id, metadata_key_index, wrapped_metadata_key,
                           sealed_envelope, reports_on, withdrawn_at, shredded_at
                    FROM ledger.message WHERE id = $1 AND ($2::text IS NULL OR tenant = $2)
                    """, [.uuid(id), tenant.map { .text($0) } ?? .null]
                ).first
            else { return nil }
            return try Self.record(id, row, session)
        }
    }

    private static func record(_ id: UUID, _ row: PostgresRow, _ session: PostgresSession) throws
        -> MessageRecord
    {
        let parts = try session.pipeline([
            PostgresStatement(
                "SELECT rcpt_no, sealed_address, state FROM ledger.recipient WHERE message_id = $1 ORDER BY rcpt_no",
                [.uuid(id)]),
            PostgresStatement(
                "SELECT no, lane, state, due, attempts FROM ledger.delivery WHERE message_id = $1 ORDER BY no",
                [.uuid(id)]),
            PostgresStatement(
                """
                SELECT e.id, e.arrived, e.tenant, e.message_id, e.rcpt_no, e.kind, e.at, e.reason_code, e.possible_duplicate,
                       e.sealed_detail, NULL::bytea, NULL::uuid, NULL::int, NULL::bytea
                FROM ledger.event e WHERE e.message_id = $1 ORDER BY e.at, e.arrived, e.id
                """, [.uuid(id)]),
        ])
        return MessageRecord(
            id: id, tenant: try row.text(0), acceptedAt: try row.timestamp(1), ruleset: try row.text(2),
            size: try row.int8(3),
            metadataKey: KeyReference(
                batchKeyID: try row.uuid(4), index: try row.int4(5), wrapped: try row.bytes(6)),
            sealedEnvelope: try row.bytes(7), reportsOn: try row.optionalUUID(8),
            withdrawnAt: try row.optionalTimestamp(9), shreddedAt: try row.optionalTimestamp(10),
            recipients: try parts[0].map {
                RecipientRecord(number: try $0.int4(0), sealedAddress: try $0.bytes(1), state: try $0.text(2))
            },
            openDeliveries: try parts[1].map {
                OpenDelivery(
                    number: try $0.int4(0), lane: try $0.text(1), state: try $0.text(2),
                    due: try $0.timestamp(3),
                    attempts: try $0.int4(4))
            },
            events: try parts[2].map { try event($0, FeedPosition.leastID) })
    }
}
