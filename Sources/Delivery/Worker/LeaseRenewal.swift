// The course of a worker's lease, without I/O: register, renew every third of it, and go on under a new id when it is gone, here or in
// the ledger.

import Foundation

/// What keeps one worker's lease on one shard.
package struct LeaseRenewal: Sendable {
    /// What is to be asked of the ledger; it ends with `answered` or `failed`, and after a rest with `rested`.
    package enum Step: Sendable, Equatable {
        /// A lease for a new id.
        case register(UUID)
        /// Another term for an id that has one.
        case renew(UUID)
    }

    /// What an answer led to.
    package enum Change: Sendable, Equatable {
        /// A lease began: there may be claims.
        case began
        /// It goes on.
        case goesOn
        /// The lease of this id is gone: its work is given up.
        case lapsed(UUID)
    }

    /// The standing of the lease.
    package private(set) var clock: LeaseClock
    private var isRegistered = false

    package init(worker: UUID, lease: Duration) { clock = LeaseClock(worker: worker, lease: lease) }

    /// What is next.
    package var step: Step { isRegistered ? .renew(clock.worker) : .register(clock.worker) }

    /// The ledger answered a step that was sent at `sentAt`, durably. `holds`: whether it knows of a lease that still lives; after
    /// a registration it does. A lease that ran out here while the answer was on its way is gone all the same: work was given up
    /// under its id meanwhile, with final dots sent, and would be taken for claims that nobody made.
    package mutating func answered(
        holds: Bool, sentAt: LeaseClock.Instant, now: LeaseClock.Instant, newWorker: UUID
    ) -> Change {
        if isRegistered, !holds || clock.hasLapsed(at: now) { return lapse(newWorker) }
        let isNew = !isRegistered
        isRegistered = true
        clock.confirmed(clock.worker, sentAt: sentAt)
        return isNew ? .began : .goesOn
    }

    /// A step was not done, or nobody knows.
    package mutating func failed(newWorker: UUID) {
        // A registration that failed may have committed: its id is not used again.
        if !isRegistered { clock.lapse(newWorker: newWorker) }
    }

    /// Time has passed; the process may have stood still meanwhile.
    package mutating func rested(now: LeaseClock.Instant, newWorker: UUID) -> Change {
        isRegistered && clock.hasLapsed(at: now) ? lapse(newWorker) : .goesOn
    }

    private mutating func lapse(_ newWorker: UUID) -> Change {
        let worker = clock.worker
        clock.lapse(newWorker: newWorker)
        isRegistered = false
        return .lapsed(worker)
    }
}
