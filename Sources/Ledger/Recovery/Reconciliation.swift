// What happened to a restored shard's mail since the moment that it was restored to, told by another copy of the shard: its own members,
// or the end of its archive. What ended there is closed here, what came after the moment is brought over, what nobody knows is held.
// One transaction for each source: broken off, nothing happened; given again, nothing happens twice.

import Foundation
import Postgres

/// A source that is not what the shard was restored from, but another restore of it, or a shard of the same birth.
public struct OtherHistory: Error, Sendable, CustomStringConvertible {
    /// In words.
    public let description =
        "the source has gone another way: it is another restore, or not what this shard was restored from"
}

/// The comparison of a restored shard with another copy.
public struct Reconciliation: Sendable {
    /// What one source brought.
    public struct Result: Sendable, Equatable, Codable {
        /// Messages accepted after the moment that were brought over, with content and deliveries.
        public var broughtOver = 0
        /// Events that were brought over.
        public var events = 0

        /// Nothing.
        public init() {}
    }

    /// Where it lies.
    public var link: SourceLink
    /// The moment that the shard was restored to.
    public var moment: Date
    /// Whether nothing can have happened behind the source: it leads, and nobody delivers from it any more. Else everything that it shows
    /// open is in doubt.
    public var isFinal: Bool
    /// Tenants whose deliveries in doubt are held and not sent again; nil: all.
    public var heldTenants: [String]?

    /// A comparison.
    public init(link: SourceLink, moment: Date, isFinal: Bool, heldTenants: [String]?) {
        (self.link, self.moment, self.isFinal, self.heldTenants) = (link, moment, isFinal, heldTenants)
    }

    private static let tables = [
        "message", "recipient", "content", "delivery", "event", "batch_key", "replay", "address_index",
        "dot_in_flight", "incarnation", "judgement", "judgement_certificate", "certificate",
    ]

    /// Compares, in one transaction.
    /// - Parameter session: of the restored shard's owner.
    public func run(_ session: PostgresSession) throws -> Result {
        try session.transaction(begin: "BEGIN ISOLATION LEVEL REPEATABLE READ") { session in
            try link.open(session, ledger: Self.tables, control: [])
            try demandSameHistory(session)
            try prepare(session)
            var result = Result()
            result.broughtOver = try bringOver(session)
            result.events = try copyEvents(session)
            try weigh(session)
            try Self.settle(session, heldTenants: heldTenants)
            try link.close(session)
            return result
        }.0
    }

    private func count(
        _ session: PostgresSession, _ sql: String, _ parameters: [PostgresValue] = []
    ) throws(PostgresError) -> Int {
        Int(
            try session.query("WITH done AS (\(sql) RETURNING 1) SELECT count(*)::int FROM done", parameters)
                .first?.int4(0) ?? 0)
    }

    /// Messages have ids from the moment on that they began to come in; one may take hours.
    private var margin: Date { moment.addingTimeInterval(-86_400) }

    /// Every restore of a shard, and the shard itself, have one number; their histories differ.
    private func demandSameHistory(_ session: PostgresSession) throws {
        let strangers = try session.query(
            """
            SELECT (SELECT count(*) FROM source_ledger.incarnation s WHERE s.restored_to IS NOT NULL
                        AND NOT EXISTS (SELECT 1 FROM ledger.incarnation i WHERE i.id = s.id))
                 + (SELECT count(*) FROM ledger.incarnation i
                    WHERE i.timeline < (SELECT max(timeline) FROM ledger.incarnation WHERE restored_to IS NOT NULL)
                        AND NOT EXISTS (SELECT 1 FROM source_ledger.incarnation s WHERE s.id = i.id))
            """
        ).first?.int8(0)
        guard strangers == 0 else { throw OtherHistory() }
        try session.execute(
            """
            INSERT INTO ledger.left_incarnation SELECT s.id FROM source_ledger.incarnation s
                WHERE NOT EXISTS (SELECT 1 FROM ledger.incarnation i WHERE i.id = s.id) ON CONFLICT DO NOTHING
            """)
    }

