// What an edge commits in one transaction: values only, everything sealed already.

import Foundation

/// A message key, wrapped: which batch key, which step of its ratchet, the wrapped bytes.
public struct KeyReference: Sendable {
    /// The batch key.
    public let batchKeyID: UUID
    /// The step of the batch key's ratchet, from 0.
    public let index: Int32
    /// The message key under that step.
    public let wrapped: [UInt8]

    /// All three parts.
    public init(batchKeyID: UUID, index: Int32, wrapped: [UInt8]) {
        self.batchKeyID = batchKeyID
        self.index = index
        self.wrapped = wrapped
    }
}

/// A batch key K₀, wrapped once for every region's key.
public struct BatchKeyRow: Sendable {
    /// UUIDv7.
    public let id: UUID
    /// The tenant whose messages it seals.
    public let tenant: String
    /// `content` or `metadata`.
    public let purpose: String
    /// Days since 1970.
    public let epoch: Int32
    /// When it was made.
    public let createdAt: Date
    /// Its wrappings (docs/sealed-format.md).
    public let wrapped: [UInt8]

    /// One row.
    public init(id: UUID, tenant: String, purpose: String, epoch: Int32, createdAt: Date, wrapped: [UInt8]) {
        self.id = id
        self.tenant = tenant
        self.purpose = purpose
        self.epoch = epoch
        self.createdAt = createdAt
        self.wrapped = wrapped
    }
}

/// One recipient of a message.
public struct RecipientRow: Sendable {
    /// Its place in the envelope, from 0.
    public let number: Int32
    /// The delivery it belongs to.
    public let delivery: Int32
    /// `EnvelopeRecipient`, sealed as field `address/<number>`.
    public let sealedAddress: [UInt8]

    /// One row.
    public init(number: Int32, delivery: Int32, sealedAddress: [UInt8]) {
        self.number = number
        self.delivery = delivery
        self.sealedAddress = sealedAddress
    }
}

/// One delivery: the recipients of a message in one domain.
public struct DeliveryRow: Sendable {
    /// From 0.
    public let number: Int32
    /// The recipient domain: lower case, A-labels.
    public let lane: String

    /// One row.
    public init(number: Int32, lane: String) {
        self.number = number
        self.lane = lane
    }
}

/// One message that an edge took in, or that a worker made (a delivery status notification).
public struct MessageRow: Sendable {
    /// UUIDv7 of the moment of acceptance.
    public let id: UUID
    /// Whose it is.
    public let tenant: String
    /// When the final dot came.
    public let acceptedAt: Date
    /// The ruleset's name.
    public let ruleset: String
    /// Bytes of content as received.
    public let size: Int64
    /// HMAC of the content under a key derived from the message key.
    public let keyedDigest: [UInt8]
    /// The content's key.
    public let contentKey: KeyReference
    /// The metadata's key.
    public let metadataKey: KeyReference
    /// `Envelope`, sealed as field `envelope`.
    public let sealedEnvelope: [UInt8]
    /// Sealed frames that go with this transaction; empty when they were uploaded before.
    public let frames: [[UInt8]]
    /// All frames, uploaded or not.
    public let frameCount: Int32
    /// By number.
    public let deliveries: [DeliveryRow]
    /// By number.
    public let recipients: [RecipientRow]
    /// 32 bytes; nil for a message that no client can repeat.
    public var replayTag: [UInt8]?
    /// The same under yesterday's key, while a client may still repeat what it sent before midnight.
    public let previousTag: [UInt8]?
    /// The same bytes were taken before, from a client that has shown that it got its 250: a try of that client which stood still on
    /// its way looks just so. Its deliveries are marked.
    public var isPossibleDuplicate = false
    /// Set on a delivery status notification: the message it reports on.
    public let reportsOn: UUID?

    /// One message. `frames` may be empty only when all `frameCount` frames were uploaded.
    public init(
        id: UUID, tenant: String, acceptedAt: Date, ruleset: String, size: Int64, keyedDigest: [UInt8],
        contentKey: KeyReference, metadataKey: KeyReference, sealedEnvelope: [UInt8], frames: [[UInt8]],
        frameCount: Int32, deliveries: [DeliveryRow], recipients: [RecipientRow], replayTag: [UInt8]?,
        previousTag: [UInt8]? = nil, reportsOn: UUID? = nil
    ) {
        self.id = id
        self.tenant = tenant
        self.acceptedAt = acceptedAt
        self.ruleset = ruleset
        self.size = size
        self.keyedDigest = keyedDigest
        self.contentKey = contentKey
        self.metadataKey = metadataKey
        self.sealedEnvelope = sealedEnvelope
        self.frames = frames
        self.frameCount = frameCount
        self.deliveries = deliveries
        self.recipients = recipients
        self.replayTag = replayTag
        self.previousTag = previousTag
        self.reportsOn = reportsOn
    }

    /// Whether the frames were committed before the message.
    public var isUploaded: Bool { frames.isEmpty && frameCount > 0 }
}

/// Sealed frames of large content, committed before the message row.
public struct UploadRow: Sendable {
    /// The message that they will belong to.
    public let messageID: UUID
    /// Its tenant.
    public let tenant: String
    /// The number of the first of `frames`; those before it are committed.
    public let firstFrame: Int32
    /// Sealed frames in order.
    public let frames: [[UInt8]]

    /// Frames `firstFrame ..< firstFrame + frames.count`.
    public init(messageID: UUID, tenant: String, firstFrame: Int32, frames: [[UInt8]]) {
        self.messageID = messageID
        self.tenant = tenant
        self.firstFrame = firstFrame
        self.frames = frames
    }
}

/// A mail that the edge refused after it knew the tenant: only the event is kept.
public struct RejectionRow: Sendable {
    /// UUIDv7, the event's id.
    public let id: UUID
    /// Whose client it was.
    public let tenant: String
    /// When.
    public let at: Date
    /// Why.
    public let reasonCode: String

    /// One event.
    public init(id: UUID, tenant: String, at: Date, reasonCode: String) {
        self.id = id
        self.tenant = tenant
        self.at = at
        self.reasonCode = reasonCode
    }
}

/// Everything of one group commit.
public struct IntakeBatch: Sendable {
    /// Batch keys that the rows below, or later ones, are sealed under.
    public var batchKeys: [BatchKeyRow] = []
    /// Messages that end.
    public var messages: [MessageRow] = []
    /// Frames of messages that go on.
    public var uploads: [UploadRow] = []
    /// Refusals to record.
    public var rejections: [RejectionRow] = []
    /// Replay tags whose clients have shown that they got their 250.
    public var acknowledgedTags: [[UInt8]] = []

    /// Nothing yet.
    public init() {}

    /// The batch keys that its messages are sealed under.
    public var usedBatchKeys: Set<UUID> {
        var used: Set<UUID> = []
        for message in messages {
            used.insert(message.contentKey.batchKeyID)
            used.insert(message.metadataKey.batchKeyID)
        }
        return used
    }

    /// Whether there is nothing to commit.
    public var isEmpty: Bool {
        batchKeys.isEmpty && messages.isEmpty && uploads.isEmpty && rejections.isEmpty
            && acknowledgedTags.isEmpty
    }
}
