// A claimed delivery with its keys and metadata opened: ready to be delivered. The content is still sealed.

import Foundation
import Ledger
import SMTP
import Sealing

/// What a runner takes up.
struct PreparedDelivery: Sendable {
    /// The worker id that claimed it.
    let worker: UUID
    /// As the ledger gave it.
    let claim: ClaimedDelivery
    /// The envelope.
    let envelope: Envelope
    /// What a settlement needs to know of it.
    let facts: DeliveryFacts
    /// Opens the content.
    let contentKey: MessageKey
    /// Opens and seals metadata.
    let metadataKey: MessageKey
    /// The sealed frames of a small content that came with the claim; nil: fetched when it is sent.
    var frames: [[UInt8]]?

    /// Sessions are shared only within one of these (design §9).
    var lane: LaneKey { LaneKey(domain: claim.lane, ruleset: claim.ruleset) }
}

/// The queue of one destination: recipient domain and ruleset.
struct LaneKey: Hashable, Sendable {
    /// The recipient domain.
    let domain: String
    /// The ruleset's name.
    let ruleset: String
}
