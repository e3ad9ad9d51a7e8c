// What must hold when a history has come to its end (design §2). What must hold at a moment is asked then: `promise`, `check`.

import Ledger

extension World {
    mutating func judge() {
        var rows = [Int](repeating: 0, count: messages.count)
        var ended = Set<Int>()
        var marked = [Int: Int]()
        func key(_ content: Int, _ recipient: Int) -> Int {
            content * ShardTables.recipientsOfMessage + recipient
        }
        for cluster in clusters {
            guard let leader = cluster.leader else { continue }
            let tables = cluster.members[leader].model.tables
            for (message, row) in tables.messages.enumerated() where row != nil { rows[message] += 1 }
            for event in tables.events where event.recipient >= 0 {
                let index = key(messages[Int(event.message)].content, Int(event.recipient))
                switch event.kind {
                case .refused, .bounced, .expired: ended.insert(index)
                default: break
                }
                // A replay that was not sent marks nothing.
                if event.possibleDuplicate { marked[index, default: 0] += 1 }
            }
        }
        // Law 5: a message lives in one shard.
        for (message, count) in rows.enumerated() where count > 1 {
            violate("law 5: m\(message) is in \(count) shards")
        }
        var taken = [Int: Int]()
        for copy in copies { taken[key(copy.content, copy.recipient), default: 0] += 1 }
        var dots = [Int: Int]()
        for attempt in attempts where attempt.hasLeft && !attempt.isSettled {
            for recipient in attempt.claim.recipients {
                dots[key(messages[attempt.message].content, Int(recipient)), default: 0] += 1
            }
        }
        for (content, client) in clients.enumerated() {
            for recipient in 0..<client.deliveries * client.recipients {
                let index = key(content, recipient)
                let count = taken[index] ?? 0
                // Law 1: what got 250 is delivered or ends with a report.
                if client.isPromised, count == 0, !ended.contains(index) {
                    violate("law 1: content \(content) got 250 and recipient \(recipient) got nothing")
                }
                if count < 2 { continue }
                if (marked[index] ?? 0) < count - 1 {
                    violate(
                        "doubles: recipient \(recipient) got content \(content) \(count) times, and \(marked[index] ?? 0) marks say so"
                    )
                }
                // And only where a final dot or an accept stayed without its answer.
                let inDoubt = (dots[index] ?? 0) + client.unanswered
                if count - 1 > inDoubt {
                    violate(
                        "doubles: recipient \(recipient) got content \(content) \(count) times, and \(inDoubt) answers were missing"
                    )
                }
            }
        }
    }
}
