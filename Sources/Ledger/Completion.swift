// What a worker reports of a delivery that it tried: values.

import Foundation

/// One event to record. Ids are UUIDv7, made by the worker, so that a repeated batch writes the same ones.
public struct EventRow: Sendable {
    /// UUIDv7.
    public let id: UUID
    /// Whose message it is.
    public let tenant: String
    /// The message.
    public let message: UUID
    /// The recipient's number, where one is concerned.
    public let recipient: Int32?
    /// What happened.
    public let kind: EventKind
    /// When.
    public let at: Date
    /// Why, by name.
    public let reasonCode: String?
    /// The message may have reached this recipient before.
    public let possibleDuplicate: Bool
    /// `EventDetail`, sealed as field `event/<id>` of the message's metadata.
    public let sealedDetail: [UInt8]?

    /// One event.
    public init(
        id: UUID, tenant: String, message: UUID, recipient: Int32?, kind: EventKind, at: Date,
        reasonCode: String? = nil,
        possibleDuplicate: Bool = false, sealedDetail: [UInt8]? = nil
    ) {
        self.id = id
        self.tenant = tenant
        self.message = message
        self.recipient = recipient
        self.kind = kind
        self.at = at
        self.reasonCode = reasonCode
        self.possibleDuplicate = possibleDuplicate
        self.sealedDetail = sealedDetail
    }
}

/// How one recipient of a delivery ended.
public struct EndedRecipient: Sendable {
    /// The terminal states.
    public enum State: String, Sendable { case delivered, refused, bounced, expired, cancelled, duplicate }
    /// Its number.
    public let number: Int32
    /// How.
    public let state: State

    /// One recipient.
    public init(number: Int32, state: State) {
        self.number = number
        self.state = state
    }
}

/// What becomes of the delivery.
public enum DeliveryStep: Sendable {
    /// Every recipient has ended.
    case ends
    /// Again at `due`, for those still open.
    case retry(due: Date, possibleDuplicate: Bool, delayReported: Bool)
    /// An operator must decide. `possibleDuplicate`: a final dot may have been sent, which whoever sends it again must say.
    /// Counts as an attempt like a retry.
    case hold(possibleDuplicate: Bool, delayReported: Bool)
}

/// A delivery status notification and the batch keys it was sealed under.
public struct NotificationRow: Sendable {
    /// The notification itself: a message with `reportsOn`.
    public let message: MessageRow
    /// Keys that are not committed yet.
    public let batchKeys: [BatchKeyRow]

    /// One notification.
    public init(message: MessageRow, batchKeys: [BatchKeyRow]) {
        self.message = message
        self.batchKeys = batchKeys
    }
}

/// One attempt's result: committed with everything that follows from it, or not at all.
public struct Completion: Sendable {
    /// Which delivery, under which claim.
    public let reference: DeliveryReference
    /// How many deliveries its message began with.
    public let deliveriesOfMessage: Int32
    /// Whose it is.
    public let tenant: String
    /// Recipients that ended now.
    public let ended: [EndedRecipient]
    /// What becomes of the rest.
    public let step: DeliveryStep
    /// What to tell. Those of kind `delivered` are recorded whoever owns the delivery by now.
    public let events: [EventRow]
    /// What goes to the sender.
    public let notifications: [NotificationRow]
    /// Judgements that events name and that no commit has stored yet, as far as the worker knows.
    public let judgements: [JudgementRow]
    /// The id of the `shredded` event, if this ends the message.
    public let shreddedEventID: UUID

    /// One result.
    public init(
        reference: DeliveryReference, deliveriesOfMessage: Int32, tenant: String, ended: [EndedRecipient],
        step: DeliveryStep, events: [EventRow], notifications: [NotificationRow] = [],
        judgements: [JudgementRow] = [], shreddedEventID: UUID
    ) {
        self.reference = reference
        self.deliveriesOfMessage = deliveriesOfMessage
        self.tenant = tenant
        self.ended = ended
        self.step = step
        self.events = events
        self.notifications = notifications
        self.judgements = judgements
        self.shreddedEventID = shreddedEventID
    }
}

extension Completion {
    /// The end of a claimed delivery whose recipients have all been served by an earlier owner: there is nothing more to tell.
    public static func ending(_ claim: ClaimedDelivery, shreddedEventID: UUID) -> Completion {
        Completion(
            reference: claim.reference, deliveriesOfMessage: claim.deliveries, tenant: claim.tenant,
            ended: [], step: .ends, events: [], shreddedEventID: shreddedEventID)
    }

    /// The same, with other judgements to store.
    public func with(judgements: [JudgementRow]) -> Completion {
        Completion(
            reference: reference, deliveriesOfMessage: deliveriesOfMessage, tenant: tenant, ended: ended,
            step: step, events: events, notifications: notifications, judgements: judgements,
            shreddedEventID: shreddedEventID)
    }
}

/// How the ledger took a completion.
public enum CompletionResult: Sendable, Equatable {
    /// As it was reported.
    case recorded
    /// The claim was no longer this worker's: a 250 was recorded all the same, anything else was dropped.
    case stale(deliveredRecorded: Bool)
}
