// What becomes of each delivery when a restored shard is told what happened since (design §10). The restored shard is a copy of the other
// as it was at the moment; then the other goes on.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct ReconciliationTests {
    @Test
    func
        `what ended is closed, what did not goes on, what was under way is in doubt, what nobody knows is held`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let delivered = Mail.make(lanes: ["one.test"])
        let untouched = Mail.make(lanes: ["two.test"])
        let claimed = Mail.make(lanes: ["three.test"])
        let dotted = Mail.make(lanes: ["four.test"])
        let unknown = Mail.make(lanes: ["five.test"])
        let partly = Mail.make(lanes: ["six.test", "seven.test"])
        let withdrawn = Mail.make(lanes: ["eight.test"], tag: Mail.tag())
        try await shard.accept([delivered, untouched, claimed, dotted, unknown, partly, withdrawn])
        let pair = try await RestoredPair.copy(shard)
        let source = pair.source

        // The other goes on.
        let worker = try await source.newWorker()
        let claims = try await source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        func claim(_ lane: String) throws -> ClaimedDelivery {
            try #require(claims.first { $0.lane == lane })
        }
        #expect(claims.count == 8)
        _ = try await source.work.complete([
            Mail.completion(try claim("one.test")), Mail.completion(try claim("six.test")),
        ])
        let four = try claim("four.test").reference
        try await source.execute(
            """
            INSERT INTO ledger.dot_in_flight (worker, message_ids, nos, fences, registered_at)
            VALUES ('\(worker)', ARRAY['\(four.message)'::uuid], ARRAY[0], ARRAY[\(four.fence)::bigint], ARRAY[now()]);
            UPDATE ledger.delivery SET state = 'ready', worker = NULL, fence = 0 WHERE lane IN ('two.test', 'eight.test');
            DELETE FROM ledger.delivery WHERE message_id = '\(unknown.id)';
            DELETE FROM ledger.recipient WHERE message_id = '\(unknown.id)';
            DELETE FROM ledger.message WHERE id = '\(unknown.id)'
            """)
        #expect(try await source.intake.withdraw([withdrawn.id]).withdrawn == [withdrawn.id])
        let later = Mail.make(lanes: ["nine.test"], frames: [[1], [2]])
        let done = Mail.make(lanes: ["ten.test"])
        try await source.accept([later, done])
        let rest = try await source.work.claim(worker: worker, ClaimRequest(limit: 100, perLane: 10))
        let ten = try #require(rest.first { $0.lane == "ten.test" })
        _ = try await source.work.complete([Mail.completion(ten)])

        let result = try await pair.reconcile()
        #expect(result.broughtOver == 2)
        #expect(try await pair.deliveries(delivered.id) == ["0 none ended"])
        #expect(try await pair.message(delivered.id) == "0 open, 0 frames, no key, delivered")
        #expect(try await pair.events(delivered.id).contains("delivered"))
        #expect(try await pair.deliveries(untouched.id) == ["0 ready open"])
        #expect(try await pair.message(untouched.id) == "1 open, 1 frames, key, open")
        #expect(try await pair.deliveries(claimed.id) == ["0 ready open"])
        #expect(try await pair.deliveries(dotted.id) == ["0 ready duplicate doubt"])
        #expect(try await pair.events(dotted.id).last == "deferred restored-in-doubt")
        #expect(try await pair.deliveries(unknown.id) == ["0 held duplicate unknown"])
        #expect(try await pair.events(unknown.id).last == "held restored-unknown")
        #expect(try await pair.deliveries(partly.id) == ["0 none ended", "1 ready open"])
        #expect(try await pair.message(partly.id) == "1 open, 1 frames, key, delivered open")
        #expect(try await pair.deliveries(withdrawn.id) == ["0 none ended"])
        #expect(try await pair.message(withdrawn.id) == "0 open, 0 frames, no key, withdrawn")
        #expect(try await pair.deliveries(later.id) == ["0 ready open"])
        #expect(try await pair.message(later.id) == "1 open, 2 frames, key, open")
        #expect(try await pair.message(done.id) == "0 open, 0 frames, no key, delivered")

        // Once more: nothing happens twice.
        let before = try await pair.everything()
        let again = try await pair.reconcile()
        #expect(again == Reconciliation.Result())
        #expect(try await pair.everything() == before)
        let tally = try await pair.inside { try RestoredLedger.tally($0) }
        #expect((tally.ended, tally.released, tally.inDoubt, tally.unknown, tally.held) == (3, 4, 1, 1, 1))
        try await pair.close()
    }

    @Test
    func `of a source that may lack something all that is open is in doubt, until another knows better`()
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let message = Mail.make()
        try await shard.accept([message])
        let pair = try await RestoredPair.copy(shard)
        try await pair.reconcile(isFinal: false)
        #expect(try await pair.deliveries(message.id) == ["0 ready duplicate doubt"])
        // Its tenant wants what is in doubt held.
        try await pair.reconcile(isFinal: false, held: ["demo"])
        #expect(try await pair.deliveries(message.id) == ["0 held duplicate doubt"])
        try await pair.reconcile(isFinal: true, held: ["demo"])
        #expect(try await pair.deliveries(message.id) == ["0 ready open"])
        #expect(try await pair.events(message.id).last == "released restored-in-doubt")
        // And whoever knows less changes nothing.
        try await pair.reconcile(isFinal: false, held: ["demo"])
        #expect(try await pair.deliveries(message.id) == ["0 ready open"])
        // Something began there after all: what has a final dot now is in doubt, whatever was said before.
        let worker = try await pair.source.newWorker()
        let claim = try #require(
            await pair.source.work.claim(worker: worker, ClaimRequest(limit: 10, perLane: 10)).first?
                .reference)
        let before = try await pair.source.owner.withConnection {
            try await $0.perform { try RestoredLedger.source($0).work }
        }
        _ = try await pair.source.work.registerDots(worker: worker, [claim], inFlight: [])
        let after = try await pair.source.owner.withConnection {
            try await $0.perform { try RestoredLedger.source($0).work }
        }
        #expect(before != after)
        try await pair.reconcile(isFinal: true)
        #expect(try await pair.deliveries(message.id) == ["0 ready duplicate doubt"])
        // Nobody can be asked any more.
        try await pair.inside { try Reconciliation.conclude($0, isDoubtful: true, heldTenants: nil) }
        #expect(try await pair.deliveries(message.id) == ["0 held duplicate doubt"])
        try await pair.close()
    }

    @Test func `another restore of the same shard is no source, and what was revoked stays so`() async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let control = ControlAdministration(pool: shard.owner)
        let (kept, changed, revoked) = (UUID(), UUID(), UUID())
        for (id, name) in [(kept, "kept"), (changed, "changed"), (revoked, "revoked")] {
            try await control.putCredential(
                CredentialRow(id: id, tenant: "demo", username: name, password: "before", iterations: 4096))
        }
        let pair = try await RestoredPair.copy(shard)
        let later = ControlAdministration(pool: pair.source.owner)
        try await later.putCredential(
            CredentialRow(
                id: changed, tenant: "demo", username: "changed", password: "after", iterations: 4096))
        try await later.putCredential(
            CredentialRow(id: UUID(), tenant: "demo", username: "new", password: "new", iterations: 4096))
        try await pair.source.execute(
            "UPDATE control.credential SET revoked_at = now() WHERE username = 'revoked'; UPDATE control.tenant SET in_doubt = 'hold'"
        )
        let link = SourceLink(
            sockets: pair.source.server.directory, port: pair.source.server.port,
            database: pair.source.database,
            role: "postgres")
        let result = try await pair.inside { try ControlReconciliation(link: link).run($0) }
        #expect(result.revoked == 1)
        #expect(result.leftOut == 1)
        let standing = try await pair.inside { session in
            try session.query(
                "SELECT username || ' ' || (revoked_at IS NULL) FROM control.credential ORDER BY 1"
            )
            .map { try $0.text(0) }
        }
        #expect(standing == ["changed true", "kept true", "revoked false"])
        let verifier = "SELECT encode(stored_key, 'hex') FROM control.credential WHERE username = 'changed'"
        let there = try await pair.source.rows(verifier)[0].text(0)
        #expect(try await pair.inside { try $0.query(verifier)[0].text(0) } == there)
        #expect(try await pair.inside { try ControlReconciliation.heldTenants($0) } == ["demo"])

        try await pair.source.execute(
            "INSERT INTO ledger.incarnation (id, timeline, first_xid, restored_to) VALUES (gen_random_uuid(), 99, '1', now())"
        )
        await #expect(throws: OtherHistory.self) { try await pair.reconcile() }
        try await pair.close()
    }

    @Test func `a reader of the history that was left goes on where the restore began; a stranger does not`()
        async throws
    {
        let shard = try await Shard.make()
        let first = try await shard.intake.currentIncarnation()
        try await shard.accept([Mail.make()])
        let (left, stranger, restore) = (UUID(), UUID(), UUID())
        try await shard.execute(
            """
            INSERT INTO ledger.incarnation (id, timeline, first_xid, restored_to)
                VALUES ('\(restore)', 50, (SELECT min(arrived)::text::xid8 FROM ledger.event), now());
            INSERT INTO ledger.left_incarnation VALUES ('\(left)')
            """)
        func page(_ incarnation: UUID) async throws -> Int {
            let place = FeedPosition(incarnation: incarnation, arrived: 1 << 40, id: FeedPosition.leastID)
            return try await shard.events.page(after: place, tenant: nil, limit: 10).value.count
        }
        // Transactions of other tests hold the feed back.
        try await eventually("the event is shown", within: .seconds(60)) { try await page(left) == 1 }
        #expect(try await page(first) == 1)
        #expect(try await page(restore) == 0)
        await #expect(throws: UnknownIncarnation.self) { _ = try await page(stranger) }
        // A position in the history that was left tells nothing about this one.
        let place = ShardPosition(incarnation: left, lsn: 1 << 60)
        _ = try await shard.events.notBefore(place).page(after: nil, tenant: nil, limit: 1)
        // One may be of the past and the other of now.
        let now = ShardPosition(incarnation: restore, lsn: 0)
        let cursor = FeedPosition(incarnation: left, arrived: 1, id: FeedPosition.leastID)
        _ = try await shard.events.notBefore(now).page(after: cursor, tenant: nil, limit: 1)
        await shard.close()
    }
}
