// Carries out what `GroupCommit` decides: the one writer of an edge to a shard.

import Foundation
import Ledger
import Logging
import NIOCore
import Postgres
import Sealing
import ServiceLifecycle
import Synchronization

/// Who waits for an item: a closure that runs on its event loop.
struct IntakeTicket: Sendable {
    let loop: any EventLoop
    /// Called with the answer and whoever gives it: a message may have gone to another shard.
    let answer: @Sendable (IntakeAnswer, Committer) -> Void
}

/// The writer of one shard. Event loops hand in work and hear the answer on themselves; per message there is no task and no
/// hop but that.
final class Committer: Service, CustomStringConvertible {
    /// What the writer's task waits for.
    private enum Awaited {
        case nothing
        /// The end of a step; what is handed in meanwhile changes nothing.
        case end
        case anything
    }

    private struct State {
        var group: GroupCommit<IntakeTicket>
        var awaited = Awaited.nothing
        var isEnding = false
        /// Since when commits are under way.
        var begun: [GroupCommit<IntakeTicket>.Slot: ContinuousClock.Instant] = [:]
        /// Whether the last commit was durable.
        var isWell = true
        /// The leader that the last durable commit was at; nil: there was none yet.
        var proven: Int?
    }

    /// How long a commit may take before new messages go to another shard.
    static let promptness = Duration.seconds(1)
    /// Commits under way at a time where a quorum is demanded: one that is 20 ms away is given the next batch every 5 ms, as a near one is.
    static let overlap = 6

    let ledger: IntakeLedger
    private let keys: EdgeKeys
    private let metrics: EdgeMetrics
    private let logger: Logger
    private let state: Mutex<State>
    private let wakeup = Wakeup()
    private let ready: ReadyNotifier
    private let onOutcome: @Sendable (Bool) -> Void
    /// The shard's leader, as far as it is known now.
    let leader: @Sendable () -> LeaderStanding

    /// - Parameters:
    ///   - ready: told after each commit that brought deliveries.
    ///   - leader: the shard's leader, as far as it is known now.
    ///   - onOutcome: told whether the database did what was asked.
    init(
        ledger: IntakeLedger, keys: EdgeKeys, limits: GroupCommit<IntakeTicket>.Limits, ready: ReadyNotifier,
        metrics: EdgeMetrics, logger: Logger, leader: @escaping @Sendable () -> LeaderStanding = { .only },
        onOutcome: @escaping @Sendable (Bool) -> Void = { _ in }
    ) {
        self.ledger = ledger
        self.keys = keys
        self.ready = ready
        self.metrics = metrics
        self.logger = logger
        self.onOutcome = onOutcome
        self.leader = leader
        self.state = Mutex(State(group: GroupCommit(limits: limits)))
    }

    var description: String { "committer \(ledger.shard)" }

    // MARK: From event loops

    /// Hands in work; false when too much waits already (nobody is answered then).
    func submit(_ work: IntakeWork, ticket: IntakeTicket?) -> Bool {
        let now = ContinuousClock.now
        let (isTaken, wakes) = state.withLock { state in
            let isTaken = !state.isEnding && state.group.enqueue(work, ticket: ticket, now: now)
            guard isTaken, case .anything = state.awaited else { return (isTaken, false) }
            state.awaited = .nothing
            return (true, true)
        }
        if wakes { wakeup.set() }
        if !isTaken { metrics.overloads.increment() }
        return isTaken
    }

    /// A client has its 250: the tag of that message goes with the next batch.
    func acknowledge(_ tag: [UInt8]) {
        let now = ContinuousClock.now
        change { $0.acknowledge(tag, now: now) }
    }

    /// A message whose frames were uploaded will not come.
    func abandon(_ id: UUID) { change { $0.abandon(id) } }

    private func change(_ body: (inout GroupCommit<IntakeTicket>) -> Void) {
        let wakes = state.withLock { state in
            body(&state.group)
            guard case .anything = state.awaited else { return false }
            state.awaited = .nothing
            return true
        }
        if wakes { wakeup.set() }
    }

    /// Whether new content should be refused for now.
    var isFull: Bool { state.withLock { $0.group.isFull || $0.isEnding } }

