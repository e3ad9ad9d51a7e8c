// Deadlines, cancellation, a server that dies: every wait ends, and says how.

import Foundation
import Lab
import Postgres
import Testing

@Test("A deadline cancels the statement at the server, and the connection goes on")
func deadlineCancels() async throws {
    let connection = try await connect()
    let start = ContinuousClock.now
    let error = try await failure {
        _ = try await connection.perform(deadline: .seconds(2)) { session in
            try session.transaction { _ = try $0.query("SELECT pg_sleep(60)") }
        }
    }
    #expect(error.code == .timeout && error.sqlState == "57014" && error.isTransient)
    #expect(ContinuousClock.now - start < .seconds(20))
    #expect(try await connection.perform { try $0.query("SELECT 1")[0].int4(0) } == 1)
    await connection.close()
}

@Test("A job that is late before it begins never runs; nor does a second statement of a late job")
func lateJobs() async throws {
    let connection = try await connect()
    _ = try await connection.perform { try $0.execute("CREATE TABLE t (a int)") }
    async let slow = failure {
        _ = try await connection.perform(deadline: .milliseconds(300)) { session in
            _ = try? session.execute("SELECT pg_sleep(60)")
            try session.execute("INSERT INTO t VALUES (1)")
        }
    }
    async let late = failure {
        _ = try await connection.perform(deadline: .milliseconds(1)) {
            try $0.execute("INSERT INTO t VALUES (2)")
        }
    }
    #expect(try await slow.code == .timeout)
    #expect(try await late.code == .timeout)
    #expect(try await connection.perform { try $0.query("SELECT count(*) FROM t")[0].int8(0) } == 0)
    await connection.close()
}

@Test("Cancelling the task cancels the statement at the server, and drops a job that waits")
func taskCancellation() async throws {
    let connection = try await connect()
    let (started, signal) = AsyncStream.makeStream(of: Void.self)
    let running = Task {
        try await connection.perform { session in
            signal.finish()
            return try session.query("SELECT pg_sleep(60)").count
        }
    }
    for await _ in started {}
    let waiting = Task { try await connection.perform { try $0.query("SELECT pg_sleep(60)").count } }
    waiting.cancel()
    #expect(try await failure { _ = try await waiting.value }.code == .cancelled)
    running.cancel()
    #expect(try await failure { _ = try await running.value }.code == .cancelled)
    #expect(try await connection.perform { try $0.query("SELECT 1")[0].int4(0) } == 1)
    await connection.close()
}

