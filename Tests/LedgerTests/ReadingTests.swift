// What a reader is shown of a shard with members: never what a leader alone has, never less than it has seen already.

import Foundation
import Lab
import Postgres
import Testing

@testable import Ledger

/// A leader, a follower of it, and a reader that prefers the leader's region, as the api there does.
private struct Pair: Sendable {
    let leader: TemporaryPostgres
    let follower: TemporaryPostgres
    let shard: Shard
    let pools: [PostgresPool]
    let reader: EventLedger

    static func make() async throws -> Pair {
        let leader = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: leader)
        _ = try await shard.intake.currentIncarnation()
        let follower = try await leader.follower()
        let pools = [leader, follower].map {
            PostgresPool(
                configuration: PostgresConfiguration($0.dsn(database: shard.database, user: "zegel_api")),
                limit: 2, waitLimit: .seconds(2))
        }
        return Pair(
            leader: leader, follower: follower, shard: shard, pools: pools,
            reader: EventLedger(shard: "a", members: pools))
    }

    /// Runs SQL at the follower.
    func atFollower(_ sql: String) async throws {
        try await follower.administer(sql)
    }

    /// Waits until the follower shows these events.
    func replayed(_ count: Int) async throws {
        try await eventually("the follower shows \(count) events", within: .seconds(30)) {
            try await reader.page(after: nil, tenant: nil, limit: 100).value.count == count
        }
    }

    func close() async {
        // Either server may be gone: nothing is dropped, all of it goes with them.
        for pool in pools + [shard.owner, shard.edge, shard.worker, shard.api] { await pool.close() }
        for server in [follower, leader] where server.isRunning { try? await server.killImmediate() }
    }
}

