// Postgres
import Lab
import Postgres
import Testing

@Test func smoke() async throws {
    let server = try await TemporaryPostgres.shared()
    let name = try await server.createDatabase()
    let c = try await PostgresConnection.connect(PostgresConfiguration(server.dsn(database: name)))
    let r = try await c.perform { session in
        try session.execute("CREATE TABLE a (id int, b bytea)")
        var rows = PostgresCopyRows(columns: 2)
        rows.beginRow(); rows.append(int4: 3); rows.append(bytes: [1, 2, 3])
        let s = try session.script([
            .sql("BEGIN"), .copy(table: "a", columns: ["id", "b"], rows),
            .sql("SELECT current_setting('synchronous_standby_names')"), .sql("COMMIT"),
        ])
        print(s.commitOutcome, s.results.map(\.commandTag))
        let p = try session.pipeline([
            .init("SELECT $1", [.int4(4)]), .init("SELECT id, b FROM a WHERE id = $1", [.int8(3)]),
        ])
        return try (p[0][0].int4(0), p[1][0].bytes(1))
    }
    print(r)
    #expect(r.0 == 4)
    await c.close()
}
