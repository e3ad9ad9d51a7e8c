// Workers that drive the real lease, final dots, claims in hand and queue of completions.

import Delivery
import Foundation
import Ledger

extension World {
    func isLive(_ worker: Int, _ epoch: Int32) -> Bool {
        let node = nodes[workers[worker].node]
        return node.isUp && node.epoch == epoch
    }

    func epoch(_ worker: Int) -> Int32 { nodes[workers[worker].node].epoch }
    func clock(_ worker: Int) -> ContinuousClock.Instant { instant(workers[worker].node) }

    mutating func ask(_ caller: Caller, _ worker: Int, _ request: ShardRequest) {
        call(
            caller, node: workers[worker].node, shard: workers[worker].shard, request,
            claimant: workers[worker].lease.clock.worker)
    }

    /// Whether a commit of a worker counts.
    func isSure(_ isWarned: Bool, _ hasNames: Bool) -> Bool {
        (!isWarned || flaw == .warnedWorkCounts)
            && (hasNames || flaw == .emptyNamesCountForWork)
    }

    // MARK: The lease

    mutating func startWorker(_ worker: Int) {
        workers[worker].lease = LeaseRenewal(worker: newWorkerID(), lease: Self.lease)
        workers[worker].dots = FinalDotRequests()
        workers[worker].held = HeldClaims()
        workers[worker].lapsed = LapsedClaims()
        workers[worker].batch = CompletionBatch()
        workers[worker].isClaiming = false
        workers[worker].isRegistering = false
        workers[worker].isCommitting = false
        workers[worker].mustCompare = false
        workers[worker].comparedAt = now
        workers[worker].attempts = []
        workers[worker].concluded = [:]
        workers[worker].trueLeaseOf = -1
        push(.leaseStep(worker: worker, epoch: epoch(worker)), after: dice.milliseconds(0...200))
        push(.poll(worker: worker, epoch: epoch(worker)), after: dice.milliseconds(300...3000))
    }

    /// The end of a rest, and the next step of the lease.
    mutating func leaseStep(_ worker: Int, _ epoch: Int32) {
        guard isLive(worker, epoch) else { return }
        let newWorker = newWorkerID()
        take(workers[worker].lease.rested(now: clock(worker), newWorker: newWorker), worker)
        workers[worker].sentAt = local(workers[worker].node)
        switch workers[worker].lease.step {
        case .register(let id): ask(.lease(worker: worker), worker, .register(id))
        case .renew(let id): ask(.lease(worker: worker), worker, .heartbeat(id))
        }
    }

    mutating func leased(_ worker: Int, _ call: Call, _ answer: CallAnswer) {
        let sentAt = Self.origin + .microseconds(workers[worker].sentAt)
        let newWorker = newWorkerID()
        guard case .done(let reply, let isWarned, let hasNames) = answer, isSure(isWarned, hasNames) else {
            note("\(name(worker: worker)): heartbeat failed")
            workers[worker].lease.failed(newWorker: newWorker)
            return push(.leaseStep(worker: worker, epoch: call.epoch), after: .seconds(1))
        }
        var holds = true
        if case .flag(let flag) = reply { holds = flag }
        if holds {
            let drift = clusters[call.shard].members[call.member].drift
            let end = call.executedAt + .seconds(15) - .seconds(15) * drift / 1_000_000
            let id = SimulatedID.number(workers[worker].lease.clock.worker)
            if workers[worker].trueLeaseOf != id || workers[worker].trueLease < end {
                workers[worker].trueLease = end
            }
            workers[worker].trueLeaseOf = id
        }
        let change = workers[worker].lease.answered(
            holds: holds, sentAt: sentAt, now: flaw == .resumedLease ? sentAt : clock(worker),
            newWorker: newWorker)
        take(change, worker)
        if case .lapsed = change { return leaseStep(worker, call.epoch) }
        push(.leaseStep(worker: worker, epoch: call.epoch), after: .seconds(5))
    }