@Suite("Reading a shard that has members", .serialized) struct ReadingTests {
    @Test(
        "The feed is read from a follower, also by a reader beside the leader: what only the leader has is not shown"
    )
    func feedFollows() async throws {
        let pair = try await Pair.make()
        let first = Mail.make()
        try await pair.shard.accept([first])
        try await pair.replayed(1)
        // The follower stands still: from here on the leader alone has more.
        try await pair.atFollower("SELECT pg_wal_replay_pause()")
        let second = Mail.make()
        try await pair.shard.accept([second])
        #expect(
            try await pair.reader.page(after: nil, tenant: nil, limit: 100).value.map(\.message) == [first.id]
        )
        // Looked for by its id it is not there either, until the leader is asked.
        #expect(try await pair.reader.message(second.id, tenant: nil).value == nil)
        #expect(try await pair.reader.message(second.id, tenant: nil, surely: true).value?.id == second.id)
        try await pair.atFollower("SELECT pg_wal_replay_resume()")
        try await pair.replayed(2)
        await pair.close()
    }

    @Test("Without a follower the feed of a shard waits, messages are read from the leader")
    func leaderAlone() async throws {
        let pair = try await Pair.make()
        let mail = Mail.make()
        try await pair.shard.accept([mail])
        try await pair.replayed(1)
        try await pair.follower.killImmediate()
        await #expect(throws: ShardUnreadable.self) {
            _ = try await pair.reader.page(after: nil, tenant: nil, limit: 100)
        }
        try await eventually("the leader answers for its follower", within: .seconds(10)) {
            try await pair.reader.message(mail.id, tenant: nil).value?.id == mail.id
        }
        // Back, and what it had on its disk before counts once it has come to it by streaming again.
        try await pair.follower.restart()
        try await eventually("the feed goes on", within: .seconds(30)) {
            (try? await pair.reader.page(after: nil, tenant: nil, limit: 100).value.count) == 1
        }
        await pair.close()
    }

    @Test(
        "A member that came up with what lay on its disk, and hears of no leader, shows nothing in the feed")
    func diskAlone() async throws {
        let pair = try await Pair.make()
        try await pair.shard.accept([Mail.make()])
        try await pair.replayed(1)
        try await pair.leader.killImmediate()
        // A follower that was streaming goes on showing what it had: its leader had it on disk too.
        #expect(try await pair.reader.page(after: nil, tenant: nil, limit: 100).value.count == 1)
        try await pair.follower.killImmediate()
        try await pair.follower.restart()
        await #expect(throws: ShardUnreadable.self) {
            _ = try await pair.reader.page(after: nil, tenant: nil, limit: 100)
        }
        await pair.close()
    }

    @Test(
        "A position is answered by a member that has come so far: awaited, else asked of the leader, else refused"
    )
    func positions() async throws {
        let pair = try await Pair.make()
        try await pair.shard.accept([Mail.make()])
        try await pair.replayed(1)
        try await pair.atFollower("SELECT pg_wal_replay_pause()")
        let mail = Mail.make()
        try await pair.shard.accept([mail])
        let place = try #require(try await pair.reader.message(mail.id, tenant: nil, surely: true).position)
        let floored = pair.reader.notBefore(place)
        // The follower is behind it, so the leader answers.
        #expect(try await floored.message(mail.id, tenant: nil).value?.id == mail.id)
        // The feed is not read from a leader: refused, with the reason.
        await #expect(throws: ShardUnreadable.self) {
            _ = try await floored.page(after: nil, tenant: nil, limit: 9)
        }
        // A follower that comes along in time is waited for.
        async let page = floored.page(after: nil, tenant: nil, limit: 9)
        try await pair.atFollower("SELECT pg_wal_replay_resume()")
        #expect(try await page.value.count == 2)
        // Of a history that no member has.
        let foreign = pair.reader.notBefore(ShardPosition(incarnation: UUID(), lsn: 1))
        await #expect(throws: UnknownIncarnation.self) { _ = try await foreign.message(mail.id, tenant: nil) }
        await pair.close()
    }

    @Test(
        "A reader whose cursor names an incarnation that its member has not replayed yet is not told that it is foreign"
    )
    func lateIncarnation() async throws {
        let pair = try await Pair.make()
        try await pair.shard.accept([Mail.make()])
        try await pair.replayed(1)
        let last = try #require(
            try await pair.reader.page(after: nil, tenant: nil, limit: 9).value.last
        ).position
        try await pair.atFollower("SELECT pg_wal_replay_pause()")
        let newer = UUID()
        try await pair.shard.execute(
            "INSERT INTO ledger.incarnation (id, timeline, first_xid) VALUES ('\(newer)', 999, '\(last.arrived)')"
        )
        let cursor = FeedPosition(incarnation: newer, arrived: last.arrived, id: last.id)
        await #expect(throws: ShardUnreadable.self) {
            _ = try await pair.reader.page(after: cursor, tenant: nil, limit: 9)
        }
        try await pair.atFollower("SELECT pg_wal_replay_resume()")
        try await eventually("the cursor goes on", within: .seconds(20)) {
            (try? await pair.reader.page(after: cursor, tenant: nil, limit: 9).value.isEmpty) == true
        }
        await pair.close()
    }

    @Test(
        "Nobody writes on a new timeline before its incarnation is there, and none of its transactions lies before it"
    )
    func incarnationFirst() async throws {
        let pair = try await Pair.make()
        try await pair.shard.accept([Mail.make()])
        try await pair.replayed(1)
        try await pair.leader.killImmediate()
        try await pair.follower.administer("SELECT pg_promote()")
        let route = LeaderRoute(
            shard: "a",
            configuration: PostgresConfiguration(
                pair.follower.dsn(database: pair.shard.database, user: "zegel_edge")))
        let edge = route.pool(limit: 2, waitLimit: .seconds(20))
        // The first thing that it does is to write events, as an edge's batch does.
        var batch = IntakeBatch()
        batch.messages = [Mail.make()]
        let outcome = await IntakeLedger(shard: "a", pool: edge).commit(batch)
        guard case .durable = outcome else { throw LabError("not accepted: \(outcome)") }
        let owner = PostgresPool(
            configuration: PostgresConfiguration(pair.follower.dsn(database: pair.shard.database)), limit: 1,
            waitLimit: .seconds(20))
        let isBefore = try await owner.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    """
                    SELECT (SELECT first_xid FROM ledger.incarnation ORDER BY timeline DESC LIMIT 1)
                        <= (SELECT max(arrived) FROM ledger.event),
                        (SELECT count(*) FROM ledger.incarnation) = 2
                    """
                ).map { (try $0.bool(0), try $0.bool(1)) }
            }
        }
        #expect(isBefore.allSatisfy { $0.0 && $0.1 } && isBefore.count == 1)
        await owner.close()
        await edge.close()
        await pair.close()
    }
}
