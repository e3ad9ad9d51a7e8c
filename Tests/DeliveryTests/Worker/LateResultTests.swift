// Law 7 in the ledger, as a worker meets it: repeated, late and lost answers.

import Foundation
import Lab
import Ledger
import Postgres
import Sealing
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct LateResultTests {
    private func ledger(_ lab: WorkerLab) -> WorkLedger {
        WorkLedger(
            shard: "a",
            pool: PostgresPool(
                configuration: PostgresConfiguration(
                    lab.postgres.dsn(database: lab.database, user: "zegel_worker")),
                limit: 3, waitLimit: .seconds(10)))
    }

    private func claimOne(_ ledger: WorkLedger, _ worker: UUID) async throws -> ClaimedDelivery {
        try await ledger.register(worker: worker, name: "w", region: "a", lease: .seconds(30))
        return try #require(
            try await ledger.claim(worker: worker, ClaimRequest(limit: 10, perLane: 10)).first)
    }

    private func delivered(_ claim: ClaimedDelivery) -> Completion {
        Completion(
            reference: claim.reference, deliveriesOfMessage: claim.deliveries, tenant: claim.tenant,
            ended: [EndedRecipient(number: 0, state: .delivered)], step: .ends,
            events: [
                EventRow(
                    id: UUIDv7.make(at: Date()), tenant: claim.tenant, message: claim.reference.message,
                    recipient: 0,
                    kind: .delivered, at: Date(), reasonCode: "tls-authenticated")
            ], shreddedEventID: UUIDv7.make(at: Date()))
    }

    @Test("A batch that is repeated, because the answer to its commit was lost, changes nothing")
    func repeated() async throws {
        let lab = try await WorkerLab()
        let ledger = ledger(lab)
        _ = try await lab.accept(to: ["r@peer.test"])
        let completion = delivered(try await claimOne(ledger, UUID()))
        #expect(try await ledger.complete([completion]) == [.recorded])
        #expect(try await ledger.complete([completion]) == [.recorded])
        let kinds = try await lab.events().map(\.kind)
        #expect(kinds.sorted() == ["accepted", "delivered", "shredded"])
    }

    @Test(
        "A late 250 is recorded and ends the delivery while its new owner has sent no dot; the new owner's dot is denied"
    )
    func late() async throws {
        let lab = try await WorkerLab()
        let ledger = ledger(lab)
        _ = try await lab.accept(to: ["r@peer.test"])
        let (old, new) = (UUID(), UUID())
        let first = try await claimOne(ledger, old)
        try await ledger.resign(worker: old)
        #expect(try await ledger.reclaim(finalDotTimeout: .seconds(600)).freed == 1)
        let second = try await claimOne(ledger, new)
        #expect(second.reference.fence > first.reference.fence)
        #expect(try await ledger.complete([delivered(first)]) == [.stale(deliveredRecorded: true)])
        #expect(try await ledger.registerDots(worker: new, [second.reference], inFlight: []).granted.isEmpty)
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery") == 0)
        #expect(try await lab.events().filter { $0.kind == "delivered" }.count == 1)
    }

    @Test(
        "A late 250 ends a delivery between another worker's claim and its reading of the content: dropped quietly, no alarm",
        arguments: [2_000, 600_000])
    func endedBeforeRead(size: Int) async throws {
        let lab = try await WorkerLab()
        let ledger = ledger(lab)
        let content = Array("Subject: x\r\n\r\n".utf8) + Array(repeating: UInt8(ascii: "x"), count: size)
        let late = try await lab.accept(to: ["late@peer.test"], content: content)
        let old = UUID()
        let first = try await claimOne(ledger, old)
        // The worker's only session is busy with this one meanwhile.
        let host = try await lab.host("peer.test") { $0.answers[.data] = [.replyOnResume("354 go on")] }
        _ = try await lab.accept(to: ["first@peer.test"])
        let log = LogRecord()
        let worker = try await lab.worker(
            routes: ["peer.test": host], settings: ["worker.per_destination=1"], logger: log.logger)
        let events = try await lab.working([worker]) {
            try await eventually("the session is busy") { host.transcript.waiting == 1 }
            try await ledger.resign(worker: old)
            _ = try await ledger.reclaim(finalDotTimeout: .seconds(600))
            try await eventually("the worker has the claim, opened") {
                try await lab.count(
                    "SELECT count(*) FROM ledger.delivery WHERE message_id = '\(late)' AND state = 'claimed' AND fence = 2"
                ) == 1
            }
            #expect(try await ledger.complete([delivered(first)]) == [.stale(deliveredRecorded: true)])
            #expect(
                try await lab.count("SELECT count(*) FROM ledger.content WHERE message_id = '\(late)'") == 0)
            host.resume()
            _ = try await lab.accept(to: ["last@peer.test"])
            return try await lab.events { $0.filter { $0.kind == "delivered" }.count == 3 }
        }
        #expect(!events.contains { $0.kind == "held" || $0.possibleDuplicate })
        #expect(host.transcript.mails.flatMap(\.recipients).count == 2)
        #expect(!host.transcript.commands.contains("late@peer.test"))
        #expect(log.lines.filter { $0.level >= .error }.isEmpty, "\(log.lines.map(\.message))")
        // A small content may have been opened with its claim: then there is nothing to find missing.
        #expect(size < 256 << 10 || log.lines.contains { $0.message.contains("ended before it was begun") })
        let stranger = DeliveryReference(message: late, number: 0, fence: 2)
        #expect(worker.runner.held.strangers(among: [stranger]) == [stranger], "nothing is kept of it")
    }

    @Test(
        "A late 250 that came when its new owner had sent a final dot: the owner's end without an answer leaves nothing to send, and the delivery ends"
    )
    func servedWithADot() async throws {
        let lab = try await WorkerLab()
        let ledger = ledger(lab)
        let host = try await lab.host("peer.test")
        let message = try await lab.accept(to: ["r@peer.test"])
        let (old, new) = (UUID(), UUID())
        let first = try await claimOne(ledger, old)
        try await ledger.resign(worker: old)
        _ = try await ledger.reclaim(finalDotTimeout: .seconds(600))
        let second = try await claimOne(ledger, new)
        let granted = try await ledger.registerDots(worker: new, [second.reference], inFlight: []).granted
        #expect(granted == [second.reference])
        #expect(try await ledger.complete([delivered(first)]) == [.stale(deliveredRecorded: true)])
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery") == 1, "the dot may have gone")
        try await ledger.resign(worker: new)
        #expect(try await ledger.reclaim(finalDotTimeout: .zero).inDoubt == 1)
        let worker = try await lab.worker(routes: ["peer.test": host])
        let events = try await lab.working([worker]) {
            try await eventually("the delivery ends") {
                try await lab.count("SELECT count(*) FROM ledger.delivery") == 0
            }
            return try await lab.events()
        }
        #expect(events.map(\.kind).sorted() == ["accepted", "delivered", "shredded"])
        #expect(host.transcript.mails.isEmpty)
        #expect(
            try await lab.count("SELECT count(*) FROM ledger.content WHERE message_id = '\(message)'") == 0)
    }

    @Test("What a live worker has claimed without knowing it is found by comparing, and given back")
    func strangers() async throws {
        let lab = try await WorkerLab()
        let ledger = ledger(lab)
        for _ in 0..<3 { _ = try await lab.accept(to: ["r@peer.test"]) }
        let worker = UUID()
        try await ledger.register(worker: worker, name: "w", region: "a", lease: .seconds(30))
        let claimed = try await ledger.claim(worker: worker, ClaimRequest(limit: 10, perLane: 10))
        let held = HeldClaims()
        held.took(claimed.prefix(1).map(\.reference))
        let strangers = held.strangers(among: try await ledger.claims(of: worker))
        #expect(strangers.count == 2)
        try await ledger.release(worker: worker, strangers)
        #expect(try await ledger.claims(of: worker) == [claimed[0].reference])
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery WHERE state = 'ready'") == 2)
    }
}