    mutating func take(_ change: LeaseRenewal.Change, _ worker: Int) {
        switch change {
        case .goesOn: break
        case .began:
            note(
                "\(name(worker: worker)): has a lease as w\(SimulatedID.number(workers[worker].lease.clock.worker))"
            )
            push(.bell(worker: worker), after: 1000)
        case .lapsed(let id):
            note("\(name(worker: worker)): the lease of w\(SimulatedID.number(id)) is gone")
            // What nobody began is given up; what is under way learns it by asking.
            for attempt in workers[worker].attempts
            where attempts[attempt].phase == .queued && attempts[attempt].claimant == id {
                abandon(attempt)
            }
        }
    }

    // MARK: Around it

    mutating func poll(_ worker: Int, _ epoch: Int32) {
        guard isLive(worker, epoch) else { return }
        workers[worker].lastPoll = now
        for (claimant, references) in workers[worker].lapsed.take() {
            ask(.givingUp(worker: worker, claimant, references), worker, .release(claimant, references))
        }
        ask(.upkeep(worker: worker), worker, .promote)
        ask(.upkeep(worker: worker), worker, .reclaim)
        push(.bell(worker: worker), after: .milliseconds(50))
        push(.poll(worker: worker, epoch: epoch), after: .seconds(5))
    }

    // MARK: Claims

    mutating func claim(_ worker: Int) {
        let node = nodes[workers[worker].node]
        guard node.isUp, !workers[worker].isClaiming, workers[worker].attempts.count < 8,
            workers[worker].lease.clock.mayClaim(at: clock(worker))
        else { return }
        workers[worker].isClaiming = true
        if workers[worker].mustCompare || now - workers[worker].comparedAt > .seconds(30) {
            workers[worker].comparedAt = now
            ask(.comparison(worker: worker), worker, .claims(workers[worker].lease.clock.worker))
        } else {
            sendClaim(worker)
        }
    }

    mutating func sendClaim(_ worker: Int) {
        ask(
            .claim(worker: worker), worker,
            .claim(workers[worker].lease.clock.worker, limit: dice.within(1...4), perLane: 3))
    }

    mutating func compared(_ worker: Int, _ call: Call, _ answer: CallAnswer) {
        if case .done(.references(let references), _, _) = answer {
            workers[worker].mustCompare = false
            let strangers = workers[worker].held.strangers(among: references)
            if !strangers.isEmpty {
                note("\(name(worker: worker)): gives back \(strangers.map(name)), whose answer was lost")
                release(worker, strangers, call.claimant)
            }
        } else {
            workers[worker].mustCompare = true
        }
        sendClaim(worker)
    }

    mutating func claimed(_ worker: Int, _ call: Call, _ answer: CallAnswer) {
        guard case .done(.claims(let claims), let isWarned, let hasNames) = answer, isSure(isWarned, hasNames)
        else {
            note("\(name(worker: worker)): claim failed")
            return claimFailed(worker)
        }
        if claims.contains(where: { $0.reference.fence > 1 }) {
            ask(
                .reopening(worker: worker, claims), worker,
                .open(claims.map(\.reference).filter { $0.fence > 1 }))
        } else {
            take(claims, worker, call)
        }
    }

    /// It may have been committed: the comparison finds those claims.
    mutating func claimFailed(_ worker: Int) {
        workers[worker].mustCompare = true
        workers[worker].isClaiming = false
        push(.bell(worker: worker), after: .milliseconds(500))
    }

    mutating func reopened(_ worker: Int, _ call: Call, _ claims: [SimulatedClaim], _ answer: CallAnswer) {
        guard case .done(.claims(let again), _, _) = answer else { return claimFailed(worker) }
        var open: [DeliveryReference: [Int32]] = [:]
        for claim in again { open[claim.reference] = claim.recipients }
        let left = claims.compactMap { claim -> SimulatedClaim? in
            if claim.reference.fence == 1 { return claim }
            let numbers = open[claim.reference] ?? []
            if numbers.isEmpty, flaw == .unendedClaims { return nil }
            var claim = claim
            claim.recipients.removeAll { !numbers.contains($0) }
            return claim
        }
        take(left, worker, call)
    }

