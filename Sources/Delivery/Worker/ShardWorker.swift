// The worker on one shard: its lease, its claims, its runners, and the order in which all of it ends.
//
//   claim loop ─▶ opener (keys, envelopes, small contents) ─▶ board (lanes) ─▶ runners (sessions) ─▶ completion writer
//        ▲                                                                          │ dots
//        └── bell: NOTIFY, slow poll, room again                                    └─▶ dot registrar (before each final dot)
//
// On shutdown claims stop first, then what nobody began goes back, runners finish what they have, results are committed, and last
// the lease is given up.

import Foundation
import Ledger
import Logging
import Postgres
import Sealing
import Synchronization

/// Delivers what one shard holds.
struct ShardWorker: Sendable {
    /// Longest time between looks at the queue when nothing rings.
    static let poll: Duration = .seconds(1)
    /// Between claims that were not full: long enough for a few messages to come together.
    static let gather: Duration = .milliseconds(20)
    /// Between comparisons of the claims in hand with those in the ledger.
    static let comparison: Duration = .seconds(30)
    /// Between reclaims of what dead workers had.
    static let reclaimInterval: Duration = .seconds(3)

    let runner: LaneRunner
    let opener: MessageOpener
    let replays: ReplayCheck
    let concurrency: Int
    let finalDotTimeout: Duration
    let notifications: LeaderRoute
    let isKnown: ShardConditions

    private var ledger: WorkLedger { runner.ledger }
    private var logger: Logger { runner.logger }
    private var load: WorkLoad { runner.load }

    /// Says that no more is to be claimed; `run()` then ends by itself.
    func stop() { load.stop() }

    /// Works until stopped or cancelled.
    func run() async {
        await withTaskGroup(of: Void.self) { services in
            services.addTask { await runner.lease.run() }
            services.addTask { await runner.dots.run() }
            services.addTask { await tick() }
            services.addTask { await listen() }
            services.addTask { await reclaim() }
            await withTaskGroup(of: Void.self) { work in
                work.addTask { await runner.writer.run() }
                await withTaskGroup(of: Void.self) { runners in
                    for _ in 0..<concurrency { runners.addTask { await runner.run() } }
                    await claimLoop()
                    await runner.release(giveBack(runner.board.close()))
                }
                runner.writer.drain()
            }
            services.cancelAll()
        }
        await runner.releaseLapsed()
        do {
            try await ledger.resign(worker: runner.lease.worker)
        } catch {
            logger.notice("the lease was not given up: it lapses", metadata: ["error": "\(error)"])
        }
    }

    // MARK: Claiming

    private func claimLoop() async {
        var keyPause = Duration.zero
        var mustCompare = false
        var compared = ContinuousClock.now
        await withTaskGroup(of: Void.self) { openings in
            let gate = OpeningGate(limit: 2)
            while !load.isStopping, !Task.isCancelled {
                if let pause = gate.takePause() {
                    keyPause = max(.milliseconds(500), min(keyPause * 2, .seconds(10)))
                    runner.metrics.keysAway.record(1)
                    logger.error("the key service does not open: claims pause", metadata: ["why": "\(pause)"])
                    isKnown.keysAre(pause)
                    await sleepUnlessStopping(keyPause)
                    continue
                }
                guard gate.hasRoom, let worker = runner.lease.claimant, let request = load.plan() else {
                    await load.bell.wait()
                    continue
                }
                if mustCompare || ContinuousClock.now - compared > Self.comparison {
                    compared = .now
                    mustCompare = await !compare(worker)
                }
                let claimed: [ClaimedDelivery]
                do {
                    claimed = try await ledger.claim(worker: worker, request)
                    isKnown.ledgerIs(nil)
                } catch {
                    if Task.isCancelled { break }
                    // It may have been committed: the comparison finds those claims.
                    mustCompare = true
                    logger.warning("claim failed", metadata: ["error": "\(error)"])
                    isKnown.ledgerIs("\(error)")
                    await sleepUnlessStopping(.milliseconds(500))
                    continue
                }
                runner.metrics.claims.increment()
                runner.metrics.claimed.increment(by: claimed.count)
                runner.held.took(claimed.map(\.reference))
                let hasMore = load.took(claimed, of: request)
                let unserved = end(claimed, worker)
                if !unserved.isEmpty {
                    gate.enter()
                    openings.addTask { await begin(unserved, worker, gate) }
                }
                if hasMore { continue }
                if claimed.isEmpty {
                    await load.bell.wait()
                } else {
                    try? await Task.sleep(for: Self.gather)
                }
            }
        }
    }

    /// Ends deliveries that have no open recipient any more, and answers the others.
    private func end(_ claimed: [ClaimedDelivery], _ worker: UUID) -> [ClaimedDelivery] {
        let served = claimed.filter { $0.recipients.isEmpty }
        if served.isEmpty { return claimed }
        load.dropped(served.map(\.lane))
        for claim in served {
            runner.writer.add(
                .ending(claim, shreddedEventID: UUIDv7.make(at: Date())), worker: worker)
        }
        return claimed.filter { !$0.recipients.isEmpty }
    }