    private func prepare(_ session: PostgresSession) throws {
        try RestoredLedger.prepare(session, moment: moment)
        // As a value: only so does the other server look no further back.
        let floor = try session.query(
            """
            SELECT least(ledger.uuid_floor(\(RestoredLedger.literal(margin))),
                         (SELECT message_id FROM ledger.reconciled ORDER BY message_id LIMIT 1))
            """
        ).first?.uuid(0)
        let least = floor?.uuidString ?? "00000000-0000-0000-0000-000000000000"
        try session.execute(
            """
            CREATE TEMPORARY TABLE theirs ON COMMIT DROP AS
                SELECT m.id, m.withdrawn_at, m.shredded_at FROM source_ledger.message m
                WHERE m.id >= '\(least)';
            ALTER TABLE theirs ADD PRIMARY KEY (id);
            CREATE TEMPORARY TABLE their_delivery ON COMMIT DROP AS SELECT * FROM source_ledger.delivery;
            ALTER TABLE their_delivery ADD PRIMARY KEY (message_id, no);
            CREATE TEMPORARY TABLE their_recipient ON COMMIT DROP AS
                SELECT r.message_id, r.rcpt_no, r.delivery_no, r.state FROM source_ledger.recipient r
                WHERE r.message_id >= (SELECT id FROM theirs ORDER BY id LIMIT 1);
            ALTER TABLE their_recipient ADD PRIMARY KEY (message_id, rcpt_no);
            CREATE TEMPORARY TABLE their_dot ON COMMIT DROP AS
                SELECT x.m AS message_id, x.n AS no, x.f AS fence FROM source_ledger.dot_in_flight i
                CROSS JOIN LATERAL unnest(i.message_ids, i.nos, i.fences) AS x (m, n, f);
            CREATE TEMPORARY TABLE fresh ON COMMIT DROP AS
                SELECT t.id FROM theirs t WHERE NOT EXISTS (SELECT 1 FROM ledger.message m WHERE m.id = t.id);
            ALTER TABLE fresh ADD PRIMARY KEY (id);
            ANALYZE theirs, their_delivery, their_recipient, their_dot, fresh
            """)
    }

    /// What was accepted after the moment, whole.
    private func bringOver(_ session: PostgresSession) throws -> Int {
        try session.execute(
            """
            INSERT INTO ledger.batch_key SELECT * FROM source_ledger.batch_key ON CONFLICT DO NOTHING;
            INSERT INTO ledger.recipient SELECT r.* FROM source_ledger.recipient r
                WHERE r.message_id >= (SELECT id FROM fresh ORDER BY id LIMIT 1) AND r.message_id IN (SELECT id FROM fresh);
            INSERT INTO ledger.content SELECT c.* FROM source_ledger.content c
                WHERE c.message_id >= (SELECT id FROM fresh ORDER BY id LIMIT 1) AND c.message_id IN (SELECT id FROM fresh);
            INSERT INTO ledger.delivery SELECT d.* FROM their_delivery d WHERE d.message_id IN (SELECT id FROM fresh);
            INSERT INTO ledger.reconciled (message_id, no, knowledge, state, possible_duplicate)
                SELECT d.message_id, d.no, 'unknown', CASE d.state WHEN 'claimed' THEN 'ready' ELSE d.state END,
                       d.possible_duplicate
                FROM ledger.delivery d WHERE d.message_id IN (SELECT id FROM fresh) ON CONFLICT DO NOTHING;
            DELETE FROM ledger.event e USING fresh f WHERE e.message_id = f.id AND e.reason_code = 'restored-lost';
            DELETE FROM ledger.replay r USING theirs t WHERE r.message_id = t.id AND t.withdrawn_at IS NOT NULL;
            INSERT INTO ledger.replay SELECT * FROM source_ledger.replay ON CONFLICT (tag) DO UPDATE
                SET acknowledged_at = coalesce(replay.acknowledged_at, excluded.acknowledged_at),
                    replayed_at = coalesce(replay.replayed_at, excluded.replayed_at);
            INSERT INTO ledger.address_index SELECT a.* FROM source_ledger.address_index a
                WHERE a.message_id >= (SELECT id FROM theirs ORDER BY id LIMIT 1) ON CONFLICT DO NOTHING
            """)
        return try count(
            session,
            """
            INSERT INTO ledger.message SELECT m.* FROM source_ledger.message m
            WHERE m.id >= (SELECT id FROM fresh ORDER BY id LIMIT 1) AND m.id IN (SELECT id FROM fresh)
            """)
    }

