// The parts of a history besides the shards: edges and workers with the values that real ones run, clients, recipient servers.

import Delivery
import Edge
import Foundation
import Ledger

/// A process on a machine.
struct Node {
    let region: Int
    var isUp = true
    var pausedUntil: Ticks = 0
    /// Counts restarts.
    var epoch: Int32 = 0
    /// How much faster its clock runs, in millionths.
    let drift: Int64
    /// What its clock is ahead.
    let offset: Ticks
    /// The newest timeline that it has seen, by shard.
    var timelines: [Int32]
    /// Counts pauses, so that a step knows whether one lay between a check and its effect.
    var pauses: Int32 = 0
}

/// An edge: one committer a shard.
struct SimulatedEdge {
    struct Committer {
        var group: GroupCommit<Int>
        var wakesAt: Ticks = .max
        /// Batches of resubmissions that look first.
        var looking: [GroupCommit<Int>.Slot: IntakeBatch] = [:]
        /// What is under way, for the laws and for flaws.
        var submitted: [GroupCommit<Int>.Slot: [UUID]] = [:]
    }

    let node: Int
    var committers: [Committer]
}

/// The work of one worker on one shard.
struct SimulatedWorker {
    let node: Int
    let shard: Int
    var lease: LeaseRenewal
    var dots = FinalDotRequests<Int>()
    var held = HeldClaims()
    var lapsed = LapsedClaims()
    var batch = CompletionBatch()
    var isClaiming = false
    var isRegistering = false
    var isCommitting = false
    var mustCompare = false
    var comparedAt: Ticks = 0
    var committing: [Completion] = []
    var commitWait = Ticks.milliseconds(100)
    var round: FinalDotRequests<Int>.Round?
    var roundWorker = UUID()
    /// Attempts that came to an answer whose completion is not committed yet.
    var concluded: [DeliveryReference: Int] = [:]
    /// Attempts in hand, queued or under way.
    var attempts: [Int] = []
    var lastPoll: Ticks = 0
    /// For the laws: when each lease of this process ends in the ledger, whatever becomes of leaders; by worker number.
    var trueLease: Ticks = 0
    var trueLeaseOf = -1
    var sentAt: Ticks = 0
}

/// One attempt at one delivery.
struct Attempt {
    let worker: Int
    let epoch: Int32
    let claimant: UUID
    let claim: SimulatedClaim
    let message: Int
    enum Phase { case queued, asking, sending, dotted, over }
    var phase = Phase.queued
    var isGranted: Bool?
    var isTransferred = false
    var possibleDuplicate: Bool
    /// About the same bytes in other shards; nil: not begun.
    var inquiry: ReplayInquiry?
    /// Shards that this round has not asked yet.
    var round: [Int] = []
    /// How often the node had been stopped when the final dot was checked.
    var pauses: Int32 = 0
    /// For the laws.
    var hasLeft = false
    /// Its answer came, and was recorded as its owner's.
    var isSettled = false
    /// For the laws: the entry that registered its final dot.
    var registration: Int?
}

/// A message as an edge made it.
struct MessageInfo {
    let id: UUID
    let content: Int
    let shard: Int
    let row: MessageRow
}

/// One time that a client sent a content.
struct Try {
    let client: Int
    let edge: Int
    let shard: Int
    let epoch: Int32
    let message: Int
    var isOpen = true
    var isAnswered = false
}

/// A client with one content to send.
struct SimulatedClient {
    let deliveries: Int
    let recipients: Int
    var isDone = false
    /// Times that it was sent without a certain answer.
    var unanswered = 0
    /// An edge has answered 250, whether or not it arrived.
    var isPromised = false
}

/// What a recipient's server took.
struct Copy {
    let content: Int
    let recipient: Int
    let message: Int
    let fence: Int64
}

/// Who asked a shard for something, and for what.
enum Caller {
    case commit(edge: Int, slot: GroupCommit<Int>.Slot)
    case look(edge: Int, slot: GroupCommit<Int>.Slot)
    case replay(edge: Int)
    case withdrawal(edge: Int)
    case lease(worker: Int)
    case comparison(worker: Int)
    case claim(worker: Int)
    case reopening(worker: Int, [SimulatedClaim])
    case dots(worker: Int)
    case completion(worker: Int)
    case upkeep(worker: Int)
    case givingUp(worker: Int, UUID, [DeliveryReference])
    case question(attempt: Int, shard: Int)
    case yielding(attempt: Int, shard: Int, to: UUID)
}

/// One request on its way.
struct Call {
    let caller: Caller
    let node: Int
    let epoch: Int32
    let shard: Int
    let member: Int
    let memberEpoch: Int32
    var request: ShardRequest?
    var isOver = false
    var answer = CallAnswer.inDoubt
    /// The worker's id in force when it was made.
    var claimant = UUID()
    /// For the laws: its place among the entries, and when the server took it up.
    var entry: Int?
    var executedAt: Ticks = 0
    /// Whether synchronous names were there when it was read.
    var hadNames = true
}

/// How a request ended, as the node sees it.
enum CallAnswer {
    case done(ShardReply, isWarned: Bool, hasNames: Bool)
    /// Nothing was done.
    case unavailable
    case inDoubt
}

/// What happens at a moment.
enum Happening {
    case arrives(call: Int)
    case answers(call: Int)
    case breaks(call: Int, wasSent: Bool)
    case expires(call: Int)
    case cancelArrives(call: Int)
    case replicates(shard: Int, to: Int)
    case acknowledges(shard: Int, from: Int, to: Int, timeline: Int32, position: Int)
    case consensus(shard: Int)
    case edgeWakes(edge: Int, shard: Int, at: Ticks)
    case leaseStep(worker: Int, epoch: Int32)
    case poll(worker: Int, epoch: Int32)
    case bell(worker: Int)
    case commits(worker: Int, epoch: Int32)
    case begins(attempt: Int)
    case asks(attempt: Int)
    case transferred(attempt: Int)
    case dotLeaves(attempt: Int)
    case dotArrives(attempt: Int)
    case concludes(attempt: Int, Conclusion)
    case sends(client: Int)
    case clientTires(try: Int)
    case clientHears(try: Int, is250: Bool)
    case acknowledged(try: Int)
    case fault(Int)
    case restart(node: Int)
    case memberStarts(shard: Int, member: Int)
    case heal(cut: Int)
    case namesReturn(shard: Int, member: Int)
    case healAll
    case looks
}

/// What a recipient's server, or the way to it, said of an attempt.
enum Conclusion {
    case delivered, deferred, bounced, inDoubt
}