    /// Gives back what the ledger says we have and we do not know of; false: the ledger did not answer. Never while a claim is
    /// being made.
    private func compare(_ worker: UUID) async -> Bool {
        do {
            let strangers = runner.held.strangers(among: try await ledger.claims(of: worker))
            if !strangers.isEmpty {
                logger.notice(
                    "giving back claims whose answer was lost", metadata: ["count": "\(strangers.count)"])
                await runner.release(strangers, worker)
            }
            return true
        } catch {
            return false
        }
    }

    private func sleepUnlessStopping(_ duration: Duration) async {
        let end = ContinuousClock.now + duration
        while ContinuousClock.now < end, !load.isStopping, !Task.isCancelled {
            try? await Task.sleep(for: min(duration, .milliseconds(100)))
        }
    }

    /// Opens what was claimed once no other shard can hold the same bytes, and gives the gate back. What has to wait for the word of a
    /// shard without a leader waits here, claimed.
    private func begin(_ claimed: [ClaimedDelivery], _ worker: UUID, _ gate: OpeningGate) async {
        func leave() {
            gate.leave()
            load.bell.set()
        }
        var questions: [UUID: ReplayCheck.Question]
        do { questions = try await replays.questions(claimed) } catch {
            logger.warning("replay tags could not be read, given back", metadata: ["error": "\(error)"])
            await giveBack(claimed, worker)
            return leave()
        }
        var rest = claimed
        while true {
            if !questions.isEmpty { await replays.ask(&questions) }
            var decided: [ClaimedDelivery] = []
            var replayed: [UUID: UUID] = [:]
            rest = rest.filter { claim in
                var claim = claim
                switch questions[claim.reference.message]?.inquiry.decision {
                case .open: return true
                case .goes(isMarked: true):
                    claim.possibleDuplicate = true
                    runner.metrics.markedReplays.increment()
                case .isReplay(let first): replayed[claim.reference.message] = first
                case .goes, nil: break
                }
                decided.append(claim)
                return false
            }
            if !decided.isEmpty { await open(decided, worker, replayed, gate) }
            leave()
            if rest.isEmpty { return }
            await sleepUnlessStopping(ReplayInquiry.again)
            guard runner.lease.owns(worker), !load.isStopping, await gate.entry() else {
                return await giveBack(rest, worker)
            }
        }
    }

    /// - Parameter replayed: messages that end as replays, each with the one that is delivered in its stead.
    private func open(
        _ claimed: [ClaimedDelivery], _ worker: UUID, _ replayed: [UUID: UUID], _ gate: OpeningGate
    ) async {
        let opened: OpenedClaims
        do {
            opened = try await opener.open(claimed, worker: worker)
        } catch {
            logger.warning("claims could not be read, given back", metadata: ["error": "\(error)"])
            await giveBack(claimed, worker)
            return
        }
        for broken in opened.broken {
            runner.metrics.alerts.increment()
            runner.metrics.count(.held, broken.fault == .keyDestroyed ? .keyDestroyed : .integrityFailure)
            logger.critical(
                "a claimed message cannot be opened: held",
                metadata: ["message_id": "\(broken.claim.reference.message)", "fault": "\(broken.fault)"])
            runner.writer.add(runner.scribe.held(broken, now: Date()), worker: worker)
        }
        load.dropped(opened.broken.map(\.claim.lane))
        if let reason = opened.lockedReason {
            gate.pause(reason)
        } else if !opened.ready.isEmpty {
            runner.metrics.keysAway.record(0)
            isKnown.keysAre(nil)
        }
        if !opened.locked.isEmpty { await giveBack(opened.locked, worker) }
        var ready: [PreparedDelivery] = []
        for delivery in opened.ready {
            if let first = replayed[delivery.claim.reference.message] {
                end(delivery, asReplayOf: first)
            } else if delivery.claim.isReturned {
                await giveToSender(delivery)
            } else {
                ready.append(delivery)
            }
        }
        await runner.release(giveBack(runner.board.offer(ready)))
    }

    /// Ends a delivery that an operator returns, with its notification, which has the message's header where that can still be opened.
    private func giveToSender(_ delivery: PreparedDelivery) async {
        let head = await runner.contents.head(delivery)
        load.dropped([delivery.claim.lane])
        let now = Date()
        let reference = delivery.claim.reference
        let settlement = Settlement.returned(delivery.facts)
        do {
            let completion = try runner.scribe.completion(delivery, settlement, header: head, now: now)
            for event in settlement.events { runner.metrics.count(event.kind, event.reason) }
            logger.notice("a delivery is returned", metadata: ["message_id": "\(reference.message)"])
            runner.writer.add(completion, worker: delivery.worker)
        } catch {
            // Nothing ends without a key to write its notification (design §6).
            logger.error(
                "a notification cannot be sealed: its delivery waits",
                metadata: ["message_id": "\(reference.message)", "error": "\(error)"])
            runner.writer.add(
                Completion(
                    reference: reference, deliveriesOfMessage: delivery.claim.deliveries,
                    tenant: delivery.claim.tenant, ended: [],
                    step: .retry(
                        due: now.addingTimeInterval(60), possibleDuplicate: delivery.claim.possibleDuplicate,
                        delayReported: delivery.claim.delayReported),
                    events: [], shreddedEventID: UUIDv7.make(at: now)), worker: delivery.worker)
        }
    }