    mutating func take(_ claims: [SimulatedClaim], _ worker: Int, _ call: Call) {
        workers[worker].isClaiming = false
        if claims.isEmpty { return }
        note(
            "\(name(worker: worker)): claimed \(claims.map(\.reference).map(name)) as w\(SimulatedID.number(call.claimant))"
        )
        workers[worker].held.took(claims.map(\.reference))
        for claim in claims {
            let number = attempts.count
            if claim.recipients.isEmpty { continue }
            attempts.append(
                Attempt(
                    worker: worker, epoch: call.epoch, claimant: call.claimant, claim: claim,
                    message: SimulatedID.number(claim.reference.message),
                    possibleDuplicate: claim.possibleDuplicate))
            workers[worker].attempts.append(number)
            push(
                .begins(attempt: number),
                after: dice.happens(50) ? dice.milliseconds(0...4000) : dice.milliseconds(0...20))
        }
        for claim in claims where claim.recipients.isEmpty { endServed(claim, worker, call.claimant) }
        push(.bell(worker: worker), after: .milliseconds(20))
    }

    /// Nothing is left to send.
    mutating func endServed(_ claim: SimulatedClaim, _ worker: Int, _ claimant: UUID) {
        note("\(name(worker: worker)): \(name(claim.reference)) has no open recipient: ended")
        add(
            Completion(
                reference: claim.reference, deliveriesOfMessage: claim.deliveries, tenant: "t", ended: [],
                step: .ends, events: [], shreddedEventID: newEventID()), worker, claimant)
    }

    mutating func release(_ worker: Int, _ references: [DeliveryReference], _ claimant: UUID) {
        workers[worker].held.letGo(references)
        guard workers[worker].lease.clock.owns(claimant, at: clock(worker)) else { return }
        ask(.upkeep(worker: worker), worker, .release(claimant, references))
    }

    /// The claim went with its lease: nothing is said of it.
    mutating func abandon(_ attempt: Int) {
        over(attempt)
        workers[attempts[attempt].worker].held.letGo([attempts[attempt].claim.reference])
    }

    /// The same of one that left no final dot behind that is not answered.
    mutating func giveUp(_ attempt: Int) {
        abandon(attempt)
        workers[attempts[attempt].worker].lapsed.add(
            CollectionOfOne(attempts[attempt].claim.reference), of: attempts[attempt].claimant)
    }

    mutating func gaveUp(
        _ worker: Int, _ claimant: UUID, _ references: [DeliveryReference], _ answer: CallAnswer
    ) {
        if case .done(_, let isWarned, let hasNames) = answer, isSure(isWarned, hasNames) {
            return note("\(name(worker: worker)): gave back \(references.map(name)) of a lapsed lease")
        }
        workers[worker].lapsed.add(references, of: claimant)
    }

    mutating func over(_ attempt: Int) {
        attempts[attempt].phase = .over
        workers[attempts[attempt].worker].attempts.removeAll { $0 == attempt }
    }

    func isLive(_ attempt: Attempt) -> Bool {
        isLive(attempt.worker, attempt.epoch) && attempt.phase != .over
    }

    func owns(_ attempt: Attempt) -> Bool {
        workers[attempt.worker].lease.clock.owns(attempt.claimant, at: clock(attempt.worker))
    }

    // MARK: An attempt

    mutating func begins(_ number: Int) {
        guard isLive(attempts[number]) else { return }
        guard owns(attempts[number]) else { return abandon(number) }
        attempts[number].phase = .asking
        askOthers(number)
    }

