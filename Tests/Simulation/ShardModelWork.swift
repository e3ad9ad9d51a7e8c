// The statements of WorkLedger: leases, claims, final dots, reclaims and completions.

import Foundation
import Ledger

extension ShardModel {
    // MARK: Leases

    func register(_ worker: Int, _ work: inout Work) -> ShardReply? {
        if tables.incarnation < timeline {
            if isLocked(.incarnation, 0) { return nil }
            work.lock(.incarnation, 0)
            work.write(.incarnation(timeline))
            for (other, lease) in tables.leases.enumerated() where lease != nil {
                if isLocked(.lease, other) || isLocked(.leaseReclaimed, other) { return nil }
                work.lock(.lease, other)
                work.write(.lease(other, work.now + .seconds(15)))
            }
        }
        work.lock(.lease, worker)
        work.write(.lease(worker, work.now + times.lease))
        return .done
    }

    func heartbeat(_ worker: Int, _ work: inout Work) -> ShardReply? {
        guard let lease = tables.lease(worker) else { return .flag(false) }
        if isLocked(.lease, worker) || isLocked(.leaseReclaimed, worker) { return nil }
        guard lease > work.now else { return .flag(false) }
        work.lock(.lease, worker)
        work.write(.lease(worker, work.now + times.lease))
        return .flag(true)
    }

    /// Locks the worker's row against a reclaim. Nil: a reclaim holds it; false: the lease is over.
    func holdsLease(_ worker: Int, _ work: inout Work) -> Bool? {
        guard let lease = tables.lease(worker), lease > work.now else { return false }
        if isLocked(.leaseReclaimed, worker) { return nil }
        work.lock(.leaseShared, worker)
        return true
    }

    // MARK: Claims

    mutating func claim(_ worker: Int, _ limit: Int, _ perLane: Int, _ work: inout Work) -> ShardReply? {
        guard let holds = holdsLease(worker, &work) else { return nil }
        if !holds { return .claims([]) }
        var picked: [Int] = []
        for lane in 0..<ShardTables.deliveriesOfMessage {
            var ready: [Int] = []
            var index = lane
            while index < tables.deliveries.count {
                if tables.deliveries[index]?.state == .ready { ready.append(index) }
                index += ShardTables.deliveriesOfMessage
            }
            ready.removeAll { isLocked(.delivery, $0) }
            ready.sort { (tables.delivery($0)?.due ?? 0, $0) < (tables.delivery($1)?.due ?? 0, $1) }
            picked += ready.prefix(perLane)
        }
        var claims: [SimulatedClaim] = []
        for index in picked.prefix(limit) {
            guard var row = tables.delivery(index) else { continue }
            row.state = .claimed
            row.worker = Int32(worker)
            row.fence += 1
            if flaw == .reusedFences {
                claimsHere[index, default: 0] += 1
                row.fence = claimsHere[index] ?? 1
            }
            work.lock(.delivery, index)
            work.write(.delivery(index, row))
            claims.append(claim(of: reference(index, row.fence), row))
        }
        return .claims(claims)
    }

    func claim(of reference: DeliveryReference, _ row: ShardTables.Delivery?) -> SimulatedClaim {
        let message = tables.message(SimulatedID.number(reference.message))
        return SimulatedClaim(
            reference: reference, attempts: row?.attempts ?? 0,
            possibleDuplicate: row?.possibleDuplicate ?? false, delayReported: row?.delayReported ?? false,
            deliveries: Int32(message?.deliveries ?? 1),
            recipients: tables.recipients(of: index(reference)).map(Int32.init))
    }

    func release(_ worker: UUID, _ references: [DeliveryReference], _ work: inout Work) -> ShardReply? {
        let worker = Int32(SimulatedID.number(worker))
        for reference in references {
            let index = index(reference)
            guard var row = tables.delivery(index), row.state == .claimed, row.worker == worker,
                row.fence == reference.fence
            else { continue }
            if isLocked(.delivery, index) { return nil }
            row.state = .ready
            row.worker = -1
            work.lock(.delivery, index)
            work.write(.delivery(index, row))
        }
        return .done
    }

    func promote(_ work: inout Work) -> ShardReply? {
        var count = 0
        for (index, row) in tables.deliveries.enumerated() {
            guard var row, row.state == .waiting, row.due <= work.now, !isLocked(.delivery, index) else {
                continue
            }
            row.state = .ready
            work.lock(.delivery, index)
            work.write(.delivery(index, row))
            count += 1
        }
        return .counts(count, 0)
    }

