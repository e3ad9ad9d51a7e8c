// Law 3: an edge cannot read back. Each role gets what it needs, tried column by column and function by function.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct RoleTests {
    /// What each role may read, column for column, beside the catalogs.
    private static let configuration = [
        "control.version.only_row", "control.version.number", "control.version.heartbeat_at",
        "control.tenant.id",
        "control.tenant.name", "control.tenant.default_ruleset", "control.tenant.in_doubt",
        "control.tenant.created_at", "control.tenant.disabled_at", "control.sender_domain.domain",
        "control.sender_domain.tenant", "control.key_set.version", "control.key_set.signed",
        "control.key_set.created_at", "ledger.schema_migration.version", "ledger.schema_migration.name",
        "ledger.schema_migration.checksum", "ledger.schema_migration.applied_at",
    ]
    private static let edgeColumns = Set(
        configuration + [
            "control.credential.id", "control.credential.tenant", "control.credential.username",
            "control.credential.salt", "control.credential.iterations", "control.credential.stored_key",
            "control.credential.revoked_at",
        ])

    /// What an edge may call. None answers a sealed byte; `replay_keys` answers keys of replay tags, which it makes.
    private static let edgeFunctions: Set<String> = [
        "control.replay_keys", "control.known_replay_keys", "control.beat", "ledger.current_incarnation",
        "ledger.touch_uploads", "ledger.finish_uploads",
        "ledger.abandon_upload", "ledger.known_messages", "ledger.known_batch_keys",
        "ledger.acknowledge_tags",
        "ledger.replay_of", "ledger.withdraw",
    ]

    /// Every column of every table, view and partition outside of the system's schemas.
    private static let columns = """
        SELECT n.nspname::text, c.relname::text, a.attname::text FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2, a.attnum
        """

    private func readable(_ pool: PostgresPool, on shard: Shard) async throws -> Set<String> {
        let columns = try await shard.rows(Self.columns).map { try ($0.text(0), $0.text(1), $0.text(2)) }
        #expect(columns.count > 150)
        return try await pool.withConnection { connection in
            try await connection.perform { session in
                var readable: Set<String> = []
                for (schema, table, column) in columns {
                    do {
                        try session.execute("SELECT \"\(column)\" FROM \"\(schema)\".\"\(table)\" LIMIT 1")
                        readable.insert("\(schema).\(table).\(column)")
                    } catch let error as PostgresError {
                        #expect(error.sqlState == "42501", "\(schema).\(table).\(column): \(error)")
                    }
                }
                return readable
            }
        }
    }

    @Test("The edge reads configuration and nothing else: tried on every column of every table and partition")
    func edgeReads() async throws {
        let shard = try await Shard.make()
        try await shard.accept([Mail.make(tag: Mail.tag())])
        let readable = try await readable(shard.edge, on: shard)
        #expect(readable == Self.edgeColumns, "\(readable.symmetricDifference(Self.edgeColumns).sorted())")
        await shard.close()
    }

    @Test("The api reads no content, no content key, no credential, no replay tag")
    func apiReads() async throws {
        let shard = try await Shard.make()
        try await shard.accept([Mail.make(tag: Mail.tag())])
        let readable = try await readable(shard.api, on: shard)
        let forbidden = readable.filter { name in
            ["ledger.content", "ledger.replay", "control.credential", "control.replay_key", "ledger.upload"]
                .contains { name.hasPrefix($0) } || name.hasSuffix(".wrapped_message_key")
                || name.hasSuffix(".keyed_digest")
        }
        #expect(forbidden.isEmpty, "\(forbidden.sorted())")
        #expect(readable.contains("ledger.message.sealed_envelope") && readable.contains("ledger.event.kind"))
        await shard.close()
    }

    @Test("A worker reads no credential, no api key, no replay tag")
    func workerReads() async throws {
        let shard = try await Shard.make()
        let forbidden = try await readable(shard.worker, on: shard).filter { name in
            ["control.credential", "control.api_key", "control.replay_key", "ledger.replay"]
                .contains { name.hasPrefix($0) }
        }
        #expect(forbidden.isEmpty, "\(forbidden.sorted())")
        await shard.close()
    }

    @Test("The edge calls only the functions that it needs, and none of them answers what is sealed")
    func edgeCalls() async throws {
        let shard = try await Shard.make()
        let functions = try await shard.rows(
            """
            SELECT n.nspname || '.' || p.proname, has_function_privilege('zegel_edge', p.oid, 'EXECUTE'), p.prosecdef,
                   pg_get_function_result(p.oid), p.proconfig::text
            FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('ledger', 'control', 'public')
            """)
        var callable: Set<String> = []
        for row in functions {
            let name = try row.text(0)
            if try row.bool(1) {
                callable.insert(name)
                let answer = try row.text(3)
                let isOfReplayKeys = ["control.replay_keys", "control.known_replay_keys"].contains(name)
                #expect(!answer.contains("bytea") || isOfReplayKeys, "\(name): \(answer)")
            }
            // A function with its owner's rights must not be led astray by the caller's search_path.
            if try row.bool(2) { #expect(try row.optionalText(4)?.contains("pg_temp") == true, "\(name)") }
        }
        #expect(
            callable == Self.edgeFunctions, "\(callable.symmetricDifference(Self.edgeFunctions).sorted())")
        await shard.close()
    }

    @Test(
        "An edge tells that it accepted or rejected, and nothing that others decide; also by COPY, also into a new day",
        arguments: [0, 20])
    func edgeEvents(daysFromNow: Int) async throws {
        let shard = try await Shard.make()
        let at = Date().addingTimeInterval(Double(daysFromNow) * 86_400)
        // A partition made now has what its table has.
        try await shard.execute("SELECT ledger.ensure_partitions(current_date + \(daysFromNow), 1)")
        let columns = "INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at)"
        @Sendable func row(_ kind: String) -> String {
            "\(columns) VALUES ('\(Mail.id(at: at))', 'demo', '\(Mail.id(at: at))', 0, '\(kind)', now())"
        }
        for kind in ["delivered", "refused", "bounced", "withdrawn", "released", "shredded", "Accepted", ""] {
            let error = await #expect(throws: PostgresError.self, "\(kind)") {
                try await shard.edge.withConnection { connection in
                    _ = try await connection.perform { try $0.execute(row(kind)) }
                }
            }
            #expect(error?.sqlState == "42501", "\(kind)")
            // Whoever else may write events is not concerned.
            try await shard.worker.withConnection { connection in
                _ = try await connection.perform { try $0.execute(row(kind)) }
            }
        }
        for kind in ["accepted", "rejected"] {
            try await shard.edge.withConnection { connection in
                _ = try await connection.perform { try $0.execute(row(kind)) }
            }
        }
        // COPY and the function that withdraws still do their work.
        let message = Mail.make(at: at)
        try await shard.accept([message])
        #expect(try await shard.intake.withdraw([message.id]).withdrawn == [message.id])
        await shard.close()
    }

    @Test("No other way leads an edge to what it wrote")
    func edgeTricks() async throws {
        let shard = try await Shard.make()
        let canary = Array("CANARY-9f2c".utf8)
        let message = Mail.make(tag: Mail.tag(), secret: canary)
        try await shard.accept([message])
        try await shard.execute("ANALYZE")
        let id = message.id.uuidString
        let attempts = [
            "TABLE ledger.content", "COPY ledger.content TO STDOUT",
            "COPY (SELECT sealed FROM ledger.content) TO STDOUT",
            "INSERT INTO ledger.content (message_id, frame_no, sealed) VALUES ('\(id)', 7, 'x') RETURNING sealed",
            "INSERT INTO ledger.content (message_id, frame_no, sealed) VALUES ('\(id)', 0, 'x') ON CONFLICT (message_id, frame_no, part) DO UPDATE SET sealed = 'y'",
            "INSERT INTO ledger.message_default SELECT * FROM ledger.message",
            "UPDATE ledger.content SET sealed = sealed", "DELETE FROM ledger.content",
            "TRUNCATE ledger.content",
            "UPDATE ledger.delivery SET lane = 'thief.test'", "DELETE FROM ledger.delivery",
            "UPDATE ledger.message SET wrapped_message_key = NULL", "SELECT count(*) FROM ledger.recipient",
            "SELECT 1 FROM ledger.message WHERE sealed_envelope = 'x'",
            "DO $$ BEGIN LOCK TABLE ledger.content; END $$",
            "SET ROLE zegel_worker", "SET SESSION AUTHORIZATION zegel_worker",
            "SELECT pg_read_file('PG_VERSION')",
            "COPY ledger.content FROM PROGRAM 'id'", "CREATE TABLE public.mine (a int)",
            "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE VIEW public.v AS SELECT * FROM ledger.content",
            "CREATE RULE r AS ON INSERT TO ledger.content DO ALSO NOTHING",
            "CREATE TRIGGER t BEFORE INSERT ON ledger.content FOR EACH ROW EXECUTE FUNCTION control.bump_version()",
            "ALTER TABLE ledger.content DISABLE ROW LEVEL SECURITY",
            "GRANT SELECT ON ledger.content TO zegel_edge",
            "CREATE TABLE ledger.mine (a int)", "SELECT ledger.drop_partitions('2100-01-01')",
            "CREATE PUBLICATION p FOR ALL TABLES",
            "SELECT pg_logical_slot_get_changes('x', NULL, NULL)", "SELECT lo_import('/etc/passwd')",
            "SELECT ledger.sweep_uploads('0s', 100)",
            "INSERT INTO control.credential SELECT * FROM control.credential",
            "CREATE TEMP TABLE t (a int)", "CREATE TEMP VIEW v AS SELECT 1", "SELECT 1 INTO TEMP t",
            "ALTER TABLE ledger.event DISABLE TRIGGER edge_events",
            "SET session_replication_role = 'replica'",
        ]
        try await shard.edge.withConnection { connection in
            try await connection.perform { session in
                for sql in attempts {
                    do {
                        try session.execute(sql)
                        // A GRANT of what one does not hold is a warning, not an error: the columns test says it changed nothing.
                        #expect(sql.hasPrefix("GRANT"), "allowed: \(sql)")
                    } catch let error as PostgresError {
                        #expect(["42501", "0A000"].contains(error.sqlState ?? ""), "\(sql): \(error)")
                        #expect(!error.message.contains("CANARY") && error.detail?.contains("CANARY") != true)
                    }
                }
                // Statistics hold samples of the values.
                let leaked = try session.query(
                    "SELECT count(*) FROM pg_stats WHERE schemaname = 'ledger' AND tablename <> 'schema_migration'"
                )
                #expect(try leaked[0].int8(0) == 0)
                // An id that is taken tells so by 23505: only whoever made it knows it. The failing row is not shown.
                do {
                    try session.execute(
                        "INSERT INTO ledger.content (message_id, frame_no, sealed) VALUES ('\(id)', 0, 'x')")
                    Issue.record("a frame was written over")
                } catch let error as PostgresError {
                    #expect(error.sqlState == "23505" && error.detail?.contains("CANARY") != true)
                }
            }
        }
        await shard.close()
    }
}
