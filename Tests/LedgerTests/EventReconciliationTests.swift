// What becomes of each delivery when a restored shard is told by exported events what happened since (design §10).

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct EventReconciliationTests {
    /// Recipients' addresses, as the API would show them.
    private static func address(_ number: Int32) -> String { "r\(number)@bar.test" }

    /// What a reader of the feed of the other shard has kept.
    private static func exported(
        _ source: Shard, since: Date = .distantPast,
        addresses: @escaping @Sendable (Int32) -> String? = address
    ) async throws -> [ToldEvent] {
        try await source.rows(
            """
            SELECT e.id, e.tenant, e.kind, e.message_id, e.rcpt_no, e.at, e.reason_code, e.possible_duplicate,
                   (SELECT id FROM ledger.incarnation ORDER BY timeline DESC LIMIT 1)
            FROM ledger.event e WHERE e.at >= $1 ORDER BY e.arrived, e.id
            """, [.timestamp(max(since, Date(timeIntervalSince1970: 0)))]
        ).map { row in
            ToldEvent(
                id: try row.uuid(0), tenant: try row.text(1), kind: EventKind(rawValue: try row.text(2)),
                message: try row.optionalUUID(3),
                recipient: try row.optionalInt4(4).flatMap { addresses($0) },
                at: try row.timestamp(5), reasonCode: try row.optionalText(6),
                possibleDuplicate: try row.bool(7), incarnation: try row.optionalUUID(8))
        }
    }

    private static func tell(
        _ pair: RestoredPair, _ events: [ToldEvent], held: [String]? = [], addresses: [RecipientAddress] = []
    ) async throws -> EventReconciliation.Result {
        let moment = pair.moment
        return try await pair.inside { session in
            var rest = events[...]
            return try EventReconciliation(moment: moment, heldTenants: held, addresses: addresses)
                .run(session) { rest.popFirst() }
        }
    }

    @Test
    func
        `what events say to have ended is closed, what they name is in doubt, what they do not name is held`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let delivered = Mail.make(lanes: ["one.test"])
        let open = Mail.make(lanes: ["two.test"])
        let partly = Mail.make(lanes: ["three.test", "four.test"])
        let withdrawn = Mail.make(lanes: ["five.test"], tag: Mail.tag())
        let unnamed = Mail.make(lanes: ["six.test"])
        try await shard.accept([delivered, open, partly, withdrawn, unnamed])
        let pair = try await RestoredPair.copy(shard)
        let source = pair.source

        let worker = try await source.newWorker()
        let claims = try await source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        func claim(_ lane: String) throws -> ClaimedDelivery {
            try #require(claims.first { $0.lane == lane })
        }
        _ = try await source.work.complete([
            Mail.completion(try claim("one.test")), Mail.completion(try claim("three.test")),
        ])
        try await source.execute(
            "UPDATE ledger.delivery SET state = 'ready', worker = NULL, fence = 0 WHERE lane = 'five.test'")
        #expect(try await source.intake.withdraw([withdrawn.id]).withdrawn == [withdrawn.id])
        let (came, lost) = (Mail.make(lanes: ["seven.test"]), Mail.make(lanes: ["eight.test"]))
        try await source.accept([came, lost])
        let rest = try await source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        _ = try await source.work.complete([
            Mail.completion(try #require(rest.first { $0.lane == "seven.test" }))
        ])

        let events = try await Self.exported(source).filter { $0.message != unnamed.id }
        // A file may say everything twice.
        let result = try await Self.tell(pair, events + events)
        #expect(result.lost == [lost.id])
        #expect(result.newest == events.map(\.at).max())
        #expect(try await pair.deliveries(delivered.id) == ["0 none ended"])
        #expect(try await pair.message(delivered.id) == "0 open, 0 frames, no key, delivered")
        #expect(try await pair.deliveries(open.id) == ["0 ready duplicate doubt"])
        #expect(try await pair.events(open.id) == ["accepted", "deferred restored-in-doubt"])
        #expect(try await pair.deliveries(partly.id) == ["0 none ended", "1 ready duplicate doubt"])
        #expect(try await pair.message(partly.id) == "1 open, 1 frames, key, delivered open")
        #expect(try await pair.deliveries(withdrawn.id) == ["0 none ended"])
        #expect(try await pair.message(withdrawn.id) == "0 open, 0 frames, no key, withdrawn")
        #expect(try await pair.deliveries(unnamed.id) == ["0 held duplicate unknown"])
        #expect(try await pair.events(unnamed.id).last == "held restored-unknown")
        #expect(try await Set(pair.events(came.id)) == ["accepted", "delivered", "shredded"])
        #expect(try await Set(pair.events(lost.id)) == ["accepted", "unrecoverable restored-lost"])

        // Once more: nothing happens twice.
        let before = try await pair.everything()
        let again = try await Self.tell(pair, events)
        #expect(again.events == 0)
        #expect(again.lost == [lost.id])
        #expect(try await pair.everything() == before)
        // What is known of the rest is that its tenant wants it held.
        _ = try await Self.tell(pair, events, held: ["demo"])
        #expect(try await pair.deliveries(open.id) == ["0 held duplicate doubt"])

        // A member that lives after all has it.
        try await pair.reconcile()
        #expect(try await pair.deliveries(lost.id) == ["0 ready open"])
        #expect(try await pair.events(lost.id) == ["accepted"])
        #expect(try await pair.deliveries(open.id) == ["0 ready open"])
        // And events that only name it say nothing against that.
        #expect(try await Self.tell(pair, events, held: ["demo"]).lost == [])
        #expect(try await pair.deliveries(open.id) == ["0 ready open"])
        try await pair.close()
    }

    @Test
    func `of several recipients the one that an address names has ended`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let named = Mail.make(lanes: ["one.test", "two.test", "three.test"])
        let opened = Mail.make(lanes: ["four.test", "five.test"])
        let closed = Mail.make(lanes: ["six.test", "seven.test"])
        try await shard.accept([named, opened, closed])
        let pair = try await RestoredPair.copy(shard)
        let worker = try await pair.source.newWorker()
        let claims = try await pair.source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        for lane in ["one.test", "two.test", "five.test", "seven.test"] {
            let claim = try #require(claims.first { $0.lane == lane })
            _ = try await pair.source.work.complete([Mail.completion(claim)])
        }
        // The file begins with the first of them; of the others it begins at the moment.
        let events =
            try await Self.exported(pair.source).filter { $0.message == named.id }
            + Self.exported(pair.source, since: pair.moment).filter { $0.message != named.id }
        #expect(
            events.contains { $0.message == opened.id }
                && !events.contains { $0.kind == .accepted && $0.message == opened.id })
        _ = try await Self.tell(
            pair, events,
            addresses: (0..<2).map {
                RecipientAddress(message: opened.id, number: $0, address: Self.address($0))
            })
        #expect(
            try await pair.deliveries(named.id) == [
                "0 none ended", "1 none ended", "2 ready duplicate doubt",
            ])
        #expect(try await pair.deliveries(opened.id) == ["0 ready duplicate doubt", "1 none ended"])
        // Its addresses could not be opened: which of them ended is not known.
        #expect(
            try await pair.deliveries(closed.id) == ["0 ready duplicate doubt", "1 ready duplicate doubt"])
        try await pair.close()
    }

    @Test func `cursors tell which leaders readers have seen, and events of another cluster are refused`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let message = Mail.make()
        try await shard.accept([message])
        let pair = try await RestoredPair.copy(shard)
        let later = UUID()
        var events = try await Self.exported(pair.source)
        events.append(
            ToldEvent(
                id: UUID(), tenant: "demo", kind: .held, message: message.id, recipient: Self.address(0),
                at: Date(),
                reasonCode: "integrity-failure", incarnation: later))
        _ = try await Self.tell(pair, events)
        // One that an operator was to decide on still is.
        #expect(try await pair.deliveries(message.id) == ["0 held duplicate doubt"])
        let left = try await pair.inside {
            try $0.query("SELECT id FROM ledger.left_incarnation").map { try $0.uuid(0) }
        }
        #expect(left == [later])

        let before = try await pair.everything()
        let foreign = ToldEvent(
            id: UUID(), tenant: "demo", kind: .accepted, message: UUID(), at: Date(), incarnation: UUID())
        await #expect(throws: EventReconciliation.Foreign.self) { try await Self.tell(pair, [foreign]) }
        #expect(try await pair.everything() == before)
        try await pair.close()
    }

    @Test func `of a shard without events, or with events that end before the moment, all is held`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let message = Mail.make()
        try await shard.accept([message])
        let old = try await Self.exported(shard)
        let pair = try await RestoredPair.copy(shard)
        #expect(try await Self.tell(pair, []).newest == nil)
        #expect(try await pair.deliveries(message.id) == ["0 held duplicate unknown"])
        _ = try await Self.tell(pair, old)
        #expect(try await pair.deliveries(message.id) == ["0 held duplicate unknown"])
        try await pair.close()
    }

    @Test func `a message that was shredded has ended for all, also where its addresses were sealed`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let (here, stranger) = (Mail.make(lanes: ["one.test", "two.test"]), Mail.make(lanes: ["three.test"]))
        try await shard.accept([here, stranger])
        let pair = try await RestoredPair.copy(shard)
        let since = Mail.make(lanes: ["four.test", "five.test"])
        try await pair.source.accept([since])
        let worker = try await pair.source.newWorker()
        let claims = try await pair.source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        for claim in claims { _ = try await pair.source.work.complete([Mail.completion(claim)]) }
        var events = try await Self.exported(pair.source, addresses: { _ in nil })
        // Nobody speaks for another tenant's message.
        for index in events.indices where events[index].message == stranger.id {
            events[index].tenant = "other"
        }
        // The beginning of one is missing.
        events.removeAll { $0.message == since.id && $0.kind == .accepted }
        let result = try await Self.tell(pair, events)
        #expect(result.lost == [])
        #expect(try await pair.deliveries(here.id) == ["0 none ended", "1 none ended"])
        #expect(try await pair.message(here.id) == "0 open, 0 frames, no key, delivered delivered")
        #expect(try await pair.deliveries(stranger.id) == ["0 held duplicate unknown"])
        try await pair.close()
    }

    @Test func `what is lost is named whatever the file has of it, and an end of another recipient is none`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let pair = try await RestoredPair.copy(shard)
        let (partly, beginning) = (
            Mail.make(lanes: ["one.test", "two.test"]), Mail.make(lanes: ["three.test"])
        )
        try await pair.source.accept([partly, beginning])
        let worker = try await pair.source.newWorker()
        let claims = try await pair.source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        _ = try await pair.source.work.complete([
            Mail.completion(try #require(claims.first { $0.lane == "two.test" }))
        ])
        var events = try await Self.exported(pair.source)
        // Of one the file has another recipient's end but not that recipient's beginning, of the other no beginning at all.
        events.removeAll {
            $0.kind == .accepted && ($0.message == beginning.id || $0.recipient == Self.address(1))
        }
        events.append(
            ToldEvent(
                id: UUID(), tenant: "demo", kind: .deferred, message: beginning.id,
                recipient: Self.address(0), at: Date(),
                incarnation: events.first?.incarnation))
        #expect(
            try await Self.tell(pair, events).lost
                == [partly.id, beginning.id].sorted { $0.uuidString < $1.uuidString })
        #expect(try await Set(pair.events(beginning.id)) == ["deferred", "unrecoverable restored-lost"])
        // Another file has the rest.
        let rest =
            try await Self.exported(pair.source).filter { $0.message == beginning.id }
            + [
                ToldEvent(
                    id: UUID(), tenant: "demo", kind: .delivered, message: beginning.id,
                    recipient: Self.address(0), at: Date())
            ]
        #expect(try await Self.tell(pair, rest).lost == [])
        #expect(try await Set(pair.events(beginning.id)) == ["accepted", "deferred", "delivered"])
        try await pair.close()
    }

    @Test func `what events told to have ended stays so when an archive is asked later`() async throws {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let pair = try await RestoredPair.copy(shard)
        let message = Mail.make()
        try await pair.source.accept([message])
        // The archive ends before the delivery did.
        let end = ToldEvent(
            id: UUID(), tenant: "demo", kind: .delivered, message: message.id, recipient: Self.address(0),
            at: Date())
        _ = try await Self.tell(pair, try await Self.exported(pair.source) + [end])
        #expect(try await pair.reconcile(isFinal: false).broughtOver == 1)
        #expect(try await pair.deliveries(message.id) == ["0 none ended"])
        #expect(try await pair.message(message.id) == "0 open, 0 frames, no key, delivered")
        try await pair.close()
    }

    @Test func `what an operator wanted returned is not sent`() async throws {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let message = Mail.make()
        try await shard.accept([message])
        let pair = try await RestoredPair.copy(shard)
        try await pair.source.execute("UPDATE ledger.delivery SET state = 'held'")
        let count = try await pair.source.owner.withConnection {
            try await $0.perform { try HeldDeliveries.decide(.giveBack, HeldSelection(tenant: "demo"), $0) }
        }
        #expect(count == 1)
        _ = try await Self.tell(pair, try await Self.exported(pair.source))
        #expect(try await pair.deliveries(message.id) == ["0 held duplicate doubt"])
        // Whoever leads knows that it is to be returned.
        try await pair.reconcile()
        #expect(try await pair.deliveries(message.id) == ["0 ready open"])
        #expect(try await pair.inside { try $0.query("SELECT returned FROM ledger.delivery")[0].bool(0) })
        // A worker that began before there were returns would send it.
        let worker = try await pair.source.newWorker()
        try await pair.source.execute(
            "UPDATE ledger.worker_heartbeat SET started_at = '2020-01-01' WHERE id = '\(worker)'")
        await #expect(throws: PostgresError.self) {
            try await pair.source.owner.withConnection {
                try await $0.perform { _ = try HeldDeliveries.decide(.giveBack, HeldSelection(), $0) }
            }
        }
        try await pair.close()
    }

    @Test func `nobody told what was revoked: nothing that was given out works`() async throws {
        let shard = try await Shard.make()
        let control = ControlAdministration(pool: shard.owner)
        for name in ["own", "other"] {
            try await control.putCredential(
                CredentialRow(
                    id: UUID(), tenant: "demo", username: name, password: "before", iterations: 4096))
        }
        try await control.putAPIKey(
            id: UUID(), tenant: "demo", label: "x", scopes: ["*"],
            secretHash: [UInt8](repeating: 1, count: 32))
        let revoke: @Sendable () async throws -> Int = {
            try await shard.owner.withConnection {
                try await $0.perform { try ControlReconciliation.revokeAll($0, reissued: "own") }
            }
        }
        #expect(try await revoke() == 3)
        #expect(
            try await shard.number("SELECT count(*) FROM control.credential WHERE revoked_at IS NULL") == 0)
        #expect(try await shard.number("SELECT count(*) FROM control.api_key WHERE revoked_at IS NULL") == 0)
        // What is made anew works.
        try await control.putCredential(
            CredentialRow(id: UUID(), tenant: "demo", username: "own", password: "after", iterations: 4096))
        #expect(
            try await shard.number("SELECT count(*) FROM control.credential WHERE revoked_at IS NULL") == 1)
        await shard.close()
    }
}
