// A commit whose wait for the quorum is broken off answers success with a WARNING. It must not count as durable.

import Foundation
import Lab
import Testing

@testable import Postgres

/// These tests set the cluster's synchronous standby: a cluster of their own, one at a time.
@Suite(.serialized) struct CommitWarningTests {
    private typealias Commit = @Sendable (PostgresSession) throws -> PostgresCommitOutcome

    private static var copied: PostgresCopyRows {
        var rows = PostgresCopyRows(columns: 1)
        rows.beginRow()
        rows.append(int4: 1)
        return rows
    }

    private static let commits: [(String, Commit)] = [
        (
            "script, COMMIT right behind COPY",
            {
                try $0.script([.sql("BEGIN"), .copy(table: "t", columns: ["a"], copied), .sql("COMMIT")])
                    .commitOutcome
            }
        ),
        (
            "script, SELECT before COMMIT",
            {
                try $0.script([
                    .sql("BEGIN"), .copy(table: "t", columns: ["a"], copied),
                    .sql("SELECT current_setting('synchronous_standby_names')"), .sql("COMMIT"),
                ]).commitOutcome
            }
        ),
        (
            "script without COMMIT",
            { try $0.script([.copy(table: "t", columns: ["a"], copied)]).commitOutcome }
        ),
        ("transaction", { try $0.transaction { try $0.execute("INSERT INTO t VALUES (1)") }.1 }),
        ("query by itself", { try $0.query("INSERT INTO t VALUES ($1)", [.int4(1)]).commitOutcome }),
        ("execute by itself", { try $0.execute("INSERT INTO t VALUES (1)") }),
        (
            "pipeline with COMMIT",
            {
                try $0.pipeline([.init("BEGIN"), .init("INSERT INTO t VALUES (1)"), .init("COMMIT")])[2]
                    .commitOutcome
            }
        ),
        (
            "pipeline without COMMIT",
            { try $0.pipeline([.init("INSERT INTO t VALUES (1)")])[0].commitOutcome }
        ),
    ]

    @Test("A cancelled wait for the quorum is a warned commit, by whatever way it was committed")
    func cancelledWait() async throws {
        let server = try await TemporaryPostgres.start()
        let connection = try await connect(server)
        let observer = try await connect(server)
        // A role that hides warnings must not hide this one.
        _ = try await connection.perform { try $0.execute("CREATE TABLE t (a int)") }
        let pid = try await connection.perform { $0.processID }

        for (name, commit) in Self.commits {
            let clean = try await connection.perform {
                try commit($0)
            } whenNoStandbyIsNamed: {
                server
            }
            #expect(clean == .durable, "\(name)")
            try await server.set("synchronous_standby_names", to: "nobody")
            // Commits wait only once the checkpointer has read the setting too.
            try await eventually("commits wait", within: .seconds(30)) {
                try await observer.perform(deadline: .milliseconds(200)) {
                    try $0.execute("CREATE TABLE IF NOT EXISTS probe (a int); INSERT INTO probe VALUES (1)")
                } != .durable
            }
            async let outcome = connection.perform(deadline: .seconds(60)) { try commit($0) }
            try await eventually("the commit waits for its quorum", within: .seconds(30)) {
                try await observer.perform {
                    try $0.query(
                        "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", [.int4(pid)]
                    )
                    .first?.optionalBool(0) == true
                }
            }
            _ = try await observer.perform { try $0.query("SELECT pg_cancel_backend($1)", [.int4(pid)]) }
            guard case .warned(let text) = try await outcome else {
                Issue.record("\(name): taken for durable")
                continue
            }
            #expect(text.contains("01000") && text.contains("canceling wait"), "\(name): \(text)")
            // The next command does not inherit it.
            #expect(try await connection.perform { try $0.query("SELECT 1").commitOutcome } == .durable)
        }

        // Our own deadline breaks the wait off too: success, warned, not an error.
        let late = try await connection.perform(deadline: .seconds(1)) {
            try $0.script([.sql("BEGIN"), .copy(table: "t", columns: ["a"], Self.copied), .sql("COMMIT")])
                .commitOutcome
        }
        #expect(late != .durable)

        // Ended by an administrator: the connection goes, and nobody knows.
        async let ended = failure {
            _ = try await connection.perform {
                try $0.transaction { try $0.execute("INSERT INTO t VALUES (2)") }
            }
        }
        try await eventually("the commit waits for its quorum", within: .seconds(30)) {
            try await observer.perform {
                try $0.query(
                    "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", [.int4(pid)]
                )
                .first?.optionalBool(0) == true
            }
        }
        _ = try await observer.perform { try $0.query("SELECT pg_terminate_backend($1)", [.int4(pid)]) }
        let error = try await ended
        #expect(error.code == .connectionLost && error.inDoubt, "\(error)")
        #expect(!connection.isUsable)
        await observer.close()
        try await server.stop()
    }

    @Test("A WARNING of another statement is not the commit's, where a SELECT stands between")
    func otherWarnings() async throws {
        let connection = try await connect()
        let outcome = try await connection.perform { session in
            try session.execute(
                "CREATE FUNCTION warn() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'look'; RETURN 1; END $$"
            )
            let result = try session.script([
                .sql("BEGIN"), .sql("SELECT warn()"), .sql("SELECT 1"), .sql("COMMIT"),
            ])
            let single = try session.query("SELECT warn()")
            return (result.commitOutcome, single.notices.map(\.message))
        }
        #expect(outcome.0 == .durable)
        #expect(outcome.1 == ["look"])
        await connection.close()
    }
}

extension PostgresConnection {
    fileprivate func perform<T: Sendable>(
        _ work: @escaping @Sendable (PostgresSession) throws -> T,
        whenNoStandbyIsNamed server: () -> TemporaryPostgres
    ) async throws -> T {
        try await server().set("synchronous_standby_names", to: nil)
        try await eventually("no standby is named") {
            try await perform { try $0.query("SHOW synchronous_standby_names")[0].text(0) } == ""
        }
        return try await perform(work)
    }
}
