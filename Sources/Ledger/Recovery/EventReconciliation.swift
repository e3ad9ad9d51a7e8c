// What happened to a restored shard's mail since, told by events that somebody outside has kept. They have no content: what came in
// after the moment and had not ended is lost, and named. What they do not say to have ended may have ended since: it is in doubt.

import Foundation
import Postgres

/// The comparison of a restored shard with exported events.
public struct EventReconciliation: Sendable {
    /// What the events brought.
    public struct Result: Sendable, Equatable, Codable {
        /// Events that were brought over.
        public var events = 0
        /// Messages that had been taken in after the moment, and of which nothing is left but their events: told by an event
        /// `unrecoverable` each.
        public var lost: [UUID] = []
        /// When the newest of them happened; nil: there was none of this shard.
        public var newest: Date?

        /// Nothing.
        public init() {}
    }

    /// Events that are of no message, leader or event of this shard.
    public struct Foreign: Error, Sendable, CustomStringConvertible {
        /// In words.
        public let description =
            "none of these events is of this shard or of a message in it: they are of another cluster"
    }

    /// Rows that are sent at once.
    private static let batch = 10_000
    // Kinds that end a recipient's delivery, as states of it. One that was delivered stays so.
    private static let ends = "('delivered', 'refused', 'bounced', 'expired', 'cancelled', 'duplicate')"
    private static let lostReason = "restored-lost"

    /// The moment that the shard was restored to.
    public var moment: Date
    /// Tenants whose deliveries in doubt are held and not sent again; nil: all.
    public var heldTenants: [String]?
    /// Addresses of open recipients, as far as they could be opened.
    public var addresses: [RecipientAddress]

    /// A comparison.
    public init(moment: Date, heldTenants: [String]?, addresses: [RecipientAddress] = []) {
        (self.moment, self.heldTenants, self.addresses) = (moment, heldTenants, addresses)
    }

    /// Compares, in one transaction. Safe to repeat, with the same events or with more.
    /// - Parameters:
    ///   - session: of the restored shard's owner.
    ///   - next: the next event of this shard; nil: there are no more. In any order, and a repeat does no harm.
    public func run(
        _ session: PostgresSession, next: () throws -> ToldEvent?
    ) throws -> Result {
        try session.transaction { session in
            try RestoredLedger.prepare(session, moment: moment)
            let incarnations = try load(session, next)
            var result = Result()
            guard let newest = try session.query("SELECT max(at) FROM told").first?.optionalTimestamp(0)
            else { return result }
            result.newest = newest
            try demandOwn(session, incarnations)
            try findRecipients(session)
            result.events = try copyEvents(session)
            try weigh(session)
            try Reconciliation.settle(session, heldTenants: heldTenants)
            result.lost = try nameLost(session)
            return result
        }.0
    }

    /// - Returns: the incarnations that the events were read from.
    private func load(_ session: PostgresSession, _ next: () throws -> ToldEvent?) throws -> Set<UUID> {
        try session.execute(
            """
            CREATE TEMPORARY TABLE told (id uuid, tenant text, message_id uuid, no int, address text, kind text,
                at timestamptz, reason_code text, duplicate boolean) ON COMMIT DROP;
            CREATE TEMPORARY TABLE their_address (message_id uuid, no int, address text) ON COMMIT DROP
            """)
        var incarnations: Set<UUID> = []
        var rows: [ToldEvent] = []
        while let event = try next() {
            if let incarnation = event.incarnation { incarnations.insert(incarnation) }
            rows.append(event)
            if rows.count == Self.batch {
                try insert(rows, session)
                rows.removeAll(keepingCapacity: true)
            }
        }
        try insert(rows, session)
        for start in stride(from: 0, to: addresses.count, by: Self.batch) {
            let some = addresses[start..<min(start + Self.batch, addresses.count)]
            _ = try session.query(
                "INSERT INTO their_address SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[])",
                [
                    .uuidArray(some.map(\.message)), .int4Array(some.map(\.number)),
                    .textArray(some.map(\.address)),
                ])
        }
        // A file may hold an event twice.
        try session.execute(
            """
            DELETE FROM told t USING told other WHERE other.id = t.id AND other.ctid < t.ctid;
            CREATE INDEX ON told (message_id);
            ANALYZE told
            """)
        return incarnations
    }

    private func insert(_ events: [ToldEvent], _ session: PostgresSession) throws {
        if events.isEmpty { return }
        _ = try session.query(
            """
            INSERT INTO told SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int[], $5::text[], $6::text[],
                $7::timestamptz[], $8::text[], $9::bool[])
            """,
            [
                .uuidArray(events.map(\.id)), .textArray(events.map(\.tenant)),
                .optionalUUIDArray(events.map(\.message)),
                .optionalInt4Array(events.map(\.recipientNumber)), .textArray(events.map(\.recipient)),
                .textArray(events.map(\.kind.rawValue)), .timestampArray(events.map(\.at)),
                .textArray(events.map(\.reasonCode)), .boolArray(events.map(\.possibleDuplicate)),
            ])
    }

