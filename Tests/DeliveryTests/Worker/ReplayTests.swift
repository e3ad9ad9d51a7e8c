// The same bytes in two shards, on real databases: a worker asks the other shard before the first attempt, its members where it has no
// leader, and delivers one of the two; or both, and says so.

import Foundation
import Lab
import Ledger
import Logging
import Postgres
import Sealing
import Synchronization
import Testing

@testable import Delivery

@Suite(.serialized, .timeLimit(.minutes(3))) struct ReplayTests {
    /// Another shard, with the hands of an edge and a worker on it.
    final class OtherShard: Sendable {
        let intake: IntakeLedger
        let work: WorkLedger
        let desk: ReplayDesk
        let hasLeader = Atomic(true)
        private let lab: WorkerLab
        private let database: String
        private let pools: [PostgresPool]

        init(_ lab: WorkerLab) async throws {
            self.lab = lab
            let database = try await lab.postgres.createDatabase()
            self.database = database
            func pool(_ user: String) -> PostgresPool {
                PostgresPool(
                    configuration: PostgresConfiguration(lab.postgres.dsn(database: database, user: user)),
                    limit: 3, waitLimit: .seconds(10))
            }
            let owner = pool("postgres")
            _ = try await owner.withConnection { try await Migrator().migrate($0) }
            try await ControlAdministration(pool: owner).putTenant(
                id: "demo", name: "demo", defaultRuleset: "secure")
            let (edge, worker) = (pool("zegel_edge"), pool("zegel_worker"))
            // The third member is lost.
            let lost = PostgresPool(
                configuration: PostgresConfiguration("host=127.0.0.1 port=1 user=x dbname=x"), limit: 1,
                waitLimit: .seconds(5))
            pools = [owner, edge, worker, lost]
            intake = IntakeLedger(shard: "b", pool: edge)
            work = WorkLedger(shard: "b", pool: worker)
            let holder = Mutex<(@Sendable () -> Bool)?>(nil)
            desk = ReplayDesk(
                leader: work, members: [worker, worker, lost].map(ReplayMember.init),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                hasLeader: { holder.withLock { $0 }?() ?? true })
            holder.withLock { value in
                value = { [weak self] in self?.hasLeader.load(ordering: .relaxed) ?? true }
            }
        }

        /// A message with a tag, taken in at another moment.
        func accept(_ tag: [UInt8], at date: Date) async throws -> UUID {
            let id = UUIDv7.make(at: date)
            let key = KeyReference(batchKeyID: UUID(), index: 0, wrapped: [1])
            var batch = IntakeBatch()
            batch.messages = [
                MessageRow(
                    id: id, tenant: "demo", acceptedAt: date, ruleset: "secure", size: 1, keyedDigest: [1],
                    contentKey: key, metadataKey: key, sealedEnvelope: [1], frames: [[1]], frameCount: 1,
                    deliveries: [DeliveryRow(number: 0, lane: "a.test")],
                    recipients: [RecipientRow(number: 0, delivery: 0, sealedAddress: [1])], replayTag: tag)
            ]
            guard case .durable = await intake.commit(batch) else { throw LabError("not accepted") }
            return id
        }

        func claim() async throws {
            let worker = UUID()
            try await work.register(worker: worker, name: "w", region: "b", lease: .seconds(60))
            #expect(try await work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9)).count == 1)
        }

        func acknowledge(_ tag: [UInt8]) async throws {
            var batch = IntakeBatch()
            batch.acknowledgedTags = [tag]
            guard case .durable = await intake.commit(batch) else { throw LabError("not acknowledged") }
        }

        func close() async throws {
            for pool in pools { await pool.close() }
            try await lab.postgres.dropDatabase(database)
        }
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        /// When the other one was taken in, beside this one; nil: there is none.
        var seconds: TimeInterval?
        var isClaimed = false
        var isAcknowledged = false
        var hasLeader = true
        /// `delivered`, `delivered, marked` or `duplicate`.
        let outcome: String
        var testDescription: String { rule }
    }

    static let rows = [
        Row(rule: "Nobody else holds the bytes: it is delivered", outcome: "delivered"),
        Row(rule: "An earlier one is delivered in its stead", seconds: -60, outcome: "duplicate"),
        Row(
            rule: "So also where that one is under way", seconds: -60, isClaimed: true, outcome: "duplicate"),
        Row(rule: "A later one yields to it", seconds: 60, outcome: "delivered"),
        Row(
            rule: "A later one that was claimed may have gone", seconds: 60, isClaimed: true,
            outcome: "delivered, marked"),
        Row(
            rule: "The client of the earlier one has its 250", seconds: -60, isAcknowledged: true,
            outcome: "delivered, marked"),
        Row(
            rule: "Without a leader members enough know nothing", hasLeader: false, outcome: "delivered"),
        Row(
            rule: "Without a leader a member knows the bytes: it waits for the next leader's word",
            seconds: -60, hasLeader: false, outcome: "duplicate"),
    ]

    @Test("The same bytes in another shard", arguments: rows)
    func twins(_ row: Row) async throws {
        let lab = try await WorkerLab()
        let other = try await OtherShard(lab)
        let host = try await lab.host("a.test")
        let tag = (0..<32).map { _ in UInt8.random(in: 0...255) }
        var first: UUID?
        if let seconds = row.seconds { first = try await other.accept(tag, at: Date() + seconds) }
        if row.isClaimed { try await other.claim() }
        if row.isAcknowledged { try await other.acknowledge(tag) }
        other.hasLeader.store(row.hasLeader, ordering: .relaxed)
        let id = try await lab.accept(to: ["x@a.test"], replayTag: tag)
        let worker = try await lab.worker(routes: ["a.test": host], replays: [other.desk])
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await other.desk.run() }
            let events = try await lab.working([worker]) {
                if !row.hasLeader, row.seconds != nil {
                    // It is claimed, and waits.
                    let claimed = "SELECT count(*) FROM ledger.delivery WHERE state = 'claimed'"
                    let end = ContinuousClock.now + .seconds(20)
                    while try await lab.count(claimed) == 0, ContinuousClock.now < end {
                        try await Task.sleep(for: .milliseconds(20))
                    }
                    #expect(host.transcript.mails.isEmpty)
                    other.hasLeader.store(true, ordering: .relaxed)
                }
                return try await lab.events { $0.contains { $0.message == id && $0.kind == "shredded" } }
            }
            group.cancelAll()
            let ended = try #require(
                events.last { $0.message == id && ["delivered", "duplicate"].contains($0.kind) })
            #expect(ended.kind + (ended.possibleDuplicate ? ", marked" : "") == row.outcome)
            #expect(host.transcript.mails.count == (ended.kind == "delivered" ? 1 : 0))
            if ended.kind == "duplicate" {
                #expect(ended.reason == "replayed")
                #expect(ended.detail?.relatedMessage == first)
                #expect(
                    try await lab.count(
                        "SELECT count(*) FROM ledger.recipient WHERE state = 'duplicate'") == 1)
                // It stands: nothing takes it back any more.
                let withdrawal = try await other.intake.withdraw([try #require(first)])
                #expect(withdrawal.withdrawn.isEmpty)
            }
        }
        try await host.stop()
        try await other.close()
    }
}
