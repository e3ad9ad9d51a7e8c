// Runs one shard's group commit: connections hand rows over on their event loops and are answered by promise.

import Foundation
import Ledger
import Logging
import Metrics
import NIOCore
import Sealing
import ServiceLifecycle
import Synchronization

/// The committer of one shard.
public final class IntakeCommitter: Service {
    private struct State: ~Copyable {
        var machine: GroupCommit
        var waiting: [Int: EventLoopPromise<IntakeAnswer>] = [:]
        var nextToken = 0
    }

    private let ledger: IntakeLedger
    private let newKeys: @Sendable () -> [BatchKeyRow]
    private let state: Mutex<State>
    private let wake: AsyncStream<Void>
    private let waker: AsyncStream<Void>.Continuation
    private let ready: AsyncStream<Void>
    private let readier: AsyncStream<Void>.Continuation
    private let logger: Logger
    private let commits = Counter(label: "zegel_edge_commits_total")
    private let doubts = Counter(label: "zegel_edge_commits_in_doubt_total")
    private let shed = Counter(label: "zegel_edge_overload_total")
    private let depth = Gauge(label: "zegel_edge_commit_queue")
    private let sizes = Recorder(label: "zegel_edge_commit_messages")

    /// - Parameters:
    ///   - newKeys: batch keys made since the last call (`Sealer.takeNewBatchKeys`); they go with the next transaction.
    public init(
        ledger: IntakeLedger, batchCount: Int, batchBytes: Int, settle: Duration, logger: Logger,
        newKeys: @escaping @Sendable () -> [BatchKeyRow]
    ) {
        self.ledger = ledger
        self.newKeys = newKeys
        self.logger = logger
        var limits = GroupCommit.Limits()
        limits.batchCount = batchCount
        limits.batchBytes = batchBytes
        limits.settle = settle
        state = Mutex(State(machine: GroupCommit(limits)))
        (wake, waker) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        (ready, readier) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// Hands a finished message over. The promise succeeds always; its event loop may be any.
    public func submit(_ message: MessageRow, promise: EventLoopPromise<IntakeAnswer>) {
        submit(.message(message), promise)
    }

    /// Hands frames of an unfinished message over.
    public func submit(_ upload: UploadRow, promise: EventLoopPromise<IntakeAnswer>) {
        submit(.upload(upload), promise)
    }

    /// Records a refusal; nobody waits for it.
    public func submit(_ rejection: RejectionRow) { submit(.rejection(rejection), nil) }

    private func submit(_ row: GroupCommit.Row, _ promise: EventLoopPromise<IntakeAnswer>?) {
        let taken = state.withLock { state in
            let token = state.nextToken
            state.nextToken += 1
            guard state.machine.submit(row, token: token, now: .now) else { return false }
            if let promise { state.waiting[token] = promise }
            return true
        }
        if taken {
            waker.yield()
        } else {
            shed.increment()
            promise?.succeed(.insufficientStorage)
        }
    }

    /// The client of the message with this tag has sent something after its 250.
    public func acknowledge(tag: [UInt8]) {
        state.withLock { $0.machine.acknowledge(tag: tag) }
    }

    /// Frames of a message that will not come to its end: gone soon, or with the sweeper.
    public func abandon(upload id: UUID) async {
        try? await ledger.abandonUpload(id)
    }

    /// Until cancelled; rows still waiting then are answered 451.
    public func run() async throws {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.commitLoop() }
            group.addTask { await self.notifyLoop() }
            group.addTask { await self.tagLoop() }
            await group.next()
            group.cancelAll()
        }
        let left = state.withLock { state in
            let promises = Array(state.waiting.values)
            state.waiting = [:]
            return promises
        }
        for promise in left { promise.succeed(.tryAgain(reason: "shutting-down")) }
    }

    private func commitLoop() async {
        for await _ in wake {
            while !Task.isCancelled {
                let action = state.withLock { state in
                    state.machine.add(keys: newKeys())
                    return state.machine.next(now: .now)
                }
                guard let result = await perform(action) else {
                    if case .idle = action { break }
                    continue
                }
                settle(result)
            }
            if Task.isCancelled { return }
        }
    }

    private func perform(_ action: GroupCommit.Action) async -> GroupCommit.Result? {
        switch action {
        case .idle: return nil
        case .wait(let until):
            try? await Task.sleep(until: until, clock: .continuous)
            return nil
        case .commit(let batch):
            sizes.record(batch.messages.count)
            let outcome = await ledger.commit(batch)
            note(outcome, batch)
            return .commit(outcome)
        case .resubmit(let batch):
            let outcome = await ledger.resubmit(batch)
            note(outcome, batch)
            return .commit(outcome)
        case .replay(let tag):
            do { return .replay(.success(try await ledger.replay(of: tag))) } catch {
                return .replay(.failure(error))
            }
        case .withdraw(let ids):
            return .withdraw(standing: await standing(afterWithdrawing: ids))
        }
    }

    private func standing(afterWithdrawing ids: [UUID]) async -> Set<UUID> {
        do {
            let withdrawn = try await ledger.withdraw(ids)
            return try await ledger.known(ids).subtracting(withdrawn)
        } catch {
            return []
        }
    }

    private func note(_ outcome: IntakeOutcome, _ batch: IntakeBatch) {
        switch outcome {
        case .durable:
            commits.increment()
            if !batch.messages.isEmpty { readier.yield() }
        case .notDurable(let warning):
            doubts.increment()
            logger.warning("commit not durable", metadata: ["warning": "\(warning)"])
        case .inDoubt(let error):
            doubts.increment()
            logger.warning("commit in doubt", metadata: ["error": "\(error)"])
        case .unavailable(let error):
            logger.warning("ledger unavailable", metadata: ["error": "\(error)"])
        case .atFault(let error):
            if !IntakeLedger.isReplay(error) {
                logger.notice(
                    "batch at fault", metadata: ["error": "\(error)", "messages": "\(batch.messages.count)"])
            }
        }
    }

    private func settle(_ result: GroupCommit.Result) {
        let (due, left) = state.withLock { state in
            state.machine.finished(result, now: .now)
            var due: [(EventLoopPromise<IntakeAnswer>, IntakeAnswer)] = []
            for (token, answer) in state.machine.takeAnswers() {
                if let promise = state.waiting.removeValue(forKey: token) { due.append((promise, answer)) }
            }
            return (due, state.machine.depth)
        }
        depth.record(left)
        for (promise, answer) in due { promise.succeed(answer) }
    }

    /// Wakes workers at most every 20 ms.
    private func notifyLoop() async {
        for await _ in ready {
            try? await ledger.notifyReady()
            try? await Task.sleep(for: .milliseconds(20))
            if Task.isCancelled { return }
        }
    }

    /// Acknowledged tags go with the next commit, and each second when there is none.
    private func tagLoop() async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            state.withLock { $0.machine.flush() }
            waker.yield()
        }
    }
}
