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
            result.newest = try session.query("SELECT max(at) FROM told").first?.optionalTimestamp(0)
            if result.newest != nil { try demandOwn(session, incarnations) }
            try findRecipients(session)
            result.events = try copyEvents(session)
            try weigh(session)
            // Also where there was none: what nobody knows is held.
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
        // A file may hold an event twice: once while its address was sealed. And nobody speaks for another tenant's message.
        try session.execute(
            """
            CREATE INDEX ON told (id);
            ANALYZE told;
            DELETE FROM told t USING told other WHERE other.id = t.id
                AND ((other.address IS NOT NULL) > (t.address IS NOT NULL)
                     OR (other.address IS NOT NULL) = (t.address IS NOT NULL) AND other.ctid < t.ctid);
            DELETE FROM told t USING ledger.message m WHERE m.id = t.message_id AND m.tenant <> t.tenant;
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
                OR EXISTS (SELECT 1 FROM told t JOIN ledger.event e ON e.message_id = t.message_id AND e.id = t.id)
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
            UPDATE told t SET no = a.no FROM their_address a
                WHERE t.no IS NULL AND a.message_id = t.message_id AND a.address = t.address;
            -- A message of one recipient needs no address; one that is not here needs the right one, if there is any.
            UPDATE told t SET no = x.no FROM (
                SELECT r.message_id, min(r.rcpt_no) AS no, NULL AS address FROM ledger.recipient r
                    WHERE r.message_id IN (SELECT message_id FROM told WHERE no IS NULL)
                    GROUP BY 1 HAVING count(*) = 1
                UNION ALL
                SELECT a.message_id, min(a.no), min(a.address) FROM (
                    SELECT message_id, no, address FROM told WHERE kind = 'accepted'
                    UNION SELECT e.message_id, e.rcpt_no, NULL FROM ledger.event e
                        WHERE e.kind = 'accepted' AND e.message_id IN (SELECT message_id FROM told WHERE no IS NULL)) a
                    WHERE NOT EXISTS (SELECT 1 FROM ledger.recipient r WHERE r.message_id = a.message_id)
                    GROUP BY 1 HAVING count(DISTINCT a.no) = 1) x
                WHERE t.no IS NULL AND x.message_id = t.message_id
                  AND (t.address IS NULL OR x.address IS NULL OR t.address = x.address)
                  AND (t.kind IN \(Self.ends) OR t.kind IN ('deferred', 'held', 'released', 'notified'));
            CREATE TEMPORARY TABLE told_end ON COMMIT DROP AS
                SELECT DISTINCT ON (message_id, no) message_id, no, kind FROM (
                    SELECT message_id, no, kind, at FROM told WHERE kind IN \(Self.ends) AND no IS NOT NULL
                    UNION ALL SELECT t.message_id, r.rcpt_no, 'withdrawn', t.at FROM told t
                        JOIN ledger.recipient r ON r.message_id = t.message_id WHERE t.kind = 'withdrawn'
                    -- Nothing of a message is shredded before all of it has ended, also where an address was sealed then.
                    UNION ALL SELECT t.message_id, r.rcpt_no, coalesce(
                            (SELECT min(u.kind) FROM told u WHERE u.message_id = t.message_id AND u.no IS NULL
                                AND u.kind IN \(Self.ends)), 'cancelled'), 'infinity' FROM told t
                        JOIN ledger.recipient r ON r.message_id = t.message_id WHERE t.kind = 'shredded') e
                ORDER BY message_id, no, at = 'infinity', kind <> 'delivered', at;
            CREATE TEMPORARY TABLE told_over ON COMMIT DROP AS
                SELECT DISTINCT message_id FROM told WHERE kind IN ('withdrawn', 'shredded') AND message_id IS NOT NULL;
            ANALYZE told_end, told_over
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
                WHERE r.message_id = e.message_id AND r.rcpt_no = e.no AND r.state IN ('open', 'held')
                  AND r.message_id IN (SELECT message_id FROM ledger.reconciled);
            UPDATE ledger.message m SET withdrawn_at = t.at FROM told t
                WHERE t.message_id = m.id AND t.kind = 'withdrawn' AND m.withdrawn_at IS NULL;
            DELETE FROM ledger.replay r USING told t WHERE r.message_id = t.message_id AND t.kind = 'withdrawn';
            -- What has ended is found when it is settled. Events that end before the moment tell nothing of what happened after it.
            UPDATE ledger.reconciled k SET knowledge = 'doubt' WHERE k.knowledge = 'unknown'
                AND EXISTS (SELECT 1 FROM told t WHERE t.message_id = k.message_id)
                AND (SELECT max(at) FROM told) >= \(exactly(moment));
            UPDATE ledger.delivery d SET delay_reported = true FROM told t
                JOIN ledger.recipient r ON r.message_id = t.message_id AND r.rcpt_no = t.no AND r.state IN ('open', 'held')
                WHERE t.kind = 'notified' AND d.message_id = r.message_id AND d.no = r.delivery_no;
            -- One that an operator was to decide on still is, and so is one that he wanted returned: no event tells that this was done.
            UPDATE ledger.reconciled k SET state = 'held' FROM (
                SELECT DISTINCT ON (t.message_id, r.delivery_no) t.message_id, r.delivery_no, t.kind, t.reason_code FROM told t
                JOIN ledger.recipient r ON r.message_id = t.message_id AND r.rcpt_no = t.no
                WHERE t.kind IN ('held', 'released', 'deferred')
                ORDER BY t.message_id, r.delivery_no, t.at DESC, t.id DESC) x
                WHERE (x.kind = 'held' OR x.reason_code = '\(HeldDeliveries.returned)') AND k.message_id = x.message_id AND k.no = x.delivery_no AND k.knowledge = 'doubt'
            """)
    }

    /// Events for what was taken in after the moment, and is neither here nor ended.
    private func nameLost(_ session: PostgresSession) throws -> [UUID] {
        let margin = RestoredLedger.literal(moment.addingTimeInterval(-86_400))
        let reason = "'\(Self.lostReason)'"
        try session.execute(
            """
            DELETE FROM ledger.event e USING told_over o WHERE e.reason_code = \(reason) AND e.message_id = o.message_id;
            DELETE FROM ledger.event e USING told_end t
                WHERE e.reason_code = \(reason) AND e.message_id = t.message_id AND (e.rcpt_no = t.no OR e.rcpt_no IS NULL)
            """)
        return try session.query(
            """
            WITH gone AS (
                SELECT DISTINCT t.message_id, t.tenant FROM told t
                WHERE t.message_id >= ledger.uuid_floor(\(margin))
                  AND NOT EXISTS (SELECT 1 FROM ledger.message m WHERE m.id = t.message_id)
                  AND NOT EXISTS (SELECT 1 FROM told_over o WHERE o.message_id = t.message_id)
            ), lost AS (
                SELECT g.message_id, t.no, g.tenant FROM gone g JOIN told t ON t.message_id = g.message_id
                WHERE t.kind = 'accepted' AND NOT EXISTS (
                    SELECT 1 FROM told_end e WHERE e.message_id = t.message_id AND e.no = t.no)
                UNION
                -- Of which the file does not have the beginning.
                SELECT g.message_id, NULL, g.tenant FROM gone g WHERE NOT EXISTS (
                    SELECT 1 FROM told t WHERE t.message_id = g.message_id AND (t.kind = 'accepted' OR t.kind IN \(Self.ends)))
                  AND NOT EXISTS (SELECT 1 FROM ledger.event e WHERE e.message_id = g.message_id AND e.kind IN \(Self.ends))
            ), still AS (
                -- What an earlier file ended stays so.
                SELECT l.* FROM lost l WHERE NOT EXISTS (SELECT 1 FROM ledger.event e WHERE e.message_id = l.message_id
                    AND (e.rcpt_no = l.no AND e.kind IN \(Self.ends) OR e.kind IN ('withdrawn', 'shredded')))
            ), named AS (
                INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code)
                SELECT ledger.uuid_v7(), l.tenant, l.message_id, l.no, 'unrecoverable', clock_timestamp(), \(reason)
                FROM still l WHERE NOT EXISTS (SELECT 1 FROM ledger.event e WHERE e.message_id = l.message_id
                    AND e.rcpt_no IS NOT DISTINCT FROM l.no AND e.reason_code = \(reason))
            )
            SELECT DISTINCT message_id FROM still ORDER BY 1
            """
        ).map { try $0.uuid(0) }
    }

    // A bound that is a moment, to the microsecond.
    private func exactly(_ moment: Date) -> String {
        "to_timestamp(\(moment.timeIntervalSince1970))"
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
