import Foundation
import Ledger
import Postgres
import Testing

@testable import Edge

/// Group commit against a model of a shard that fails in every way a shard was seen to fail.
@Suite("Group commit, simulated") struct GroupCommitSimulation {
    /// What the shard holds. Rows of a commit in doubt may or may not be there, and a warned commit may be lost later.
    struct Shard {
        var random: SeededRandom
        var messages: Set<UUID> = []
        var tags: [[UInt8]: UUID] = [:]
        /// Those whose clients have shown that they have their 250.
        var acknowledged: Set<[UInt8]> = []
        /// Taken although the same bytes had been, and marked.
        var marked: Set<UUID> = []
        var keys: Set<UUID> = []
        var faultRate = 0.4

        mutating func apply(_ batch: IntakeBatch, isRepeat: Bool) -> PostgresError? {
            var next = self
            next.acknowledged.formUnion(batch.acknowledgedTags.filter { next.tags[$0] != nil })
            for key in batch.batchKeys where !(isRepeat && next.keys.contains(key.id)) {
                if !next.keys.insert(key.id).inserted {
                    return PostgresError(.server, "key", sqlState: "23505", table: "batch_key")
                }
            }
            for message in batch.messages where !(isRepeat && next.messages.contains(message.id)) {
                if message.size < 0 { return GroupCommitTests.refused }
                if !next.messages.insert(message.id).inserted {
                    return PostgresError(.server, "id", sqlState: "23505", table: "message_p20261124")
                }
                if message.isPossibleDuplicate { next.marked.insert(message.id) }
                if let tag = message.replayTag {
                    if next.tags[tag] != nil { return GroupCommitTests.conflict }
                    next.tags[tag] = message.id
                }
            }
            next.random = random
            self = next
            return nil
        }

        mutating func submit(_ batch: IntakeBatch, isRepeat: Bool) -> IntakeOutcome {
            let luck = Double.random(in: 0..<1, using: &random)
            if luck < faultRate * 0.3 { return .unavailable(GroupCommitTests.away) }
            if luck < faultRate * 0.5 { return .inDoubt(GroupCommitTests.lost) }
            // A commit in doubt becomes visible between the look and the copy.
            if isRepeat, luck < faultRate * 0.6, batch.messages.contains(where: { messages.contains($0.id) })
            {
                return .atFault(PostgresError(.server, "id", sqlState: "23505", table: "content_p20261124"))
            }
            if let error = apply(batch, isRepeat: isRepeat) { return .atFault(error) }
            if luck < faultRate * 0.8 { return .inDoubt(GroupCommitTests.lost) }
            if luck < faultRate { return .notDurable("canceling wait") }
            return .durable
        }
    }

    struct SeededRandom: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
            return z ^ (z >> 31)
        }
    }

    @Test(
        "Every client is answered once; 250 only for what is there, with its key; no bytes stand twice",
        arguments: 0..<150)
    func laws(_ number: Int) {
        let seed = UInt64.random(in: 0..<UInt64.max)
        var random = SeededRandom(state: seed)
        var shard = Shard(random: SeededRandom(state: seed ^ 1))
        shard.faultRate = Double.random(in: 0..<0.95, using: &random)
        var driver = GroupCommitTests.Driver { $0.batchCount = 8 }
        var rows: [Int: MessageRow] = [:]
        var keyOfTicket: [Int: UUID] = [:]
        var ticket = 0
        for _ in 0..<Int.random(in: 1..<12, using: &random) {
            let key = GroupCommitTests.batchKey()
            driver.newKeys.append(key)
            for _ in 0..<Int.random(in: 1..<12, using: &random) {
                // One of a few tags, so that some repeat others.
                var row = GroupCommitTests.message(
                    tag: [UInt8.random(in: 0..<40, using: &random)],
                    octets: Int.random(in: 0..<50, using: &random))
                if Int.random(in: 0..<20, using: &random) == 0 {
                    row = MessageRow(
                        id: row.id, tenant: row.tenant, acceptedAt: row.acceptedAt, ruleset: row.ruleset,
                        size: -1,
                        keyedDigest: [1], contentKey: row.contentKey, metadataKey: row.metadataKey,
                        sealedEnvelope: [1],
                        frames: row.frames, frameCount: 1, deliveries: row.deliveries,
                        recipients: row.recipients,
                        replayTag: row.replayTag)
                }
                let isTaken = driver.put(row, ticket)
                #expect(isTaken)
                rows[ticket] = row
                keyOfTicket[ticket] = key.id
                ticket += 1
            }
            driver.run(
                submit: { batch, isRepeat, now in
                    now += .milliseconds(500)
                    return shard.submit(batch, isRepeat: isRepeat)
                },
                replay: { tag in
                    if Double.random(in: 0..<1, using: &shard.random) < shard.faultRate * 0.5 { return nil }
                    if shard.acknowledged.contains(tag) { return .some(.acknowledged) }
                    return .some(shard.tags[tag].map { .stands($0) })
                },
                withdraw: { ids in
                    if Double.random(in: 0..<1, using: &shard.random) < shard.faultRate * 0.5 { return nil }
                    var standing: Set<UUID> = []
                    for id in ids where shard.messages.contains(id) {
                        if Bool.random(using: &shard.random) {
                            standing.insert(id)
                        } else {
                            shard.messages.remove(id)
                            shard.tags = shard.tags.filter { $0.value != id }
                        }
                    }
                    return standing
                })
            // Some clients say that they got their 250.
            for (ticket, answer) in driver.told
            where answer == .durable && Int.random(in: 0..<10, using: &random) == 0 {
                if let tag = rows[ticket]?.replayTag, shard.tags[tag] == rows[ticket]?.id {
                    driver.group.acknowledge(tag, now: driver.now)
                }
            }
        }
        // What was taken under a tag that another has is marked.
        let unmarked = rows.filter { ticket, row in
            shard.messages.contains(row.id) && !shard.marked.contains(row.id) && row.replayTag != nil
                && row.replayTag.flatMap { shard.tags[$0] } != row.id && driver.told[ticket] != .unsettled
        }
        #expect(unmarked.isEmpty, "seed \(seed)")
        let unanswered = (0..<ticket).filter { driver.told[$0] == nil }
        #expect(unanswered.isEmpty, "seed \(seed)")
        for (ticket, answer) in driver.told {
            guard let row = rows[ticket] else { continue }
            switch answer {
            case .durable:
                #expect(shard.messages.contains(row.id), "seed \(seed)")
                #expect(
                    keyOfTicket[ticket].map(shard.keys.contains) == true, "its key is there too, seed \(seed)"
                )
            case .replayed(let first):
                #expect(shard.messages.contains(first) && first != row.id, "seed \(seed)")
            case .atFault: #expect(row.size < 0 && !shard.messages.contains(row.id), "seed \(seed)")
            case .unavailable, .storageFull, .overloaded:
                #expect(!shard.messages.contains(row.id), "seed \(seed)")
            case .unsettled: break
            }
        }
    }
}
