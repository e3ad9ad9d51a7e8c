// The same bytes in another shard: what a worker asks before the first attempt of a message (design §7).

import Foundation
import Ledger

extension World {
    /// Asks the next shard, if one is to be asked.
    mutating func askOthers(_ number: Int) {
        let attempt = attempts[number]
        guard isLive(attempt), attempt.phase == .asking else { return }
        guard owns(attempt) else { return abandon(number) }
        let own = workers[attempt.worker].shard
        var shard = attempt.asked
        if shard == own { shard += 1 }
        attempts[number].asked = shard
        guard rules.crossShard != .unasked, flaw != .unaskedReplays, attempt.claim.attempts == 0,
            shard < clusters.count, hasTag(attempt)
        else { return self.attempt(number) }
        call(
            .question(attempt: number, shard: shard), node: workers[attempt.worker].node, shard: shard,
            .ask(messages[attempt.message].content))
    }

    /// As it was designed only a message whose tag is still there asks.
    func hasTag(_ attempt: Attempt) -> Bool {
        if rules.crossShard == .guarded { return true }
        let shard = workers[attempt.worker].shard
        guard let leader = clusters[shard].leader else { return false }
        let content = messages[attempt.message].content
        return clusters[shard].members[leader].model.tables.tag(content).map {
            Int($0.message) == attempt.message
        } ?? false
    }

    mutating func askNext(_ number: Int) {
        attempts[number].asked += 1
        attempts[number].askingSince = -1
        askOthers(number)
    }

    mutating func questioned(_ number: Int, _ shard: Int, _ answer: CallAnswer) {
        let attempt = attempts[number]
        guard isLive(attempt), attempt.phase == .asking else { return }
        let content = messages[attempt.message].content
        switch answer {
        case .done(_, let isWarned, let hasNames)
        where rules.crossShard == .guarded && !isSure(isWarned, hasNames):
            waitForWord(number, shard)
        case .done(.holder(let other, let isAcknowledged, let wasClaimed), _, _):
            if other < attempt.claim.reference.message, !isAcknowledged {
                call(
                    .yielding(attempt: number, shard: shard), node: workers[attempt.worker].node,
                    shard: shard, .yield(content, to: other))
                return
            }
            if rules.crossShard == .guarded, wasClaimed || isAcknowledged {
                note(
                    "\(name(worker: attempt.worker)): \(name(attempt.claim.reference)) may have gone as m\(SimulatedID.number(other)): marked"
                )
                attempts[number].possibleDuplicate = true
            }
            askNext(number)
        case .done: askNext(number)
        case .unavailable, .inDoubt: waitForWord(number, shard)
        }
    }

    /// The other shard has no leader that answers.
    mutating func waitForWord(_ number: Int, _ shard: Int) {
        let attempt = attempts[number]
        let region = nodes[workers[attempt.worker].node].region
        let content = messages[attempt.message].content
        let reached = (0..<Self.regions).filter {
            clusters[shard].members[$0].isUp && clusters[shard].members[$0].pausedUntil <= now
                && isOpenBothWays(region, $0)
        }
        let isThere = reached.contains { member in
            clusters[shard].tables(of: clusters[shard].members[member].log).tag(content) != nil
        }
        guard isThere || (rules.crossShard == .guarded && reached.count < 2) else { return askNext(number) }
        let since = attempt.askingSince < 0 ? now : attempt.askingSince
        attempts[number].askingSince = since
        if now - since > Self.questionBound {
            note(
                "\(name(worker: attempt.worker)): \(name(attempt.claim.reference)) has waited for shard \(Self.shardNames[shard]) long enough: marked"
            )
            attempts[number].possibleDuplicate = true
            return askNext(number)
        }
        push(.asks(attempt: number), after: .seconds(2))
    }

    mutating func yielded(_ number: Int, _ shard: Int, _ answer: CallAnswer) {
        let attempt = attempts[number]
        guard isLive(attempt), attempt.phase == .asking else { return }
        switch answer {
        case .done(.flag(true), let isWarned, let hasNames) where isSure(isWarned, hasNames):
            guard owns(attempt) else { return abandon(number) }
            endAsDuplicate(number)
        case .done(.flag(false), _, _): askNext(number)
        default: waitForWord(number, shard)
        }
    }
}