    /// Readers of the history that was left come with cursors of its leaders.
    private func demandOwn(_ session: PostgresSession, _ incarnations: Set<UUID>) throws {
        let isOwn = try session.query(
            """
            SELECT EXISTS (SELECT 1 FROM ledger.incarnation WHERE id = ANY ($1))
                OR EXISTS (SELECT 1 FROM told t JOIN ledger.message m ON m.id = t.message_id)
                OR EXISTS (SELECT 1 FROM told t JOIN ledger.event e ON e.id = t.id)
            """, [.uuidArray(Array(incarnations))]
        ).first?.bool(0)
        guard isOwn == true else { throw Foreign() }
        _ = try session.query(
            """
            INSERT INTO ledger.left_incarnation SELECT i FROM unnest($1::uuid[]) AS i
            WHERE NOT EXISTS (SELECT 1 FROM ledger.incarnation WHERE id = i) ON CONFLICT DO NOTHING
            """, [.uuidArray(Array(incarnations))])
    }

    private var since: String { RestoredLedger.literal(moment.addingTimeInterval(-3600)) }

    /// An event names an address, and the ledger a number.
    private func findRecipients(_ session: PostgresSession) throws {
        try session.execute(
            """
            INSERT INTO their_address SELECT message_id, no, address FROM told
                WHERE kind = 'accepted' AND address IS NOT NULL
                  AND NOT EXISTS (SELECT 1 FROM their_address a WHERE a.message_id = told.message_id AND a.no = told.no);
            UPDATE told t SET no = e.rcpt_no FROM ledger.event e
                WHERE t.no IS NULL AND e.message_id = t.message_id AND e.id = t.id;
            -- One address may stand in an envelope twice: the first of its ends is the first one's.
            UPDATE told t SET no = x.no FROM (
                SELECT e.id, a.no FROM (
                    SELECT id, message_id, address, kind,
                           row_number() OVER (PARTITION BY message_id, address, kind ORDER BY at, id) AS nth
                    FROM told WHERE no IS NULL AND address IS NOT NULL) e
                JOIN (SELECT message_id, address, no, count(*) OVER w AS of,
                             row_number() OVER (w ORDER BY no) AS nth
                      FROM their_address WINDOW w AS (PARTITION BY message_id, address)) a
                  ON a.message_id = e.message_id AND a.address = e.address
                 AND (a.nth = e.nth AND e.kind IN \(Self.ends) OR a.of = 1)) x
                WHERE x.id = t.id;
            -- A message of one recipient needs no address.
            UPDATE told t SET no = x.no FROM (
                SELECT message_id, min(no) AS no FROM (
                    SELECT r.message_id, r.rcpt_no AS no FROM ledger.recipient r
                        WHERE r.message_id IN (SELECT message_id FROM told WHERE no IS NULL)
                    UNION SELECT message_id, no FROM told WHERE kind = 'accepted') all_of_it
                GROUP BY 1 HAVING count(*) = 1) x
                WHERE t.no IS NULL AND x.message_id = t.message_id
                  AND (t.address IS NOT NULL OR t.kind IN \(Self.ends) OR t.kind IN ('deferred', 'held', 'released', 'notified'));
            CREATE TEMPORARY TABLE told_end ON COMMIT DROP AS
                SELECT DISTINCT ON (message_id, no) message_id, no, kind FROM (
                    SELECT message_id, no, kind, at FROM told WHERE kind IN \(Self.ends) AND no IS NOT NULL
                    UNION ALL SELECT t.message_id, r.rcpt_no, 'withdrawn', t.at FROM told t
                        JOIN ledger.recipient r ON r.message_id = t.message_id WHERE t.kind = 'withdrawn') e
                ORDER BY message_id, no, kind <> 'delivered', at;
            ANALYZE told_end
            """)
    }

    private func copyEvents(_ session: PostgresSession) throws -> Int {
        Int(
            try session.query(
                """
                WITH done AS (
                    INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate)
                    SELECT t.id, t.tenant, t.message_id, t.no, t.kind, t.at, t.reason_code, t.duplicate FROM told t
                    WHERE t.at >= \(since) AND NOT EXISTS (SELECT 1 FROM ledger.event e WHERE e.id = t.id AND e.at >= \(since))
                    ORDER BY t.at, t.id RETURNING 1)
                SELECT count(*)::int FROM done
                """
            ).first?.int4(0) ?? 0)
    }