    mutating func attempt(_ number: Int) {
        guard isLive(attempts[number]) else { return }
        let worker = attempts[number].worker
        guard owns(attempts[number]) else { return abandon(number) }
        attempts[number].phase = .sending
        if dice.happens(temper.trouble), !isStormOver {
            return push(
                .concludes(attempt: number, dice.happens(250) ? .bounced : .deferred),
                after: dice.milliseconds(1...3000))
        }
        if flaw == .unregisteredDot { attempts[number].isGranted = true }
        _ = workers[worker].dots.ask(
            attempts[number].claim.reference, worker: attempts[number].claimant, ticket: number)
        register(worker)
        push(
            .transferred(attempt: number),
            after: dice.happens(60) ? dice.milliseconds(1000...20_000) : dice.milliseconds(2...200))
    }

    // MARK: Final dots

    mutating func register(_ worker: Int) {
        guard !workers[worker].isRegistering, !workers[worker].dots.isEmpty else { return }
        let owner = workers[worker].lease.clock.worker
        let owns = workers[worker].lease.clock.owns(owner, at: clock(worker))
        let round = workers[worker].dots.take(owner: owner, owns: owns)
        for request in round.stale { granted(request.ticket, false) }
        if round.asked.isEmpty { return }
        workers[worker].isRegistering = true
        workers[worker].round = round
        workers[worker].roundWorker = owner
        ask(
            .dots(worker: worker), worker,
            .dots(owner, round.asked.map(\.reference), inFlight: round.inFlight))
    }

    mutating func registered(_ worker: Int, _ call: Call, _ answer: CallAnswer) {
        workers[worker].isRegistering = false
        guard let round = workers[worker].round else { return }
        if case .done(.granted(let references, let at), let isWarned, let hasNames) = answer,
            isSure(isWarned, hasNames)
        {
            workers[worker].dots.registered(references, worker: workers[worker].roundWorker, at: at)
            for request in round.asked {
                let isGranted = references.contains(request.reference)
                if isGranted { attempts[request.ticket].registration = call.entry }
                granted(request.ticket, isGranted)
            }
        } else {
            for request in round.asked { granted(request.ticket, false) }
        }
        register(worker)
    }

    mutating func granted(_ number: Int, _ isGranted: Bool) {
        guard isLive(attempts[number]) else { return }
        if flaw != .unregisteredDot { attempts[number].isGranted = isGranted }
        mayEnd(number)
    }

    /// The content is sent and the registration answered: may the final dot go?
    mutating func mayEnd(_ number: Int) {
        let attempt = attempts[number]
        guard isLive(attempt), attempt.phase == .sending, attempt.isTransferred,
            let isGranted = attempt.isGranted
        else { return }
        let lease = workers[attempt.worker].lease.clock
        let hasLease =
            flaw == .noLeaseMargin || lease.maySendDot(attempt.claimant, at: clock(attempt.worker))
        guard isGranted, hasLease else {
            note(
                "\(name(worker: attempt.worker)): the final dot of \(name(attempt.claim.reference)) is withheld"
            )
            workers[attempt.worker].dots.settled([attempt.claim.reference])
            if owns(attempt) {
                over(number)
                release(attempt.worker, [attempt.claim.reference], attempt.claimant)
            } else {
                giveUp(number)
            }
            return
        }
        attempts[number].phase = .dotted
        attempts[number].pauses = nodes[workers[attempt.worker].node].pauses
        push(
            .dotLeaves(attempt: number),
            after: dice.happens(80) ? dice.milliseconds(50...1500) : dice.milliseconds(0...3))
        push(.concludes(attempt: number, .inDoubt), after: Self.finalDot)
    }

    mutating func dotLeaves(_ number: Int) {
        let attempt = attempts[number]
        guard isLive(attempt.worker, attempt.epoch) else { return }
        attempts[number].hasLeft = true
        note("\(name(worker: attempt.worker)): the final dot of \(name(attempt.claim.reference)) leaves")
        check(attempt)
        push(.dotArrives(attempt: number), after: dice.milliseconds(1...60))
    }

