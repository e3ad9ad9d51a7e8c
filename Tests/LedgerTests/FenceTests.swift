// Law 7: who lost the lease changes nobody's claim, a late 250 is recorded, and no final dot is sent unregistered.

import Foundation
import Lab
import Postgres
import Synchronization
import Testing

@testable import Ledger

@Suite struct FenceTests {
    private static let all = ClaimRequest(limit: 100, perLane: 100)

    private func state(_ shard: Shard, _ message: UUID) async throws -> String {
        try await shard.rows(
            """
            SELECT coalesce((SELECT string_agg(concat_ws(' ', no, state, fence, coalesce(worker::text, '-'), attempts,
                       possible_duplicate), ', ' ORDER BY no) FROM ledger.delivery WHERE message_id = $1), 'no delivery') || ' | '
                   || (SELECT string_agg(state, ' ' ORDER BY rcpt_no) FROM ledger.recipient WHERE message_id = $1) || ' | '
                   || (SELECT string_agg(kind || CASE WHEN possible_duplicate THEN '!' ELSE '' END, ' ' ORDER BY arrived, kind)
                       FROM ledger.event WHERE message_id = $1)
            """, [.uuid(message)])[0].text(0)
    }

    /// A message that a first worker claimed and lost, and a second has now.
    private func overtaken(_ shard: Shard) async throws -> (
        first: ClaimedDelivery, second: ClaimedDelivery, heir: UUID
    ) {
        try await shard.accept([Mail.make()])
        let worker = try await shard.newWorker()
        let first = try #require(try await shard.work.claim(worker: worker, Self.all).first)
        try await shard.work.resign(worker: worker)
        #expect(try await shard.work.reclaim(finalDotTimeout: .seconds(600)).freed >= 1)
        let heir = try await shard.newWorker()
        let second = try #require(try await shard.work.claim(worker: heir, Self.all).first)
        #expect(second.reference.message == first.reference.message && second.reference.fence == 2)
        return (first, second, heir)
    }