    /// What the source knows of each open delivery. Whoever knew more before is believed; but a source that is final is asked later than
    /// before, and what it has under way now was not yet then.
    private func weigh(_ session: PostgresSession) throws {
        _ = try session.query(
            """
            WITH told AS (
                SELECT k.message_id, k.no, CASE
                    WHEN t.id IS NULL THEN 'unknown'
                    WHEN d.message_id IS NOT NULL THEN
                        CASE WHEN NOT $1 OR x.message_id IS NOT NULL AND d.state = 'claimed' THEN 'doubt' ELSE 'open' END
                    WHEN EXISTS (SELECT 1 FROM their_recipient r WHERE r.message_id = k.message_id AND r.delivery_no = k.no)
                        AND NOT EXISTS (SELECT 1 FROM their_recipient r WHERE r.message_id = k.message_id
                            AND r.delivery_no = k.no AND r.state IN ('open', 'held')) THEN 'ended'
                    ELSE 'unknown' END AS knowledge
                FROM ledger.reconciled k
                LEFT JOIN theirs t ON t.id = k.message_id
                LEFT JOIN their_delivery d ON d.message_id = k.message_id AND d.no = k.no
                LEFT JOIN their_dot x ON x.message_id = k.message_id AND x.no = k.no AND x.fence = d.fence
            )
            UPDATE ledger.reconciled k SET knowledge = t.knowledge FROM told t
            WHERE t.message_id = k.message_id AND t.no = k.no
              AND (array_position(ARRAY['unknown', 'doubt', 'open', 'ended'], t.knowledge)
                     > array_position(ARRAY['unknown', 'doubt', 'open', 'ended'], k.knowledge)
                   OR $1 AND t.knowledge = 'doubt' AND k.knowledge = 'open')
            """, [.bool(isFinal)])
        // A recipient that has ended gets nothing more, also where others of its delivery have not; an open delivery goes on where it was.
        try session.execute(
            """
            UPDATE ledger.recipient r SET state = t.state FROM their_recipient t
                WHERE r.message_id = t.message_id AND r.rcpt_no = t.rcpt_no AND r.state IN ('open', 'held')
                  AND t.state NOT IN ('open', 'held');
            UPDATE ledger.message m SET withdrawn_at = t.withdrawn_at, shredded_at = t.shredded_at FROM theirs t
                WHERE m.id = t.id AND (t.withdrawn_at IS NOT NULL OR t.shredded_at IS NOT NULL)
                  AND EXISTS (SELECT 1 FROM ledger.reconciled k WHERE k.message_id = m.id);
            UPDATE ledger.delivery d SET due = t.due, attempts = greatest(d.attempts, t.attempts),
                    fence = greatest(d.fence, t.fence) + 1, delay_reported = d.delay_reported OR t.delay_reported,
                    returned = t.returned
                FROM their_delivery t WHERE t.message_id = d.message_id AND t.no = d.no;
            UPDATE ledger.reconciled k SET possible_duplicate = k.possible_duplicate OR t.possible_duplicate,
                    state = CASE t.state WHEN 'claimed' THEN 'ready' ELSE t.state END
                FROM their_delivery t WHERE t.message_id = k.message_id AND t.no = k.no
            """)
    }