    /// Ends a delivery whose bytes another shard delivers. One whose event cannot be sealed is held: it must not go unmarked.
    private func end(_ delivery: PreparedDelivery, asReplayOf first: UUID) {
        load.dropped([delivery.claim.lane])
        let now = Date()
        guard let completion = try? runner.scribe.replay(delivery, of: first, now: now) else {
            let broken = BrokenClaim(
                claim: delivery.claim, fault: .integrityFailure, metadataKey: delivery.metadataKey)
            runner.metrics.alerts.increment()
            runner.metrics.count(.held, .integrityFailure)
            return runner.writer.add(runner.scribe.held(broken, now: now), worker: delivery.worker)
        }
        runner.metrics.count(.duplicate, .replayed)
        logger.notice(
            "a message of another shard is delivered in its stead",
            metadata: ["message_id": "\(delivery.claim.reference.message)", "first": "\(first)"])
        runner.writer.add(completion, worker: delivery.worker)
    }

    private func giveBack(_ claims: [ClaimedDelivery], _ worker: UUID) async {
        load.dropped(claims.map(\.lane))
        await runner.release(claims.map(\.reference), worker)
    }

    /// Takes deliveries that nobody began out of the count.
    private func giveBack(_ deliveries: [PreparedDelivery]) -> [PreparedDelivery] {
        load.dropped(deliveries.map(\.claim.lane))
        return deliveries
    }

    // MARK: Around it

    /// The slow poll, retries whose time has come, gauges.
    private func tick() async {
        var round = 0
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.poll / 4)
            runner.board.sweep()
            round += 1
            guard round % 4 == 0 else { continue }
            do {
                _ = try await ledger.promote()
            } catch {
                if Task.isCancelled { return }
                logger.warning("retries not promoted", metadata: ["error": "\(error)"])
            }
            let counts = load.counts
            runner.metrics.queued.record(counts.queued)
            runner.metrics.active.record(counts.active)
            runner.metrics.uncommitted.record(runner.writer.pending)
            runner.writer.tick()
            if round % 40 == 0, let standing = try? await ledger.archiveStanding() {
                runner.metrics.archive(standing, of: ledger.shard)
            }
            load.bell.set()
        }
    }

    private func reclaim() async {
        while !Task.isCancelled {
            await runner.releaseLapsed()
            do {
                let (freed, inDoubt) = try await ledger.reclaim(
                    finalDotTimeout: finalDotTimeout, heldTenants: runner.control.tenantsThatHold,
                    holdsAll: runner.inDoubt == .hold)
                runner.metrics.reclaimed.increment(by: freed)
                runner.metrics.inDoubt.increment(by: inDoubt)
                if freed + inDoubt > 0 {
                    logger.notice(
                        "reclaimed from workers that are gone",
                        metadata: ["freed": "\(freed)", "in_doubt": "\(inDoubt)"])
                    load.bell.set()
                }
            } catch {
                if Task.isCancelled { return }
                logger.warning("reclaim failed", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: Self.reclaimInterval)
        }
    }

    /// Rings the bell when the ledger says that something is ready; the slow poll covers what this misses.
    private func listen() async {
        while !Task.isCancelled {
            do {
                let connection = try await PostgresConnection.connect(
                    notifications.destination().configuration)
                for await _ in try await WorkLedger.readiness(connection) { load.bell.set() }
                await connection.close()
            } catch {
                if Task.isCancelled { return }
                logger.notice("not listening for work, polling", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: .seconds(1))
        }
    }
}

/// Bounds how many claims are being opened at once, and carries word of a key service that is away.
final class OpeningGate: Sendable {
    private struct State {
        var underWay = 0
        var pause: String?
    }

    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int) { self.limit = limit }

    var hasRoom: Bool { state.withLock { $0.underWay < limit } }
    /// Enters, as soon as there is room. False: cancelled.
    func entry() async -> Bool {
        while !Task.isCancelled {
            let isIn = state.withLock { state in
                guard state.underWay < limit else { return false }
                state.underWay += 1
                return true
            }
            if isIn { return true }
            try? await Task.sleep(for: .milliseconds(20))
        }
        return false
    }
    func enter() { state.withLock { $0.underWay += 1 } }
    func leave() { state.withLock { $0.underWay -= 1 } }
    func pause(_ reason: String) { state.withLock { $0.pause = reason } }
    func takePause() -> String? {
        state.withLock { state in
            defer { state.pause = nil }
            return state.pause
        }
    }
}

/// What a shard worker reports of what it depends on; nil: well.
struct ShardConditions: Sendable {
    /// Called with why the ledger does not answer.
    let ledgerIs: @Sendable (String?) -> Void
    /// Called with why the key service does not open.
    let keysAre: @Sendable (String?) -> Void
}
