// Asks all other shards about the messages of one claim, and draws the consequences (`ReplayInquiry`).

import Foundation
import Ledger

/// The questions of one worker on one shard.
struct ReplayCheck: Sendable {
    /// One message and what is asked about it.
    struct Question: Sendable {
        let tags: [[UInt8]]
        var inquiry: ReplayInquiry
    }

    /// The worker's own shard.
    let ledger: WorkLedger
    /// All others.
    let desks: [ReplayDesk]

    /// The messages that are to be asked about: none was tried before, and each has tags. One without is marked already, or nobody can
    /// have repeated it.
    /// - Throws: when the ledger does not tell the tags.
    func questions(_ claims: [ClaimedDelivery]) async throws -> [UUID: Question] {
        if desks.isEmpty { return [:] }
        let fresh = Set(claims.filter { $0.attempts == 0 && $0.reportsOn == nil }.map(\.reference.message))
        if fresh.isEmpty { return [:] }
        let tags = try await ledger.replayTags(of: Array(fresh))
        return tags.reduce(into: [:]) { questions, entry in
            questions[entry.key] = Question(
                tags: entry.value, inquiry: ReplayInquiry(message: entry.key, shards: desks.indices))
        }
    }

    /// Asks once about all that is open.
    func ask(_ questions: inout [UUID: Question]) async {
        let now = ContinuousClock.now
        let answers = await withTaskGroup(of: (Int, [(UUID, ReplayWord)]).self) { group in
            for (shard, desk) in desks.enumerated() {
                let asked = questions.filter { $0.value.inquiry.shards.contains(shard) }
                if asked.isEmpty { continue }
                let (ids, tags) = (asked.map(\.key), asked.map(\.value.tags))
                group.addTask { (shard, Array(zip(ids, await desk.words(on: tags)))) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        for (shard, words) in answers {
            var yielding: [(message: UUID, to: UUID)] = []
            for (message, word) in words {
                if let earlier = questions[message]?.inquiry.heard(word, from: shard, at: now) {
                    yielding.append((message, earlier))
                }
            }
            if yielding.isEmpty { continue }
            let standing = await desks[shard].rely(on: yielding.map(\.to))
            for (message, earlier) in yielding {
                questions[message]?.inquiry.relied(
                    on: earlier, standing?.contains(earlier), in: shard, at: now)
            }
        }
    }
}
