// A shard, and a copy of it as it was: a restored shard for tests.

import Foundation
import Lab
import Ledger
import Postgres

/// A shard, and a copy of it from a moment ago.
struct RestoredPair {
    let source: Shard
    let restored: String
    let owner: PostgresPool
    let moment: Date

    /// Copies the shard as it is.
    static func copy(_ source: Shard) async throws -> RestoredPair {
        for pool in [source.owner, source.edge, source.worker, source.api] { await pool.close() }
        let name = try await source.server.createDatabase(template: source.database)
        let moment = Date()
        func pool(_ database: String, _ user: String, _ limit: Int) -> PostgresPool {
            PostgresPool(
                configuration: PostgresConfiguration(source.server.dsn(database: database, user: user)),
                limit: limit, waitLimit: .seconds(60))
        }
        let again = Shard(
            server: source.server, database: source.database, owner: pool(source.database, "postgres", 3),
            edge: pool(source.database, "zegel_edge", 4),
            worker: pool(source.database, "zegel_worker", 6),
            api: pool(source.database, "zegel_api", 2))
        let pair = RestoredPair(
            source: again, restored: name, owner: pool(name, "postgres", 1), moment: moment)
        _ = try await pair.inside { try Self.mark($0, moment) }
        return pair
    }

    // `RestoredLedger.begin` but for the roles, which other tests use at the same time.
    private static func mark(_ session: PostgresSession, _ moment: Date) throws {
        _ = try session.query("SELECT ledger.current_incarnation()")
        _ = try session.query("UPDATE ledger.incarnation SET restored_to = $1", [.timestamp(moment)])
    }

    /// Does something in the restored one.
    func inside<T: Sendable>(_ body: @escaping @Sendable (PostgresSession) throws -> T) async throws -> T {
        try await owner.withConnection { try await $0.perform(body) }
    }

    @discardableResult
    func reconcile(isFinal: Bool = true, held: [String]? = []) async throws -> Reconciliation.Result {
        let link = SourceLink(
            sockets: source.server.directory, port: source.server.port, database: source.database,
            role: "postgres")
        let moment = moment
        return try await inside {
            try Reconciliation(link: link, moment: moment, isFinal: isFinal, heldTenants: held).run($0)
        }
    }

    /// `no state duplicate knowledge` of each delivery of a message that is open, or what is known of it.
    func deliveries(_ id: UUID) async throws -> [String] {
        try await inside { session in
            try session.query(
                """
                SELECT k.no, coalesce(d.state, 'none'), coalesce(d.possible_duplicate, false), k.knowledge
                FROM ledger.reconciled k LEFT JOIN ledger.delivery d USING (message_id, no)
                WHERE k.message_id = $1 ORDER BY k.no
                """, [.uuid(id)]
            ).map { row in
                "\(try row.int4(0)) \(try row.text(1))\(try row.bool(2) ? " duplicate" : "") \(try row.text(3))"
            }
        }
    }

    /// Open deliveries, frames, whether it has a key, and the recipients' states.
    func message(_ id: UUID) async throws -> String {
        try await inside { session in
            try session.query(
                """
                SELECT format('%s open, %s frames, %s, %s', m.open_deliveries,
                    (SELECT count(*) FROM ledger.content c WHERE c.message_id = m.id),
                    CASE WHEN m.wrapped_message_key IS NULL THEN 'no key' ELSE 'key' END,
                    (SELECT string_agg(r.state, ' ' ORDER BY r.rcpt_no) FROM ledger.recipient r WHERE r.message_id = m.id))
                FROM ledger.message m WHERE m.id = $1
                """, [.uuid(id)]
            ).first?.text(0) ?? "not there"
        }
    }

    func events(_ id: UUID) async throws -> [String] {
        try await inside { session in
            try session.query(
                "SELECT kind || coalesce(' ' || reason_code, '') FROM ledger.event WHERE message_id = $1 ORDER BY arrived, id",
                [.uuid(id)]
            ).map { try $0.text(0) }
        }
    }

    /// Every row that matters, as one text.
    func everything() async throws -> String {
        try await inside { session in
            try session.query(
                """
                SELECT md5(string_agg(t, '' ORDER BY t)) FROM (
                    SELECT d.message_id || ' ' || d.no || d.state || d.possible_duplicate AS t FROM ledger.delivery d
                    UNION ALL SELECT m.id || ' ' || m.open_deliveries || coalesce(m.shredded_at::text, '') FROM ledger.message m
                    UNION ALL SELECT e.id || ' ' || e.kind FROM ledger.event e
                    UNION ALL SELECT c.message_id || ' ' || c.frame_no FROM ledger.content c
                    UNION ALL SELECT k::text FROM ledger.reconciled k) x
                """
            )[0].text(0)
        }
    }

    func close() async throws {
        await owner.close()
        try await source.server.dropDatabase(restored)
        await source.close()
    }
}
