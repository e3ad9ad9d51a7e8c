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
        let leaders: Leaders
        let shards: ShardCommitters
        let tasks: [Task<Void, any Error>]
        let answers = Answers()

        static func make() async throws -> Pair {
            let (home, away) = (try await EdgeFixture.make(), try await EdgeFixture.make())
            let logger = Logger(label: "edge") { _ in SwiftLogNoOpLogHandler() }
            let metrics = EdgeMetrics()
            let leaders = Leaders()
            func committer(_ fixture: EdgeFixture, _ name: String) throws -> Committer {
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
                    leader: { leaders.of(name) })
            }
            let all = [try committer(home, "a"), try committer(away, "b")]
            return Pair(
                home: home, away: away, leaders: leaders,
                shards: ShardCommitters(all, metrics: metrics, logger: logger),
                tasks: all.map { committer in Task { try await committer.run() } })
        }

        func end() async {
            for task in tasks { task.cancel() }
            for task in tasks { _ = try? await task.value }
            home.remove()
            away.remove()
        }

        /// A commit is durable at each leader, as each edge sees to when it starts.
        func prove() async throws {
            for committer in shards.all { #expect(await committer.proveWell()) }
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

    /// Where the shards are led.
    private final class Leaders: Sendable {
        private let all = Mutex<[String: LeaderStanding]>([
            "a": LeaderStanding(place: .here, epoch: 1), "b": LeaderStanding(place: .elsewhere, epoch: 1),
        ])
        func of(_ shard: String) -> LeaderStanding { all.withLock { $0[shard] ?? .only } }
        func put(_ shard: String, _ place: LeaderStanding.Place, epoch: Int = 1) {
            all.withLock { $0[shard] = LeaderStanding(place: place, epoch: epoch) }
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
        try await pair.prove()
        #expect(pair.shards.choose() === home)
        try await pair.homeTakesEvents(false)
        pair.put(Self.rejection(), at: home)
        try await eventually("home is in trouble") { !home.isWell(at: .now) }
        #expect(pair.shards.choose() === away)
        #expect(await home.proveWell())
        #expect(pair.shards.choose() === home)
        await pair.end()
    }

    @Test("A shard without a leader gets nothing while another is led, and is home to nobody")
    func leaderless() async throws {
        let pair = try await Pair.make()
        let (home, away) = (pair.shards.all[0], pair.shards.all[1])
        try await pair.prove()
        pair.leaders.put("a", .nowhere)
        // It would take turns with another of its rank.
        for _ in 1...4 { #expect(pair.shards.choose() === away) }
        pair.leaders.put("b", .here)
        for _ in 1...4 { #expect(pair.shards.choose() === away) }
        pair.leaders.put("a", .here)
        pair.leaders.put("b", .elsewhere)
        #expect(pair.shards.choose() === home)
        await pair.end()
    }

    @Test("Where nobody says who leads, the shard that is in trouble gets nothing all the same")
    func silence() async throws {
        let pair = try await Pair.make()
        let (home, away) = (pair.shards.all[0], pair.shards.all[1])
        // An edge that starts has proven nothing yet: all are alike.
        #expect(Set((1...4).map { _ in ObjectIdentifier(pair.shards.choose()) }).count == 2)
        try await pair.prove()
        pair.leaders.put("a", .elsewhere)
        try await pair.homeTakesEvents(false)
        pair.put(Self.rejection(), at: home)
        try await eventually("it is in trouble") { !home.isWell(at: .now) }
        for _ in 1...4 { #expect(pair.shards.choose() === away) }
        await pair.end()
    }

    @Test("A shard with a new leader gets nothing until a commit there is durable, while another is well")
    func newLeader() async throws {
        let pair = try await Pair.make()
        let (home, away) = (pair.shards.all[0], pair.shards.all[1])
        try await pair.prove()
        #expect(pair.shards.choose() === home)
        pair.leaders.put("a", .here, epoch: 2)
        #expect(pair.shards.choose() === away)
        #expect(await home.proveWell())
        #expect(pair.shards.choose() === home)
        // Also away from home: an edge that never sent anything there has seen no commit fail.
        pair.leaders.put("a", .here, epoch: 3)
        pair.leaders.put("b", .here, epoch: 2)
        pair.put(Self.rejection(), at: away)
        try await eventually("a commit at the new leader is durable") { away.isWell(at: .now) }
        for _ in 1...4 { #expect(pair.shards.choose() === away) }
        await pair.end()
    }

    @Test("What waits unsent at a shard in trouble is taken by another, which answers")
    func relief() async throws {
        let pair = try await Pair.make()
        let home = pair.shards.all[0]
        try await pair.prove()
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