    /// Laws 6 and 7 at the moment of a final dot.
    mutating func check(_ attempt: Attempt) {
        let worker = workers[attempt.worker]
        guard let entry = attempt.registration, clusters[worker.shard].entries[entry].isDurable else {
            return violate(
                "law 7: a final dot of \(name(attempt.claim.reference)) that the quorum has no registration of"
            )
        }
        // Who stood still between the check and the dot could not know.
        guard attempt.pauses == nodes[worker.node].pauses else { return }
        if worker.trueLeaseOf != SimulatedID.number(attempt.claimant) || worker.trueLease <= now {
            violate("law 7: a final dot of \(name(attempt.claim.reference)) without a lease")
        }
    }

    mutating func dotArrives(_ number: Int) {
        let attempt = attempts[number]
        var conclusion = Conclusion.delivered
        let luck = dice.below(100)
        if luck < 5 { conclusion = .deferred } else if luck < 8 { conclusion = .bounced }
        if luck < 8 || luck >= 12 {
            if conclusion == .delivered {
                for recipient in attempt.claim.recipients {
                    copies.append(
                        Copy(
                            content: messages[attempt.message].content, recipient: Int(recipient),
                            message: attempt.message, fence: attempt.claim.reference.fence))
                }
                note(
                    "recipient's server: takes \(name(attempt.claim.reference)), content \(messages[attempt.message].content), for \(attempt.claim.recipients)"
                )
            }
            // Its answer may come late, or never.
            let way = dice.below(100)
            if way < 4 { return }
            if way < 8 {
                return push(.concludes(attempt: number, .inDoubt), after: dice.milliseconds(10...20_000))
            }
            push(
                .concludes(attempt: number, conclusion),
                after: way >= 8 + temper.lateness
                    ? dice.milliseconds(1...150)
                    : dice.happens(500) ? dice.milliseconds(1000...60_000) : dice.milliseconds(8000...25_000))
        } else {
            // It breaks off, and has kept nothing.
            push(.concludes(attempt: number, .inDoubt), after: dice.milliseconds(10...5000))
        }
    }

    /// The attempt has come to something.
    mutating func concludes(_ number: Int, _ conclusion: Conclusion) {
        let attempt = attempts[number]
        guard isLive(attempt) else { return }
        over(number)
        note("\(name(worker: attempt.worker)): \(name(attempt.claim.reference)) ends as \(conclusion)")
        if conclusion != .inDoubt { workers[attempt.worker].concluded[attempt.claim.reference] = number }
        // Law 7: with the lease gone only a 250 counts, and that always does.
        guard owns(attempt) || conclusion == .delivered else {
            return conclusion == .inDoubt && flaw != .doubtGivenUp ? abandon(number) : giveUp(number)
        }
        complete(number, conclusion)
    }

    // MARK: Completions

    private static let policy = SettlementPolicy(
        schedule: RetrySchedule(waits: [.seconds(5), .seconds(10)], expire: .seconds(100_000)),
        holdsInDoubt: false)

    /// Draws the consequences by the real settlement, and hands them over.
    mutating func complete(_ number: Int, _ conclusion: Conclusion) {
        let attempt = attempts[number]
        var result = AttemptResult()
        for recipient in attempt.claim.recipients {
            switch conclusion {
            case .delivered:
                result.recipients.append(
                    RecipientResult(number: recipient, kind: .delivered, reason: .connectionLost))
            case .deferred:
                result.recipients.append(
                    RecipientResult(number: recipient, kind: .deferred, reason: .remoteDeferred))
            case .bounced:
                result.recipients.append(
                    RecipientResult(number: recipient, kind: .bounced, reason: .remoteRejected))
            case .inDoubt:
                result.recipients.append(
                    RecipientResult(number: recipient, kind: .inDoubt, reason: .finalDotInDoubt))
            }
        }
        let at = date(workers[attempt.worker].node)
        let facts = DeliveryFacts(
            acceptedAt: at, attempt: attempt.claim.attempts + 1,
            possibleDuplicate: attempt.possibleDuplicate, delayReported: attempt.claim.delayReported,
            isNotification: false, hasSender: false, recipients: [])
        let settlement = Settlement.make(
            facts, result, Self.policy, now: at, random: Double(dice.below(1000)) / 1000)
        let events = settlement.events.map { event in
            eventRow(attempt, event.recipient, event.kind, event.possibleDuplicate, at)
        }
        add(
            Completion(
                reference: attempt.claim.reference, deliveriesOfMessage: attempt.claim.deliveries,
                tenant: "t", ended: settlement.ended, step: settlement.step, events: events,
                shreddedEventID: newEventID()), attempt.worker,
            attempt.claimant)
    }

