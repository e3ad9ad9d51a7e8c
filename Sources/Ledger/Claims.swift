// Claiming: batches with SKIP LOCKED, a few of each lane, the cost bound to the number of lanes and not to the backlog.

import Foundation
import Postgres

/// Names one delivery under one claim.
public struct DeliveryReference: Hashable, Sendable {
    /// The message.
    public let message: UUID
    /// The delivery's number in it.
    public let number: Int32
    /// The claim: grows by one each time.
    public let fence: Int64

    /// All three.
    public init(message: UUID, number: Int32, fence: Int64) {
        self.message = message
        self.number = number
        self.fence = fence
    }
}

/// A recipient of a claimed delivery that has no terminal event yet.
public struct ClaimedRecipient: Sendable {
    /// Its place in the envelope.
    public let number: Int32
    /// Field `address/<number>` of the message's metadata.
    public let sealedAddress: [UInt8]
}

/// What a worker needs to know of a delivery.
public struct ClaimedDelivery: Sendable {
    /// Which, under which claim.
    public let reference: DeliveryReference
    /// Recipient domain.
    public let lane: String
    /// Attempts before this one.
    public let attempts: Int32
    /// A final dot of it may have been sent and not been answered.
    public var possibleDuplicate: Bool
    /// Whether its sender was told of the delay.
    public let delayReported: Bool
    /// Whose it is.
    public let tenant: String
    /// The ruleset's name.
    public let ruleset: String
    /// When the edge took it.
    public let acceptedAt: Date
    /// Bytes of content.
    public let size: Int64
    /// Frames of content.
    public let frames: Int32
    /// Deliveries that the message began with.
    public let deliveries: Int32
    /// The content's key; its wrapped bytes are empty when the content is shredded.
    public let contentKey: KeyReference
    /// The metadata's key.
    public let metadataKey: KeyReference
    /// HMAC of the content.
    public let keyedDigest: [UInt8]
    /// Field `envelope`.
    public let sealedEnvelope: [UInt8]
    /// Those still open; none: there is nothing to send, and the delivery is to be ended (`Completion.ending`).
    public internal(set) var recipients: [ClaimedRecipient]
    /// Set when it is a delivery status notification.
    public let reportsOn: UUID?
    /// An operator wants it ended unsent, and its sender told.
    public let isReturned: Bool
}

/// What to claim.
public struct ClaimRequest: Sendable {
    /// At most so many deliveries.
    public var limit: Int32
    /// At most so many of one lane.
    public var perLane: Int32
    /// At most so many lanes.
    public var lanes: Int32
    /// Lanes with no room.
    public var excludedLanes: [String]
    /// Lanes after this one in byte order; empty: from the first.
    public var afterLane: String

    /// A request.
    public init(
        limit: Int32, perLane: Int32, lanes: Int32 = 64, excludedLanes: [String] = [], afterLane: String = ""
    ) {
        self.limit = limit
        self.perLane = perLane
        self.lanes = lanes
        self.excludedLanes = excludedLanes
        self.afterLane = afterLane
    }
}