    // MARK: Final dots

    func dots(
        _ worker: Int, _ asked: [DeliveryReference],
        _ inFlight: [(reference: DeliveryReference, at: Date)], _ work: inout Work
    ) -> ShardReply? {
        guard let holds = holdsLease(worker, &work) else { return nil }
        var granted: Set<DeliveryReference> = []
        var row: [ShardTables.Dot] = []
        if holds {
            for reference in asked {
                let index = index(reference)
                guard let delivery = tables.delivery(index), delivery.state == .claimed,
                    Int(delivery.worker) == worker, delivery.fence == reference.fence
                else { continue }
                if isLocked(.delivery, index) { return nil }
                work.lock(.delivery, index)
                granted.insert(reference)
                row.append(ShardTables.Dot(delivery: Int32(index), fence: reference.fence, at: work.now))
            }
        }
        if flaw != .forgottenDots {
            for (reference, at) in inFlight {
                row.append(
                    ShardTables.Dot(
                        delivery: Int32(index(reference)), fence: reference.fence, at: Ticks(date: at)))
            }
        }
        if !row.isEmpty {
            if isLocked(.dots, worker) { return nil }
            work.lock(.dots, worker)
            row.sort { $0.delivery < $1.delivery }
            work.write(.dots(worker, row))
        }
        return .granted(granted, at: granted.isEmpty ? nil : Date(ticks: work.now))
    }

    func hasDot(_ delivery: Int, _ fence: Int64, of worker: Int) -> Bool {
        tables.dots(worker)?.contains { Int($0.delivery) == delivery && $0.fence == fence } ?? false
    }

    func reclaim(_ work: inout Work) -> ShardReply? {
        var gone: [Int] = []
        for (worker, lease) in tables.leases.enumerated() {
            guard let lease, lease < work.now, !isLocked(.lease, worker), !isLocked(.leaseShared, worker),
                !isLocked(.leaseReclaimed, worker)
            else { continue }
            gone.append(worker)
            work.lock(.leaseReclaimed, worker)
        }
        if gone.isEmpty { return .counts(0, 0) }
        var (freed, doubtful) = (0, 0)
        var kept: Set<Int> = []
        for (index, row) in tables.deliveries.enumerated() {
            guard var row, row.state == .claimed, gone.contains(Int(row.worker)) else { continue }
            let worker = Int(row.worker)
            let dot = tables.dots(worker)?.first { Int($0.delivery) == index && $0.fence == row.fence }
            if let dot, flaw != .reclaimWithoutDotWait {
                guard dot.at < work.now - times.finalDot else {
                    kept.insert(worker)
                    continue
                }
                row.attempts += 1
                if flaw != .unmarkedDoubt {
                    row.possibleDuplicate = true
                    for recipient in tables.recipients(of: index) {
                        work.write(
                            event(0, index / ShardTables.deliveriesOfMessage, recipient, .deferred, true))
                    }
                }
                doubtful += 1
            } else {
                freed += 1
            }
            if isLocked(.delivery, index) { return nil }
            work.lock(.delivery, index)
            row.state = .ready
            row.worker = -1
            row.due = work.now
            work.write(.delivery(index, row))
        }
        for worker in gone where !kept.contains(worker) {
            guard let lease = tables.lease(worker), lease < work.now - .seconds(60) else { continue }
            work.write(.lease(worker, nil))
            if tables.dots(worker) != nil { work.write(.dots(worker, nil)) }
        }
        for (worker, row) in tables.dots.enumerated() where row != nil && tables.lease(worker) == nil {
            if isLocked(.dots, worker) { return nil }
            work.write(.dots(worker, nil))
        }
        return .counts(freed, doubtful)
    }

    // MARK: Completions

