// What each outcome of a step means for whom, and what comes next.

import Foundation
import Ledger
import Postgres

extension GroupCommit {
    /// A submission ended.
    ///
    /// - Parameters:
    ///   - slot: As the step said.
    ///   - newKeys: The batch keys that the owner added to the batch.
    package mutating func submitted(
        _ slot: Slot, _ outcome: IntakeOutcome, newKeys: [BatchKeyRow], now: ContinuousClock.Instant
    ) {
        guard case .submission(let group, let tags, let keys) = underWay.removeValue(forKey: slot) else {
            preconditionFailure("nothing was submitted")
        }
        switch outcome {
        case .durable:
            failures = 0
            found(keys.union(newKeys.map(\.id)))
            for item in group.items { answer(item, .durable) }
        case .notDurable, .inDoubt:
            unsureKeys += newKeys
            keep(tags, now: now)
            settle(group, now: now)
        case .atFault(let error):
            failures = 0
            keep(tags, now: now)
            let looksFirst = group.isRepeat || !unsureKeys.isEmpty
            if error.table == "batch_key", !newKeys.isEmpty {
                // They are there already: the next batch looks first.
                unsureKeys += newKeys
                groups.append(group.troubled)
                return
            }
            if looksFirst, IntakeLedger.isRepeatedID(error) {
                // A commit in doubt became visible between the look and the COPY: looking again finds it.
                backOff(now)
                retry(group, now: now)
            } else {
                split(group, error)
            }
        case .unavailable(let error):
            keep(tags, now: now)
            backOff(now)
            if error.sqlState == "53100", !group.isRepeat {
                for item in group.items { answer(item, .storageFull) }
            } else {
                retry(group, now: now)
            }
        }
    }

    /// The look-up of yesterday's tags ended: the tags that were found; nil when it failed.
    package mutating func lookedUp(
        _ slot: Slot, _ found: [[UInt8]: EarlierAccept]?, now: ContinuousClock.Instant
    ) {
        guard case .lookUp(var group) = underWay.removeValue(forKey: slot) else {
            preconditionFailure("nothing was looked up")
        }
        guard let found else {
            backOff(now)
            return retry(group, now: now)
        }
        var rest: [Item] = []
        for var item in group.items {
            item.isPreviousTagTried = true
            switch item.previousTag.flatMap({ found[$0] }) {
            case .stands(let id) where id != item.messageID:
                answer(item, .replayed(id))
                drop(item)
            case .acknowledged:
                item.mark(keepsTag: true)
                rest.append(item)
            default: rest.append(item)
            }
        }
        group.items = rest
        if !rest.isEmpty { groups.append(group) }
    }

    /// The question for a replay ended.
    ///
    /// - Parameter first: What was taken first; nil in it when there is none any more; nil when nothing is certain yet.
    package mutating func replayed(_ first: EarlierAccept??, now: ContinuousClock.Instant) {
        guard case .replay(var item, let isRepeat)? = alone else {
            preconditionFailure("nothing was asked")
        }
        alone = nil
        switch first {
        case .some(.stands(let id)?):
            answer(item, .replayed(id))
            if id != item.messageID { drop(item) }
        case .some(.acknowledged?):
            // A new message, as far as anybody can tell; or a try of the same client that stood still on its way here.
            item.mark(keepsTag: false)
            groups.append(Group(items: [item], isRepeat: isRepeat))
        case .some(nil):
            item.vanishedTags += 1
            if item.vanishedTags < 3 {
                groups.append(Group(items: [item], isRepeat: isRepeat))
            } else {
                answer(item, .unsettled)
            }
        case nil:
            backOff(now)
            retry(Group(items: [item], isRepeat: isRepeat), now: now)
        }
    }