    /// Whether what is handed in now will hardly wait: the last commit was durable, none has been under way for long, and the leader is
    /// still the same: a new one's followers may take seconds to find it, and no commit is durable before.
    func isWell(at now: ContinuousClock.Instant) -> Bool {
        let epoch = leader().epoch
        return state.withLock { state in
            state.isWell && !state.isEnding && state.proven == epoch
                && state.begun.values.allSatisfy { now - $0 < Self.promptness }
        }
    }

    /// Where the last commit was not durable, or was at another leader, sees whether one is now, with a mark alone: messages go elsewhere
    /// meanwhile, so none would show it.
    /// - Returns: whether the last commit, or this one, was durable.
    func proveWell() async -> Bool {
        let epoch = leader().epoch
        if state.withLock({ $0.isWell && $0.proven == epoch }) { return true }
        guard case .durable = await ledger.resubmit(IntakeBatch()) else { return false }
        let isSame = leader().epoch == epoch
        state.withLock { state in
            state.isWell = true
            if isSame { state.proven = max(state.proven ?? epoch, epoch) }
        }
        return true
    }

    /// Takes out what another shard may take instead (`GroupCommit.takeUnsent`).
    func takeUnsent() -> [(work: IntakeWork, ticket: IntakeTicket?)] {
        state.withLock { $0.group.takeUnsent() }
    }

    // MARK: The task

    /// Commits until shut down, and then until nothing waits any more.
    func run() async throws {
        await withTaskCancellationOrGracefulShutdownHandler {
            await commitUntilDone()
        } onCancelOrGracefulShutdown: {
            self.state.withLock { $0.isEnding = true }
            self.wakeup.set()
        }
    }

    private func commitUntilDone() async {
        await withDiscardingTaskGroup { steps in
            while true {
                let now = ContinuousClock.now
                let (step, isDone) = state.withLock { state in
                    let step = state.group.next(now: now, flushes: state.isEnding)
                    switch step {
                    case .wait:
                        state.awaited = .anything
                        return (step, state.isEnding && (state.group.isIdle || Task.isCancelled))
                    case .rest:
                        state.awaited = .end
                        // Those under way still give their answers.
                        return (step, state.isEnding && Task.isCancelled)
                    case .submit(let slot, _, _, _): state.begun[slot] = now
                    case .lookUp, .replay, .withdraw, .abandon: break
                    }
                    return (step, false)
                }
                deliverAnswers()
                switch step {
                case .wait(let until), .rest(let until):
                    if isDone { return }
                    if let until { await wakeup.wait(until: until) } else { await wakeup.wait() }
                case .submit, .lookUp, .replay, .withdraw, .abandon:
                    steps.addTask {
                        await self.carryOut(step)
                        self.deliverAnswers()
                        self.wakeup.set()
                    }
                }
            }
        }
    }

    private func carryOut(_ step: GroupCommit<IntakeTicket>.Step) async {
        switch step {
        case .wait, .rest: break
        case .submit(let slot, let batch, let isRepeat, let lacking):
            await submit(slot, batch, isRepeat: isRepeat, lacking: lacking)
        case .lookUp(let slot, let tags):
            let found = await attempt("look-up of earlier tags") { try await ledger.replays(of: tags) }
            state.withLock { $0.group.lookedUp(slot, found, now: .now) }
        case .replay(let tag):
            let first = await attempt("look-up of a replay") { try await ledger.replay(of: tag) }
            state.withLock { $0.group.replayed(first, now: .now) }
        case .withdraw(let ids):
            let standing = await withdraw(ids)
            state.withLock { $0.group.withdrawn(standing: standing, now: .now) }
        case .abandon(let id):
            do { try await ledger.abandonUpload(id) } catch {
                logger.debug("an upload is left to the sweeper", metadata: ["error": "\(error)"])
            }
            state.withLock { $0.group.abandonmentEnded() }
        }
    }

