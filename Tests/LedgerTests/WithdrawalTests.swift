// A replay and a withdrawal compare and set one row: whoever comes first wins, and both never do.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct WithdrawalTests {
    @Test("Replayed first: the withdrawal takes nothing back. Withdrawn first: the replay finds nothing")
    func eitherOrder() async throws {
        let shard = try await Shard.make()
        let (first, second) = (Mail.make(tag: Mail.tag()), Mail.make(tag: Mail.tag()))
        try await shard.accept([first, second])
        let (firstTag, secondTag) = (try #require(first.replayTag), try #require(second.replayTag))

        #expect(try await shard.intake.replay(of: firstTag) == .stands(first.id))
        #expect(try await shard.intake.withdraw([first.id]).withdrawn.isEmpty)
        #expect(try await shard.intake.replay(of: firstTag) == .stands(first.id))

        #expect(try await shard.intake.withdraw([second.id]).withdrawn == [second.id])
        #expect(try await shard.intake.replay(of: secondTag) == nil)
        #expect(try await shard.intake.withdraw([second.id]).withdrawn.isEmpty)
        #expect(try await shard.intake.known([first.id, second.id]) == [first.id])

        // Nothing of the withdrawn one is left to deliver or to open; the same bytes may come again.
        #expect(try await shard.number("SELECT count(*) FROM ledger.delivery") == 1)
        #expect(try await shard.number("SELECT count(*) FROM ledger.content") == 1)
        #expect(
            try await shard.number("SELECT count(*) FROM ledger.message WHERE wrapped_message_key IS NULL")
                == 1)
        #expect(try await shard.number("SELECT count(*) FROM ledger.event WHERE kind = 'withdrawn'") == 1)
        try await shard.accept([Mail.make(tag: secondTag)])
        await shard.close()
    }

    @Test("A claimed message is not withdrawn; a withdrawn one is not claimed; nor one that was ever claimed")
    func claims() async throws {
        let shard = try await Shard.make()
        let message = Mail.make(lanes: ["a.test", "b.test"])
        try await shard.accept([message])
        let worker = try await shard.newWorker()
        let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 1, perLane: 1))
        #expect(try await shard.intake.withdraw([message.id]).withdrawn.isEmpty)
        try await shard.work.release(worker: worker, claims.map(\.reference))
        #expect(try await shard.intake.withdraw([message.id]).withdrawn.isEmpty)
        #expect(try await shard.intake.withdraw([UUID()]).standing.isEmpty)
        await shard.close()
    }

    @Test("A message of which one delivery has ended is not withdrawn for the others, whatever its end was")
    func endedInPart() async throws {
        for (state, kind) in [(EndedRecipient.State.delivered, EventKind.delivered), (.bounced, .bounced)] {
            let shard = try await Shard.make()
            let message = Mail.make(lanes: ["a.test", "b.test"])
            try await shard.accept([message])
            let worker = try await shard.newWorker()
            let claims = try await shard.work.claim(worker: worker, ClaimRequest(limit: 1, perLane: 1))
            _ = try await shard.work.complete(claims.map { Mail.completion($0, state, kind: kind) })
            let withdrawal = try await shard.intake.withdraw([message.id])
            #expect(withdrawal.withdrawn.isEmpty && withdrawal.standing == [message.id])
            #expect(
                try await shard.number("SELECT count(*) FROM ledger.recipient WHERE state = 'withdrawn'") == 0
            )
            #expect(try await shard.number("SELECT count(*) FROM ledger.delivery WHERE state = 'ready'") == 1)
            await shard.close()
        }
    }

    @Test("At the same moment: exactly one of replay and withdrawal holds, and one of claim and withdrawal")
    func atOnce() async throws {
        let shard = try await Shard.make()
        var random = SplitMix.seeded()
        let worker = try await shard.newWorker()
        var (replays, claims) = (0, 0)
        for _ in 0..<80 {
            let message = Mail.make(tag: Mail.tag())
            try await shard.accept([message])
            let tag = try #require(message.replayTag)
            let delays = (0..<2).map { _ in Duration.microseconds(Int.random(in: 0...1500, using: &random)) }
            async let withdrawn = {
                try await Task.sleep(for: delays[0])
                return try await !shard.intake.withdraw([message.id]).withdrawn.isEmpty
            }()
            let against = Bool.random(using: &random)
            async let rival = {
                try await Task.sleep(for: delays[1])
                if against { return try await shard.intake.replay(of: tag) != nil }
                return try await !shard.work.claim(worker: worker, ClaimRequest(limit: 9, perLane: 9)).isEmpty
            }()
            let (gone, stands) = try await (withdrawn, rival)
            if against {
                #expect(gone != stands, "withdrawn \(gone), replayed \(stands)")
                replays += stands ? 1 : 0
            } else {
                // A claim passes by a row that a withdrawal holds, so neither may happen twice but both may fail to claim.
                #expect(!(gone && stands), "withdrawn and claimed")
                #expect(gone || stands, "neither withdrawn nor claimed")
                claims += stands ? 1 : 0
            }
            let left = try await shard.number(
                "SELECT count(*) FROM ledger.delivery WHERE message_id = $1", [.uuid(message.id)])
            #expect(left == (gone ? 0 : 1))
            try await shard.execute("DELETE FROM ledger.delivery")
        }
        print("won by replays \(replays), by claims \(claims), of 80")
        await shard.close()
    }

    @Test("The same tag again fails the batch and says so, and so does the same id")
    func tags() async throws {
        let shard = try await Shard.make()
        let tag = Mail.tag()
        let first = Mail.make(tag: tag)
        try await shard.accept([first])
        var batch = IntakeBatch()
        batch.messages = [Mail.make(), Mail.make(tag: tag)]
        guard case .atFault(let error) = await shard.intake.commit(batch) else {
            throw LabError("taken twice")
        }
        #expect(IntakeLedger.isReplay(error) && !IntakeLedger.isRepeatedID(error))
        #expect(try await shard.number("SELECT count(*) FROM ledger.message") == 1)
        batch.messages = [first]
        guard case .atFault(let repeated) = await shard.intake.commit(batch) else {
            throw LabError("taken twice")
        }
        #expect(IntakeLedger.isRepeatedID(repeated))
        await shard.close()
    }
}
