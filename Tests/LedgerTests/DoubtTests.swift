// A group commit whose end nobody knows, and one that the leader alone has: neither is a 250, neither makes a double.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite(.serialized) struct DoubtTests {
    private func name(_ standby: String?, on shard: Shard) async throws {
        try await shard.server.set("synchronous_standby_names", to: standby)
        // Commits wait only once the checkpointer has read the setting too.
        try await eventually("commits \(standby == nil ? "do not " : "")wait", within: .seconds(30)) {
            let outcome = try await shard.owner.withConnection { connection in
                try await connection.perform(deadline: .milliseconds(300)) {
                    try $0.execute(
                        "CREATE TABLE IF NOT EXISTS public.probe (a int); INSERT INTO public.probe VALUES (1)"
                    )
                }
            }
            return (outcome == .durable) == (standby == nil)
        }
    }

    private func waiting(_ shard: Shard) async throws {
        try await eventually("the batch waits for its quorum", within: .seconds(30)) {
            try await shard.number(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND usename = 'zegel_edge'"
            ) == 1
        }
    }

    /// Breaks off the wait for the quorum of a role's session, once it waits.
    private func cancelWait(_ shard: Shard, of user: String) async throws {
        try await eventually("\(user) waits for the quorum", within: .seconds(30)) {
            try await shard.number(
                """
                SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                WHERE wait_event = 'SyncRep' AND usename = '\(user)'
                """) > 0
        }
    }

    private static func isTaken(_ body: @Sendable () async throws -> Void) async throws -> Bool {
        do {
            try await body()
            return true
        } catch is NotDurable {
            return false
        }
    }

    private func batch(_ count: Int) -> IntakeBatch {
        var batch = IntakeBatch()
        batch.messages = (0..<count).map { _ in Mail.make(lanes: ["a.test", "b.test"], tag: Mail.tag()) }
        batch.batchKeys = [
            BatchKeyRow(
                id: Mail.id(), tenant: "demo", purpose: "content", epoch: 1, createdAt: Date(), wrapped: [1])
        ]
        return batch
    }

    @Test(
        "The server dies between commit and answer: in doubt; the same ids again make it sure, and nothing twice"
    )
    func killedBetween() async throws {
        let server = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: server)
        let batch = batch(5)
        try await name("nobody", on: shard)
        async let outcome = shard.intake.commit(batch)
        try await waiting(shard)
        try await server.killImmediate()
        guard case .inDoubt(let error) = await outcome else {
            Issue.record("not in doubt: \(await outcome)")
            return
        }
        #expect(error.isTransient)
        try await server.restart()
        try await name(nil, on: shard)
        // It did happen here: the server had it on disk. Again, twice: one of each.
        for _ in 0..<2 {
            guard case .durable = await shard.intake.resubmit(batch) else {
                Issue.record("not durable")
                return
            }
        }
        let counts = [
            "ledger.message": 5, "ledger.delivery": 10, "ledger.recipient": 10, "ledger.event": 10,
            "ledger.content": 5,
            "ledger.replay": 5, "ledger.batch_key": 1,
        ]
        for (table, count) in counts {
            #expect(try await shard.number("SELECT count(*) FROM \(table)") == count, "\(table)")
        }
        // One that never reached the server is written by the resubmission.
        let lost = self.batch(2)
        guard case .durable = await shard.intake.resubmit(lost) else {
            Issue.record("not durable")
            return
        }
        #expect(try await shard.intake.known(lost.messages.map(\.id)).count == 2)
        try await server.stop()
    }

    @Test("Law 1: a replay found, or a withdrawal made, by a commit that is not durable counts as not done")
    func withdrawalsAndReplays() async throws {
        let server = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: server)
        let (relied, repeated, claimed, gone) = (
            Mail.make(tag: Mail.tag()), Mail.make(tag: Mail.tag()), Mail.make(tag: Mail.tag()),
            Mail.make(tag: Mail.tag())
        )
        try await shard.accept([claimed])
        let worker = try await shard.newWorker()
        _ = try await shard.work.claim(worker: worker, ClaimRequest(limit: 1, perLane: 1))
        try await shard.accept([relied, repeated, gone])
        let intake = shard.intake
        let tag = try #require(relied.replayTag)
        let otherTag = try #require(repeated.replayTag)
        let withdrawn = [claimed.id, gone.id]
        try await name("nobody", on: shard)
        // Twice: the second finds the row set already, and is no surer.
        for _ in 0..<2 {
            async let replay = Self.isTaken { _ = try await intake.replay(of: tag) }
            try await cancelWait(shard, of: "zegel_edge")
            #expect(try await !replay)
            async let replays = Self.isTaken { _ = try await intake.replays(of: [otherTag, Mail.tag()]) }
            try await cancelWait(shard, of: "zegel_edge")
            #expect(try await !replays)
            async let withdrawal = Self.isTaken { _ = try await intake.withdraw(withdrawn) }
            try await cancelWait(shard, of: "zegel_edge")
            #expect(try await !withdrawal)
        }
        // What finds nothing is relied on by nobody, and waits for nobody.
        #expect(try await intake.replay(of: Mail.tag()) == nil)
        #expect(try await intake.replays(of: [Mail.tag()]).isEmpty)

        try await name(nil, on: shard)
        // Several regions, and nobody named: a plain success is not enough.
        let strict = IntakeLedger(shard: "a", pool: shard.edge, demandsQuorum: true)
        #expect(try await !Self.isTaken { _ = try await strict.replay(of: tag) })
        #expect(try await !Self.isTaken { _ = try await strict.replays(of: [otherTag]) })
        #expect(try await !Self.isTaken { _ = try await strict.withdraw(withdrawn) })

        #expect(try await intake.replay(of: tag) == .stands(relied.id))
        #expect(try await intake.replays(of: [otherTag]) == [otherTag: .stands(repeated.id)])
        let settled = try await intake.withdraw(withdrawn)
        #expect(settled.standing == [claimed.id])
        #expect(settled.withdrawn.isEmpty, "it had been taken back by the commits that did not count")
        #expect(try await shard.number("SELECT count(*) FROM ledger.event WHERE kind = 'withdrawn'") == 1)
        try await server.stop()
    }

    @Test(
        "Laws 1 and 6: synchronous names that are emptied while a commit waits end its wait without a warning, and it is not durable"
    )
    func emptiedWhileWaiting() async throws {
        let server = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: server)
        let intake = IntakeLedger(shard: "a", pool: shard.edge, demandsQuorum: true)
        let work = WorkLedger(shard: "a", pool: shard.worker, demandsQuorum: true)
        let batch = batch(1)
        try await name("nobody", on: shard)
        async let outcome = intake.commit(batch)
        try await waiting(shard)
        try await name(nil, on: shard)
        guard case .notDurable = await outcome else {
            Issue.record("taken for durable: \(await outcome)")
            return
        }
        try await name("nobody", on: shard)
        let ids = batch.messages.map(\.id)
        async let withdrawn = Self.isTaken { _ = try await intake.withdraw(ids) }
        try await waiting(shard)
        try await name(nil, on: shard)
        #expect(try await !withdrawn)
        // Nor is what a worker does, while they are empty.
        #expect(
            try await !Self.isTaken {
                try await work.register(worker: UUID(), name: "w", region: "a", lease: .seconds(60))
            })
        #expect(try await !Self.isTaken { _ = try await work.promote() })
        try await server.stop()
    }

    @Test(
        "A commit whose quorum wait is cancelled is not durable; it can be withdrawn, or made sure once peers are back"
    )
    func warned() async throws {
        let server = try await TemporaryPostgres.start()
        let shard = try await Shard.make(on: server)
        let (first, second) = (batch(2), batch(2))
        try await shard.accept([Mail.make(lanes: ["done.test"])])
        let worker = try await shard.newWorker()
        let claim = try #require(
            try await shard.work.claim(worker: worker, ClaimRequest(limit: 1, perLane: 1)).first)
        try await name("nobody", on: shard)
        for batch in [first, second] {
            async let outcome = shard.intake.commit(batch)
            try await cancelWait(shard, of: "zegel_edge")
            guard case .notDurable(let warning) = await outcome else {
                Issue.record("taken for durable")
                return
            }
            #expect(warning.contains("01000"))
        }
        // Nor is the resubmission of what is there already: it must wait as the first commit did.
        async let again = shard.intake.resubmit(second)
        try await cancelWait(shard, of: "zegel_edge")
        guard case .notDurable = await again else {
            Issue.record("a resubmission took a commit for durable that waits for nobody")
            return
        }
        // A worker's completions, first and repeated, likewise.
        let work = shard.work
        let completions = [Mail.completion(claim)]
        for _ in 0..<2 {
            async let taken = Self.isTaken { _ = try await work.complete(completions) }
            try await cancelWait(shard, of: "zegel_worker")
            #expect(try await !taken)
        }
        // A claim whose quorum does not answer is none.
        async let registered = Self.isTaken {
            try await work.register(worker: UUID(), name: "w", region: "a", lease: .seconds(60))
        }
        try await cancelWait(shard, of: "zegel_worker")
        #expect(try await !registered)

        try await name(nil, on: shard)
        #expect(try await shard.intake.withdraw(first.messages.map(\.id)).withdrawn.count == 2)
        guard case .durable = await shard.intake.resubmit(second) else {
            Issue.record("not durable")
            return
        }
        let standing = try await shard.intake.known((first.messages + second.messages).map(\.id))
        #expect(standing == Set(second.messages.map(\.id)))

        // Several regions, and nobody named: a plain success is not enough.
        let strict = IntakeLedger(shard: "a", pool: shard.edge, demandsQuorum: true)
        guard case .notDurable = await strict.commit(batch(1)) else {
            Issue.record("taken for durable")
            return
        }
        try await server.stop()
    }
}
