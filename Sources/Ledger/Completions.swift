// Ending deliveries: one commit for many completions, their events, their shredding and the notifications that follow.

import Foundation
import Postgres

extension WorkLedger {
    private static let lockDeliveries = """
        SELECT d.message_id, d.no, d.fence, d.state = 'claimed' FROM unnest($1::uuid[], $2::int[]) AS a (m, n)
        JOIN ledger.delivery d ON d.message_id = a.m AND d.no = a.n FOR NO KEY UPDATE OF d
        """

    private static let endedRecipients = """
        SELECT r.message_id, r.rcpt_no, r.state FROM unnest($1::uuid[], $2::int[]) AS a (m, n)
        JOIN ledger.recipient r ON r.message_id = a.m AND r.rcpt_no = a.n
        WHERE r.state NOT IN ('open', 'held') AND r.message_id BETWEEN $3 AND $4
        """

    // Read after the lock was gained: a registration that was quicker has committed and is seen.
    private static let dotsAndOpen = """
        SELECT d.message_id, d.no,
               EXISTS (SELECT 1 FROM ledger.dot_in_flight i CROSS JOIN LATERAL
                           unnest(i.message_ids, i.nos, i.fences) AS x (m, n, f)
                       WHERE i.worker = d.worker AND x.m = d.message_id AND x.n = d.no AND x.f = d.fence),
               (SELECT count(*)::int FROM ledger.recipient r
                WHERE r.message_id = d.message_id AND r.delivery_no = d.no AND r.state IN ('open', 'held'))
        FROM unnest($1::uuid[], $2::int[]) AS a (m, n) JOIN ledger.delivery d ON d.message_id = a.m AND d.no = a.n
        """

    /// Commits a batch of completions; the answer is in the batch's order. Throws when nothing was committed, when the
    /// commit is not durable, or in doubt: repeat the batch, the fences make that harmless.
    public func complete(_ completions: [Completion]) async throws -> [CompletionResult] {
        if completions.isEmpty { return [] }
        // One order for all workers, so that no two wait for each other.
        let order = completions.indices.sorted {
            let (a, b) = (completions[$0].reference, completions[$1].reference)
            return (a.message, a.number) < (b.message, b.number)
        }
        let sorted = order.map { completions[$0] }
        let results = try await pool.withConnection { connection in
            try await connection.perform { session in
                let (results, outcome) = try session.transaction { session in
                    let plan = try Self.plan(sorted, session)
                    try Self.apply(plan, session)
                    return plan.results
                }
                try demandDurable(outcome, session)
                return results
            }
        }
        var answer = results
        for (position, index) in order.enumerated() { answer[index] = results[position] }
        return answer
    }

    private static func plan(_ completions: [Completion], _ session: PostgresSession) throws -> CompletionPlan
    {
        let ended = completions.flatMap { completion in
            completion.ended.map { (completion.reference.message, $0.number) }
        }
        let shown = try session.pipeline([
            PostgresStatement(
                lockDeliveries,
                [
                    .uuidArray(completions.map(\.reference.message)),
                    .int4Array(completions.map(\.reference.number)),
                ]),
            PostgresStatement(
                endedRecipients,
                [.uuidArray(ended.map(\.0)), .int4Array(ended.map(\.1))] + IDRange(ended.map(\.0)).parameters),
        ])
        var current: [CompletionPlan.Key: CompletionPlan.Current] = [:]
        for row in shown[0] {
            let key = CompletionPlan.Key(message: try row.uuid(0), number: try row.int4(1))
            current[key] = CompletionPlan.Current(fence: try row.int8(2), isClaimed: try row.bool(3))
        }
        var endedBefore: [CompletionPlan.Key: String] = [:]
        for row in shown[1] {
            endedBefore[CompletionPlan.Key(message: try row.uuid(0), number: try row.int4(1))] = try row.text(
                2)
        }
        let stale = completions.map(\.reference).filter { reference in
            let row = current[CompletionPlan.Key(message: reference.message, number: reference.number)]
            return row.map { !$0.isClaimed || $0.fence != reference.fence } ?? false
        }
        if !stale.isEmpty {
            for row in try session.query(
                dotsAndOpen, [.uuidArray(stale.map(\.message)), .int4Array(stale.map(\.number))])
            {
                let key = CompletionPlan.Key(message: try row.uuid(0), number: try row.int4(1))
                current[key]?.hasDot = try row.bool(2)
                current[key]?.openRecipients = Int(try row.int4(3))
            }
        }
        return CompletionPlan(
            completions, current: current, endedBefore: endedBefore,
            repeated: try repeated(completions, current, session))
    }

