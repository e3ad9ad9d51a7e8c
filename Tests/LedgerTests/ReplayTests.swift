// Replay tags over their life: they stay when their client has its 250, are found by yesterday's key and from other shards, and go with
// their window.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct ReplayTests {
    private func ask(_ shard: Shard, _ tag: [UInt8]) async throws -> Set<ReplayHolder> {
        Set(try await shard.work.replayHolders(of: [tag], limit: .seconds(10))[tag] ?? [])
    }

    private func acknowledge(_ shard: Shard, _ tag: [UInt8]) async throws {
        var batch = IntakeBatch()
        batch.acknowledgedTags = [tag]
        guard case .durable = await shard.intake.commit(batch) else { throw Unexpected() }
    }

    struct Unexpected: Error {}

    @Test("An acknowledged tag stays: the same bytes are refused under it, and taken without one, marked")
    func acknowledged() async throws {
        let shard = try await Shard.make()
        let tag = Mail.tag()
        let first = Mail.make(tag: tag)
        try await shard.accept([first])
        #expect(try await shard.intake.replay(of: tag) == .stands(first.id))
        try await acknowledge(shard, tag)
        #expect(try await shard.intake.replay(of: tag) == .acknowledged)
        #expect(try await shard.intake.replays(of: [tag, Mail.tag()]) == [tag: .acknowledged])
        var batch = IntakeBatch()
        batch.messages = [Mail.make(tag: tag)]
        guard case .atFault(let error) = await shard.intake.commit(batch) else { throw Unexpected() }
        #expect(IntakeLedger.isReplay(error))
        var again = Mail.make()
        again.isPossibleDuplicate = true
        try await shard.accept([again])
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9))
        #expect(
            Dictionary(uniqueKeysWithValues: claims.map { ($0.reference.message, $0.possibleDuplicate) })
                == [first.id: false, again.id: true])
        await shard.close()
    }

    @Test(
        "Another shard learns who holds a tag, whether its client has its 250, and whether it may have gone")
    func holders() async throws {
        let shard = try await Shard.make()
        let tag = Mail.tag()
        let message = Mail.make(lanes: ["a.test", "b.test"], tag: tag)
        #expect(try await ask(shard, tag).isEmpty)
        try await shard.accept([message])
        func holder(_ isAcknowledged: Bool, _ wasClaimed: Bool) -> Set<ReplayHolder> {
            [
                ReplayHolder(
                    message: message.id, isAcknowledged: isAcknowledged, wasClaimed: wasClaimed)
            ]
        }
        #expect(try await ask(shard, tag) == holder(false, false))
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 1, perLane: 1))
        #expect(try await ask(shard, tag) == holder(false, true))
        // What is given back was claimed all the same.
        try await shard.work.release(worker: worker, claims.map(\.reference))
        #expect(try await ask(shard, tag) == holder(false, true))
        try await acknowledge(shard, tag)
        #expect(try await ask(shard, tag) == holder(true, true))
        let all = try await shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9))
        _ = try await shard.work.complete(all.map { Mail.completion($0) })
        #expect(try await shard.number("SELECT count(*) FROM ledger.delivery") == 0)
        #expect(try await ask(shard, tag) == holder(true, true), "what has ended was claimed")
        await shard.close()
    }

    @Test(
        "In the hours after midnight a message is known under yesterday's key too, whichever way it is asked for"
    )
    func yesterday() async throws {
        let shard = try await Shard.make()
        let (today, yesterday) = (Mail.tag(), Mail.tag())
        let made = Mail.make(tag: today)
        let message = MessageRow(
            id: made.id, tenant: made.tenant, acceptedAt: made.acceptedAt, ruleset: made.ruleset, size: 10,
            keyedDigest: [1], contentKey: made.contentKey, metadataKey: made.metadataKey,
            sealedEnvelope: [1], frames: made.frames, frameCount: 1, deliveries: made.deliveries,
            recipients: made.recipients, replayTag: today, previousTag: yesterday)
        try await shard.accept([message])
        #expect(
            try await shard.work.replayTags(of: [message.id, UUID()]) == [message.id: [today, yesterday]])
        let found = try await shard.work.replayHolders(of: [today, yesterday], limit: .seconds(10))
        #expect(found.mapValues { $0.map(\.message) } == [today: [message.id], yesterday: [message.id]])
        await shard.close()
    }

    @Test("What another shard's message relies on is not withdrawn; what was withdrawn cannot be relied on")
    func reliance() async throws {
        let shard = try await Shard.make()
        let (first, second) = (Mail.make(tag: Mail.tag()), Mail.make(tag: Mail.tag()))
        try await shard.accept([first, second])
        #expect(try await shard.work.relyOn([first.id], limit: .seconds(10)) == [first.id])
        #expect(try await shard.intake.withdraw([first.id, second.id]).withdrawn == [second.id])
        #expect(try await shard.work.relyOn([first.id, second.id], limit: .seconds(10)) == [first.id])
        await shard.close()
    }

    @Test("A member tells which tags it knows")
    func member() async throws {
        let shard = try await Shard.make()
        let (tag, other) = (Mail.tag(), Mail.tag())
        try await shard.accept([Mail.make(tag: tag)])
        #expect(
            try await ReplayMember(pool: shard.worker).known(of: [tag, other], limit: .seconds(10)) == [tag])
        await shard.close()
    }

    @Test("Tags past their window go, however many there are; those in it stay")
    func window() async throws {
        let shard = try await Shard.make()
        try await shard.execute(
            """
            INSERT INTO ledger.replay (tag, message_id, accepted_at)
            SELECT sha256(i::text::bytea), (lpad(to_hex(((extract(epoch FROM now()) - 49 * 3600) * 1000)::bigint), 12, '0')
                || '7000' || '8000' || lpad(to_hex(i), 12, '0'))::uuid, now() - interval '49 hours'
            FROM generate_series(1, 25000) i
            """)
        let recent = Mail.make(at: Date() - 47 * 3600, tag: Mail.tag())
        try await shard.execute(
            """
            INSERT INTO ledger.replay (tag, message_id, accepted_at)
            VALUES (sha256('x'), '\(recent.id)', now() - interval '47 hours')
            """)
        let report = try await Maintenance(pool: shard.owner).run()
        #expect(report.tagsForgotten == 25_000)
        #expect(try await shard.number("SELECT count(*) FROM ledger.replay") == 1)
        await shard.close()
    }
}
