// An event that somebody outside has kept: as the API showed it.

import Foundation

/// One exported event.
public struct ToldEvent: Sendable, Hashable {
    /// Its id.
    public var id: UUID
    /// Whose.
    public var tenant: String
    /// What happened.
    public var kind: EventKind
    /// The message; nil for mail that the edge refused.
    public var message: UUID?
    /// The recipient's address; nil: none is concerned, or it was sealed.
    public var recipient: String?
    /// When.
    public var at: Date
    /// Why.
    public var reasonCode: String?
    /// The recipient may have got the message more than once.
    public var possibleDuplicate: Bool
    /// The incarnation of its shard that it was read from; nil: its cursor was not kept.
    public var incarnation: UUID?

    /// An event.
    public init(
        id: UUID, tenant: String, kind: EventKind, message: UUID? = nil, recipient: String? = nil, at: Date,
        reasonCode: String? = nil, possibleDuplicate: Bool = false, incarnation: UUID? = nil
    ) {
        self.id = id
        self.tenant = tenant
        self.kind = kind
        self.message = message
        self.recipient = recipient
        self.at = at
        self.reasonCode = reasonCode
        self.possibleDuplicate = possibleDuplicate
        self.incarnation = incarnation
    }

    /// The number of the recipient, where the id tells it: that of an `accepted` event is made of it.
    var recipientNumber: Int32? {
        guard kind == .accepted, let message else { return nil }
        // A notification has one recipient, and an id that tells nothing.
        return AcceptedEventID.recipient(of: id, in: message) ?? 0
    }
}

/// A recipient of an open delivery, with what opens its address.
public struct SealedRecipient: Sendable {
    /// The message.
    public let message: UUID
    /// Its tenant.
    public let tenant: String
    /// The recipient's number.
    public let number: Int32
    /// Field `address/<number>` of the message's metadata.
    public let sealedAddress: [UInt8]
    /// The message's metadata key.
    public let metadataKey: KeyReference
}

/// A recipient's address, opened.
public struct RecipientAddress: Sendable, Hashable {
    /// The message.
    public var message: UUID
    /// The recipient's number.
    public var number: Int32
    /// As events show it.
    public var address: String

    /// An address.
    public init(message: UUID, number: Int32, address: String) {
        (self.message, self.number, self.address) = (message, number, address)
    }
}
