// Statements one by one, prepared and cached; pipelines; errors that say what failed and nothing personal.

import Foundation
import Lab
import Testing

@testable import Postgres

@Test("A refusal carries SQLSTATE, constraint, table; its description no data")
func typedErrors() async throws {
    let connection = try await connect()
    _ = try await connection.perform {
        try $0.execute(
            """
            CREATE TABLE person (address text PRIMARY KEY, age int NOT NULL CONSTRAINT grown CHECK (age > 17));
            INSERT INTO person VALUES ('jan@secret.example', 40)
            """)
    }
    let table: [(sql: String, values: [PostgresValue], state: String, constraint: String?, transient: Bool)] =
        [
            (
                "INSERT INTO person VALUES ($1, 20)", [.text("jan@secret.example")], "23505", "person_pkey",
                false
            ),
            ("INSERT INTO person VALUES ($1, 3)", [.text("piet@secret.example")], "23514", "grown", false),
            ("INSERT INTO person VALUES ($1, NULL)", [.text("x@secret.example")], "23502", nil, false),
            ("SELECT $1::text::int", [.text("jan@secret.example")], "22P02", nil, false),
            ("SELECT 1 / $1", [.int4(0)], "22012", nil, false),
            ("SELECT nothing", [], "42703", nil, false),
            ("SELEC", [], "42601", nil, false),
            ("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$", [], "40001", nil, true),
            ("DO $$ BEGIN RAISE SQLSTATE '53100'; END $$", [], "53100", nil, true),
        ]
    for row in table {
        let error = try await failure {
            _ = try await connection.perform { try $0.query(row.sql, row.values) }
        }
        #expect(error.code == .server && error.sqlState == row.state, "\(row.sql): \(error)")
        #expect(error.constraint == row.constraint && error.isTransient == row.transient, "\(row.sql)")
        #expect(!"\(error)".contains("secret.example"), "\(error)")
        #expect(!error.inDoubt)
    }
    #expect(connection.isUsable)
    await connection.close()
}

