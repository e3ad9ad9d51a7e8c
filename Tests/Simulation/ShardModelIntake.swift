// The statements of IntakeLedger: batches, replays, withdrawals (migration 0004).

import Foundation
import Ledger
import Postgres

extension ShardModel {
    mutating func intake(_ batch: IntakeBatch, _ isMarked: Bool, _ work: inout Work) -> ShardReply? {
        if isMarked { work.mustLog = true }
        var forgotten: Set<Int> = []
        for tag in batch.acknowledgedTags {
            let content = SimulatedID.content(tag)
            guard var row = tables.tag(content) else { continue }
            if isLocked(.tag, content) { return nil }
            work.lock(.tag, content)
            if flaw == .forgottenTags {
                forgotten.insert(content)
                work.write(.tag(content, nil))
            } else {
                row.isAcknowledged = true
                work.write(.tag(content, row))
            }
        }
        for row in batch.messages {
            let message = SimulatedID.number(row.id)
            if isLocked(.message, message) { return nil }
            if tables.message(message) != nil {
                return failed("message", &work)
            }
        }
        var taken: Set<Int> = []
        for row in batch.messages {
            let message = SimulatedID.number(row.id)
            ids[message] = row.id
            let content = row.replayTag.map(SimulatedID.content)
            if let content {
                if isLocked(.tag, content) { return nil }
                if tables.tag(content) != nil, !forgotten.contains(content) {
                    return failed("replay", &work)
                }
                if !taken.insert(content).inserted { return failed("replay", &work) }
            }
            add(row, message, content, &work)
        }
        return .done
    }

    mutating func add(_ row: MessageRow, _ message: Int, _ content: Int?, _ work: inout Work) {
        work.lock(.message, message)
        let deliveries = row.deliveries.count
        let recipients = row.recipients.count / max(1, deliveries)
        work.write(
            .message(
                message,
                ShardTables.Message(
                    openDeliveries: Int32(deliveries), content: Int32(content ?? -1),
                    deliveries: Int8(deliveries), recipients: Int8(recipients))))
        let due = Ticks(exactly: (row.acceptedAt.timeIntervalSinceReferenceDate * 1e6).rounded()) ?? 0
        for delivery in 0..<deliveries {
            var one = ShardTables.Delivery(due: due)
            one.possibleDuplicate = row.isPossibleDuplicate
            work.write(.delivery(ShardTables.delivery(message, delivery), one))
        }
        for recipient in 0..<row.recipients.count {
            work.write(.recipient(ShardTables.recipient(message, recipient), .open))
            work.write(event(0, message, recipient, .accepted, false))
        }
        if let content {
            work.lock(.tag, content)
            work.write(.tag(content, ShardTables.Tag(message: Int32(message))))
        }
    }

    func failed(_ table: String, _ work: inout Work) -> ShardReply {
        work = Work(now: work.now)
        return .conflict(PostgresError(.server, "duplicate key", sqlState: "23505", table: table))
    }

    func event(_ number: Int, _ message: Int, _ recipient: Int, _ kind: EventWord, _ isMarked: Bool)
        -> ShardTables.Write
    {
        .event(
            ShardTables.Event(
                number: Int32(truncatingIfNeeded: number), message: Int32(message),
                recipient: Int8(recipient), kind: kind, possibleDuplicate: isMarked))
    }

    func replay(_ content: Int, _ work: inout Work) -> ShardReply? {
        guard var tag = tables.tag(content) else { return .earlier(nil) }
        if isLocked(.tag, content) { return nil }
        if tag.isAcknowledged { return .earlier(.acknowledged) }
        tag.isReplayed = true
        work.lock(.tag, content)
        work.write(.tag(content, tag))
        return .earlier(.stands(messageID(Int(tag.message))))
    }

    func withdraw(_ ids: [UUID], _ work: inout Work) -> ShardReply? {
        work.mustLog = true
        var withdrawn: Set<UUID> = []
        for id in ids.sorted() {
            let message = SimulatedID.number(id)
            guard var row = tables.message(message) else { continue }
            let all = (0..<Int(row.deliveries)).map { ShardTables.delivery(message, $0) }
            let open = all.filter { tables.delivery($0) != nil }
            if open.contains(where: { isLocked(.delivery, $0) }) { return nil }
            for delivery in open { work.lock(.delivery, delivery) }
            if open.isEmpty { continue }
            let isClaimed = open.contains { index in
                tables.delivery(index).map { $0.fence > 0 || $0.state != .ready } ?? false
            }
            if isClaimed, flaw != .withdrawalIgnoresClaim { continue }
            if row.openDeliveries != Int32(row.deliveries), flaw != .withdrawalIgnoresEnds { continue }
            let content = Int(row.content)
            if content >= 0, let tag = tables.tag(content), Int(tag.message) == message {
                if isLocked(.tag, content) { return nil }
                work.lock(.tag, content)
                if tag.isReplayed, flaw != .withdrawalIgnoresReplay { continue }
                work.write(.tag(content, nil))
            }
            if isLocked(.message, message) { return nil }
            work.lock(.message, message)
            for delivery in open { work.write(.delivery(delivery, nil)) }
            for recipient in 0..<Int(row.deliveries) * Int(row.recipients) {
                work.write(.recipient(ShardTables.recipient(message, recipient), .withdrawn))
            }
            row.isWithdrawn = true
            row.openDeliveries = 0
            row.isShredded = true
            work.write(.message(message, row))
            work.write(event(0, message, -1, .withdrawn, false))
            withdrawn.insert(id)
        }
        return .withdrawal(withdrawn: withdrawn, standing: known(ids).subtracting(withdrawn))
    }
}
