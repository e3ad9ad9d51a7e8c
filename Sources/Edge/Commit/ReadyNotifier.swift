// Wakes the workers after commits, a few times for many: a NOTIFY is a transaction of its own.

import Ledger
import Logging
import ServiceLifecycle

/// Coalesces wake-ups: at most one in `interval`. A lost one costs a worker's slow poll, nothing else.
struct ReadyNotifier: Service, CustomStringConvertible {
    let ledger: IntakeLedger
    let logger: Logger
    let interval: Duration
    private let wakeup = Wakeup()

    init(ledger: IntakeLedger, logger: Logger, interval: Duration = .milliseconds(20)) {
        self.ledger = ledger
        self.logger = logger
        self.interval = interval
    }

    var description: String { "notifier \(ledger.shard)" }

    /// Deliveries became ready.
    func notify() { wakeup.set() }

    func run() async throws {
        await cancelWhenGracefulShutdown {
            while true {
                await wakeup.wait()
                if Task.isCancelled { return }
                do { try await ledger.notifyReady() } catch {
                    logger.debug("workers were not woken", metadata: ["error": "\(error)"])
                }
                try? await Task.sleep(for: interval)
            }
        }
    }
}
