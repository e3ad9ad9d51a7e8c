// Which rows change for a batch of completions: a value, decided from what the database showed under lock (law 7).

import Foundation

/// The changes of one batch.
package struct CompletionPlan {
    /// What the database showed of a delivery, locked.
    package struct Current {
        package let fence: Int64
        package let isClaimed: Bool
        /// Whether its present owner has registered a final dot under this fence.
        package var hasDot = false
        /// How many recipients are open.
        package var openRecipients = 0

        package init(fence: Int64, isClaimed: Bool) {
            self.fence = fence
            self.isClaimed = isClaimed
        }
    }

    package struct Key: Hashable {
        package let message: UUID
        package let number: Int32

        package init(message: UUID, number: Int32) {
            self.message = message
            self.number = number
        }
    }

    package private(set) var recipientStates: [(message: UUID, number: Int32, state: String)] = []
    package private(set) var deletes: [Key] = []
    package private(set) var retries: [(key: Key, due: Date, possibleDuplicate: Bool, delayReported: Bool)] =
        []
    package private(set) var holds: [(key: Key, possibleDuplicate: Bool, delayReported: Bool)] = []
    /// Claims of a new owner that are void, because a late 250 ended part of what it would send.
    package private(set) var revoked: [Key] = []
    package private(set) var events: [EventRow] = []
    package private(set) var notifications: [NotificationRow] = []
    /// What the events rest on.
    package private(set) var judgements: [JudgementRow] = []
    /// Deliveries that ended, by message.
    package private(set) var endedDeliveries: [UUID: Int32] = [:]
    /// Of those: messages that are certainly over (they began with one delivery).
    package private(set) var overForSure: Set<UUID> = []
    package private(set) var shreddedEvents: [UUID: (id: UUID, tenant: String)] = [:]
    package private(set) var results: [CompletionResult] = []
    /// Some were there already: a commit in doubt, or warned, did happen, and this one must be durable in its stead.
    package private(set) var isRepeat = false

    /// - Parameters:
    ///   - current: deliveries that exist.
    ///   - endedBefore: recipients named in the completions that are not open any more, with their state.
    ///   - repeated: completions that an earlier commit has recorded already: nothing changes.
    package init(
        _ completions: [Completion], current: [Key: Current], endedBefore: [Key: String],
        repeated: Set<DeliveryReference> = []
    ) {
        for completion in completions {
            // Also where nothing else of it counts: what is stored once more does no harm.
            judgements.append(contentsOf: completion.judgements)
            if repeated.contains(completion.reference) {
                isRepeat = true
                results.append(.recorded)
                continue
            }
            let key = Key(message: completion.reference.message, number: completion.reference.number)
            shreddedEvents[key.message] = (completion.shreddedEventID, completion.tenant)
            if let row = current[key], row.isClaimed, row.fence == completion.reference.fence {
                results.append(takeOver(completion, key, endedBefore))
            } else {
                results.append(takeLate(completion, key, current[key], endedBefore))
            }
        }
    }

    private mutating func takeOver(_ completion: Completion, _ key: Key, _ endedBefore: [Key: String])
        -> CompletionResult
    {
        for recipient in completion.ended
        where endedBefore[Key(message: key.message, number: recipient.number)]
            != EndedRecipient.State.delivered.rawValue
        {
            recipientStates.append((key.message, recipient.number, recipient.state.rawValue))
        }
        func wasDelivered(_ number: Int32) -> Bool {
            endedBefore[Key(message: key.message, number: number)] == EndedRecipient.State.delivered.rawValue
        }
        // A recipient that a late 250 has served meanwhile is told of no failure.
        for event in completion.events
        where event.kind == .delivered || event.kind == .assessed || event.recipient.map(wasDelivered) != true
        {
            events.append(marked(event, endedBefore))
        }
        if completion.ended.isEmpty || !completion.ended.allSatisfy({ wasDelivered($0.number) }) {
            notifications.append(contentsOf: completion.notifications)
        }
        switch completion.step {
        case .ends: end(key, deliveriesOfMessage: completion.deliveriesOfMessage)
        case .retry(let due, let possibleDuplicate, let delayReported):
            retries.append((key, due, possibleDuplicate, delayReported))
        case .hold(let possibleDuplicate, let delayReported):
            holds.append((key, possibleDuplicate, delayReported))
        }
        return .recorded
    }

    /// A worker that lost its lease changes nobody's claim, but a 250 that it saw is recorded, and ends the delivery for those
    /// recipients if the new owner has not sent a final dot.
    private mutating func takeLate(
        _ completion: Completion, _ key: Key, _ row: Current?, _ endedBefore: [Key: String]
    ) -> CompletionResult {
        let delivered = Set(completion.ended.filter { $0.state == .delivered }.map(\.number))
        if delivered.isEmpty { return .stale(deliveredRecorded: false) }
        var nowEnded = 0
        for number in delivered where endedBefore[Key(message: key.message, number: number)] == nil {
            recipientStates.append((key.message, number, EndedRecipient.State.delivered.rawValue))
            nowEnded += 1
        }
        for event in completion.events
        where event.kind == .delivered && event.recipient.map({ delivered.contains($0) }) == true {
            events.append(marked(event, endedBefore))
        }
        if let row, !(row.isClaimed && row.hasDot), nowEnded > 0 {
            if nowEnded >= row.openRecipients {
                end(key, deliveriesOfMessage: completion.deliveriesOfMessage)
            } else if row.isClaimed {
                // One that is held or waits stays so, for those still open.
                revoked.append(key)
            }
        }
        return .stale(deliveredRecorded: true)
    }

    private mutating func end(_ key: Key, deliveriesOfMessage: Int32) {
        deletes.append(key)
        endedDeliveries[key.message, default: 0] += 1
        if deliveriesOfMessage == 1 { overForSure.insert(key.message) }
    }

    /// A second delivery to the same recipient is told as `duplicate`; one to a recipient that had ended otherwise is marked.
    private func marked(_ event: EventRow, _ endedBefore: [Key: String]) -> EventRow {
        guard event.kind == .delivered, let number = event.recipient,
            let before = endedBefore[Key(message: event.message, number: number)]
        else { return event }
        return EventRow(
            id: event.id, tenant: event.tenant, message: event.message, recipient: number,
            kind: before == EndedRecipient.State.delivered.rawValue ? .duplicate : .delivered, at: event.at,
            reasonCode: event.reasonCode, possibleDuplicate: true, sealedDetail: event.sealedDetail)
    }
}