@Test("Jobs that wait are bounded")
func queueIsBounded() async throws {
    let connection = try await connect()
    let outcomes = await withTaskGroup(of: PostgresError.Code?.self) { group in
        for _ in 0..<1100 {
            group.addTask {
                do {
                    _ = try await connection.perform { try $0.execute("SELECT pg_sleep(0.002)") }
                    return nil
                } catch { return (error as? PostgresError)?.code }
            }
        }
        return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(outcomes.allSatisfy { $0 == nil || $0 == .queueFull })
    #expect(outcomes.count { $0 == nil } >= 1024)
    await connection.close()
}

@Test("Closing lets the running job end, fails those that wait, and refuses later ones")
func closing() async throws {
    let connection = try await connect()
    let (started, signal) = AsyncStream.makeStream(of: Void.self)
    let running = Task {
        try await connection.perform { session in
            signal.finish()
            return try session.query("SELECT pg_sleep(0.3)").count
        }
    }
    for await _ in started {}
    let (asked, asking) = AsyncStream.makeStream(of: Void.self)
    let waiting = Task {
        asking.finish()
        return try await connection.perform { try $0.query("SELECT 1").count }
    }
    for await _ in asked {}
    await connection.close()
    #expect(try await running.value == 1)
    #expect(try await failure { _ = try await waiting.value }.code == .closed)
    #expect(try await failure { _ = try await connection.perform { _ in } }.code == .closed)
    #expect(!connection.isUsable)
}

@Test("No server, no such database, no such user: connectFailed, at once")
func connectFails() async throws {
    let server = try await TemporaryPostgres.shared()
    for conninfo in [
        "host=127.0.0.1 port=1 dbname=x user=y", "host=/nonexistent dbname=x user=y",
        server.dsn(database: "no_such"), server.dsn(user: "nobody_of_that_name"), "what=is this",
    ] {
        let error = try await failure {
            _ = try await PostgresConnection.connect(PostgresConfiguration(conninfo))
        }
        #expect(error.code == .connectFailed && !error.inDoubt, "\(conninfo)")
    }
}

@Test("A role whose settings hide warnings still shows them here")
func warningsAreNotHidden() async throws {
    let server = try await TemporaryPostgres.shared()
    let database = try await server.createDatabase()
    try await server.administer("ALTER DATABASE \(database) SET client_min_messages = error")
    let connection = try await PostgresConnection.connect(
        PostgresConfiguration(server.dsn(database: database)))
    let notices = try await connection.perform {
        try $0.query("DO $$ BEGIN RAISE WARNING 'seen'; END $$").notices.map(\.message)
    }
    #expect(notices == ["seen"])
    await connection.close()
}

/// They kill the server: a cluster of their own.
@Suite(.serialized) struct DyingServerTests {
    @Test(
        "The server is killed: work without a commit is lost, a commit in flight is in doubt, idle connections notice"
    )
    func killed() async throws {
        let server = try await TemporaryPostgres.start()
        let idle = try await connect(server)
        struct Case {
            var name: String
            var inDoubt: Bool
            var work: @Sendable (PostgresSession) throws -> Void
        }
        var rows = PostgresCopyRows(columns: 1)
        rows.beginRow()
        rows.append(int4: 1)
        let copied = rows
        let slow =
            "CREATE TABLE t (a int); CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"
        let cases = [
            Case(name: "in a transaction", inDoubt: false) {
                try $0.execute("BEGIN")
                _ = try $0.query("SELECT pg_sleep(60)")
            },
            Case(name: "statement by itself", inDoubt: true) { _ = try $0.query("SELECT pg_sleep(60)") },
            Case(name: "COMMIT", inDoubt: true) { session in
                _ = try session.transaction { try $0.execute("INSERT INTO t VALUES (1)") }
            },
            Case(name: "script at its COMMIT", inDoubt: true) {
                _ = try $0.script([.sql("BEGIN"), .copy(table: "t", columns: ["a"], copied), .sql("COMMIT")])
            },
            Case(name: "script before its COPY", inDoubt: false) {
                _ = try $0.script([
                    .sql("BEGIN"), .sql("SELECT pg_sleep(60)"), .copy(table: "t", columns: ["a"], copied),
                    .sql("COMMIT"),
                ])
            },
            Case(name: "pipeline", inDoubt: true) {
                _ = try $0.pipeline([.init("BEGIN"), .init("INSERT INTO t VALUES (1)"), .init("COMMIT")])
            },
        ]
        var connections: [PostgresConnection] = []
        for _ in cases {
            let connection = try await connect(server)
            _ = try await connection.perform { try $0.execute(slow) }
            connections.append(connection)
        }
        let failures = try await withThrowingTaskGroup(of: (Int, PostgresError).self) { group in
            for (index, connection) in connections.enumerated() {
                let work = cases[index].work
                group.addTask {
                    (index, try await failure { _ = try await connection.perform { try work($0) } })
                }
            }
            let observer = try await connect(server)
            try await eventually("all of them sleep", within: .seconds(30)) {
                try await observer.perform {
                    try $0.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")[0]
                        .int8(0)
                } == cases.count
            }
            try await server.killImmediate()
            return try await group.reduce(into: [Int: PostgresError]()) { $0[$1.0] = $1.1 }
        }
        for (index, item) in cases.enumerated() {
            let error = try #require(failures[index])
            #expect(error.code == .connectionLost && error.inDoubt == item.inDoubt, "\(item.name): \(error)")
            #expect(error.isTransient && !connections[index].isUsable, "\(item.name)")
        }
        try await eventually("the idle connection noticed") { !idle.isUsable }
        #expect(try await failure { _ = try await idle.perform { _ in } }.code == .connectionLost)
        try await server.restart()
        let again = try await connect(server)
        #expect(try await again.perform { try $0.query("SELECT 1")[0].int4(0) } == 1)
        await again.close()
        try await server.stop()
    }

    @Test("A pool mends itself after a restart of the server, and waits for it within its limit")
    func poolRecovers() async throws {
        let server = try await TemporaryPostgres.start(fsync: false)
        let pool = PostgresPool(
            configuration: PostgresConfiguration(server.dsn()), limit: 4, waitLimit: .seconds(60),
            onConnect: { try $0.execute("SET application_name = 'derived'") })
        let ask: @Sendable () async throws -> String = {
            try await pool.withConnection { connection in
                try await connection.perform { try $0.query("SHOW application_name")[0].text(0) }
            }
        }
        for _ in 0..<8 { #expect(try await ask() == "derived") }
        try await server.killImmediate()
        // While the server is away callers wait; all are served when it is back.
        async let answers = withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<12 { group.addTask { try await ask() } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        try await server.restart()
        #expect(try await answers == Array(repeating: "derived", count: 12))

        try await server.stop()
        let impatient = PostgresPool(
            configuration: PostgresConfiguration(server.dsn()), limit: 1, waitLimit: .milliseconds(500))
        let start = ContinuousClock.now
        let error = try await failure { try await impatient.withConnection { _ in } }
        #expect(error.code == .connectFailed)
        #expect(ContinuousClock.now - start < .seconds(10))
        await pool.close()
        await impatient.close()
    }
}
