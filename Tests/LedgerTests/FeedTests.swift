// The events feed: nothing that commits late is ever skipped. A cursor by number alone skips, and this test would show it.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct FeedTests {
    /// What the writers wrote, in the order in which they learned of their commits.
    private static let writers = 8
    private static let transactions = 60

    @Test(
        "8 writers with random delays before commit: a polling reader sees every event once and in order; cursors by sequence number or by id miss some"
    )
    func noLoss() async throws {
        let shard = try await Shard.make()
        try await shard.execute(
            "CREATE TABLE public.numbered (seq bigserial PRIMARY KEY, event uuid); GRANT ALL ON public.numbered, public.numbered_seq_seq TO zegel_worker"
        )
        _ = try await shard.intake.currentIncarnation()
        var random = SplitMix.seeded()
        let seeds = (0..<Self.writers).map { _ in random.next() }
        let pools = PostgresPool(
            configuration: PostgresConfiguration(
                shard.server.dsn(database: shard.database, user: "zegel_worker")),
            limit: Self.writers, waitLimit: .seconds(60))
        let done = Done()

        async let written = withThrowingTaskGroup(of: Set<UUID>.self) { group in
            for seed in seeds { group.addTask { try await Self.write(pools, SplitMix(state: seed)) } }
            let all = try await group.reduce(into: Set()) { $0.formUnion($1) }
            await done.set()
            return all
        }
        async let seen = Self.follow(shard, until: done)
        async let bySequence = Self.followNaively(
            shard, "SELECT event, seq FROM public.numbered WHERE seq > $1 ORDER BY seq LIMIT 50",
            from: .int8(0),
            { .int8(try $0.int8(1)) }, until: done)
        async let byID = Self.followNaively(
            shard, "SELECT id FROM ledger.event WHERE id > $1 ORDER BY id LIMIT 50",
            from: .uuid(FeedPosition.leastID),
            { .uuid(try $0.uuid(0)) }, until: done)

        let (expected, events, sequenced, identified) = try await (written, seen, bySequence, byID)
        #expect(events.count == expected.count, "\(events.count) seen, \(expected.count) written")
        #expect(Set(events.map(\.id)) == expected)
        for (before, after) in zip(events, events.dropFirst()) {
            #expect(
                (before.position.arrived, before.id.uuidString) < (
                    after.position.arrived, after.id.uuidString
                ))
        }
        let missed = (expected.subtracting(sequenced).count, expected.subtracting(identified).count)
        print("of \(expected.count) events a cursor by sequence number missed \(missed.0), by id \(missed.1)")
        #expect(missed.0 > 0 && missed.1 > 0, "the control does not bite: delays too short?")
        await pools.close()
        await shard.close()
    }

    private actor Done {
        private(set) var isSet = false
        func set() { isSet = true }
    }

    private static func write(_ pool: PostgresPool, _ random: SplitMix) async throws -> Set<UUID> {
        var random = random
        var ids: Set<UUID> = []
        for _ in 0..<transactions {
            let batch = (0..<Int.random(in: 1...3, using: &random)).map { _ in Mail.id() }
            let delay = Double.random(in: 0...0.03, using: &random)
            _ = try await pool.withConnection { connection in
                try await connection.perform { session in
                    try session.transaction { session in
                        for id in batch {
                            _ = try session.query(
                                "INSERT INTO ledger.event (id, tenant, kind, at) VALUES ($1, 'demo', 'rejected', now())",
                                [.uuid(id)])
                            _ = try session.query(
                                "INSERT INTO public.numbered (event) VALUES ($1)", [.uuid(id)])
                        }
                        _ = try session.query("SELECT pg_sleep($1)", [.double(delay)])
                    }.1
                }
            }
            ids.formUnion(batch)
        }
        return ids
    }

    /// Polls as a client does: small pages, the last event's own place as the cursor.
    private static func follow(_ shard: Shard, until done: Done) async throws -> [FeedEvent] {
        var seen: [FeedEvent] = []
        var position: FeedPosition?
        let end = ContinuousClock.now + .seconds(120)
        while ContinuousClock.now < end {
            let finished = await done.isSet
            let page = try await shard.events.page(after: position, tenant: nil, limit: 7).value
            seen += page
            position = page.last?.position ?? position
            // Other tests' transactions on this server may hold the feed back a little: only an empty page that could have
            // held all ends the reading.
            if page.isEmpty, finished,
                try await shard.number(
                    "SELECT count(*) FROM ledger.event WHERE arrived >= pg_snapshot_xmin(pg_current_snapshot())"
                ) == 0
            {
                let rest = try await shard.events.page(after: position, tenant: nil, limit: 7).value
                if rest.isEmpty { return seen }
                seen += rest
                position = rest.last?.position
            }
            if page.isEmpty { try await Task.sleep(for: .milliseconds(3)) }
        }
        throw LabError("the feed did not come to its end")
    }

    private static func followNaively(
        _ shard: Shard, _ sql: String, from start: PostgresValue,
        _ next: @Sendable (PostgresRow) throws -> PostgresValue,
        until done: Done
    ) async throws -> Set<UUID> {
        var seen: Set<UUID> = []
        var cursor = start
        while true {
            let finished = await done.isSet
            let page = try await shard.rows(sql, [cursor])
            for row in page { seen.insert(try row.uuid(0)) }
            if let last = page.last { cursor = try next(last) }
            if page.isEmpty {
                if finished { return seen }
                try await Task.sleep(for: .milliseconds(3))
            }
        }
    }

    @Test("A reader from an older incarnation goes on at the first transaction of the newer one")
    func incarnations() async throws {
        let shard = try await Shard.make()
        let first = try await shard.intake.currentIncarnation()
        for _ in 0..<5 { try await shard.accept([Mail.make()]) }
        let all = try await settled(shard, count: 5)
        #expect(all.allSatisfy { $0.position.incarnation == first })
        let last = try #require(all.last).position

        // A takeover that lost the last three transactions' numbers, which were then used again.
        let newer = UUID()
        try await shard.execute(
            "INSERT INTO ledger.incarnation (id, timeline, first_xid) VALUES ('\(newer)', 999, '\(all[2].position.arrived)')"
        )
        let again = try await shard.events.page(after: last, tenant: nil, limit: 100).value
        #expect(again.map(\.id) == all[2...].map(\.id))
        #expect(again.allSatisfy { $0.position.incarnation == newer })
        // A reader who is on the new one already, and one who is behind the break, lose and repeat nothing.
        let behind = try await shard.events.page(after: all[0].position, tenant: nil, limit: 100).value
        #expect(behind.map(\.id) == all[1...].map(\.id))
        let onIt = FeedPosition(incarnation: newer, arrived: last.arrived, id: last.id)
        #expect(try await shard.events.page(after: onIt, tenant: nil, limit: 100).value.isEmpty)
        await #expect(throws: UnknownIncarnation.self) {
            let foreign = FeedPosition(incarnation: UUID(), arrived: last.arrived, id: last.id)
            _ = try await shard.events.page(after: foreign, tenant: nil, limit: 100).value
        }
        await shard.close()
    }

    @Test("A connection to a leader writes its incarnation before anything else: no event comes before it")
    func firstAct() async throws {
        let shard = try await Shard.make()
        let route = LeaderRoute(
            shard: "a",
            configuration: PostgresConfiguration(
                shard.server.dsn(database: shard.database, user: "zegel_edge")))
        let pool = route.pool(limit: 1, waitLimit: .seconds(10))
        #expect(try await shard.number("SELECT count(*) FROM ledger.incarnation") == 0)
        try await pool.withConnection { _ in }
        #expect(try await shard.number("SELECT count(*) FROM ledger.incarnation") == 1)
        let intake = IntakeLedger(shard: "a", pool: pool)
        var batch = IntakeBatch()
        batch.messages = [Mail.make()]
        guard case .durable = await intake.commit(batch) else { throw LabError("not committed") }
        #expect(
            try await shard.number(
                "SELECT count(*) FROM ledger.event WHERE arrived <= (SELECT first_xid FROM ledger.incarnation)"
            )
                == 0)
        await pool.close()
        await shard.close()
    }

    @Test("A tenant sees its own events only")
    func tenants() async throws {
        let shard = try await Shard.make()
        var batch = IntakeBatch()
        for tenant in ["demo", "other", "demo"] {
            batch.rejections.append(RejectionRow(id: Mail.id(), tenant: tenant, at: Date(), reasonCode: "x"))
        }
        guard case .durable = await shard.intake.commit(batch) else { throw LabError("not committed") }
        _ = try await settled(shard, count: 3)
        #expect(try await shard.events.page(after: nil, tenant: "demo", limit: 10).value.count == 2)
        #expect(try await shard.events.page(after: nil, tenant: "other", limit: 10).value.count == 1)
        #expect(try await shard.events.page(after: nil, tenant: "third", limit: 10).value.isEmpty)
        await shard.close()
    }

    private func settled(_ shard: Shard, count: Int) async throws -> [FeedEvent] {
        try await eventually("\(count) events are in the feed", within: .seconds(60)) {
            try await shard.events.page(after: nil, tenant: nil, limit: 100).value.count == count
        }
        return try await shard.events.page(after: nil, tenant: nil, limit: 100).value
    }
}