@Test("Each text is prepared once, and no more than the limit are kept")
func preparedCacheIsBounded() async throws {
    let connection = try await connect()
    let limit = PostgresSession.preparedLimit
    let (once, many, kept) = try await connection.perform { session in
        let count = "SELECT count(*) FROM pg_prepared_statements"
        for value in 0..<50 { _ = try session.query("SELECT $1 + 1", [.int4(Int32(value))]) }
        let once = try session.query(count)[0].int8(0)
        for number in 0..<(limit + 100) {
            if number % 2 == 0 {
                _ = try session.query("SELECT \(number)")
            } else {
                _ = try session.pipeline([.init("SELECT \(number)"), .init("SELECT \(number)")])
            }
            _ = try session.query(count)  // used often: never the one that goes
        }
        return (
            once, try session.query(count)[0].int8(0),
            try session.query(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1", [.text(count)])[0].int8(0)
        )
    }
    #expect(once == 2)
    #expect(many == limit)
    #expect(kept == 1)
    await connection.close()
}

@Test("The same text with other types, and with NULL, is understood anew")
func typesOfParametersMayChange() async throws {
    let connection = try await connect()
    let texts = try await connection.perform { session in
        let values: [PostgresValue] = [.null, .int4(1), .int8(2), .null, .text("three"), .int4(4)]
        return try values.map { try session.query("SELECT $1::text", [$0])[0].optionalText(0) }
    }
    #expect(texts == [nil, "1", "2", nil, "three", "4"])
    await connection.close()
}

@Test("A prepared statement that the server lost, or whose table changed, is prepared again")
func preparedAgain() async throws {
    let connection = try await connect()
    let columns = try await connection.perform { session in
        try session.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        var columns = [try session.query("SELECT * FROM t").columnNames]
        try session.execute("ALTER TABLE t ADD COLUMN b int")
        columns.append(try session.query("SELECT * FROM t").columnNames)
        try session.execute("DEALLOCATE ALL")
        columns.append(try session.query("SELECT * FROM t").columnNames)
        return columns
    }
    #expect(columns == [["a"], ["a", "b"], ["a", "b"]])
    await connection.close()
}

@Test("A pipeline answers each of its steps, and is one transaction where none is open")
func pipelineSucceeds() async throws {
    let connection = try await connect()
    let numbers = try await connection.perform { session in
        try session.execute("CREATE TABLE t (a int)")
        var steps = (0..<2000).map { PostgresStatement("INSERT INTO t VALUES ($1)", [.int4($0)]) }
        steps.append(PostgresStatement("SELECT count(DISTINCT xmin::text), count(*) FROM t"))
        let rows = try session.pipeline(steps)
        #expect(rows.count == 2001 && rows[7].affectedRows == 1 && rows[7].commandTag == "INSERT 0 1")
        return try (rows[2000][0].int8(0), rows[2000][0].int8(1))
    }
    #expect(numbers == (1, 2000))
    await connection.close()
}

@Test("A pipeline with much data in both directions does not lock up")
func pipelineBothWays() async throws {
    let connection = try await connect()
    let bytes = [UInt8](repeating: 7, count: 1 << 20)
    let total = try await connection.perform(deadline: .seconds(60)) { session in
        try session.pipeline((0..<40).map { _ in PostgresStatement("SELECT $1", [.bytes(bytes)]) })
            .map { try $0[0].bytes(0).count }.reduce(0, +)
    }
    #expect(total == 40 << 20)
    await connection.close()
}

@Test("A pipeline that fails names the first failing step; nothing of it holds; the connection goes on")
func pipelineFails() async throws {
    let connection = try await connect()
    _ = try await connection.perform {
        try $0.execute("CREATE TABLE t (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
    }
    let insert: @Sendable (Int32) -> PostgresStatement = {
        PostgresStatement("INSERT INTO t VALUES ($1)", [.int4($0)])
    }
    let table: [(name: String, steps: [PostgresStatement], step: Int?, state: String)] = [
        ("at execution", [insert(1), .init("SELECT 1 / $1", [.int4(0)]), insert(2)], 1, "22012"),
        ("at preparation", [insert(1), insert(2), .init("SELECT nothing"), insert(3)], 2, "42703"),
        ("the first", [.init("SELEC"), insert(1)], 0, "42601"),
        ("the last", [insert(1), .init("SELECT 1 / 0")], 1, "22012"),
        ("at the commit", [insert(1), insert(1)], nil, "23505"),
    ]
    for row in table {
        let error = try await failure { _ = try await connection.perform { try $0.pipeline(row.steps) } }
        #expect(error.step == row.step && error.sqlState == row.state, "\(row.name): \(error)")
        let count = try await connection.perform { session in
            // The steps that did not run were not remembered as prepared.
            _ = try session.pipeline([.init("SELECT $1", [.int4(1)])])
            return try session.query("SELECT count(*) FROM t")[0].int8(0)
        }
        #expect(count == 0, "\(row.name)")
    }
    let after = try await connection.perform { try $0.pipeline([insert(1), insert(2), insert(3)]).count }
    #expect(after == 3)
    await connection.close()
}

@Test("A transaction commits what its body did, or nothing")
func transactions() async throws {
    let connection = try await connect()
    struct Unrelated: Error {}
    let outcome = try await connection.perform { session in
        try session.execute("CREATE TABLE t (a int)")
        let (value, outcome) = try session.transaction {
            try $0.query("INSERT INTO t VALUES (1) RETURNING a")[0].int4(0)
        }
        #expect(value == 1)
        #expect(throws: Unrelated.self) {
            try session.transaction { session in
                try session.execute("INSERT INTO t VALUES (2)")
                throw Unrelated()
            }
        }
        // A body that swallows a failure does not make a commit of a rollback.
        #expect(throws: PostgresError.self) {
            try session.transaction { session in
                try session.execute("INSERT INTO t VALUES (3)")
                _ = try? session.execute("SELECT 1 / 0")
            }
        }
        return (outcome, try session.query("SELECT count(*) FROM t")[0].int8(0))
    }
    #expect(outcome == (.durable, 1))
    await connection.close()
}