    /// Closes, releases and holds by what is known now.
    static func settle(_ session: PostgresSession, heldTenants: [String]?) throws {
        try session.execute(
            """
            -- What events here say to have ended has, whoever brought them.
            UPDATE ledger.recipient r SET state = e.kind FROM (
                SELECT DISTINCT ON (e.message_id, e.rcpt_no) e.message_id, e.rcpt_no, e.kind FROM ledger.event e
                WHERE e.message_id IN (SELECT message_id FROM ledger.reconciled) AND e.rcpt_no IS NOT NULL
                  AND e.kind IN ('delivered', 'refused', 'bounced', 'expired', 'cancelled', 'duplicate')
                ORDER BY e.message_id, e.rcpt_no, e.kind <> 'delivered', e.at) e
                WHERE r.message_id = e.message_id AND r.rcpt_no = e.rcpt_no AND r.state IN ('open', 'held');
            UPDATE ledger.reconciled k SET knowledge = 'ended' WHERE knowledge <> 'ended'
                AND EXISTS (SELECT 1 FROM ledger.recipient r WHERE r.message_id = k.message_id AND r.delivery_no = k.no)
                AND NOT EXISTS (SELECT 1 FROM ledger.recipient r WHERE r.message_id = k.message_id
                    AND r.delivery_no = k.no AND r.state IN ('open', 'held'));
            DELETE FROM ledger.delivery d USING ledger.reconciled k
                WHERE k.message_id = d.message_id AND k.no = d.no AND k.knowledge = 'ended';
            UPDATE ledger.message m SET open_deliveries = o.open,
                    wrapped_message_key = CASE WHEN o.open > 0 THEN m.wrapped_message_key END,
                    shredded_at = CASE WHEN o.open = 0 AND m.withdrawn_at IS NULL
                        THEN coalesce(m.shredded_at, clock_timestamp()) END
                FROM (SELECT k.message_id, count(d.message_id)::int AS open
                      FROM ledger.reconciled k LEFT JOIN ledger.delivery d ON d.message_id = k.message_id AND d.no = k.no
                      GROUP BY k.message_id) o
                WHERE o.message_id = m.id;
            DELETE FROM ledger.content c USING ledger.message m
                WHERE m.id = c.message_id AND m.open_deliveries = 0
                  AND m.id IN (SELECT message_id FROM ledger.reconciled WHERE knowledge = 'ended')
            """)
        _ = try session.query(
            """
            WITH decided AS (
                SELECT d.message_id, d.no, d.tenant, k.knowledge,
                       k.possible_duplicate OR k.knowledge <> 'open' AS duplicate, CASE
                           WHEN k.knowledge = 'unknown' THEN 'held'
                           WHEN k.knowledge = 'doubt' AND ($1::text[] IS NULL OR d.tenant = ANY ($1)) THEN 'held'
                           ELSE k.state END AS state
                FROM ledger.delivery d JOIN ledger.reconciled k ON k.message_id = d.message_id AND k.no = d.no
            ), changed AS (
                UPDATE ledger.delivery d SET state = x.state, possible_duplicate = x.duplicate, worker = NULL
                FROM decided x, ledger.delivery before
                WHERE d.message_id = x.message_id AND d.no = x.no
                  AND before.message_id = d.message_id AND before.no = d.no
                  AND (d.state, d.possible_duplicate) IS DISTINCT FROM (x.state, x.duplicate)
                RETURNING d.message_id, d.no, d.tenant, d.state, before.state AS former, x.knowledge, x.duplicate
            )
            INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate)
            SELECT ledger.uuid_v7(), c.tenant, c.message_id, r.rcpt_no,
                   CASE WHEN c.state = 'held' THEN 'held' WHEN c.former = 'held' THEN 'released' ELSE 'deferred' END,
                   clock_timestamp(), CASE WHEN c.knowledge = 'unknown' THEN 'restored-unknown' ELSE 'restored-in-doubt' END,
                   c.duplicate
            FROM changed c JOIN ledger.recipient r ON r.message_id = c.message_id AND r.delivery_no = c.no
                AND r.state IN ('open', 'held')
            WHERE c.knowledge <> 'open' OR c.former = 'held'
            """, [heldTenants.map { .textArray($0) } ?? .null])
    }

    /// Closes, releases and holds by all that was told.
    /// - Parameter isDoubtful: nobody can say any more whether what was open then has ended since: it is in doubt.
    public static func conclude(
        _ session: PostgresSession, isDoubtful: Bool, heldTenants: [String]?
    ) throws {
        _ = try session.transaction { session in
            if isDoubtful {
                try session.execute(
                    "UPDATE ledger.reconciled SET knowledge = 'doubt' WHERE knowledge = 'open'")
            }
            try settle(session, heldTenants: heldTenants)
        }
    }

    /// What readers of the old feed have seen since, and what it rests on.
    private func copyEvents(_ session: PostgresSession) throws -> Int {
        let since = RestoredLedger.literal(moment.addingTimeInterval(-3600))
        try session.execute(
            """
            INSERT INTO ledger.judgement SELECT j.* FROM source_ledger.judgement j WHERE j.made_at >= \(since)
                ON CONFLICT DO NOTHING;
            INSERT INTO ledger.judgement_certificate SELECT c.* FROM source_ledger.judgement_certificate c
                WHERE c.judgement IN (SELECT digest FROM ledger.judgement WHERE made_at >= \(since)) ON CONFLICT DO NOTHING;
            INSERT INTO ledger.certificate SELECT * FROM source_ledger.certificate ON CONFLICT DO NOTHING
            """)
        // Exported events have no details.
        try session.execute(
            """
            DELETE FROM ledger.event r USING source_ledger.event e WHERE e.at >= \(since) AND r.at >= \(since) AND r.id = e.id
                AND (r.sealed_detail IS NULL AND e.sealed_detail IS NOT NULL OR r.rcpt_no IS NULL AND e.rcpt_no IS NOT NULL)
            """)
        return try count(
            session,
            """
            INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate, sealed_detail)
            SELECT e.id, e.tenant, e.message_id, e.rcpt_no, e.kind, e.at, e.reason_code, e.possible_duplicate, e.sealed_detail
            FROM source_ledger.event e
            WHERE e.at >= \(since) AND NOT EXISTS (SELECT 1 FROM ledger.event r WHERE r.id = e.id AND r.at >= \(since))
            ORDER BY e.arrived, e.id
            """)
    }
}
