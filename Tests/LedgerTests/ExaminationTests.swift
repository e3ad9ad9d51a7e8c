// Whether a restored shard is whole: what is, passes, and what contradicts itself is counted.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct ExaminationTests {
    private static func examine(_ shard: Shard) async throws -> Examination {
        try await shard.owner.withConnection { try await $0.perform { try Examination.make($0) } }
    }

    @Test func `a shard with every kind of message is whole, and each fault in it is counted`() async throws {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        // Batch keys come with the intake that sealed under them; these messages were never sealed.
        let (open, done, withdrawn) = (
            Mail.make(lanes: ["one.test", "two.test"]), Mail.make(lanes: ["three.test"]),
            Mail.make(lanes: ["four.test"], tag: Mail.tag())
        )
        try await shard.accept([open, done, withdrawn])
        for key in [open, done, withdrawn].flatMap({ [$0.contentKey.batchKeyID, $0.metadataKey.batchKeyID] })
        {
            try await shard.execute(
                """
                INSERT INTO ledger.batch_key (id, tenant, purpose, epoch, created_at, wrapped)
                VALUES ('\(key)', 'demo', 'content', 1, now(), 'x') ON CONFLICT DO NOTHING
                """)
        }
        #expect(try await shard.intake.withdraw([withdrawn.id]).withdrawn == [withdrawn.id])
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 10, perLane: 10))
        for claim in claims where claim.lane != "two.test" {
            _ = try await shard.work.complete([Mail.completion(claim)])
        }
        let whole = try await Self.examine(shard)
        #expect(whole.faults == [])
        #expect((whole.messages, whole.recipients, whole.openDeliveries) == (3, 4, 1))
        for (damage, words) in [
            (
                "DELETE FROM ledger.recipient WHERE message_id = '\(done.id)'",
                "1 messages have another number of recipients"
            ),
            (
                "UPDATE ledger.message SET open_deliveries = 7 WHERE id = '\(done.id)'",
                "another number of open deliveries"
            ),
            (
                "DELETE FROM ledger.content WHERE message_id = '\(open.id)'",
                "open messages have no key, or lack content"
            ),
            ("DELETE FROM ledger.delivery", "1 recipients are open, and no delivery is theirs"),
            ("DELETE FROM ledger.batch_key", "3 messages have metadata that was sealed under a batch key"),
        ] {
            try await shard.execute(damage)
            let faults = try await Self.examine(shard).faults
            #expect(faults.contains { $0.contains(words) }, "\(words): \(faults)")
        }
        await shard.close()
    }

    @Test(arguments: [1, 2, 5]) func `messages are taken as samples also where there are few`(count: Int)
        async throws
    {
        let shard = try await Shard.make()
        _ = try await shard.intake.currentIncarnation()
        let all = (0..<count).map { _ in Mail.make() }
        try await shard.accept(all)
        func sample() async throws -> [SealedMessage] {
            try await shard.owner.withConnection {
                try await $0.perform { try SealedMessage.sample(200, $0) }
            }
        }
        let open = try await sample()
        #expect(Set(open.map(\.id)) == Set(all.map(\.id)))
        #expect(open.allSatisfy { $0.contentKey != nil && !$0.frames.isEmpty })
        let worker = try await shard.newWorker()
        for claim in try await shard.work.claim(worker: worker, ClaimRequest(limit: 10, perLane: 10)) {
            _ = try await shard.work.complete([Mail.completion(claim)])
        }
        let ended = try await sample()
        #expect(!ended.isEmpty && ended.allSatisfy { $0.contentKey == nil && $0.frames.isEmpty })
        await shard.close()
    }
}