    mutating func eventRow(
        _ attempt: Attempt, _ recipient: Int32?, _ kind: EventKind, _ isMarked: Bool, _ at: Date
    ) -> EventRow {
        EventRow(
            id: newEventID(), tenant: "t", message: attempt.claim.reference.message, recipient: recipient,
            kind: kind, at: at, possibleDuplicate: isMarked)
    }

    /// It is a replay of another message.
    mutating func endAsDuplicate(_ number: Int) {
        let attempt = attempts[number]
        note("\(name(worker: attempt.worker)): \(name(attempt.claim.reference)) ends as duplicate")
        over(number)
        let at = date(workers[attempt.worker].node)
        let events = attempt.claim.recipients.map { eventRow(attempt, $0, .duplicate, false, at) }
        add(
            Completion(
                reference: attempt.claim.reference, deliveriesOfMessage: attempt.claim.deliveries,
                tenant: "t",
                ended: attempt.claim.recipients.map { EndedRecipient(number: $0, state: .duplicate) },
                step: .ends, events: events, shreddedEventID: newEventID()), attempt.worker,
            attempt.claimant)
    }

    mutating func add(_ completion: Completion, _ worker: Int, _ claimant: UUID) {
        workers[worker].batch.append(completion, worker: claimant)
        if !workers[worker].isCommitting { nextCompletions(worker) }
    }

    mutating func nextCompletions(_ worker: Int) {
        guard let next = workers[worker].batch.take() else {
            workers[worker].isCommitting = false
            return
        }
        workers[worker].isCommitting = true
        workers[worker].commitWait = .milliseconds(100)
        workers[worker].committing = next.completions.sorted {
            ($0.reference.message, $0.reference.number) < ($1.reference.message, $1.reference.number)
        }
        push(.commits(worker: worker, epoch: epoch(worker)), after: .milliseconds(5))
    }

    mutating func sendCompletions(_ worker: Int) {
        ask(.completion(worker: worker), worker, .complete(workers[worker].committing))
    }

    mutating func completed(_ worker: Int, _ answer: CallAnswer) {
        guard case .done(.results(let results), let isWarned, let hasNames) = answer,
            isSure(isWarned, hasNames)
        else {
            note("\(name(worker: worker)): completions not committed, repeating")
            push(
                .commits(worker: worker, epoch: epoch(worker)), after: workers[worker].commitWait)
            workers[worker].commitWait = min(workers[worker].commitWait * 2, .seconds(2))
            return
        }
        let references = workers[worker].committing.map(\.reference)
        let isRepeat = workers[worker].commitWait > .milliseconds(100)
        for (reference, result) in zip(references, results) {
            let attempt = workers[worker].concluded.removeValue(forKey: reference)
            if result == .recorded {
                // A repeat may have been recorded before, and late.
                if let attempt, !isRepeat { attempts[attempt].isSettled = true }
                continue
            }
            note("\(name(worker: worker)): completion of \(name(reference)) came late: \(result)")
        }
        workers[worker].dots.settled(references)
        workers[worker].held.letGo(references)
        nextCompletions(worker)
    }
}
