// A claimed delivery with its keys and metadata opened: ready to be delivered. The content is still sealed.

import Foundation
import Ledger
import SMTP
import Sealing

/// What a runner takes up. A class, since it is handed on several times and never changes.
final class PreparedDelivery: Sendable {
    /// The worker id that claimed it.
    let worker: UUID
    /// As the ledger gave it.
    let claim: ClaimedDelivery
    /// The envelope.
    let envelope: Envelope
    /// What a settlement needs to know of it.
    let facts: DeliveryFacts
    /// Opens the content; nil: it is gone, and the delivery is to be ended unsent.
    let contentKey: MessageKey?
    /// Opens and seals metadata.
    let metadataKey: MessageKey
    /// The sealed frames of a small content that came with the claim; nil: fetched when it is sent.
    let frames: FetchedFrames?

    init(
        worker: UUID, claim: ClaimedDelivery, envelope: Envelope, facts: DeliveryFacts,
        contentKey: MessageKey?,
        metadataKey: MessageKey, frames: FetchedFrames?
    ) {
        self.worker = worker
        self.claim = claim
        self.envelope = envelope
        self.facts = facts
        self.contentKey = contentKey
        self.metadataKey = metadataKey
        self.frames = frames
    }

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