    // Which of these events are there already?
    private static let knownEvents = """
        SELECT e.id FROM unnest($1::uuid[], $2::uuid[]) AS a (m, i)
        JOIN ledger.event e ON e.message_id = a.m AND e.id = a.i
        """

    /// Of the completions whose claim is gone: those that an earlier commit, whose answer never came, has recorded.
    private static func repeated(
        _ completions: [Completion], _ current: [CompletionPlan.Key: CompletionPlan.Current],
        _ session: PostgresSession
    ) throws -> Set<DeliveryReference> {
        let suspects = completions.filter { completion in
            let reference = completion.reference
            let row = current[CompletionPlan.Key(message: reference.message, number: reference.number)]
            return row.map { !$0.isClaimed || $0.fence != reference.fence } ?? true
        }
        // Any of them: a late 250 records its `delivered` events only.
        let asked = suspects.flatMap { completion in completion.events.map { (completion, $0) } }
        if asked.isEmpty { return [] }
        let known = Set(
            try session.query(
                knownEvents, [.uuidArray(asked.map(\.1.message)), .uuidArray(asked.map(\.1.id))]
            ).map { try $0.uuid(0) })
        return Set(asked.filter { known.contains($0.1.id) }.map(\.0.reference))
    }

    private static func apply(_ plan: CompletionPlan, _ session: PostgresSession) throws {
        var events = plan.events
        for message in plan.overForSure {
            if let shredded = plan.shreddedEvents[message] { events.append(.shredded(message, shredded)) }
        }
        var statements = changes(of: plan)
        let certain = Array(plan.overForSure)
        if !certain.isEmpty { statements.append(shred(certain)) }
        if !events.isEmpty { statements.append(insert(events)) }
        statements.insert(contentsOf: JudgementRow.insert(plan.judgements), at: 0)
        for notification in plan.notifications {
            statements.append(contentsOf: NotificationStatements.insert(notification))
        }
        let messages = plan.endedDeliveries.keys.sorted()
        if !messages.isEmpty {
            statements.append(
                PostgresStatement(
                    endDeliveries,
                    [.uuidArray(messages), .int4Array(messages.map { plan.endedDeliveries[$0] ?? 0 })]
                        + IDRange(messages).parameters))
        }
        if plan.isRepeat { statements.insert(PostgresStatement(DurableMark.statement), at: 0) }
        if statements.isEmpty { return }
        let rows = try session.pipeline(statements)
        // Messages of several deliveries: whether this was the last one shows only now.
        guard !messages.isEmpty, messages.contains(where: { !plan.overForSure.contains($0) }),
            let last = rows.last
        else { return }
        let over = try last.compactMap { row -> UUID? in
            let id = try row.uuid(0)
            return try row.int4(1) == 0 && !plan.overForSure.contains(id) ? id : nil
        }
        if over.isEmpty { return }
        _ = try session.pipeline([
            shred(over),
            insert(over.compactMap { id in plan.shreddedEvents[id].map { EventRow.shredded(id, $0) } }),
        ])
    }

    private static let endDeliveries = """
        UPDATE ledger.message m SET open_deliveries = m.open_deliveries - e.ended,
            wrapped_message_key = CASE WHEN m.open_deliveries <= e.ended THEN NULL ELSE m.wrapped_message_key END,
            shredded_at = CASE WHEN m.open_deliveries <= e.ended THEN clock_timestamp() END
        FROM unnest($1::uuid[], $2::int[]) AS e (id, ended) WHERE m.id = e.id AND m.id BETWEEN $3 AND $4
        RETURNING m.id, m.open_deliveries
        """

    private static func shred(_ messages: [UUID]) -> PostgresStatement {
        PostgresStatement(
            // Joined, not `= ANY`: so that each id looks into its own day's partition only.
            """
            DELETE FROM ledger.content c USING unnest($1::uuid[]) AS a (m)
            WHERE c.message_id = a.m AND c.message_id BETWEEN $2 AND $3
            """, [.uuidArray(messages)] + IDRange(messages).parameters)
    }

