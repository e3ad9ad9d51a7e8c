// Law 7 on the worker's side: whether this process may still act on its claims. The lease is counted on the local monotonic
// clock, which runs on while a process is stopped, and from before the heartbeat was sent: so it always ends here before it
// ends in the ledger, whatever the clocks of the two say.

import Foundation

/// The standing of one worker's lease.
public struct LeaseClock: Sendable {
    /// A moment on the local monotonic clock.
    public typealias Instant = ContinuousClock.Instant

    /// The id under which this process works now.
    public private(set) var worker: UUID
    /// How long a heartbeat is good for.
    public let lease: Duration
    private var until: Instant?

    /// A worker without a lease yet.
    public init(worker: UUID, lease: Duration) {
        self.worker = worker
        self.lease = lease
    }

    /// Time between heartbeats: three fit in a lease, so that two may be lost.
    public var interval: Duration { lease / 3 }

    /// What must be left of the lease when a final dot is written: enough for it to leave this machine.
    public var dotMargin: Duration { lease / 5 }

    /// A heartbeat of `worker` was committed; it had been sent at `sentAt`. One of an earlier id changes nothing.
    public mutating func confirmed(_ worker: UUID, sentAt: Instant) {
        guard worker == self.worker else { return }
        let end = sentAt + lease
        if let until, until >= end { return }
        until = end
    }

    /// The lease is gone, here or in the ledger: go on under `newWorker`, whose lease begins with its own confirmation. Work that
    /// was claimed under an earlier id is no longer ours.
    public mutating func lapse(newWorker: UUID) {
        worker = newWorker
        until = nil
    }

    /// What is left; zero when there is none.
    public func remaining(at now: Instant) -> Duration {
        guard let until, until > now else { return .zero }
        return until - now
    }

    /// Whether a lease was held and has run out.
    public func hasLapsed(at now: Instant) -> Bool {
        guard let until else { return false }
        return until <= now
    }

    /// Whether a claim may be asked for: it will still hold when the answer is here.
    public func mayClaim(at now: Instant) -> Bool { remaining(at: now) > dotMargin }

    /// Whether work that was claimed under `claimant` is still ours to go on with.
    public func owns(_ claimant: UUID, at now: Instant) -> Bool {
        claimant == worker && remaining(at: now) > .zero
    }

    /// Whether a final dot may be written for work that was claimed under `claimant`.
    public func maySendDot(_ claimant: UUID, at now: Instant) -> Bool {
        claimant == worker && remaining(at: now) > dotMargin
    }
}
