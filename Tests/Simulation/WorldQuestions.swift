// The same bytes in another shard: what a worker asks before the first attempt of a message (design §7), by the real `ReplayInquiry`.

import Delivery
import Foundation
import Ledger

extension World {
    /// Begins to ask, or goes on: one shard after the other, and all that are still open again after a while.
    mutating func askOthers(_ number: Int) {
        guard isLive(attempts[number]), attempts[number].phase == .asking else { return }
        guard owns(attempts[number]) else { return abandon(number) }
        let inquiry = attempts[number].inquiry ?? begin(attempts[number])
        attempts[number].inquiry = inquiry
        switch inquiry.decision {
        case .goes(let isMarked):
            if isMarked {
                note("\(who(number)) may have gone from another shard: marked")
                attempts[number].possibleDuplicate = true
            }
            attempt(number)
        case .isReplay: endAsDuplicate(number)
        case .open:
            attempts[number].round = inquiry.shards.sorted()
            askNext(number)
        }
    }

    private func begin(_ attempt: Attempt) -> ReplayInquiry {
        let own = workers[attempt.worker].shard
        // One that its edge has marked has no tag of its own.
        let isAsked = flaw != .unaskedReplays && attempt.claim.attempts == 0 && !attempt.possibleDuplicate
        return ReplayInquiry(
            message: attempt.claim.reference.message,
            shards: isAsked ? clusters.indices.filter { $0 != own } : [])
    }

    private func who(_ number: Int) -> String {
        "\(name(worker: attempts[number].worker)): \(name(attempts[number].claim.reference))"
    }

    private mutating func askNext(_ number: Int) {
        guard let inquiry = attempts[number].inquiry else { return }
        while let shard = attempts[number].round.popLast() {
            guard inquiry.shards.contains(shard) else { continue }
            return call(
                .question(attempt: number, shard: shard), node: workers[attempts[number].worker].node,
                shard: shard, .ask(messages[attempts[number].message].content))
        }
        if inquiry.decision == .open {
            push(.asks(attempt: number), after: .seconds(2))
        } else {
            askOthers(number)
        }
    }

    mutating func questioned(_ number: Int, _ shard: Int, _ answer: CallAnswer) {
        let attempt = attempts[number]
        guard isLive(attempt), attempt.phase == .asking else { return }
        var word = silence(attempt, shard)
        if case .done(.holders(let holders), let isWarned, let hasNames) = answer {
            if flaw == .plainQuestion {
                word = .holders(
                    holders.filter { !$0.isAcknowledged }.map {
                        ReplayHolder(message: $0.message, isAcknowledged: false, wasClaimed: false)
                    })
            } else if isSure(isWarned, hasNames) {
                word = .holders(holders)
            }
        }
        let clock = clock(attempt.worker)
        let earlier = attempts[number].inquiry?.heard(word, from: shard, at: clock)
        guard let earlier else { return askNext(number) }
        call(
            .yielding(attempt: number, shard: shard, to: earlier), node: workers[attempt.worker].node,
            shard: shard, .yield(messages[attempt.message].content, to: earlier))
    }

    /// No leader answers: what the members know that can be reached.
    private func silence(_ attempt: Attempt, _ shard: Int) -> ReplayWord {
        let region = nodes[workers[attempt.worker].node].region
        let content = messages[attempt.message].content
        let reached = (0..<Self.regions).filter {
            clusters[shard].members[$0].isUp && clusters[shard].members[$0].pausedUntil <= now
                && isOpenBothWays(region, $0)
        }
        let isThere = reached.contains { member in
            clusters[shard].tables(of: clusters[shard].members[member].log).tag(content) != nil
        }
        return .silence(
            isThere: isThere, isEnough: flaw == .plainQuestion || reached.count >= Self.regions - 1)
    }

    mutating func yielded(_ number: Int, _ shard: Int, _ to: UUID, _ answer: CallAnswer) {
        let attempt = attempts[number]
        guard isLive(attempt), attempt.phase == .asking else { return }
        var stands: Bool?
        if case .done(.flag(let flag), let isWarned, let hasNames) = answer, isSure(isWarned, hasNames) {
            stands = flag
        }
        let clock = clock(attempt.worker)
        attempts[number].inquiry?.relied(on: to, stands, in: shard, at: clock)
        askNext(number)
    }
}