    func complete(_ completions: [Completion], _ work: inout Work) -> ShardReply? {
        var current: [CompletionPlan.Key: CompletionPlan.Current] = [:]
        var endedBefore: [CompletionPlan.Key: String] = [:]
        var repeated: Set<DeliveryReference> = []
        for completion in completions {
            let reference = completion.reference
            let message = SimulatedID.number(reference.message)
            let index = index(reference)
            if isLocked(.message, message) { return nil }
            for recipient in completion.ended {
                let number = Int(recipient.number)
                guard let state = tables.recipient(ShardTables.recipient(message, number)), state != .open,
                    state != .held
                else { continue }
                endedBefore[CompletionPlan.Key(message: reference.message, number: recipient.number)] =
                    state.word
            }
            var isCurrent = false
            if let row = tables.delivery(index) {
                if isLocked(.delivery, index) { return nil }
                work.lock(.delivery, index)
                let fence = flaw == .uncheckedFences ? reference.fence : row.fence
                var shown = CompletionPlan.Current(fence: fence, isClaimed: row.state == .claimed)
                isCurrent = row.state == .claimed && fence == reference.fence
                if !isCurrent {
                    shown.hasDot = row.worker >= 0 && hasDot(index, row.fence, of: Int(row.worker))
                    shown.openRecipients = tables.recipients(of: index, in: [.open, .held]).count
                }
                current[CompletionPlan.Key(message: reference.message, number: reference.number)] = shown
            }
            if !isCurrent, completion.events.contains(where: { isThere($0, message) }) {
                repeated.insert(reference)
            }
        }
        let plan = CompletionPlan(
            completions, current: current, endedBefore: endedBefore, repeated: repeated)
        apply(plan, &work)
        return .results(plan.results)
    }

    func isThere(_ event: EventRow, _ message: Int) -> Bool {
        let number = Int32(SimulatedID.number(event.id))
        return tables.events.contains { $0.number == number && Int($0.message) == message }
    }

    func apply(_ plan: CompletionPlan, _ work: inout Work) {
        for change in plan.recipientStates {
            let message = SimulatedID.number(change.message)
            guard let state = ShardTables.Recipient(word: change.state) else { continue }
            work.lock(.message, message)
            work.write(.recipient(ShardTables.recipient(message, Int(change.number)), state))
        }
        for key in plan.deletes { work.write(.delivery(index(key), nil)) }
        for retry in plan.retries {
            change(retry.key, &work) { row in
                row.state = .waiting
                row.worker = -1
                row.due = Ticks(date: retry.due)
                row.attempts += 1
                row.possibleDuplicate = row.possibleDuplicate || retry.possibleDuplicate
                row.delayReported = retry.delayReported
            }
        }
        for hold in plan.holds {
            change(hold.key, &work) { row in
                row.state = .held
                row.worker = -1
                row.attempts += 1
                row.possibleDuplicate = row.possibleDuplicate || hold.possibleDuplicate
                row.delayReported = hold.delayReported
            }
        }
        for key in plan.revoked {
            change(key, &work) { row in
                row.state = .ready
                row.worker = -1
                row.fence += 1
            }
        }
        for event in plan.events {
            work.write(
                self.event(
                    SimulatedID.number(event.id), SimulatedID.number(event.message),
                    event.recipient.map(Int.init) ?? -1, EventWord(event.kind), event.possibleDuplicate))
        }
        for (id, count) in plan.endedDeliveries {
            let message = SimulatedID.number(id)
            guard var row = tables.message(message) else { continue }
            work.lock(.message, message)
            let isOver = row.openDeliveries <= count
            row.openDeliveries -= count
            row.isShredded = isOver
            work.write(.message(message, row))
            if isOver || plan.overForSure.contains(id) {
                work.write(event(0, message, -1, .shredded, false))
            }
        }
        if plan.isRepeat { work.mustLog = true }
    }

    func index(_ key: CompletionPlan.Key) -> Int {
        ShardTables.delivery(SimulatedID.number(key.message), Int(key.number))
    }

    func change(
        _ key: CompletionPlan.Key, _ work: inout Work, _ body: (inout ShardTables.Delivery) -> Void
    ) {
        let index = index(key)
        guard var row = tables.delivery(index) else { return }
        body(&row)
        work.write(.delivery(index, row))
    }
}

extension ShardTables.Recipient {
    /// As `ledger.recipient` writes it.
    var word: String {
        switch self {
        case .open: "open"
        case .held: "held"
        case .delivered: "delivered"
        case .refused: "refused"
        case .bounced: "bounced"
        case .expired: "expired"
        case .cancelled: "cancelled"
        case .duplicate: "duplicate"
        case .withdrawn: "withdrawn"
        }
    }

    init?(word: String) {
        switch word {
        case "delivered": self = .delivered
        case "refused": self = .refused
        case "bounced": self = .bounced
        case "expired": self = .expired
        case "cancelled": self = .cancelled
        case "duplicate": self = .duplicate
        default: return nil
        }
    }
}

extension Ticks {
    init(date: Date) { self = Ticks((date.timeIntervalSinceReferenceDate * 1e6).rounded()) }
}

extension Date {
    init(ticks: Ticks) { self.init(timeIntervalSinceReferenceDate: Double(ticks) / 1e6) }
}
