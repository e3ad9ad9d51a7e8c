// Commits results: whatever is there whenever the last commit is back. A batch is repeated until it is durable, since each result
// carries its fence; one that the database refuses is found by halves and set apart, with an alert, so that it stops nobody else.

import Foundation
import Ledger
import Logging
import Metrics
import Postgres
import Sealing
import Synchronization

/// Writes completions of one shard.
final class CompletionWriter: Sendable {
    private struct State {
        var batch = CompletionBatch()
        /// Refused by the database on their own: tried again now and then.
        var refused: [CompletionBatch.Entry] = []
        /// Batch keys that a notification was sealed under and that no commit took yet.
        var batchKeys: [BatchKeyRow] = []
        var isDraining = false
        var committing = 0
    }

    private let ledger: WorkLedger
    private let sealer: SealerBox
    private let dots: DotRegistrar
    private let held: HeldClaims
    private let onReady: @Sendable () -> Void
    private let logger: Logger
    private let state = Mutex(State())
    private let judgements = StoredJudgements()
    private let wake = Wakeup()
    private let recorded = Counter(label: "zegel_worker_completions", dimensions: [("result", "recorded")])
    private let late = Counter(label: "zegel_worker_completions", dimensions: [("result", "late_delivery")])
    private let dropped = Counter(label: "zegel_worker_completions", dimensions: [("result", "stale")])
    private let commits = Counter(label: "zegel_worker_completion_commits")
    private let refusals = Counter(label: "zegel_worker_completions_refused")

    /// From one commit of several results to the next: what nobody waits for may wait for others.
    static let gather: Duration = .milliseconds(30)
    /// Most results the database refused that are kept; beyond it the oldest is given up, loudly.
    static let maximumRefused = 1000

    /// - Parameter onReady: called when a commit made a notification ready.
    init(
        ledger: WorkLedger, sealer: SealerBox, dots: DotRegistrar, held: HeldClaims, logger: Logger,
        onReady: @escaping @Sendable () -> Void
    ) {
        self.ledger = ledger
        self.sealer = sealer
        self.dots = dots
        self.held = held
        self.logger = logger
        self.onReady = onReady
    }

    /// Hands over one result.
    func add(_ completion: Completion, worker: UUID) {
        state.withLock { $0.batch.append(completion, worker: worker) }
        wake.set()
    }

    /// Results that are not committed yet.
    var pending: Int { state.withLock { $0.batch.count + $0.committing + $0.refused.count } }

    /// Wakes it if something is to be tried again. Call it about once a second.
    func tick() {
        if state.withLock({ !$0.refused.isEmpty }) { wake.set() }
    }

    /// Says that no more results come: `run()` returns when all are committed.
    func drain() {
        state.withLock { $0.isDraining = true }
        wake.set()
    }

    /// Commits until drained or cancelled.
    func run() async {
        var lastRepeat = ContinuousClock.now
        var pace = CommitPace(gather: Self.gather)
        while !Task.isCancelled {
            if let end = pace.rest(at: .now), state.withLock({ !$0.isDraining && !$0.batch.isFull }) {
                try? await Task.sleep(until: end)
            }
            let next = state.withLock { state -> (worker: UUID, completions: [Completion])? in
                let next = state.batch.take()
                state.committing = next?.completions.count ?? 0
                return next
            }
            if let next {
                pace.began(items: next.completions.count, at: .now)
                await commit(next.completions, worker: next.worker)
                state.withLock { $0.committing = 0 }
                continue
            }
            if state.withLock({ $0.isDraining }) { return }
            if ContinuousClock.now - lastRepeat > .seconds(5) {
                lastRepeat = .now
                repeatRefused()
                continue
            }
            await wake.wait()
        }
    }

    /// Puts those that the database refused back in the queue, each to be found at fault alone again.
    private func repeatRefused() {
        state.withLock { state in
            for entry in state.refused { state.batch.append(entry.completion, worker: entry.worker) }
            state.refused = []
        }
    }

    private func commit(_ completions: [Completion], worker: UUID) async {
        let hasNotifications = completions.contains { !$0.notifications.isEmpty }
        let batch = judgements.reduced(hasNotifications ? withBatchKeys(completions) : completions)
        var wait = Duration.milliseconds(100)
        while true {
            do {
                let results = try await ledger.complete(batch)
                commits.increment()
                judgements.took(batch)
                settle(batch, results)
                return
            } catch let error as PostgresError where error.code == .server && !error.isTransient {
                if batch.count == 1 {
                    setApart(batch[0], worker, error)
                } else {
                    await commit(Array(batch[..<(batch.count / 2)]), worker: worker)
                    await commit(Array(batch[(batch.count / 2)...]), worker: worker)
                }
                return
            } catch {
                logger.warning(
                    "completions not committed, repeating",
                    metadata: ["error": "\(error)", "count": "\(batch.count)"])
            }
            if Task.isCancelled { return }
            try? await Task.sleep(for: wait)
            wait = min(wait * 2, .seconds(2))
        }
    }

    /// Gives every notification the batch keys that are not committed yet: whichever of them is recorded takes them along.
    private func withBatchKeys(_ completions: [Completion]) -> [Completion] {
        let keys = state.withLock { state in
            state.batchKeys.append(contentsOf: sealer.takeNewBatchKeys())
            return state.batchKeys
        }
        if keys.isEmpty { return completions }
        return completions.map { completion in
            guard !completion.notifications.isEmpty else { return completion }
            return completion.with(
                completion.notifications.map { NotificationRow(message: $0.message, batchKeys: keys) })
        }
    }

    private func settle(_ batch: [Completion], _ results: [CompletionResult]) {
        let references = batch.map(\.reference)
        dots.settled(references)
        held.letGo(references)
        var hasNotified = false
        for (completion, result) in zip(batch, results) {
            switch result {
            case .recorded:
                recorded.increment()
                if let keys = completion.notifications.first?.batchKeys {
                    hasNotified = true
                    let taken = Set(keys.map(\.id))
                    state.withLock { $0.batchKeys.removeAll { taken.contains($0.id) } }
                }
            case .stale(let deliveredRecorded):
                (deliveredRecorded ? late : dropped).increment()
                logger.warning(
                    "completion of a claim that is no longer ours",
                    metadata: [
                        "message_id": "\(completion.reference.message)",
                        "delivered_recorded": "\(deliveredRecorded)",
                    ])
            }
        }
        if hasNotified { onReady() }
    }

    private func setApart(_ completion: Completion, _ worker: UUID, _ error: PostgresError) {
        refusals.increment()
        logger.critical(
            "the database refuses a result: it is tried again",
            metadata: ["message_id": "\(completion.reference.message)", "error": "\(error)"])
        state.withLock { state in
            state.refused.append(CompletionBatch.Entry(worker: worker, completion: completion))
            if state.refused.count > Self.maximumRefused { state.refused.removeFirst() }
        }
    }
}

extension Completion {
    /// The same result with other notifications.
    fileprivate func with(_ notifications: [NotificationRow]) -> Completion {
        Completion(
            reference: reference, deliveriesOfMessage: deliveriesOfMessage, tenant: tenant, ended: ended,
            step: step,
            events: events, notifications: notifications, judgements: judgements,
            shreddedEventID: shreddedEventID)
    }
}