extension WorkLedger {
    // Which deliveries are next? The recursive part walks from lane to lane of the index of ready ones, so that a lane with a
    // backlog of any length costs one step; the lateral part takes the oldest of each.
    static let claim = """
        WITH RECURSIVE lane AS (
            (SELECT d.lane FROM ledger.delivery d WHERE d.state = 'ready' AND d.lane > $4 ORDER BY d.lane LIMIT 1)
            UNION ALL
            SELECT (SELECT d.lane FROM ledger.delivery d WHERE d.state = 'ready' AND d.lane > l.lane
                    ORDER BY d.lane LIMIT 1)
            FROM lane l WHERE l.lane IS NOT NULL
        ), chosen AS MATERIALIZED (
            SELECT lane FROM lane WHERE lane IS NOT NULL AND lane <> ALL ($5::text[]) LIMIT $3
        ), picked AS MATERIALIZED (
            SELECT p.message_id, p.no FROM chosen c CROSS JOIN LATERAL (
                SELECT d.message_id, d.no FROM ledger.delivery d WHERE d.state = 'ready' AND d.lane = c.lane
                ORDER BY d.due LIMIT $6 FOR UPDATE SKIP LOCKED) p
            LIMIT $2
        ), claimed AS (
            UPDATE ledger.delivery d SET state = 'claimed', worker = $1, fence = d.fence + 1
            FROM picked p WHERE d.message_id = p.message_id AND d.no = p.no
                AND EXISTS (SELECT 1 FROM ledger.worker_heartbeat w WHERE w.id = $1 AND w.lease_until > clock_timestamp())
            RETURNING d.message_id, d.no, d.fence, d.lane, d.attempts, d.possible_duplicate, d.delay_reported, d.returned
        )
        SELECT c.message_id, c.no, c.fence, c.lane, c.attempts, c.possible_duplicate, c.delay_reported,
               m.tenant, m.ruleset, m.accepted_at, m.size, m.frames, m.deliveries,
               m.batch_key_id, m.batch_key_index, m.wrapped_message_key,
               m.metadata_key_id, m.metadata_key_index, m.wrapped_metadata_key,
               m.keyed_digest, m.sealed_envelope, m.reports_on, r.numbers, r.addresses, c.returned
        FROM claimed c JOIN ledger.message m ON m.id = c.message_id
        CROSS JOIN LATERAL (
            SELECT array_agg(r.rcpt_no) AS numbers, array_agg(r.sealed_address) AS addresses
            FROM ledger.recipient r
            WHERE r.message_id = c.message_id AND r.delivery_no = c.no AND r.state = 'open') r
        """

    /// Claims up to `request.limit` deliveries for a worker whose lease holds. One quorum commit.
    public func claim(worker: UUID, _ request: ClaimRequest) async throws -> [ClaimedDelivery] {
        // The worker's row is locked against a reclaim that would forget it while this commit waits.
        let rows = try await committed([
            PostgresStatement(Self.lease, [.uuid(worker)]),
            PostgresStatement(
                Self.claim,
                [
                    .uuid(worker), .int4(request.limit), .int4(request.lanes), .text(request.afterLane),
                    .textArray(request.excludedLanes.map { $0 }), .int4(request.perLane),
                ]),
        ])
        let claimed = try rows[1].map { row in
            let numbers = try row.isNull(22) ? [] : row.int4Array(22)
            let addresses = try row.isNull(23) ? [] : row.bytesArray(23)
            return ClaimedDelivery(
                reference: DeliveryReference(
                    message: try row.uuid(0), number: try row.int4(1), fence: try row.int8(2)),
                lane: try row.text(3), attempts: try row.int4(4), possibleDuplicate: try row.bool(5),
                delayReported: try row.bool(6), tenant: try row.text(7), ruleset: try row.text(8),
                acceptedAt: try row.timestamp(9), size: try row.int8(10), frames: try row.int4(11),
                deliveries: try row.int4(12),
                contentKey: KeyReference(
                    batchKeyID: try row.uuid(13), index: try row.int4(14),
                    wrapped: try row.optionalBytes(15) ?? []),
                metadataKey: KeyReference(
                    batchKeyID: try row.uuid(16), index: try row.int4(17), wrapped: try row.bytes(18)),
                keyedDigest: try row.bytes(19), sealedEnvelope: try row.bytes(20),
                recipients: zip(numbers, addresses).map {
                    ClaimedRecipient(number: $0, sealedAddress: $1)
                },
                reportsOn: try row.optionalUUID(21), isReturned: try row.bool(24))
        }
        return try await openOnly(claimed)
    }

    // Which recipients of these deliveries are open?
    private static let openRecipients = """
        SELECT r.message_id, r.delivery_no, r.rcpt_no FROM unnest($1::uuid[], $2::int[]) AS a (m, n)
        JOIN ledger.recipient r ON r.message_id = a.m AND r.delivery_no = a.n WHERE r.state = 'open'
        """