    private static func changes(of plan: CompletionPlan) -> [PostgresStatement] {
        var statements: [PostgresStatement] = []
        if !plan.recipientStates.isEmpty {
            statements.append(
                PostgresStatement(
                    """
                    UPDATE ledger.recipient r SET state = a.s FROM unnest($1::uuid[], $2::int[], $3::text[]) AS a (m, n, s)
                    WHERE r.message_id = a.m AND r.rcpt_no = a.n AND r.message_id BETWEEN $4 AND $5
                    """,
                    [
                        .uuidArray(plan.recipientStates.map(\.message)),
                        .int4Array(plan.recipientStates.map(\.number)),
                        .textArray(plan.recipientStates.map(\.state)),
                    ] + IDRange(plan.recipientStates.map(\.message)).parameters))
        }
        if !plan.deletes.isEmpty {
            statements.append(
                PostgresStatement(
                    """
                    DELETE FROM ledger.delivery d USING unnest($1::uuid[], $2::int[]) AS a (m, n)
                    WHERE d.message_id = a.m AND d.no = a.n
                    """, [.uuidArray(plan.deletes.map(\.message)), .int4Array(plan.deletes.map(\.number))]))
        }
        if !plan.retries.isEmpty {
            statements.append(
                PostgresStatement(
                    """
                    UPDATE ledger.delivery d SET state = 'waiting', worker = NULL, due = a.due, attempts = d.attempts + 1,
                        possible_duplicate = d.possible_duplicate OR a.doubt, delay_reported = a.told
                    FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::bool[], $5::bool[]) AS a (m, n, due, doubt, told)
                    WHERE d.message_id = a.m AND d.no = a.n
                    """,
                    [
                        .uuidArray(plan.retries.map(\.key.message)),
                        .int4Array(plan.retries.map(\.key.number)),
                        .timestampArray(plan.retries.map(\.due)),
                        .boolArray(plan.retries.map(\.possibleDuplicate)),
                        .boolArray(plan.retries.map(\.delayReported)),
                    ]))
        }
        if !plan.holds.isEmpty {
            statements.append(
                PostgresStatement(
                    """
                    UPDATE ledger.delivery d SET state = 'held', worker = NULL, attempts = d.attempts + 1,
                        possible_duplicate = d.possible_duplicate OR a.doubt, delay_reported = a.told
                    FROM unnest($1::uuid[], $2::int[], $3::bool[], $4::bool[]) AS a (m, n, doubt, told)
                    WHERE d.message_id = a.m AND d.no = a.n
                    """,
                    [
                        .uuidArray(plan.holds.map(\.key.message)), .int4Array(plan.holds.map(\.key.number)),
                        .boolArray(plan.holds.map(\.possibleDuplicate)),
                        .boolArray(plan.holds.map(\.delayReported)),
                    ]))
        }
        if !plan.revoked.isEmpty {
            statements.append(set("state = 'ready', worker = NULL, fence = d.fence + 1", plan.revoked))
        }
        return statements
    }

    private static func set(_ change: String, _ keys: [CompletionPlan.Key]) -> PostgresStatement {
        PostgresStatement(
            """
            UPDATE ledger.delivery d SET \(change) FROM unnest($1::uuid[], $2::int[]) AS a (m, n)
            WHERE d.message_id = a.m AND d.no = a.n
            """, [.uuidArray(keys.map(\.message)), .int4Array(keys.map(\.number))])
    }

    private static func insert(_ events: [EventRow]) -> PostgresStatement {
        PostgresStatement(
            """
            INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate, sealed_detail)
            SELECT i, t, m, nullif(n, -1), k, a, nullif(c, ''), d, nullif(s, ''::bytea)
            FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int[], $5::text[], $6::timestamptz[], $7::text[], $8::bool[],
                        $9::bytea[]) AS e (i, t, m, n, k, a, c, d, s)
            """,
            [
                .uuidArray(events.map(\.id)), .textArray(events.map(\.tenant)),
                .uuidArray(events.map(\.message)),
                .int4Array(events.map { $0.recipient ?? -1 }), .textArray(events.map(\.kind.rawValue)),
                .timestampArray(events.map(\.at)), .textArray(events.map { $0.reasonCode ?? "" }),
                .boolArray(events.map(\.possibleDuplicate)),
                .bytesArray(events.map { $0.sealedDetail ?? [] }),
            ])
    }
}

extension EventRow {
    static func shredded(_ message: UUID, _ event: (id: UUID, tenant: String)) -> EventRow {
        EventRow(
            id: event.id, tenant: event.tenant, message: message, recipient: nil, kind: .shredded, at: Date())
    }
}
