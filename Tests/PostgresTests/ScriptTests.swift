// Scripts: several COPYs and statements in one round trip, all or nothing.

import Foundation
import Lab
import Testing

@testable import Postgres

private func rows(_ pairs: [(Int32, String)]) -> PostgresCopyRows {
    var rows = PostgresCopyRows(columns: 2)
    for (number, text) in pairs {
        rows.beginRow()
        rows.append(int4: number)
        rows.append(text: text)
    }
    return rows
}

private func tables() async throws -> PostgresConnection {
    let connection = try await connect()
    _ = try await connection.perform {
        try $0.execute(
            """
            CREATE SCHEMA s; CREATE TABLE s.one (id int PRIMARY KEY, note text);
            CREATE TABLE two (id int, "odd ""name" text)
            """)
    }
    return connection
}

private func script(_ one: PostgresCopyRows, _ two: PostgresCopyRows) -> [PostgresScriptStep] {
    [
        .sql("BEGIN"), .copy(table: "s.one", columns: ["id", "note"], one),
        .copy(table: "two", columns: ["id", "odd \"name"], two),
        .sql("SELECT count(*), true, 'x', '\\x0aff'::bytea, pg_current_xact_id() FROM two"), .sql("COMMIT"),
    ]
}

@Test("A script with two COPYs commits both, and the rows of its SELECT can be read")
func twoCopies() async throws {
    let connection = try await tables()
    let big = (0..<20_000).map { (Int32($0), String(repeating: "x", count: 100)) }
    let result = try await connection.perform {
        try $0.script(script(rows([(1, "a"), (2, "b")]), rows(big)))
    }
    #expect(result.commitOutcome == .durable)
    #expect(result.results.map(\.commandTag) == ["BEGIN", "COPY 2", "COPY 20000", "SELECT 1", "COMMIT"])
    let row = result.results[3][0]
    #expect(try row.int8(0) == 20_000 && row.bool(1) && row.text(2) == "x" && row.bytes(3) == [10, 255])
    #expect(try row.xid8(4) > 0)
    let sum = try await connection.perform {
        try $0.query("SELECT count(*) + (SELECT count(*) FROM s.one) FROM two")[0].int8(0)
    }
    #expect(sum == 20_002)
    await connection.close()
}

@Test("A script that fails names its step, leaves nothing behind, and the connection goes on")
func scriptFails() async throws {
    let connection = try await tables()
    var malformed = PostgresCopyRows(columns: 2)
    malformed.beginRow()
    malformed.append(int8: 1)
    malformed.append(text: "the column is an int4")
    var tooFew = PostgresCopyRows(columns: 1)
    tooFew.beginRow()
    tooFew.append(int4: 1)
    let many = rows((0..<50_000).map { (Int32($0), "x") })
    let table: [(name: String, steps: [PostgresScriptStep], step: Int, state: String)] = [
        ("conflict in the first COPY", script(rows([(1, "a"), (1, "b")]), many), 1, "23505"),
        ("zero byte", script(rows([(1, "a")]), rows([(1, "a\0b")])), 2, "22021"),
        ("wrong type", script(malformed, many), 1, "22P03"),
        ("too few columns", script(tooFew, many), 1, "22P04"),
        ("statement", [.sql("BEGIN"), .sql("SELECT 1 / 0"), .sql("COMMIT")], 1, "22012"),
        (
            "missing table", [.sql("BEGIN"), .copy(table: "three", columns: ["a"], tooFew), .sql("COMMIT")],
            1, "42P01"
        ),
        ("syntax: nothing ran", [.sql("BEGIN"), .sql("SELEC"), .sql("COMMIT")], 0, "42601"),
    ]
    for row in table {
        let error = try await failure { _ = try await connection.perform { try $0.script(row.steps) } }
        #expect(
            error.step == row.step && error.sqlState == row.state && !error.inDoubt, "\(row.name): \(error)")
        #expect(!connection.isInTransaction, "\(row.name)")
        let count = try await connection.perform {
            try $0.query("SELECT count(*) + (SELECT count(*) FROM s.one) FROM two")[0].int8(0)
        }
        #expect(count == 0, "\(row.name)")
    }
    let error = try await failure {
        _ = try await connection.perform { try $0.script(script(rows([(7, "a"), (7, "b")]), rows([]))) }
    }
    #expect(error.constraint == "one_pkey" && error.table == "one")
    #expect(!"\(error)".contains("(7)"))
    await connection.close()
}

@Test("A script without COMMIT is one implicit transaction")
func implicitTransaction() async throws {
    let connection = try await tables()
    let outcome = try await connection.perform { session in
        let good = try session.script([
            .copy(table: "two", columns: ["id", "odd \"name"], rows([(1, "a")])), .sql("SELECT 1"),
        ])
        #expect(throws: PostgresError.self) {
            try session.script([
                .copy(table: "two", columns: ["id", "odd \"name"], rows([(2, "b")])), .sql("SELECT 1 / 0"),
            ])
        }
        return (good.commitOutcome, try session.query("SELECT count(*) FROM two")[0].int8(0))
    }
    #expect(outcome == (.durable, 1))
    await connection.close()
}

@Test("COPY by any other way is refused and does not hang")
func copyElsewhere() async throws {
    let connection = try await tables()
    let error = try await failure {
        _ = try await connection.perform(deadline: .seconds(20)) { try $0.execute("COPY two FROM STDIN") }
    }
    #expect(error.code == .server)
    #expect(try await connection.perform { try $0.query("SELECT 1")[0].int4(0) } == 1)
    await connection.close()
}
