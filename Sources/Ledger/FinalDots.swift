// Law 7: no final dot is sent that was not registered here, under a fence that holds and a lease that lives.

import Foundation
import Postgres

extension WorkLedger {
    // The worker's own row is locked against a reclaim that would end its lease in this moment.
    static let lease = """
        SELECT 1 FROM ledger.worker_heartbeat WHERE id = $1 AND lease_until > clock_timestamp() FOR KEY SHARE
        """

    // Which of the asked deliveries are still this worker's? Those, and the ones registered before, become its row.
    private static let register = """
        WITH held AS MATERIALIZED (
            SELECT d.message_id, d.no, d.fence FROM unnest($2::uuid[], $3::int[], $4::bigint[]) AS a (m, n, f)
            JOIN ledger.delivery d ON d.message_id = a.m AND d.no = a.n
            WHERE d.state = 'claimed' AND d.worker = $1 AND d.fence = a.f
              AND EXISTS (SELECT 1 FROM ledger.worker_heartbeat w WHERE w.id = $1 AND w.lease_until > clock_timestamp())
            FOR NO KEY UPDATE OF d
        ), every AS (
            SELECT message_id, no, fence, clock_timestamp() AS at FROM held
            UNION ALL SELECT m, n, f, t FROM unnest($5::uuid[], $6::int[], $7::bigint[], $8::timestamptz[]) AS k (m, n, f, t)
        ), put AS (
            INSERT INTO ledger.dot_in_flight (worker, message_ids, nos, fences, registered_at)
            SELECT $1, array_agg(message_id ORDER BY message_id, no), array_agg(no ORDER BY message_id, no),
                   array_agg(fence ORDER BY message_id, no), array_agg(at ORDER BY message_id, no)
            FROM every HAVING count(*) > 0
            ON CONFLICT (worker) DO UPDATE SET message_ids = excluded.message_ids, nos = excluded.nos,
                fences = excluded.fences, registered_at = excluded.registered_at
        )
        SELECT message_id, no, fence, clock_timestamp() FROM held
        """

    /// Registers final dots about to be sent. Answers those that may be: claimed by this worker under that fence, with its lease
    /// alive, and when they were by the server's clock. `inFlight` are the ones registered before whose end is not committed yet, with
    /// those times: the row is written over whole, and only one clock may say when a dot is in doubt.
    public func registerDots(
        worker: UUID, _ asked: [DeliveryReference], inFlight: [(reference: DeliveryReference, at: Date)]
    ) async throws -> (granted: Set<DeliveryReference>, at: Date?) {
        let rows = try await committed([
            PostgresStatement(Self.lease, [.uuid(worker)]),
            PostgresStatement(
                Self.register,
                [
                    .uuid(worker), .uuidArray(asked.map(\.message)), .int4Array(asked.map(\.number)),
                    .int8Array(asked.map(\.fence)), .uuidArray(inFlight.map(\.reference.message)),
                    .int4Array(inFlight.map(\.reference.number)), .int8Array(inFlight.map(\.reference.fence)),
                    .timestampArray(inFlight.map(\.at)),
                ]),
        ])
        let granted = try rows[1].map {
            DeliveryReference(message: try $0.uuid(0), number: try $0.int4(1), fence: try $0.int8(2))
        }
        return (Set(granted), try rows[1].first?.timestamp(3))
    }

    // MARK: Reclaim

    // Whose lease ended? Locked by a statement of its own: a registration that was quicker has committed by then, and only a
    // later snapshot sees its dots.
    private static let lapsed = """
        SELECT w.id FROM ledger.worker_heartbeat w WHERE w.lease_until < clock_timestamp() FOR UPDATE SKIP LOCKED
        """

