// Claiming: nobody's delivery twice, no lane starved, and a cost that does not grow with the backlog.

import Foundation
import Lab
import Postgres
import Testing

@testable import Ledger

@Suite struct ClaimTests {
    @Test("Workers that claim at the same time never get the same delivery, and together get all")
    func concurrent() async throws {
        let shard = try await Shard.make()
        var random = SplitMix.seeded()
        let total = 1200
        for _ in 0..<6 {
            try await shard.accept(
                (0..<100).map { _ in
                    Mail.make(
                        lanes: (0..<2).map { _ in "lane\(Int.random(in: 0..<40, using: &random)).test" })
                })
        }
        let claimed = try await withThrowingTaskGroup(of: [DeliveryReference].self) { group in
            for _ in 0..<4 {
                let seed = random.next()
                group.addTask {
                    var random = SplitMix(state: seed)
                    let worker = try await shard.newWorker()
                    var mine: [DeliveryReference] = []
                    while true {
                        let request = ClaimRequest(
                            limit: .random(in: 1...50, using: &random),
                            perLane: .random(in: 1...9, using: &random))
                        let batch = try await shard.work.claim(worker: worker, request)
                        mine += batch.map(\.reference)
                        if batch.isEmpty,
                            try await shard.number(
                                "SELECT count(*) FROM ledger.delivery WHERE state = 'ready'") == 0
                        {
                            return mine
                        }
                    }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(claimed.count == total && Set(claimed).count == total)
        #expect(claimed.allSatisfy { $0.fence == 1 })
        await shard.close()
    }

    @Test("A claim brings all that a worker needs, and only recipients without a terminal event")
    func contents() async throws {
        let shard = try await Shard.make()
        let message = Mail.make(lanes: ["one.test", "two.test"], recipientsPerLane: 3, secret: [7, 8])
        try await shard.accept([message])
        try await shard.execute("UPDATE ledger.recipient SET state = 'delivered' WHERE rcpt_no = 4")
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 10, perLane: 10))
            .sorted { $0.reference.number < $1.reference.number }
        #expect(claims.map(\.lane) == ["one.test", "two.test"])
        #expect(claims.map { $0.recipients.map(\.number) } == [[0, 1, 2], [3, 5]])
        let claim = try #require(claims.first)
        #expect(claim.reference.message == message.id && claim.deliveries == 2 && claim.frames == 1)
        #expect(
            claim.contentKey.wrapped == [7, 8] && claim.sealedEnvelope == [7, 8] && claim.tenant == "demo")
        #expect(abs(claim.acceptedAt.timeIntervalSince(message.acceptedAt)) < 0.000_001)
        #expect(try await shard.work.content(of: [message.id]) == [message.id: [[7, 8]]])
        await shard.close()
    }

    @Test("A lane with a long backlog does not starve the others")
    func fairness() async throws {
        let shard = try await Shard.make()
        try await Self.fill(shard, lane: "big.test", count: 5000)
        for lane in 0..<20 { try await shard.accept([Mail.make(lanes: ["small\(lane).test"])]) }
        let worker = try await shard.newWorker()
        // 30 places: ten for the long lane, and one for each of the twenty others.
        let lanes = try await shard.work.claim(worker: worker, ClaimRequest(limit: 30, perLane: 10)).map(
            \.lane)
        #expect(Set(lanes).count == 21)
        #expect(lanes.count { $0 == "big.test" } == 10)
        await shard.close()
    }

    @Test("Oldest first in a lane; lanes without room are left out; a round goes on after its last lane")
    func order() async throws {
        let shard = try await Shard.make()
        let now = Date()
        let messages = (0..<5).map { Mail.make(lanes: ["a.test"], at: now - Double($0)) }
        try await shard.accept(
            messages.shuffled() + [Mail.make(lanes: ["b.test"]), Mail.make(lanes: ["c.test"])])
        let worker = try await shard.newWorker()
        let oldest = try await shard.work.claim(
            worker: worker, ClaimRequest(limit: 2, perLane: 2, excludedLanes: ["b.test", "c.test"]))
        #expect(Set(oldest.map(\.reference.message)) == Set(messages.suffix(2).map(\.id)))
        let behind = try await shard.work.claim(
            worker: worker, ClaimRequest(limit: 9, perLane: 1, lanes: 1, afterLane: "a.test"))
        #expect(behind.map(\.lane) == ["b.test"])
        await shard.close()
    }