    @Test("A completion with a stale fence changes nothing, whatever it reports short of a 250")
    func stale() async throws {
        let shard = try await Shard.make()
        let (first, second, _) = try await overtaken(shard)
        let before = try await state(shard, first.reference.message)
        let reports: [Completion] = [
            Mail.completion(first, .bounced, kind: .bounced),
            Mail.completion(first, .refused, kind: .refused),
            Mail.completion(
                first, step: .retry(due: Date(), possibleDuplicate: true, delayReported: true),
                kind: .deferred),
            Mail.completion(first, step: .hold(possibleDuplicate: false, delayReported: true), kind: .held),
        ]
        for report in reports {
            #expect(try await shard.work.complete([report]) == [.stale(deliveredRecorded: false)])
            #expect(try await state(shard, first.reference.message) == before)
        }
        #expect(try await shard.work.complete([Mail.completion(second)]) == [.recorded])
        #expect(
            try await state(shard, first.reference.message)
                == "no delivery | delivered | accepted delivered shredded")
        // And again, after the end.
        for report in reports { _ = try await shard.work.complete([report]) }
        #expect(
            try await state(shard, first.reference.message)
                == "no delivery | delivered | accepted delivered shredded")
        await shard.close()
    }

    @Test("The same batch again, because nobody knew its commit, is recorded as it was and told once")
    func repeated() async throws {
        let shard = try await Shard.make()
        try await shard.accept((0..<3).map { _ in Mail.make() })
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, Self.all)
        let batch = [
            Mail.completion(claims[0]),
            Mail.completion(
                claims[1], step: .retry(due: Date(), possibleDuplicate: false, delayReported: false),
                kind: .deferred),
            Mail.completion(
                claims[2], step: .hold(possibleDuplicate: true, delayReported: true), kind: .held),
        ]
        #expect(try await shard.work.complete(batch) == [.recorded, .recorded, .recorded])
        let ids = claims.map(\.reference.message)
        var before: [String] = []
        for id in ids { before.append(try await state(shard, id)) }
        #expect(before[2] == "0 held 1 - 1 t | open | accepted held", "released, it is marked")
        #expect(
            try await shard.number(
                "SELECT count(*) FROM ledger.delivery WHERE state = 'held' AND delay_reported") == 1)
        // Again at once, and again when another worker has the retry.
        #expect(try await shard.work.complete(batch) == [.recorded, .recorded, .recorded])
        for (id, text) in zip(ids, before) { #expect(try await state(shard, id) == text) }
        _ = try await shard.work.promote()
        let heir = try await shard.newWorker()
        #expect(try await shard.work.claim(worker: heir, Self.all).count == 1)
        #expect(try await shard.work.complete(batch) == [.recorded, .recorded, .recorded])
        #expect(try await state(shard, ids[0]) == before[0])
        #expect(
            try await state(shard, ids[1])
                == "0 claimed 2 \(heir.uuidString.lowercased()) 1 f | open | accepted deferred")
        await shard.close()
    }

    @Test(
        "A late 250 ends the delivery if its new owner has sent no final dot; the new owner may not send one then"
    )
    func lateBeforeDot() async throws {
        let shard = try await Shard.make()
        let (first, second, heir) = try await overtaken(shard)
        #expect(try await shard.work.complete([Mail.completion(first)]) == [.stale(deliveredRecorded: true)])
        let ended = "no delivery | delivered | accepted delivered shredded"
        #expect(try await state(shard, first.reference.message) == ended)
        #expect(
            try await shard.work.registerDots(worker: heir, [second.reference], inFlight: []).granted.isEmpty)
        #expect(
            try await shard.work.complete([Mail.completion(second, .bounced, kind: .bounced)])
                == [.stale(deliveredRecorded: false)])
        #expect(try await state(shard, first.reference.message) == ended)
        await shard.close()
    }

    @Test(
        "A late 250 after the new owner's final dot is recorded, leaves the claim, and marks the second delivery"
    )
    func lateAfterDot() async throws {
        let shard = try await Shard.make()
        let (first, second, heir) = try await overtaken(shard)
        #expect(
            try await shard.work.registerDots(worker: heir, [second.reference], inFlight: []).granted == [
                second.reference
            ])
        #expect(try await shard.work.complete([Mail.completion(first)]) == [.stale(deliveredRecorded: true)])
        #expect(
            try await state(shard, first.reference.message)
                == "0 claimed 2 \(heir.uuidString.lowercased()) 0 f | delivered | accepted delivered")
        #expect(try await shard.work.complete([Mail.completion(second)]) == [.recorded])
        #expect(
            try await state(shard, first.reference.message)
                == "no delivery | delivered | accepted delivered duplicate! shredded")
        await shard.close()
    }

    @Test("A late 250 for some of the recipients voids the new owner's claim: it would send to them again")
    func latePart() async throws {
        let shard = try await Shard.make()
        try await shard.accept([Mail.make(recipientsPerLane: 2)])
        let worker = try await shard.newWorker()
        let first = try #require(try await shard.work.claim(worker: worker, Self.all).first)
        try await shard.work.resign(worker: worker)
        _ = try await shard.work.reclaim(finalDotTimeout: .seconds(600))
        let heir = try await shard.newWorker()
        let second = try #require(try await shard.work.claim(worker: heir, Self.all).first)
        let part = Completion(
            reference: first.reference, deliveriesOfMessage: 1, tenant: "demo",
            ended: [EndedRecipient(number: 0, state: .delivered)],
            step: .retry(due: Date(), possibleDuplicate: false, delayReported: false),
            events: [
                EventRow(
                    id: Mail.id(), tenant: "demo", message: first.reference.message, recipient: 0,
                    kind: .delivered,
                    at: Date())
            ], shreddedEventID: Mail.id())
        #expect(try await shard.work.complete([part]) == [.stale(deliveredRecorded: true)])
        #expect(
            try await shard.work.registerDots(worker: heir, [second.reference], inFlight: []).granted.isEmpty)
        let third = try #require(try await shard.work.claim(worker: heir, Self.all).first)
        #expect(third.recipients.map(\.number) == [1])
        await shard.close()
    }

    @Test(
        "What had no final dot is free when the lease ends; what had one only after the final-dot timeout, and marked",
        arguments: [
            "resend", "hold", "hold all", "resend on a shard without tenants",
        ])
    func reclaim(inDoubt: String) async throws {
        let shard = try await Shard.make()
        // Tenants are in the control shard: every other one has none, and mail in doubt all the same.
        if inDoubt.hasSuffix("without tenants") { try await shard.execute("DELETE FROM control.tenant") }
        let holding = inDoubt == "hold" ? ["demo"] : ["another"]
        let (dotted, plain) = (Mail.make(lanes: ["a.test"]), Mail.make(lanes: ["b.test"]))
        try await shard.accept([dotted, plain])
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, Self.all)
        let dot = try #require(claims.first { $0.reference.message == dotted.id }).reference
        #expect(try await shard.work.registerDots(worker: worker, [dot], inFlight: []).granted == [dot])

        // The lease holds: nothing is taken.
        #expect(try await shard.work.reclaim(finalDotTimeout: .zero) == (0, 0))
        try await shard.work.resign(worker: worker)
        #expect(try await shard.work.reclaim(finalDotTimeout: .seconds(600)) == (1, 0))
        #expect(try await state(shard, plain.id) == "0 ready 1 - 0 f | open | accepted")
        #expect(
            try await state(shard, dotted.id)
                == "0 claimed 1 \(worker.uuidString.lowercased()) 0 f | open | accepted")
        // Its worker's rows stay as long as the dot is in doubt.
        #expect(try await shard.number("SELECT count(*) FROM ledger.dot_in_flight") == 1)

        #expect(
            try await shard.work.reclaim(
                finalDotTimeout: .zero, heldTenants: holding, holdsAll: inDoubt == "hold all") == (0, 1))
        let expected =
            inDoubt.hasPrefix("hold")
            ? "0 held 1 - 1 t | open | accepted held!" : "0 ready 1 - 1 t | open | accepted deferred!"
        #expect(try await state(shard, dotted.id) == expected)
        await shard.close()
    }

    @Test("No dot without a lease, under another's claim, or an older fence; those in flight stay registered")
    func dots() async throws {
        let shard = try await Shard.make()
        try await shard.accept((0..<3).map { _ in Mail.make() })
        let worker = try await shard.newWorker()
        let other = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, Self.all).map(\.reference)
        let older = claims.map {
            DeliveryReference(message: $0.message, number: $0.number, fence: $0.fence - 1)
        }
        #expect(try await shard.work.registerDots(worker: other, claims, inFlight: []).granted.isEmpty)
        #expect(try await shard.work.registerDots(worker: worker, older, inFlight: []).granted.isEmpty)
        #expect(
            try await shard.work.registerDots(worker: worker, [claims[0]], inFlight: []).granted == [
                claims[0]
            ])
        let first = try #require(
            try await shard.work.registerDots(worker: worker, [claims[0]], inFlight: []).at)
        #expect(
            try await shard.work.registerDots(
                worker: worker, [claims[1]], inFlight: [(reference: claims[0], at: first)]
            ).granted == [claims[1]])
        #expect(try await shard.number("SELECT cardinality(message_ids) FROM ledger.dot_in_flight") == 2)
        try await shard.work.resign(worker: worker)
        #expect(try await shard.work.registerDots(worker: worker, [claims[2]], inFlight: []).granted.isEmpty)
        #expect(try await shard.work.reclaim(finalDotTimeout: .seconds(600)) == (1, 0))
        await shard.close()
    }

    @Test(
        "A registration and a reclaim at the same moment: never a registered dot on a delivery that was freed"
    )
    func registrationAgainstReclaim() async throws {
        let shard = try await Shard.make()
        var random = SplitMix.seeded()
        var (registered, freed) = (0, 0)
        for _ in 0..<60 {
            try await shard.accept([Mail.make()])
            let lease = Int.random(in: 30...80, using: &random)
            let worker = try await shard.newWorker(lease: .seconds(60))
            let claim = try #require(try await shard.work.claim(worker: worker, Self.all).first).reference
            try await shard.execute(
                "UPDATE ledger.worker_heartbeat SET lease_until = clock_timestamp() + interval '\(lease) ms' WHERE id = '\(worker)'"
            )
            let offset = Int.random(in: -40...5, using: &random)
            async let dots = {
                try await Task.sleep(for: .milliseconds(max(0, lease + offset)))
                return try await shard.work.registerDots(worker: worker, [claim], inFlight: []).granted
            }()
            async let sweep: Void = {
                for _ in 0..<12 {
                    try await Task.sleep(for: .milliseconds(max(0, lease / 12)))
                    _ = try await shard.work.reclaim(finalDotTimeout: .seconds(600))
                }
            }()
            let may = try await !dots.isEmpty
            _ = try await sweep
            _ = try await shard.work.reclaim(finalDotTimeout: .seconds(600))
            let free =
                try await shard.number(
                    "SELECT count(*) FROM ledger.delivery WHERE message_id = '\(claim.message)' AND state = 'ready'"
                ) == 1
            #expect(may != free, "dot allowed: \(may), freed: \(free)")
            registered += may ? 1 : 0
            freed += free ? 1 : 0
            try await shard.execute("DELETE FROM ledger.delivery")
        }
        print("dots that came first: \(registered), reclaims that came first: \(freed)")
        await shard.close()
    }

    @Test("Workers that lose their leases at any moment: every delivery gets exactly one final dot, and ends")
    func storm() async throws {
        let shard = try await Shard.make()
        var random = SplitMix.seeded()
        let total = 300
        for _ in 0..<3 {
            try await shard.accept(
                (0..<100).map { _ in Mail.make(lanes: ["lane\(Int.random(in: 0..<9, using: &random)).test"]) }
            )
        }
        let sent = Tally()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                let seed = random.next()
                group.addTask { try await Self.work(shard, SplitMix(state: seed), sent) }
            }
            try await group.waitForAll()
        }
        let counts = sent.counts.withLock { $0 }
        #expect(counts.count == total && counts.values.allSatisfy { $0 == 1 })
        #expect(try await shard.number("SELECT count(*) FROM ledger.event WHERE kind = 'delivered'") == total)
        #expect(
            try await shard.number(
                "SELECT count(*) FROM ledger.event WHERE kind = 'duplicate' OR possible_duplicate") == 0)
        #expect(try await shard.number("SELECT count(*) FROM ledger.content") == 0)
        await shard.close()
    }

    /// Final dots by message.
    private final class Tally: Sendable {
        let counts = Mutex<[UUID: Int]>([:])
    }

    /// Claims, sometimes sleeps past its lease before the dot or after, and completes whatever it sent.
    private static func work(_ shard: Shard, _ seed: SplitMix, _ sent: Tally)
        async throws
    {
        var random = seed
        var worker = try await shard.newWorker(lease: .milliseconds(150))
        let end = ContinuousClock.now + .seconds(120)
        while ContinuousClock.now < end {
            if try await !shard.work.heartbeat(worker: worker, lease: .milliseconds(150)) {
                worker = try await shard.newWorker(lease: .milliseconds(150))
            }
            _ = try await shard.work.reclaim(finalDotTimeout: .seconds(600))
            let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 10, perLane: 3))
            if claims.isEmpty {
                if try await shard.number("SELECT count(*) FROM ledger.delivery") == 0 { return }
                try await Task.sleep(for: .milliseconds(20))
                continue
            }
            if Int.random(in: 0..<5, using: &random) == 0 { try await Task.sleep(for: .milliseconds(200)) }
            let may = try await shard.work.registerDots(worker: worker, claims.map(\.reference), inFlight: [])
                .granted
            sent.counts.withLock { for reference in may { $0[reference.message, default: 0] += 1 } }
            if Int.random(in: 0..<5, using: &random) == 0 { try await Task.sleep(for: .milliseconds(200)) }
            let results = try await shard.work.complete(
                claims.filter { may.contains($0.reference) }.map { Mail.completion($0) })
            #expect(results.allSatisfy { $0 == .recorded })
        }
        throw LabError("the queue did not empty")
    }

    @Test("A message of several deliveries is shredded with the last of them, whichever worker ends it")
    func shredding() async throws {
        let shard = try await Shard.make()
        var random = SplitMix.seeded()
        for _ in 0..<20 {
            let message = Mail.make(lanes: ["a.test", "b.test", "c.test"])
            try await shard.accept([message])
            let worker = try await shard.newWorker()
            let claims = try await shard.work.claim(worker: worker, Self.all).shuffled(using: &random)
            let states: [EndedRecipient.State] = [.delivered, .bounced, .refused]
            let results = try await withThrowingTaskGroup(of: [CompletionResult].self) { group in
                for (claim, state) in zip(claims, states) {
                    group.addTask {
                        let kind = EventKind(rawValue: state.rawValue)
                        return try await shard.work.complete([Mail.completion(claim, state, kind: kind)])
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            #expect(results == [.recorded, .recorded, .recorded])
            let row = try await shard.rows(
                """
                SELECT m.open_deliveries, m.wrapped_message_key IS NULL, m.shredded_at IS NOT NULL,
                    (SELECT count(*)::int FROM ledger.content c WHERE c.message_id = m.id),
                    (SELECT count(*)::int FROM ledger.event e WHERE e.message_id = m.id AND e.kind = 'shredded')
                FROM ledger.message m WHERE m.id = $1
                """, [.uuid(message.id)])[0]
            #expect(
                try row.int4(0) == 0 && row.bool(1) && row.bool(2) && row.int4(3) == 0 && row.int4(4) == 1)
        }
        await shard.close()
    }
}
