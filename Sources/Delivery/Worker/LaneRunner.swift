// One of the tasks that deliver. It is given a lane, works through it over one session after another, hands each result to the
// completion writer, rests a moment with its session when the lane is empty, and then takes another lane.

import Foundation
import Ledger
import Logging
import Policy
import Settings
import SmartTLS

/// What runners of one shard share.
struct LaneRunner: Sendable {
    let ledger: WorkLedger
    let board: LaneBoard
    let load: WorkLoad
    let lease: LeaseKeeper
    let dots: DotRegistrar
    let writer: CompletionWriter
    let held: HeldClaims
    let lapsed: LapsedClaims
    let contents: ContentReader
    let scribe: Scribe
    let router: Router
    let opener: SessionOpener
    let mark: NTAMark?
    let rulesets: RulesetBook
    let control: ControlWatch
    let schedule: RetrySchedule
    let inDoubt: InDoubtPolicy
    let patience: Duration
    let metrics: WorkerMetrics
    let logger: Logger

    /// Works until the board closes.
    func run() async {
        while let key = await board.assignment() {
            var session: LiveSession?
            while true {
                if let delivery = board.next(key) {
                    await take(delivery, key, &session)
                } else if session?.session.isReusable == true, let delivery = await board.rest(key) {
                    await take(delivery, key, &session)
                } else {
                    break
                }
            }
            await session?.session.quit()
            board.leave(key)
        }
    }

    private func take(_ delivery: PreparedDelivery, _ key: LaneKey, _ session: inout LiveSession?) async {
        load.begun(delivery.claim.lane)
        defer { load.ended(delivery.claim.lane) }
        guard lease.owns(delivery.worker) else {
            abandon(delivery)
            return
        }
        let content: OpenedContent
        do {
            content = try await contents.open(delivery)
        } catch let fault as ContentFault {
            await broken(delivery, fault)
            return
        } catch {
            logger.warning(
                "a content could not be read",
                metadata: ["message_id": "\(delivery.claim.reference.message)", "error": "\(error)"])
            await release([delivery])
            return
        }
        var attempt = DeliveryAttempt(
            delivery, content, router: router, opener: opener, rulesets: rulesets, dots: dots, lease: lease,
            mark: mark, patience: patience)
        switch await attempt.run(&session) {
        case .concluded(let result, let isUnreachable):
            settle(delivery, result, content.head)
            if isUnreachable {
                await shareFate(of: result, key)
            } else if result.recipients.contains(where: \.asksForLess) {
                board.slowed(key)
            } else if result.recipients.contains(where: { $0.kind == .delivered }) {
                board.succeeded(key)
            }
        case .withheld:
            dots.settled([delivery.claim.reference])
            if lease.owns(delivery.worker) {
                await release([delivery])
            } else {
                giveUp(delivery)
            }
        case .contentBroken(let fault):
            await broken(delivery, fault)
        }
    }

    /// A content cannot be sent. One that is missing may have gone with its delivery: a late 250 of an earlier owner ended it
    /// after this claim was made. Only under a claim that still stands is it lost, and an operator must know.
    private func broken(_ delivery: PreparedDelivery, _ fault: ContentFault) async {
        let reference = delivery.claim.reference
        if fault == .missing {
            do {
                guard try await ledger.stands(reference, worker: delivery.worker) else {
                    metrics.superseded.increment()
                    logger.info(
                        "a delivery ended before it was begun here: its content is gone with it",
                        metadata: ["message_id": "\(reference.message)"])
                    dots.settled([reference])
                    held.letGo([reference])
                    return
                }
            } catch {
                logger.warning(
                    "a claim could not be looked up",
                    metadata: ["message_id": "\(reference.message)", "error": "\(error)"])
                await release([delivery])
                return
            }
        }
        hold(delivery, .integrityFailure)
    }

    /// Draws the consequences and hands them over.
    private func settle(_ delivery: PreparedDelivery, _ result: AttemptResult, _ head: [UInt8]) {
        let isOurs = lease.owns(delivery.worker)
        // Law 7: with the lease gone only a 250 counts, and that always does.
        if !isOurs, !result.recipients.contains(where: { $0.kind == .delivered }) {
            if result.recipients.contains(where: { $0.kind == .inDoubt }) {
                abandon(delivery)
            } else {
                giveUp(delivery)
            }
            return
        }
        let now = Date()
        let policy = SettlementPolicy(
            schedule: schedule,
            holdsInDoubt: inDoubt == .hold || control.holdsInDoubt(delivery.claim.tenant) == true)
        let random = Double.random(in: 0..<1)
        var settlement = Settlement.make(delivery.facts, result, policy, now: now, random: random)
        let completion: Completion
        do {
            completion = try scribe.completion(delivery, settlement, header: head, now: now)
        } catch {
            // Nothing ends without a key to write its notification (design §6).
            logger.error(
                "a notification cannot be sealed: its delivery waits",
                metadata: ["message_id": "\(delivery.claim.reference.message)", "error": "\(error)"])
            settlement = Settlement.withoutKeys(delivery.facts, result, policy, now: now, random: random)
            guard let waiting = try? scribe.completion(delivery, settlement, header: head, now: now) else {
                hold(delivery, .integrityFailure)
                return
            }
            completion = waiting
        }
        for event in settlement.events { metrics.count(event.kind, event.reason) }
        if settlement.isAlert {
            metrics.alerts.increment()
            logger.error(
                "a delivery is held",
                metadata: [
                    "message_id": "\(delivery.claim.reference.message)",
                    "reason": "\(settlement.events.last?.reason.rawValue ?? "")",
                ])
        }
        writer.add(completion, worker: delivery.worker)
    }

