// A pool has a limit, a bounded wait, and gives nobody another's mess.

import Foundation
import Lab
import Postgres
import Testing

private func makePool(limit: Int, wait: Duration) async throws -> PostgresPool {
    let server = try await TemporaryPostgres.shared()
    let database = try await server.createDatabase()
    return PostgresPool(
        configuration: PostgresConfiguration(server.dsn(database: database)), limit: limit, waitLimit: wait)
}

@Test("Never more connections than the limit, and everyone is served in turn")
func poolLimit() async throws {
    let pool = try await makePool(limit: 3, wait: .seconds(60))
    let processes = try await withThrowingTaskGroup(of: Int32.self) { group in
        for _ in 0..<60 {
            group.addTask {
                try await pool.withConnection { connection in
                    try await connection.perform { session in
                        _ = try session.query("SELECT pg_sleep(0.002)")
                        return session.processID
                    }
                }
            }
        }
        return try await group.reduce(into: Set()) { $0.insert($1) }
    }
    #expect(processes.count <= 3)
    await pool.close()
}

@Test(
    "Who waits longer than the limit gets poolExhausted; a cancelled wait ends at once; the place is not lost"
)
func poolExhausted() async throws {
    let pool = try await makePool(limit: 1, wait: .milliseconds(200))
    try await pool.withConnection { _ in
        let error = try await failure { try await pool.withConnection { _ in } }
        #expect(error.code == .poolExhausted && error.isTransient)
    }
    let patient = try await makePool(limit: 1, wait: .seconds(60))
    try await patient.withConnection { _ in
        let waiting = Task { try await patient.withConnection { _ in } }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
    }
    for pool in [pool, patient] {
        try await pool.withConnection { #expect($0.isUsable) }
        await pool.close()
        #expect(try await failure { try await pool.withConnection { _ in } }.code == .closed)
    }
}

@Test("A transaction left open does not reach the next user; a broken connection is replaced")
func poolCleans() async throws {
    let pool = try await makePool(limit: 1, wait: .seconds(30))
    _ = try await pool.withConnection { connection in
        try await connection.perform {
            try $0.execute("CREATE TABLE t (a int); COMMIT; BEGIN; INSERT INTO t VALUES (1)")
        }
    }
    let count = try await pool.withConnection { connection in
        try await connection.perform { try $0.query("SELECT count(*) FROM t")[0].int8(0) }
    }
    #expect(count == 0)
    let error = try await failure {
        try await pool.withConnection { connection in
            _ = try await connection.perform { try $0.query("SELECT pg_terminate_backend(pg_backend_pid())") }
        }
    }
    #expect(error.code == .connectionLost && error.sqlState == "57P01")
    let answer = try await pool.withConnection {
        try await $0.perform { try $0.query("SELECT 1")[0].int4(0) }
    }
    #expect(answer == 1)
    await pool.close()
}

@Test("A connection whose onConnect fails is not lent")
func poolOnConnect() async throws {
    let server = try await TemporaryPostgres.shared()
    let pool = PostgresPool(
        configuration: PostgresConfiguration(server.dsn()), limit: 1, waitLimit: .seconds(5),
        onConnect: { _ = try $0.query("SELECT * FROM schema_of_another_version") })
    let error = try await failure { try await pool.withConnection { _ in } }
    #expect(error.sqlState == "42P01")
    await pool.close()
}
