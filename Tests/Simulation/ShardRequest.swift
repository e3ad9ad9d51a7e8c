// What nodes ask of a shard, and what they hear: each is one transaction of Ledger.

import Foundation
import Ledger
import Postgres

/// One transaction of Ledger, as the node asks for it.
enum ShardRequest: Sendable {
    /// `IntakeLedger.commit`; with a marker, the second half of `resubmit`.
    case intake(IntakeBatch, isMarked: Bool)
    /// `IntakeLedger.known`.
    case known([UUID])
    /// `IntakeLedger.replay`, of a content.
    case replay(Int)
    /// `IntakeLedger.withdraw`.
    case withdraw([UUID])
    /// `WorkLedger.register`.
    case register(UUID)
    /// `WorkLedger.heartbeat`.
    case heartbeat(UUID)
    /// `WorkLedger.resign`.
    case resign(UUID)
    /// `WorkLedger.claim`, its first statement.
    case claim(UUID, limit: Int, perLane: Int)
    /// What `WorkLedger.claim` reads again.
    case open([DeliveryReference])
    /// `WorkLedger.claims`.
    case claims(UUID)
    /// `WorkLedger.release`.
    case release(UUID, [DeliveryReference])
    /// `WorkLedger.registerDots`.
    case dots(UUID, [DeliveryReference], inFlight: [(reference: DeliveryReference, at: Date)])
    /// `WorkLedger.complete`, in the order of references.
    case complete([Completion])
    /// `WorkLedger.reclaim`.
    case reclaim
    /// `WorkLedger.promote`.
    case promote
    /// Who stands for the bytes of a content, asked by a worker of another shard.
    case ask(Int)
    /// The mark of a replay by a worker of another shard, on this message's row.
    case yield(Int, to: UUID)
}

/// What came of it.
enum ShardReply: Sendable {
    /// Done.
    case done
    /// Whether it was so, or held.
    case flag(Bool)
    /// Nothing was done: the data does not allow it.
    case conflict(PostgresError)
    /// Messages.
    case messages(Set<UUID>)
    /// What was taken before with these bytes.
    case earlier(EarlierAccept?)
    /// What was withdrawn, and what stands.
    case withdrawal(withdrawn: Set<UUID>, standing: Set<UUID>)
    /// Claims.
    case claims([SimulatedClaim])
    /// References.
    case references([DeliveryReference])
    /// Registered dots, and when.
    case granted(Set<DeliveryReference>, at: Date?)
    /// How each completion was taken.
    case results([CompletionResult])
    /// How many.
    case counts(Int, Int)
    /// Messages with these bytes.
    case holders([ReplayHolder])
}

/// What a claim shows.
struct SimulatedClaim: Sendable {
    let reference: DeliveryReference
    let attempts: Int32
    let possibleDuplicate: Bool
    let delayReported: Bool
    let deliveries: Int32
    var recipients: [Int32]
}
