// Which shard takes a message, and what becomes of those that wait at one in trouble (design §3, law 1).

import Foundation
import Lab
import Ledger
import Logging
import NIOCore
import NIOPosix
import Postgres
import Sealing
import Synchronization
import Testing

@testable import Edge

@Suite("Shards of an edge", .serialized) struct ShardCommittersTests {
    /// Two committers over databases of their own.
    private struct Pair {
        let home: EdgeFixture
        let away: EdgeFixture
        let shards: ShardCommitters
        let tasks: [Task<Void, any Error>]
        let answers = Answers()

        static func make() async throws -> Pair {
            let (home, away) = (try await EdgeFixture.make(), try await EdgeFixture.make())
            let logger = Logger(label: "edge") { _ in SwiftLogNoOpLogHandler() }
            let metrics = EdgeMetrics()
            func committer(_ fixture: EdgeFixture, _ name: String, isHome: Bool) throws -> Committer {
                let pool = PostgresPool(
                    configuration: PostgresConfiguration(
                        fixture.postgres.dsn(database: fixture.database, user: "zegel_edge")),
                    limit: 2, waitLimit: .seconds(20))
                let ledger = IntakeLedger(shard: name, pool: pool)
                let keys = try EdgeKeys(
                    root: Array(fixture.root.publicKey.rawRepresentation), limits: Sealer.Limits())
                return Committer(
                    ledger: ledger, keys: keys, limits: .init(),
                    ready: ReadyNotifier(ledger: ledger, logger: logger), metrics: metrics, logger: logger,
                    isHome: { isHome })
            }
            let all = [
                try committer(home, "a", isHome: true), try committer(away, "b", isHome: false),
            ]
            return Pair(
                home: home, away: away, shards: ShardCommitters(all, metrics: metrics, logger: logger),
                tasks: all.map { committer in Task { try await committer.run() } })
        }

        func end() async {
            for task in tasks { task.cancel() }
            for task in tasks { _ = try? await task.value }
            home.remove()
            away.remove()
        }

        /// The home shard refuses every write of its edge, or takes them again.
        func homeTakesEvents(_ takes: Bool) async throws {
            let columns = "(id, tenant, message_id, rcpt_no, kind, at, reason_code, sealed_detail)"
            let change =
                takes
                ? "GRANT INSERT \(columns) ON ledger.event TO zegel_edge"
                : "REVOKE INSERT ON ledger.event FROM zegel_edge"
            _ = try await home.admin.withConnection { connection in
                try await connection.perform { try $0.execute(change) }
            }
        }

        func put(_ work: IntakeWork, at committer: Committer) {
            let answers = answers
            let ticket = IntakeTicket(loop: MultiThreadedEventLoopGroup.singleton.next()) { answer, shard in
                answers.add("\(answer) \(shard.ledger.shard)")
            }
            #expect(committer.submit(work, ticket: ticket))
        }
    }

    private final class Answers: Sendable {
        private let all = Mutex<[String]>([])
        func add(_ answer: String) { all.withLock { $0.append(answer) } }
        var list: [String] { all.withLock { $0 } }
    }

    private static func rejection() -> IntakeWork {
        .rejection(RejectionRow(id: UUIDv7.make(at: Date()), tenant: "demo", at: Date(), reasonCode: "test"))
    }

    @Test("The shard at home, another while it is in trouble, and home again once a commit there is durable")
    func course() async throws {
        let pair = try await Pair.make()
        let (home, away) = (pair.shards.all[0], pair.shards.all[1])
        #expect(pair.shards.choose() === home)
        try await pair.homeTakesEvents(false)
        pair.put(Self.rejection(), at: home)
        try await eventually("home is in trouble") { !home.isWell(at: .now) }
        #expect(pair.shards.choose() === away)
        #expect(await home.proveWell())
        #expect(pair.shards.choose() === home)
        await pair.end()
    }

    @Test("What waits unsent at a shard in trouble is taken by another, which answers")
    func relief() async throws {
        let pair = try await Pair.make()
        let home = pair.shards.all[0]
        try await pair.homeTakesEvents(false)
        pair.put(Self.rejection(), at: home)
        try await eventually("home is in trouble, and what was refused waits again") {
            pair.shards.relieve(home, at: .now)
            return !pair.answers.list.isEmpty
        }
        #expect(pair.answers.list == ["durable b"])
        #expect(try await pair.away.count("SELECT count(*) FROM ledger.event WHERE kind = 'rejected'") == 1)
        #expect(try await pair.home.count("SELECT count(*) FROM ledger.event") == 0)
        await pair.end()
    }

    @Test(
        "A message whose batch key is gone from memory and not in the shard is refused: nobody could open it")
    func lackingKey() async throws {
        let pair = try await Pair.make()
        let home = pair.shards.all[0]
        pair.put(.message(GroupCommitTests.message()), at: home)
        try await eventually("it is answered") { !pair.answers.list.isEmpty }
        #expect(pair.answers.list == ["atFault a"])
        #expect(try await pair.home.count("SELECT count(*) FROM ledger.message") == 0)
        await pair.end()
    }
}