    /// A withdrawal ended.
    ///
    /// - Parameter standing: The messages that stand all the same, durably: somebody has claimed or repeated them. Nil: it is not
    ///   certain that any was taken back.
    package mutating func withdrawn(standing: Set<UUID>?, now: ContinuousClock.Instant) {
        guard case .withdrawal(let items)? = alone else { preconditionFailure("nothing was withdrawn") }
        alone = nil
        guard let standing else {
            backOff(now)
            for item in items {
                if item.deadline + limits.withdrawal > now {
                    overdue.append(item)
                } else {
                    answer(item, .unsettled)
                }
            }
            return
        }
        failures = 0
        for item in items {
            answer(item, item.messageID.map(standing.contains) ?? false ? .durable : .unsettled)
        }
    }

    /// The frames of an abandoned message are gone, or are left to the sweeper.
    package mutating func abandonmentEnded() { alone = nil }

    // MARK: Outcomes

    private mutating func answer(_ item: Item, _ answer: IntakeAnswer) {
        if let ticket = item.ticket { answers.append((ticket, answer)) }
    }

    /// What was uploaded for a message that will not be kept.
    private mutating func drop(_ item: Item) {
        if case .message(let row) = item.work, row.isUploaded { abandon(row.id) }
    }

    private mutating func keep(_ tags: [[UInt8]], now: ContinuousClock.Instant) {
        guard !tags.isEmpty else { return }
        if self.tags.isEmpty { tagsSince = now }
        let room = max(0, limits.tagCount - self.tags.count)
        forgottenTags += max(0, tags.count - room)
        self.tags = tags.prefix(room) + self.tags
    }

    private mutating func backOff(_ now: ContinuousClock.Instant) {
        // Several that were under way beside each other met the same trouble.
        if let retryAt, retryAt > now { return }
        let wait = limits.backOff.lowerBound * (1 << min(failures, 10))
        failures += 1
        retryAt = now + min(wait, limits.backOff.upperBound)
    }

    /// Nobody knows whether it happened: messages are submitted again, the rest cannot be.
    private mutating func settle(_ group: Group, now: ContinuousClock.Instant) {
        backOff(now)
        var messages: [Item] = []
        for item in group.items {
            switch item.work {
            case .message: messages.append(item)
            case .upload: answer(item, .unsettled)
            case .rejection: break
            }
        }
        retry(Group(items: messages, isRepeat: true), now: now)
    }

    /// Again later, but for what is out of time.
    private mutating func retry(_ group: Group, now: ContinuousClock.Instant) {
        var group = group.troubled
        let late = group.items.filter { $0.deadline <= now }
        group.items.removeAll { $0.deadline <= now }
        if group.isRepeat {
            overdue += late
        } else {
            for item in late { answer(item, .unavailable) }
        }
        if !group.items.isEmpty { groups.append(group) }
    }

    /// The database does not answer: whoever waits since long hears it now.
    mutating func expire(_ now: ContinuousClock.Instant) {
        while let item = queue.first, item.deadline <= now {
            queuedBytes -= item.size
            answer(queue.removeFirst(), .unavailable)
        }
        guard groups.contains(where: { $0.items.contains { $0.deadline <= now } }) else { return }
        let all = groups
        groups = []
        for group in all { retry(group, now: now) }
    }

    private mutating func split(_ group: Group, _ error: PostgresError) {
        if group.items.count > 1 {
            let middle = group.items.count / 2
            groups.append(Group(items: Array(group.items[middle...]), isRepeat: group.isRepeat))
            groups.append(Group(items: Array(group.items[..<middle]), isRepeat: group.isRepeat))
            return
        }
        guard let item = group.items.first else { return }
        if case .message(let row) = item.work, row.replayTag != nil, IntakeLedger.isReplay(error) {
            asked.append((item, group.isRepeat))
        } else if case .message = item.work, IntakeLedger.isRepeatedID(error), !group.isRepeat {
            groups.append(Group(items: [item], isRepeat: true))
        } else {
            answer(item, .atFault)
        }
    }
}

extension GroupCommit.Group {
    /// The same as one that is taken up alone.
    fileprivate var troubled: Self { Self(items: items, isRepeat: isRepeat) }
}