    private func submit(
        _ slot: GroupCommit<IntakeTicket>.Slot, _ batch: IntakeBatch, isRepeat: Bool, lacking: Set<UUID>
    ) async {
        var batch = batch
        let epoch = leader().epoch
        let began = ContinuousClock.now
        let newKeys = keys.batchKeys(lacking)
        batch.batchKeys += newKeys
        let outcome: IntakeOutcome
        if let failure = await failure(lacking: lacking.subtracting(newKeys.map(\.id))) {
            outcome = failure
        } else {
            outcome = isRepeat ? await ledger.resubmit(batch) : await ledger.commit(batch)
        }
        let ended = ContinuousClock.now
        let isSame = leader().epoch == epoch
        state.withLock { state in
            state.begun[slot] = nil
            switch outcome {
            case .durable:
                state.isWell = true
                if isSame { state.proven = max(state.proven ?? epoch, epoch) }
            case .atFault: break
            case .notDurable, .inDoubt, .unavailable: state.isWell = false
            }
            state.group.submitted(slot, outcome, newKeys: newKeys, now: ended)
        }
        report(outcome, batch, isRepeat: isRepeat, took: ended - began)
        if case .durable = outcome, !batch.messages.isEmpty { ready.notify() }
    }

    /// Why a batch must not be committed whose batch keys with these ids are not at hand any more: without them nobody could ever
    /// open its messages. Nil: the shard has them, or none is lacking.
    private func failure(lacking ids: Set<UUID>) async -> IntakeOutcome? {
        if ids.isEmpty { return nil }
        do {
            let there = try await ledger.knownBatchKeys(ids)
            if there == ids { return nil }
            return .atFault(
                PostgresError(.protocolViolation, "a batch key is gone: the message took too long"))
        } catch let error as PostgresError {
            return .unavailable(error)
        } catch {
            return .unavailable(PostgresError(.cancelled, "\(error)"))
        }
    }

    /// Takes messages back; answers those that stand all the same, nil when nothing is certain yet.
    private func withdraw(_ ids: [UUID]) async -> Set<UUID>? {
        guard let done = await attempt("withdrawal", { try await ledger.withdraw(ids) }) else { return nil }
        metrics.withdrawals.increment(by: ids.count - done.standing.count)
        logger.warning(
            "withdrew messages whose commit nobody could settle",
            metadata: [
                "asked": "\(ids.count)", "withdrawn": "\(done.withdrawn.count)",
                "standing": "\(done.standing.count)",
            ])
        return done.standing
    }

    /// Asks the ledger for something that counts only when it is durable; nil: not done yet.
    private func attempt<T>(_ what: String, _ body: () async throws -> T) async -> T? {
        do {
            return try await body()
        } catch {
            metrics.failedCommits.increment()
            logger.warning("not done yet: \(what)", metadata: ["error": "\(error)"])
            return nil
        }
    }

    private func report(_ outcome: IntakeOutcome, _ batch: IntakeBatch, isRepeat: Bool, took: Duration) {
        metrics.commitSeconds.record(seconds: took)
        switch outcome {
        case .durable:
            metrics.commits.increment()
            metrics.batchMessages.record(batch.messages.count)
            onOutcome(true)
        case .notDurable(let warning):
            metrics.unsettledCommits.increment()
            logger.warning("commit is not durable yet", metadata: ["warning": "\(warning)"])
            onOutcome(false)
        case .inDoubt(let error):
            metrics.unsettledCommits.increment()
            logger.warning("commit in doubt", metadata: ["error": "\(error)"])
            onOutcome(false)
        case .atFault(let error):
            metrics.splits.increment()
            if batch.messages.count + batch.uploads.count <= 1, !IntakeLedger.isReplay(error) {
                logger.error("the database refuses an item", metadata: ["error": "\(error)"])
            }
        case .unavailable(let error):
            metrics.failedCommits.increment()
            logger.warning("commit failed", metadata: ["error": "\(error)", "repeat": "\(isRepeat)"])
            onOutcome(false)
        }
    }

    /// One call on each event loop for all answers that belong to it.
    private func deliverAnswers() {
        let (answers, forgotten) = state.withLock { ($0.group.takeAnswers(), $0.group.takeForgottenTags()) }
        if forgotten > 0 { metrics.tagsForgotten.increment(by: forgotten) }
        if answers.isEmpty { return }
        var byLoop: [ObjectIdentifier: (loop: any EventLoop, calls: [(IntakeTicket, IntakeAnswer)])] = [:]
        for (ticket, answer) in answers {
            byLoop[ObjectIdentifier(ticket.loop), default: (ticket.loop, [])].calls.append((ticket, answer))
        }
        for (loop, calls) in byLoop.values {
            loop.execute { for (ticket, answer) in calls { ticket.answer(answer, self) } }
        }
    }
}