    /// What waits for a destination that cannot be reached is deferred with the one that found out.
    private func shareFate(of result: AttemptResult, _ key: LaneKey) async {
        guard let first = result.recipients.first(where: { $0.kind == .deferred }) else { return }
        for delivery in board.failed(key) {
            load.begun(delivery.claim.lane)
            var shared = AttemptResult()
            shared.recipients = delivery.facts.recipients.map { recipient in
                RecipientResult(
                    number: recipient.number, kind: .deferred, reason: first.reason, status: first.status,
                    reply: first.reply, host: first.host, explanation: first.explanation)
            }
            // Only one that may be told to its sender now needs its header.
            let isOld =
                Date().timeIntervalSince(delivery.claim.acceptedAt) >= min(schedule.expire.seconds, 3600)
            let head = isOld ? (try? await contents.open(delivery))?.head ?? [] : []
            settle(delivery, shared, head)
            load.ended(delivery.claim.lane)
        }
    }

    private func hold(_ delivery: PreparedDelivery, _ reason: ReasonCode) {
        metrics.alerts.increment()
        metrics.count(.held, reason)
        logger.critical(
            "a stored message does not authenticate: held, nothing was sent",
            metadata: ["message_id": "\(delivery.claim.reference.message)"])
        guard lease.owns(delivery.worker) else { return giveUp(delivery) }
        writer.add(
            scribe.held(
                BrokenClaim(
                    claim: delivery.claim, fault: .integrityFailure, metadataKey: delivery.metadataKey),
                now: Date()), worker: delivery.worker)
    }

    /// The claim went with its lease: nothing is said of it.
    private func abandon(_ delivery: PreparedDelivery) {
        metrics.abandoned.increment()
        held.letGo([delivery.claim.reference])
    }

    /// The same of one that certainly left no final dot behind that is not answered: the ledger is told, as soon as it listens.
    private func giveUp(_ delivery: PreparedDelivery) {
        lapsed.add(CollectionOfOne(delivery.claim.reference), of: delivery.worker)
        abandon(delivery)
    }

    /// Gives back what was claimed under a lease that is gone and is certainly not under way. What the ledger does not take now it is
    /// offered again.
    func releaseLapsed() async {
        for (worker, references) in lapsed.take() {
            do {
                try await ledger.release(worker: worker, references)
                metrics.released.increment(by: references.count)
            } catch {
                lapsed.add(references, of: worker)
                logger.notice(
                    "claims of a lapsed lease not given back yet",
                    metadata: ["error": "\(error)", "count": "\(references.count)"])
            }
        }
    }

    /// Gives claims back that nothing was done with.
    func release(_ deliveries: [PreparedDelivery]) async {
        for (worker, group) in Dictionary(grouping: deliveries, by: \.worker) {
            await release(group.map(\.claim.reference), worker)
        }
    }

    /// Gives claims back that nothing was done with. When that fails the next comparison with the ledger finds them.
    func release(_ references: [DeliveryReference], _ worker: UUID) async {
        if references.isEmpty { return }
        metrics.released.increment(by: references.count)
        held.letGo(references)
        guard lease.owns(worker) else { return }
        do {
            try await ledger.release(worker: worker, references)
        } catch {
            logger.warning(
                "claims not given back", metadata: ["error": "\(error)", "count": "\(references.count)"])
        }
    }
}

extension Settlement {
    /// What follows while no notification can be sealed: what was delivered is so, everything else waits, however old it is.
    /// Nobody is told anything, and so nobody counts as told of a delay.
    static func withoutKeys(
        _ facts: DeliveryFacts, _ result: AttemptResult, _ policy: SettlementPolicy, now: Date, random: Double
    ) -> Settlement {
        var patient = policy
        patient.schedule = RetrySchedule(
            waits: policy.schedule.waits, expire: .seconds(1 << 40), delayReport: policy.schedule.delayReport)
        var silent = facts
        silent.hasSender = false
        return make(silent, result.waiting(), patient, now: now, random: random)
    }
}

extension AttemptResult {
    /// The same with every end but a delivery put off, for lack of a key to seal the notification.
    fileprivate func waiting() -> AttemptResult {
        var result = self
        result.recipients = recipients.map { recipient in
            switch recipient.kind {
            case .delivered, .inDoubt: return recipient
            case .bounced, .refused, .deferred:
                return RecipientResult(
                    number: recipient.number, kind: .deferred, reason: .keyServiceUnavailable,
                    reply: recipient.reply,
                    site: recipient.site, host: recipient.host, explanation: recipient.explanation)
            }
        }
        return result
    }
}

extension RecipientResult {
    /// The host says that this is too much for it.
    fileprivate var asksForLess: Bool {
        kind == .deferred
            && (reply?.code == 421 || (reply != nil && status.statusClass == 4 && status.subject == 7))
    }
}