    // Of those workers: what had no final dot is free at once; what had one, after the final-dot timeout, and then it is in
    // doubt: sent again (marked) or held. Who chose which is not asked here: tenants are in the first shard alone.
    private static let reclaim = """
        WITH gone AS MATERIALIZED (
            SELECT id FROM unnest($2::uuid[]) AS g (id)
        ), dot AS MATERIALIZED (
            SELECT x.m, x.n, x.f, x.at FROM gone JOIN ledger.dot_in_flight i ON i.worker = gone.id
            CROSS JOIN LATERAL unnest(i.message_ids, i.nos, i.fences, i.registered_at) AS x (m, n, f, at)
        ), loose AS (
            UPDATE ledger.delivery d SET state = 'ready', worker = NULL, due = clock_timestamp()
            FROM gone WHERE d.worker = gone.id AND d.state = 'claimed'
              AND NOT EXISTS (SELECT 1 FROM dot WHERE dot.m = d.message_id AND dot.n = d.no AND dot.f = d.fence)
            RETURNING d.message_id
        ), doubt AS (
            UPDATE ledger.delivery d SET worker = NULL, due = clock_timestamp(), possible_duplicate = true,
                attempts = d.attempts + 1,
                state = CASE WHEN $4 OR d.tenant = ANY ($3::text[]) THEN 'held' ELSE 'ready' END
            FROM gone, dot
            WHERE d.worker = gone.id AND d.state = 'claimed' AND dot.m = d.message_id AND dot.n = d.no AND dot.f = d.fence
              AND dot.at < clock_timestamp() - make_interval(secs => $1)
            RETURNING d.message_id, d.no, d.tenant, d.state
        ), told AS (
            INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate)
            SELECT ledger.uuid_v7(), d.tenant, d.message_id, r.rcpt_no,
                   CASE WHEN d.state = 'held' THEN 'held' ELSE 'deferred' END, clock_timestamp(), 'final-dot-in-doubt', true
            FROM doubt d JOIN ledger.recipient r ON r.message_id = d.message_id AND r.delivery_no = d.no AND r.state = 'open'
        )
        SELECT (SELECT count(*) FROM loose)::int, (SELECT count(*) FROM doubt)::int
        """

    private static let forgetWorkers = """
        DELETE FROM ledger.worker_heartbeat w WHERE w.lease_until < clock_timestamp() - interval '1 minute'
          AND NOT EXISTS (SELECT 1 FROM ledger.delivery d WHERE d.worker = w.id AND d.state = 'claimed')
        """

    private static let forgetDots = """
        DELETE FROM ledger.dot_in_flight i
        WHERE NOT EXISTS (SELECT 1 FROM ledger.worker_heartbeat w WHERE w.id = i.worker)
        """

    /// Frees what dead workers had claimed. Any worker may call it, every few seconds.
    /// - Parameters:
    ///   - heldTenants: whose deliveries in doubt are held and not sent again.
    ///   - holdsAll: everybody's are.
    /// - Returns: how many became free, and how many of a registered final dot are in doubt.
    public func reclaim(finalDotTimeout: Duration, heldTenants: [String] = [], holdsAll: Bool = false)
        async throws -> (freed: Int, inDoubt: Int)
    {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                let (counts, outcome) = try session.transaction { session in
                    let gone = try session.query(Self.lapsed).map { try $0.uuid(0) }
                    guard !gone.isEmpty else { return (0, 0) }
                    let rows = try session.pipeline([
                        PostgresStatement(
                            Self.reclaim,
                            [
                                .double(finalDotTimeout.inSeconds), .uuidArray(gone),
                                .textArray(heldTenants.map { $0 }), .bool(holdsAll),
                            ]),
                        PostgresStatement(Self.forgetWorkers),
                        PostgresStatement(Self.forgetDots),
                    ])
                    guard let row = rows[0].first else { return (0, 0) }
                    return (Int(try row.int4(0)), Int(try row.int4(1)))
                }
                try demandDurable(outcome, session)
                return counts
            }
        }
    }

    // MARK: Retries

    /// Moves retries whose time has come to the ready ones. Answers how many.
    public func promote(atMost: Int32 = 1000) async throws -> Int {
        let rows = try await committed([
            PostgresStatement(
                """
                WITH due AS MATERIALIZED (
                    SELECT message_id, no FROM ledger.delivery WHERE state = 'waiting' AND due <= clock_timestamp()
                    ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED
                ), moved AS (
                    UPDATE ledger.delivery d SET state = 'ready' FROM due
                    WHERE d.message_id = due.message_id AND d.no = due.no RETURNING 1
                ) SELECT count(*)::int FROM moved
                """, [.int4(atMost)])
        ])
        return Int(try rows[0].first?.int4(0) ?? 0)
    }

    /// Gives back claims that nothing was done with, under their fences.
    public func release(worker: UUID, _ references: [DeliveryReference]) async throws {
        _ = try await committed([
            PostgresStatement(
                """
                UPDATE ledger.delivery d SET state = 'ready', worker = NULL
                FROM unnest($2::uuid[], $3::int[], $4::bigint[]) AS a (m, n, f)
                WHERE d.message_id = a.m AND d.no = a.n AND d.fence = a.f AND d.worker = $1 AND d.state = 'claimed'
                """,
                [
                    .uuid(worker), .uuidArray(references.map(\.message)),
                    .int4Array(references.map(\.number)),
                    .int8Array(references.map(\.fence)),
                ])
        ])
    }
}
