// The schema is exactly the one that the executables know, or they refuse it and say what to run.

import Foundation
import Lab
import Ledger
import Migrations
import Postgres
import Testing

@Suite struct MigratorTests {
    private func connect() async throws -> PostgresConnection {
        let server = try await TemporaryPostgres.shared()
        return try await PostgresConnection.connect(
            PostgresConfiguration(server.dsn(database: try await server.createDatabase())))
    }

    private func refusal(_ body: () async throws -> Void) async throws -> String {
        do { try await body() } catch let error as SchemaError { return error.description }
        throw LabError("nothing was refused")
    }

    @Test("Fresh: all are applied, once; a second run applies nothing")
    func freshAndAgain() async throws {
        let connection = try await connect()
        #expect(try await refusal { try await Migrator().verify(connection) }.contains("zegel migrate"))
        #expect(try await Migrator().migrate(connection) == MigrationCatalog.all.map(\.version))
        #expect(MigrationCatalog.all.map(\.version) == Array(1...Int32(MigrationCatalog.all.count)))
        #expect(try await Migrator().migrate(connection) == [])
        try await Migrator().verify(connection)
        await connection.close()
    }

    @Test(
        "An edited past, an unknown version and a missing one are refused, by migrate and at a node's start")
    func refusals() async throws {
        let connection = try await connect()
        _ = try await Migrator().migrate(connection)
        let all = MigrationCatalog.all
        var edited = all
        edited[1] = Migration(2, all[1].name, all[1].sql + Array("-- a word more\n".utf8))
        for attempt in [Migrator.migrateOnly, Migrator.verifyOnly] {
            #expect(try await refusal { try await attempt(Migrator(edited), connection) }.contains("edited"))
            let older = Migrator(Array(all.dropLast()))
            #expect(try await refusal { try await attempt(older, connection) }.contains("does not know"))
        }
        let next = Migration(Int32(all.count + 1), "next", Array("SELECT 1".utf8))
        let lacking = try await refusal { try await Migrator(all + [next]).verify(connection) }
        #expect(lacking.contains("lacks migration \(next.version)") && lacking.contains("zegel migrate"))
        await connection.close()
    }

    @Test("A migration that fails leaves nothing of itself; those before it stay")
    func failing() async throws {
        let connection = try await connect()
        let good = Migration(1, "good", Array("CREATE TABLE ledger.good (a int)".utf8))
        let bad = Migration(2, "bad", Array("CREATE TABLE ledger.half (a int); SELECT 1 / 0;".utf8))
        #expect(
            try await refusal { _ = try await Migrator([good, bad]).migrate(connection) }.contains("2 (bad)"))
        let row = try await connection.perform {
            try $0.query("SELECT to_regclass('ledger.good') IS NULL, to_regclass('ledger.half') IS NULL")[0]
        }
        #expect(try !row.bool(0) && row.bool(1))
        #expect(try await Migrator([good]).migrate(connection) == [])
        await connection.close()
    }

    @Test("Many at once: the advisory lock lets one apply them, the others find them done")
    func concurrent() async throws {
        let server = try await TemporaryPostgres.shared()
        let configuration = PostgresConfiguration(server.dsn(database: try await server.createDatabase()))
        let applied = try await withThrowingTaskGroup(of: [Int32].self) { group in
            for _ in 0..<6 {
                group.addTask {
                    let connection = try await PostgresConnection.connect(configuration)
                    let applied = try await Migrator().migrate(connection)
                    await connection.close()
                    return applied
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(applied == MigrationCatalog.all.map(\.version))
    }
}

extension Migrator {
    fileprivate static let migrateOnly: @Sendable (Migrator, PostgresConnection) async throws -> Void = {
        _ = try await $0.migrate($1)
    }
    fileprivate static let verifyOnly: @Sendable (Migrator, PostgresConnection) async throws -> Void = {
        try await $0.verify($1)
    }
}