    /// What they know of each open delivery. Whoever knew more before is believed.
    private func weigh(_ session: PostgresSession) throws {
        try session.execute(
            """
            UPDATE ledger.recipient r SET state = e.kind FROM told_end e
                WHERE r.message_id = e.message_id AND r.rcpt_no = e.no AND r.state IN ('open', 'held');
            UPDATE ledger.message m SET withdrawn_at = t.at FROM told t
                WHERE t.message_id = m.id AND t.kind = 'withdrawn' AND m.withdrawn_at IS NULL;
            DELETE FROM ledger.replay r USING told t WHERE r.message_id = t.message_id AND t.kind = 'withdrawn';
            UPDATE ledger.reconciled k SET knowledge = x.knowledge FROM (
                SELECT k.message_id, k.no, CASE
                    WHEN EXISTS (SELECT 1 FROM ledger.recipient r WHERE r.message_id = k.message_id AND r.delivery_no = k.no)
                        AND NOT EXISTS (SELECT 1 FROM ledger.recipient r WHERE r.message_id = k.message_id
                            AND r.delivery_no = k.no AND r.state IN ('open', 'held')) THEN 'ended'
                    WHEN EXISTS (SELECT 1 FROM told t WHERE t.message_id = k.message_id) THEN 'doubt'
                    ELSE 'unknown' END AS knowledge
                FROM ledger.reconciled k) x
                WHERE x.message_id = k.message_id AND x.no = k.no
                  AND array_position(ARRAY['unknown', 'doubt', 'open', 'ended'], x.knowledge)
                    > array_position(ARRAY['unknown', 'doubt', 'open', 'ended'], k.knowledge);
            -- One that an operator was to decide on still is.
            UPDATE ledger.reconciled k SET state = 'held' FROM (
                SELECT DISTINCT ON (t.message_id, r.delivery_no) t.message_id, r.delivery_no, t.kind FROM told t
                JOIN ledger.recipient r ON r.message_id = t.message_id AND r.rcpt_no = t.no
                WHERE t.kind IN ('held', 'released', 'deferred')
                ORDER BY t.message_id, r.delivery_no, t.at DESC, t.id DESC) x
                WHERE x.kind = 'held' AND k.message_id = x.message_id AND k.no = x.delivery_no AND k.knowledge = 'doubt'
            """)
    }

    /// Events for what was taken in after the moment, and is neither here nor ended.
    private func nameLost(_ session: PostgresSession) throws -> [UUID] {
        let margin = RestoredLedger.literal(moment.addingTimeInterval(-86_400))
        try session.execute(
            """
            DELETE FROM ledger.event e USING told_end t
                WHERE e.reason_code = '\(Self.lostReason)' AND e.message_id = t.message_id AND e.rcpt_no = t.no
            """)
        return try session.query(
            """
            WITH lost AS (
                SELECT t.message_id, t.no, t.tenant FROM told t
                WHERE t.kind = 'accepted' AND t.at >= \(margin)
                  AND NOT EXISTS (SELECT 1 FROM ledger.message m WHERE m.id = t.message_id)
                  AND NOT EXISTS (SELECT 1 FROM told_end e WHERE e.message_id = t.message_id AND e.no = t.no)
                  AND NOT EXISTS (SELECT 1 FROM told w WHERE w.message_id = t.message_id AND w.kind = 'withdrawn')
            ), named AS (
                INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code)
                SELECT ledger.uuid_v7(), l.tenant, l.message_id, l.no, 'unrecoverable', clock_timestamp(), '\(Self.lostReason)'
                FROM lost l WHERE NOT EXISTS (SELECT 1 FROM ledger.event e WHERE e.message_id = l.message_id
                    AND e.rcpt_no = l.no AND e.reason_code = '\(Self.lostReason)')
            )
            SELECT DISTINCT message_id FROM lost ORDER BY 1
            """
        ).map { try $0.uuid(0) }
    }

    /// Open recipients of messages that have several: of these an event's address does not tell the number.
    public static func sealedRecipients(
        _ session: PostgresSession
    ) throws(PostgresError) -> [SealedRecipient] {
        try session.query(
            """
            SELECT r.message_id, m.tenant, r.rcpt_no, r.sealed_address, m.metadata_key_id, m.metadata_key_index,
                   m.wrapped_metadata_key
            FROM (SELECT DISTINCT message_id FROM ledger.delivery) d JOIN ledger.message m ON m.id = d.message_id
            JOIN ledger.recipient r ON r.message_id = d.message_id
            WHERE m.recipients > 1 ORDER BY 1, 3
            """
        ).map { (row) throws(PostgresError) in
            SealedRecipient(
                message: try row.uuid(0), tenant: try row.text(1), number: try row.int4(2),
                sealedAddress: try row.bytes(3),
                metadataKey: KeyReference(
                    batchKeyID: try row.uuid(4), index: try row.int4(5), wrapped: try row.bytes(6)))
        }
    }
}
