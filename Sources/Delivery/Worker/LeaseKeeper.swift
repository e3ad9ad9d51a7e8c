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
    private let clock: Mutex<LeaseClock>
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
        clock = Mutex(LeaseClock(worker: UUIDv7.make(at: Date()), lease: lease))
    }

    /// The id under which claims are made now.
    var worker: UUID { clock.withLock { $0.worker } }

    /// The id to claim under, if its lease will hold long enough.
    var claimant: UUID? {
        clock.withLock { $0.mayClaim(at: .now) ? $0.worker : nil }
    }

    /// Whether work claimed under `claimant` is still ours.
    func owns(_ claimant: UUID) -> Bool { clock.withLock { $0.owns(claimant, at: .now) } }

    /// Whether a final dot may be written now for work claimed under `claimant`.
    func maySendDot(_ claimant: UUID) -> Bool { clock.withLock { $0.maySendDot(claimant, at: .now) } }

    /// Registers, then renews until cancelled. Failures are repeated quickly: a lease is short.
    func run() async {
        var isRegistered = false
        while !Task.isCancelled {
            let worker = self.worker
            let isNew = !isRegistered
            let sentAt = ContinuousClock.now
            do {
                if isRegistered {
                    guard try await ledger.heartbeat(worker: worker, lease: lease) else {
                        lapse(worker, "the ledger says that it ended")
                        isRegistered = false
                        continue
                    }
                } else {
                    try await ledger.register(worker: worker, name: name, region: region, lease: lease)
                    isRegistered = true
                }
                clock.withLock { $0.confirmed(worker, sentAt: sentAt) }
                if isNew { onBegin() }
                try? await Task.sleep(for: lease / 3)
            } catch {
                if Task.isCancelled { return }
                logger.warning("heartbeat failed", metadata: ["error": "\(error)"])
                // A registration that failed may have committed: its id is not used again.
                if !isRegistered { clock.withLock { $0.lapse(newWorker: UUIDv7.make(at: Date())) } }
                try? await Task.sleep(for: min(.seconds(1), lease / 10))
            }
            if isRegistered, clock.withLock({ $0.hasLapsed(at: .now) }) {
                lapse(worker, "no heartbeat was committed in time")
                isRegistered = false
            }
        }
    }

    private func lapse(_ worker: UUID, _ why: String) {
        let lapsed = clock.withLock { clock in
            guard clock.worker == worker else { return false }
            clock.lapse(newWorker: UUIDv7.make(at: Date()))
            return true
        }
        guard lapsed else { return }
        lapses.increment()
        logger.error("lease lapsed: what was not dotted is given up", metadata: ["why": "\(why)"])
        onLapse(worker)
    }
}