    /// Without recipients that a late 250 served while the claim was under way: the claim's snapshot may be older than the moment
    /// its rows were locked. Read after the claim committed: a result that is later still finds the claim, and voids it. A delivery
    /// that nobody had claimed before has no late results, so the common case asks nothing. Where none is left the delivery has
    /// ended already, or is to be ended: an owner that had sent a final dot when the late 250 came kept it from ending.
    private func openOnly(_ claimed: [ClaimedDelivery]) async throws -> [ClaimedDelivery] {
        let again = claimed.map(\.reference).filter { $0.fence > 1 }
        if again.isEmpty { return claimed }
        let rows = try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    Self.openRecipients, [.uuidArray(again.map(\.message)), .int4Array(again.map(\.number))])
            }
        }
        var open: [UUID: [Int32: Set<Int32>]] = [:]
        for row in rows {
            open[try row.uuid(0), default: [:]][try row.int4(1), default: []].insert(try row.int4(2))
        }
        return claimed.map { delivery in
            let reference = delivery.reference
            if reference.fence == 1 { return delivery }
            let numbers = open[reference.message]?[reference.number] ?? []
            var delivery = delivery
            delivery.recipients.removeAll { !numbers.contains($0.number) }
            return delivery
        }
    }

    /// What the ledger says that a worker has claimed: for one that does not know whether its last claim or release committed.
    public func claims(of worker: UUID) async throws -> [DeliveryReference] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    "SELECT message_id, no, fence FROM ledger.delivery WHERE worker = $1 AND state = 'claimed'",
                    [.uuid(worker)]
                ).map {
                    DeliveryReference(message: try $0.uuid(0), number: try $0.int4(1), fence: try $0.int8(2))
                }
            }
        }
    }

    /// Whether a claim still stands: nobody took it from `worker`, and no late result of an earlier owner ended its delivery.
    public func stands(_ reference: DeliveryReference, worker: UUID) async throws -> Bool {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try !session.query(
                    """
                    SELECT 1 FROM ledger.delivery
                    WHERE message_id = $1 AND no = $2 AND fence = $3 AND worker = $4 AND state = 'claimed'
                    """,
                    [
                        .uuid(reference.message), .int4(reference.number), .int8(reference.fence),
                        .uuid(worker),
                    ]
                ).isEmpty
            }
        }
    }

    /// The frames of whole messages, in order. For small ones: the caller bounds the sum of their sizes.
    public func content(of messages: [UUID]) async throws -> [UUID: [[UInt8]]] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                var found: [UUID: ContentAssembly] = [:]
                for row in try session.query(
                    """
                    SELECT c.message_id, c.frame_no, c.part, c.sealed FROM unnest($1::uuid[]) AS a (m)
                    JOIN ledger.content c ON c.message_id = a.m WHERE c.message_id BETWEEN $2 AND $3
                    """,
                    [.uuidArray(messages)] + IDRange(messages).parameters)
                {
                    found[try row.uuid(0), default: ContentAssembly()].add(
                        frame: try row.int4(1), part: try row.int4(2), try row.bytes(3))
                }
                return found.mapValues { $0.frames() }
            }
        }
    }

    /// Frames `from ..< from + count` of one message.
    public func frames(of message: UUID, from: Int32, count: Int32) async throws -> [[UInt8]] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                var found = ContentAssembly()
                for row in try session.query(
                    """
                    SELECT frame_no, part, sealed FROM ledger.content
                    WHERE message_id = $1 AND frame_no >= $2 AND frame_no < $2 + $3 ORDER BY frame_no, part
                    """, [.uuid(message), .int4(from), .int4(count)])
                {
                    found.add(frame: try row.int4(0), part: try row.int4(1), try row.bytes(2))
                }
                return found.frames()
            }
        }
    }

    /// Batch keys by id.
    public func batchKeys(_ ids: [UUID]) async throws -> [BatchKeyRow] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try BatchKeyRow.read(ids, from: "ledger.batch_key", session)
            }
        }
    }
}

extension BatchKeyRow {
    static func read(_ ids: [UUID], from table: String, _ session: PostgresSession) throws -> [BatchKeyRow] {
        try session.query(
            "SELECT id, tenant, purpose, epoch, created_at, wrapped FROM \(table) WHERE id = ANY ($1)",
            [.uuidArray(ids)]
        ).map { row in
            BatchKeyRow(
                id: try row.uuid(0), tenant: try row.text(1), purpose: try row.text(2),
                epoch: try row.int4(3),
                createdAt: try row.timestamp(4), wrapped: try row.bytes(5))
        }
    }
}
