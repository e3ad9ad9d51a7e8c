// Keeps the worker's lease: one heartbeat row, renewed every third of the lease. When the lease is gone, here or in the ledger,
// the worker goes on under a new id, and whoever holds work of the old one learns it by asking `owns`.

import Foundation
import Ledger
import Logging
import Metrics
import Sealing
import Synchronization

/// The lease of one worker on one shard.
final class LeaseKeeper: Sendable {
    private let ledger: WorkLedger
    private let name: String
    private let region: String
    private let lease: Duration
    private let logger: Logger
    private let renewal: Mutex<LeaseRenewal>
    private let onLapse: @Sendable (_ lapsed: UUID) -> Void
    private let onBegin: @Sendable () -> Void
    private let lapses = Counter(label: "zegel_worker_lease_lapses")

    /// - Parameters:
    ///   - onBegin: called when a lease begins.
    ///   - onLapse: called once for each id that lost its lease.
    init(
        ledger: WorkLedger, name: String, region: String, lease: Duration, logger: Logger,
        onBegin: @escaping @Sendable () -> Void, onLapse: @escaping @Sendable (UUID) -> Void
    ) {
        self.ledger = ledger
        self.name = name
        self.region = region
        self.lease = lease
        self.logger = logger
        self.onLapse = onLapse
        self.onBegin = onBegin
        renewal = Mutex(LeaseRenewal(worker: UUIDv7.make(at: Date()), lease: lease))
    }

    /// The id under which claims are made now.
    var worker: UUID { renewal.withLock { $0.clock.worker } }

    /// The id to claim under, if its lease will hold long enough.
    var claimant: UUID? {
        renewal.withLock { $0.clock.mayClaim(at: .now) ? $0.clock.worker : nil }
    }

    /// Whether work claimed under `claimant` is still ours.
    func owns(_ claimant: UUID) -> Bool { renewal.withLock { $0.clock.owns(claimant, at: .now) } }

    /// Whether a final dot may be written now for work claimed under `claimant`.
    func maySendDot(_ claimant: UUID) -> Bool {
        renewal.withLock { $0.clock.maySendDot(claimant, at: .now) }
    }

    /// Registers, then renews until cancelled. Failures are repeated quickly: a lease is short.
    func run() async {
        while !Task.isCancelled {
            let step = renewal.withLock { $0.step }
            let sentAt = ContinuousClock.now
            do {
                let holds = try await carryOut(step)
                let change = renewal.withLock {
                    $0.answered(
                        holds: holds, sentAt: sentAt, now: .now, newWorker: UUIDv7.make(at: Date()))
                }
                tell(change, holds ? "it ran out before it was renewed" : "the ledger says that it ended")
                if case .lapsed = change { continue }
                try? await Task.sleep(for: lease / 3)
            } catch {
                if Task.isCancelled { return }
                logger.warning("heartbeat failed", metadata: ["error": "\(error)"])
                renewal.withLock { $0.failed(newWorker: UUIDv7.make(at: Date())) }
                try? await Task.sleep(for: min(.seconds(1), lease / 10))
            }
            tell(
                renewal.withLock { $0.rested(now: .now, newWorker: UUIDv7.make(at: Date())) },
                "no heartbeat was committed in time")
        }
    }

    private func carryOut(_ step: LeaseRenewal.Step) async throws -> Bool {
        switch step {
        case .register(let worker):
            try await ledger.register(worker: worker, name: name, region: region, lease: lease)
            return true
        case .renew(let worker): return try await ledger.heartbeat(worker: worker, lease: lease)
        }
    }

    private func tell(_ change: LeaseRenewal.Change, _ why: String) {
        switch change {
        case .began: onBegin()
        case .goesOn: break
        case .lapsed(let worker):
            lapses.increment()
            logger.error("lease lapsed: what was not dotted is given up", metadata: ["why": "\(why)"])
            onLapse(worker)
        }
    }
}