    @Test("Without a lease nothing is claimed; a lapsed lease is not renewed")
    func lease() async throws {
        let shard = try await Shard.make()
        try await shard.accept([Mail.make()])
        let request = ClaimRequest(limit: 9, perLane: 9)
        #expect(try await shard.work.claim(worker: UUID(), request).isEmpty)
        let lapsed = try await shard.newWorker(lease: .zero)
        #expect(try await shard.work.claim(worker: lapsed, request).isEmpty)
        #expect(try await !shard.work.heartbeat(worker: lapsed, lease: .seconds(60)))
        let resigned = try await shard.newWorker()
        #expect(try await shard.work.heartbeat(worker: resigned, lease: .seconds(60)))
        try await shard.work.resign(worker: resigned)
        #expect(try await shard.work.claim(worker: resigned, request).isEmpty)
        #expect(try await shard.work.claim(worker: try await shard.newWorker(), request).count == 1)
        await shard.close()
    }

    @Test("A retry waits for its time, then is ready again")
    func retries() async throws {
        let shard = try await Shard.make()
        try await shard.accept([Mail.make(), Mail.make()])
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9))
        let dues = [Date() + 3600, Date() - 1]
        let results = try await shard.work.complete(
            zip(claims, dues).map { claim, due in
                Mail.completion(
                    claim, step: .retry(due: due, possibleDuplicate: false, delayReported: true),
                    kind: .deferred)
            })
        #expect(results == [.recorded, .recorded])
        #expect(try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9)).isEmpty)
        #expect(try await shard.work.promote() == 1)
        let again = try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9))
        #expect(again.map(\.reference.message) == [claims[1].reference.message])
        #expect(again[0].attempts == 1 && again[0].delayReported && again[0].reference.fence == 2)
        try await shard.work.release(worker: worker, again.map(\.reference))
        #expect(try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9)).count == 1)
        await shard.close()
    }

    // MARK: Cost

    /// Ready deliveries by plain SQL, with their messages.
    private static func fill(_ shard: Shard, lane: String, count: Int) async throws {
        try await shard.execute(
            """
            WITH new AS (SELECT ledger.uuid_v7() AS id FROM generate_series(1, \(count))), m AS (
                INSERT INTO ledger.message (id, tenant, accepted_at, ruleset, size, frames, recipients, deliveries,
                    open_deliveries, keyed_digest, batch_key_id, batch_key_index, wrapped_message_key, metadata_key_id,
                    metadata_key_index, wrapped_metadata_key, sealed_envelope)
                SELECT id, 'demo', now(), 'secure', 1, 0, 1, 1, 1, '', id, 0, '', id, 0, '', '' FROM new
            ), r AS (
                INSERT INTO ledger.recipient (message_id, rcpt_no, delivery_no, sealed_address) SELECT id, 0, 0, '' FROM new
            ) INSERT INTO ledger.delivery (message_id, no, tenant, lane, due) SELECT id, 0, 'demo', '\(lane)', now() FROM new
            """)
    }

    private struct Plan {
        var buffers = 0
        var sequentialScans: [String] = []
    }

    /// Runs the claim and takes it back.
    private func explain(_ shard: Shard, _ worker: UUID) async throws -> Plan {
        let text = try await shard.worker.withConnection { connection in
            try await connection.perform { session in
                try session.execute("BEGIN")
                defer { _ = try? session.execute("ROLLBACK") }
                return try session.query(
                    "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + WorkLedger.claim,
                    [.uuid(worker), .int4(200), .int4(64), .text(""), .textArray([]), .int4(20)])[0].text(0)
            }
        }
        guard let parsed = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]],
            let root = parsed.first?["Plan"] as? [String: Any]
        else { throw LabError("no plan") }
        var plan = Plan()
        plan.buffers = (root["Shared Hit Blocks"] as? Int ?? 0) + (root["Shared Read Blocks"] as? Int ?? 0)
        func walk(_ node: [String: Any]) {
            if node["Node Type"] as? String == "Seq Scan", let relation = node["Relation Name"] as? String {
                plan.sequentialScans.append(relation)
            }
            for child in node["Plans"] as? [[String: Any]] ?? [] { walk(child) }
        }
        walk(root)
        return plan
    }

    @Test("The claim reads by index only, and touches no more pages with 50,000 waiting than with 1,000")
    func cost() async throws {
        let shard = try await Shard.make()
        let worker = try await shard.newWorker()
        for lane in 0..<10 { try await Self.fill(shard, lane: "lane\(lane).test", count: 100) }
        // Plans must be right before statistics are: measured with none, then with fresh ones.
        let small = try await explain(shard, worker)
        for lane in 0..<10 { try await Self.fill(shard, lane: "lane\(lane).test", count: 4900) }
        let big = try await explain(shard, worker)
        try await shard.execute("ANALYZE ledger.delivery, ledger.message, ledger.recipient")
        let analysed = try await explain(shard, worker)
        print(
            "claim of 200: \(small.buffers) pages at 1,000, \(big.buffers) at 50,000, \(analysed.buffers) analysed"
        )
        for plan in [small, big, analysed] { #expect(plan.sequentialScans == []) }
        #expect(big.buffers < small.buffers * 2 && analysed.buffers < small.buffers * 2)
        await shard.close()
    }
}
