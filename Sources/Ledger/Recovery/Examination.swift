// Whether a restored shard is whole: its rows against each other, and some of its messages to be opened.

import Foundation
import Postgres

/// What a restored shard holds, and what in it contradicts itself.
public struct Examination: Sendable, Codable, Equatable {
    /// Messages.
    public var messages = 0
    /// Recipients.
    public var recipients = 0
    /// Deliveries that are open.
    public var openDeliveries = 0
    /// Events.
    public var events = 0
    /// When the newest event happened; nil: there is none.
    public var newestEvent: Date?
    /// What does not agree, each in a sentence.
    public var faults: [String] = []

    /// Nothing.
    public init() {}

    private static let counts = """
        SELECT (SELECT count(*) FROM ledger.message), (SELECT count(*) FROM ledger.recipient),
               (SELECT count(*) FROM ledger.delivery), (SELECT count(*) FROM ledger.event),
               (SELECT max(at) FROM ledger.event)
        """

    // What is true after every transaction.
    private static let rules: [(String, String)] = [
        (
            "messages have another number of recipients than they say",
            """
            SELECT count(*) FROM (SELECT m.id FROM ledger.message m LEFT JOIN ledger.recipient r ON r.message_id = m.id
                GROUP BY m.id, m.recipients HAVING count(r.rcpt_no) <> m.recipients) x
            """
        ),
        (
            "messages have another number of open deliveries than they say",
            """
            SELECT count(*) FROM (SELECT m.id FROM ledger.message m LEFT JOIN ledger.delivery d ON d.message_id = m.id
                GROUP BY m.id, m.open_deliveries HAVING count(d.no) <> m.open_deliveries) x
            """
        ),
        (
            "deliveries are of no message",
            """
            SELECT count(*) FROM ledger.delivery d
            WHERE NOT EXISTS (SELECT 1 FROM ledger.message m WHERE m.id = d.message_id)
            """
        ),
        (
            "open messages have no key, or lack content",
            """
            SELECT count(*) FROM ledger.message m WHERE m.open_deliveries > 0 AND (m.wrapped_message_key IS NULL
                OR (SELECT count(DISTINCT c.frame_no) FROM ledger.content c WHERE c.message_id = m.id) <> m.frames)
            """
        ),
        (
            "open messages have keys that were sealed under a batch key that is not there",
            """
            SELECT count(*) FROM ledger.message m WHERE m.open_deliveries > 0
                AND NOT EXISTS (SELECT 1 FROM ledger.batch_key b WHERE b.id = m.batch_key_id)
            """
        ),
        (
            "messages have metadata that was sealed under a batch key that is not there",
            """
            SELECT count(*) FROM ledger.message m
            WHERE NOT EXISTS (SELECT 1 FROM ledger.batch_key b WHERE b.id = m.metadata_key_id)
            """
        ),
        (
            "recipients are open, and no delivery is theirs",
            """
            SELECT count(*) FROM ledger.recipient r WHERE r.state IN ('open', 'held')
                AND NOT EXISTS (SELECT 1 FROM ledger.delivery d WHERE d.message_id = r.message_id AND d.no = r.delivery_no)
            """
        ),
    ]

    /// Counts and compares, on a session of the shard's owner. Reads every row.
    public static func make(_ session: PostgresSession) throws(PostgresError) -> Examination {
        var examination = Examination()
        if let row = try session.query(counts).first {
            examination.messages = Int(try row.int8(0))
            examination.recipients = Int(try row.int8(1))
            examination.openDeliveries = Int(try row.int8(2))
            examination.events = Int(try row.int8(3))
            examination.newestEvent = try row.optionalTimestamp(4)
        }
        for (words, sql) in rules {
            let count = try session.query(sql).first?.int8(0) ?? 0
            if count > 0 { examination.faults.append("\(count) \(words)") }
        }
        return examination
    }
}

/// A message with what is sealed of it.
public struct SealedMessage: Sendable {
    /// Its id.
    public let id: UUID
    /// Whose.
    public let tenant: String
    /// Field `envelope` of its metadata.
    public let sealedEnvelope: [UInt8]
    /// Opens that.
    public let metadataKey: KeyReference
    /// Opens the content; nil: it is gone.
    public let contentKey: KeyReference?
    /// Its frames; empty when it is gone.
    public let frames: [[UInt8]]
    /// HMAC of the content.
    public let keyedDigest: [UInt8]

    /// Largest content that is taken as a sample, and all of them together, in octets.
    private static let (largest, together) = (8 << 20, 128 << 20)

    private static let columns = """
        m.id, m.tenant, m.sealed_envelope, m.metadata_key_id, m.metadata_key_index, m.wrapped_metadata_key,
        m.batch_key_id, m.batch_key_index, CASE WHEN m.open_deliveries > 0 THEN m.wrapped_message_key END, m.keyed_digest, m.size
        """

    /// Messages at random: some that are open, so that there is content, and some from the whole time that there is.
    public static func sample(
        _ count: Int, _ session: PostgresSession
    ) throws(PostgresError) -> [SealedMessage] {
        let rows = try session.query(
            """
            SELECT DISTINCT ON (m.id) \(columns) FROM (
                (SELECT d.message_id AS id FROM ledger.delivery d ORDER BY random() LIMIT $1)
                UNION ALL
                -- A moment at random, and the first message after it; behind the last one's beginning there is none.
                SELECT coalesce(x.id, (SELECT id FROM ledger.message ORDER BY id DESC LIMIT 1)) FROM (
                    SELECT (SELECT accepted_at FROM ledger.message ORDER BY id LIMIT 1) AS first,
                           (SELECT accepted_at FROM ledger.message ORDER BY id DESC LIMIT 1) AS last) span
                CROSS JOIN generate_series(1, $1) AS n
                CROSS JOIN LATERAL (SELECT span.first + random() * (span.last - span.first) + n * '0 s'::interval AS at) t
                LEFT JOIN LATERAL (SELECT m.id FROM ledger.message m WHERE m.id >= ledger.uuid_floor(t.at)
                                   ORDER BY m.id LIMIT 1) x ON true) chosen
            JOIN ledger.message m ON m.id = chosen.id WHERE m.size <= \(largest) ORDER BY m.id
            """, [.int4(Int32(clamping: (count + 1) / 2))])
        var sample: [SealedMessage] = []
        var octets = 0
        for row in rows {
            let id = try row.uuid(0)
            octets += Int(try row.int8(10))
            if octets > together { break }
            let wrapped = try row.optionalBytes(8)
            var content = ContentAssembly()
            if wrapped != nil {
                for part in try session.query(
                    "SELECT frame_no, part, sealed FROM ledger.content WHERE message_id = $1 ORDER BY 1, 2",
                    [.uuid(id)])
                {
                    content.add(frame: try part.int4(0), part: try part.int4(1), try part.bytes(2))
                }
            }
            let (batch, index) = (try row.uuid(6), try row.int4(7))
            sample.append(
                SealedMessage(
                    id: id, tenant: try row.text(1), sealedEnvelope: try row.bytes(2),
                    metadataKey: KeyReference(
                        batchKeyID: try row.uuid(3), index: try row.int4(4), wrapped: try row.bytes(5)),
                    contentKey: wrapped.map { KeyReference(batchKeyID: batch, index: index, wrapped: $0) },
                    frames: content.frames(), keyedDigest: try row.bytes(9)))
        }
        return sample
    }
}
