// Requests on their way to a leader and back, streaming, and who leads.

import Foundation
import Ledger

extension World {
    // MARK: Requests

    /// Sends a request to the leader that a node would find.
    ///
    /// - Parameter connection: an earlier call, on whose connection this one goes.
    mutating func call(
        _ caller: Caller, node: Int, shard: Int, _ request: ShardRequest, claimant: UUID = World.nobody,
        connection: Int? = nil
    ) {
        let region = nodes[node].region
        var best = -1
        var timeline = nodes[node].timelines[shard]
        if let connection {
            let earlier = calls[connection]
            let member = clusters[shard].members[earlier.member]
            if member.isUp, member.isLeader, member.epoch == earlier.memberEpoch { best = earlier.member }
        } else {
            for index in 0..<Self.regions where isOpenBothWays(region, index) {
                let (isUp, isLeader, line) = clusters[shard].members[index].standing
                guard isUp, isLeader, line >= timeline else { continue }
                best = index
                timeline = line
            }
        }
        let number = calls.count
        calls.append(
            Call(
                caller: caller, node: node, epoch: nodes[node].epoch, shard: shard, member: best,
                memberEpoch: best < 0 ? 0 : clusters[shard].members[best].epoch, request: request,
                claimant: claimant))
        guard best >= 0 else { return push(.breaks(call: number, wasSent: false), after: .milliseconds(50)) }
        nodes[node].timelines[shard] = timeline
        if clusters[shard].members[best].pausedUntil > now {
            push(.expires(call: number), after: Self.callLimit)
        }
        push(.arrives(call: number), after: latency(region, best))
    }

    mutating func arrives(_ number: Int) {
        let call = calls[number]
        let member = clusters[call.shard].members[call.member].standing
        let epoch = clusters[call.shard].members[call.member].epoch
        let region = nodes[call.node].region
        guard isOpen(region, call.member) else {
            return push(.breaks(call: number, wasSent: true), after: .seconds(5))
        }
        guard member.isUp, member.isLeader, epoch == call.memberEpoch else {
            return push(
                .breaks(call: number, wasSent: true),
                after: isOpen(call.member, region) ? latency(call.member, region) : .seconds(5))
        }
        begin(number)
    }

    /// Runs a request on its leader.
    private mutating func begin(_ number: Int) {
        let (shard, index) = (calls[number].shard, calls[number].member)
        guard let request = calls[number].request else { return }
        let position = clusters[shard].members[index].log.count + 1
        let clock = Self.calendar + clusters[shard].members[index].clock(now)
        calls[number].hadNames = !clusters[shard].members[index].hasNoNames
        calls[number].executedAt = now
        let outcome = clusters[shard].members[index].model.begin(
            request, ticket: number, position: position, now: clock)
        switch outcome {
        case .answered(let reply): finish(number, reply, isWarned: false)
        case .blocked: push(.expires(call: number), after: Self.callLimit)
        case .waits(let writes):
            let entry = clusters[shard].entries.count
            clusters[shard].entries.append(Entry(writes: writes))
            clusters[shard].members[index].log.append(Int32(entry))
            calls[number].entry = entry
            if case .intake(let batch, _) = request {
                for row in batch.messages where messages[SimulatedID.number(row.id)].shard == shard {
                    insertions[SimulatedID.number(row.id)].append(Int32(entry))
                }
            }
            stream(shard)
            if clusters[shard].members[index].hasNoNames || flaw == .commitsAlone {
                release(shard, index, upTo: .max)
            } else {
                push(.expires(call: number), after: Self.callLimit)
            }
        }
    }

    /// Commits up to a position wait no more.
    mutating func release(_ shard: Int, _ index: Int, upTo position: Int) {
        for one in clusters[shard].members[index].model.release(upTo: position) {
            finish(one.ticket, one.reply, isWarned: false)
        }
        unblock(shard, index)
    }

    mutating func unblock(_ shard: Int, _ index: Int) {
        for (ticket, _) in clusters[shard].members[index].model.takeBlocked() { begin(ticket) }
    }

    /// The server has its answer.
    private mutating func finish(_ number: Int, _ reply: ShardReply, isWarned: Bool) {
        let call = calls[number]
        // Read in the transaction, and again when it is over.
        let hasNames =
            call.hadNames
            && (flaw == .namesReadBefore || !clusters[call.shard].members[call.member].hasNoNames)
        calls[number].answer = .done(reply, isWarned: isWarned, hasNames: hasNames)
        giveBack(number)
    }

    private mutating func giveBack(_ number: Int) {
        let (member, region) = (calls[number].member, nodes[calls[number].node].region)
        if isOpen(member, region) {
            push(.answers(call: number), after: latency(member, region))
        } else {
            push(.breaks(call: number, wasSent: true), after: .seconds(5))
        }
    }

    mutating func answers(_ number: Int) {
        if calls[number].isOver { return }
        calls[number].isOver = true
        deliver(number, calls[number].answer)
    }

    mutating func breaks(_ number: Int, _ wasSent: Bool) {
        if calls[number].isOver { return }
        calls[number].isOver = true
        deliver(number, wasSent ? .inDoubt : .unavailable)
    }

    mutating func expires(_ number: Int) {
        let call = calls[number]
        if call.isOver { return }
        let region = nodes[call.node].region
        if isOpen(region, call.member) {
            push(.cancelArrives(call: number), after: latency(region, call.member))
        }
        push(.breaks(call: number, wasSent: true), after: .seconds(5))
    }

    mutating func cancelArrives(_ number: Int) {
        let call = calls[number]
        let member = clusters[call.shard].members[call.member]
        if call.isOver || !member.isUp || !member.isLeader || member.epoch != call.memberEpoch { return }
        cancelWait(number)
    }

    /// A wait for the quorum is cancelled: success with a warning. A wait for a lock: an error.
    mutating func cancelWait(_ number: Int) {
        let (shard, member) = (calls[number].shard, calls[number].member)
        if let one = clusters[shard].members[member].model.cancel(number) {
            note("\(name(shard, member)): a commit's wait is cancelled: it counts here, with a warning")
            finish(number, one.reply, isWarned: true)
            unblock(shard, member)
        } else if clusters[shard].members[member].model.giveUp(number) {
            calls[number].answer = .unavailable
            giveBack(number)
        }
    }

    /// Hands an answer to who asked, if that process still lives.
    private mutating func deliver(_ number: Int, _ answer: CallAnswer) {
        let call = calls[number]
        guard call.epoch == nodes[call.node].epoch, nodes[call.node].isUp else { return }
        switch call.caller {
        case .commit(let edge, let slot): committed(edge, call.shard, slot, answer)
        case .look(let edge, let slot): looked(edge, call.shard, slot, answer, call: number)
        case .replay(let edge): replayed(edge, call.shard, answer)
        case .withdrawal(let edge): withdrawn(edge, call.shard, answer)
        case .lease(let worker): leased(worker, call, answer)
        case .comparison(let worker): compared(worker, call, answer)
        case .claim(let worker): claimed(worker, call, answer)
        case .reopening(let worker, let claims): reopened(worker, call, claims, answer)
        case .dots(let worker): registered(worker, call, answer)
        case .completion(let worker): completed(worker, answer)
        case .upkeep: break
        case .givingUp(let worker, let claimant, let references): gaveUp(worker, claimant, references, answer)
        case .question(let attempt, let shard): questioned(attempt, shard, answer)
        case .yielding(let attempt, let shard, let to): yielded(attempt, shard, to, answer)
        }
    }

    // MARK: Streaming

    /// The leader's log goes to who follows it.
    mutating func stream(_ shard: Int) {
        guard let leader = clusters[shard].leader else { return }
        for member in 0..<Self.regions where member != leader && !isReplicating[shard][member] {
            isReplicating[shard][member] = true
            push(.replicates(shard: shard, to: member), after: latency(leader, member))
        }
    }

    mutating func replicates(_ shard: Int, _ to: Int) {
        isReplicating[shard][to] = false
        guard let leader = clusters[shard].leader, to != leader else { return }
        let source = clusters[shard].members[leader].standing
        let member = clusters[shard].members[to].standing
        guard member.isUp, !member.isLeader, member.timeline == source.timeline, source.isUp,
            source.isLeader, isOpen(leader, to)
        else { return }
        let position = clusters[shard].members[leader].log.count
        for index in clusters[shard].members[to].log
            .count..<max(clusters[shard].members[to].log.count, position)
        {
            clusters[shard].members[to].log.append(clusters[shard].members[leader].log[index])
        }
        guard isOpen(to, leader) else { return }
        push(
            .acknowledges(
                shard: shard, from: to, to: leader, timeline: source.timeline, position: position),
            after: latency(to, leader))
    }

    mutating func acknowledges(_ shard: Int, _ from: Int, _ to: Int, _ timeline: Int32, _ position: Int) {
        let leader = clusters[shard].members[to].standing
        guard leader.isUp, leader.isLeader, leader.timeline == timeline,
            position > clusters[shard].members[to].acknowledged[from]
        else { return }
        clusters[shard].members[to].acknowledged[from] = position
        if position >= clusters[shard].beginning { clusters[shard].mayLead.insert(from) }
        let end = min(position, clusters[shard].members[to].log.count)
        for index in clusters[shard].members[to].durable..<max(clusters[shard].members[to].durable, end) {
            clusters[shard].entries[Int(clusters[shard].members[to].log[index])].isDurable = true
        }
        clusters[shard].members[to].durable = max(clusters[shard].members[to].durable, end)
        release(shard, to, upTo: position)
    }

    // MARK: Who leads

    private func isPresent(_ shard: Int, _ member: Int) -> Bool {
        clusters[shard].members[member].isUp && clusters[shard].members[member].pausedUntil <= now
    }

    mutating func consensus(_ shard: Int) {
        push(.consensus(shard: shard), after: .seconds(2))
        if let leader = clusters[shard].leader {
            let hasMajority = (0..<Self.regions).contains {
                $0 != leader && isOpenBothWays(leader, $0) && !isRegionGone($0)
            }
            if isPresent(shard, leader), clusters[shard].members[leader].isLeader, hasMajority {
                clusters[shard].leaderlessSince = nil
                follow(shard, leader)
                return
            }
            let since = clusters[shard].leaderlessSince ?? now
            clusters[shard].leaderlessSince = since
            if hasGuard, now - since >= .seconds(10), isPresent(shard, leader),
                clusters[shard].members[leader].isLeader
            {
                note("\(name(shard, leader)): the guard stops a leader that is alone")
                memberStops(shard, leader)
                push(.memberStarts(shard: shard, member: leader), after: .seconds(5))
            }
            if now - since < .seconds(14) { return }
        }
        elect(shard)
    }

    /// Members that see the leader follow it.
    private mutating func follow(_ shard: Int, _ leader: Int) {
        for member in 0..<Self.regions
        where member != leader && isPresent(shard, member) && isOpenBothWays(member, leader) {
            let one = clusters[shard].members[member].standing
            if one.isLeader || one.timeline != clusters[shard].timeline { rewind(shard, member, to: leader) }
        }
        stream(shard)
    }

    private mutating func rewind(_ shard: Int, _ member: Int, to leader: Int) {
        if clusters[shard].members[member].isLeader { memberStops(shard, member) }
        let log = clusters[shard].members[leader].log
        var own = clusters[shard].members[member].log
        var common = 0
        while common < min(log.count, own.count), log[common] == own[common] { common += 1 }
        if common < own.count {
            note("\(name(shard, member)): rewinds, losing \(own.count - common) commits that no quorum had")
            own.removeLast(own.count - common)
        }
        clusters[shard].members[member].log = own
        clusters[shard].members[member].timeline = clusters[shard].timeline
        clusters[shard].members[member].isUp = true
    }

    private mutating func elect(_ shard: Int) {
        var best = -1
        for member in 0..<Self.regions
        where isPresent(shard, member)
            && (clusters[shard].mayLead.contains(member) || flaw == .electsAnyMember)
        {
            let seen = (0..<Self.regions).filter {
                $0 == member || isPresent(shard, $0) && isOpenBothWays(member, $0)
            }
            if seen.count < 2 { continue }
            if best < 0 || isAhead(shard, member, of: best) || flaw == .electsAnyMember { best = member }
        }
        guard best >= 0 else { return }
        let seen = (0..<Self.regions).filter {
            $0 != best && isPresent(shard, $0) && isOpenBothWays(best, $0)
        }
        for member in seen where clusters[shard].members[member].isLeader { memberStops(shard, member) }
        clusters[shard].timeline += 1
        begins(shard, best)
        clusters[shard].leaderlessSince = nil
        clusters[shard].members[best].timeline = clusters[shard].timeline
        lead(shard, best)
        note(
            "\(name(shard, best)): leads, timeline \(clusters[shard].timeline), with \(clusters[shard].members[best].log.count) commits"
        )
        follow(shard, best)
    }

    private mutating func begins(_ shard: Int, _ leader: Int) {
        clusters[shard].leader = leader
        clusters[shard].mayLead = [leader]
        clusters[shard].beginning = clusters[shard].members[leader].log.count
    }

    private func isAhead(_ shard: Int, _ one: Int, of other: Int) -> Bool {
        let (one, other) = (clusters[shard].members[one], clusters[shard].members[other])
        return (one.timeline, one.log.count) > (other.timeline, other.log.count)
    }

    /// Its rows are what its log tells.
    private mutating func lead(_ shard: Int, _ member: Int) {
        let tables = clusters[shard].tables(of: clusters[shard].members[member].log)
        clusters[shard].members[member].isUp = true
        clusters[shard].members[member].isLeader = true
        clusters[shard].members[member].epoch += 1
        clusters[shard].members[member].hasNoNames = false
        clusters[shard].members[member].durable = 0
        clusters[shard].members[member].acknowledged = [Int](repeating: 0, count: Self.regions)
        var model = ShardModel(
            tables: tables, timeline: clusters[shard].members[member].timeline, times: Self.times,
            flaw: flaw)
        model.ids = messageIDs
        clusters[shard].members[member].model = model
    }

    static var times: ShardModel.Times {
        var times = ShardModel.Times()
        times.finalDot = finalDot
        return times
    }

    /// A server ends: who waits for it does not know.
    mutating func memberStops(_ shard: Int, _ member: Int) {
        let model = clusters[shard].members[member].model
        clusters[shard].members[member].epoch += 1
        if clusters[shard].members[member].isLeader {
            for number in model.waiting.map(\.ticket) + model.blocked.map(\.ticket) {
                let region = nodes[calls[number].node].region
                push(
                    .breaks(call: number, wasSent: true),
                    after: isOpen(member, region) ? latency(member, region) : .seconds(5))
            }
        }
        clusters[shard].members[member].isUp = false
        clusters[shard].members[member].isLeader = false
    }

    mutating func memberStarts(_ shard: Int, _ member: Int) {
        if clusters[shard].members[member].isUp { return }
        clusters[shard].members[member].isUp = true
        clusters[shard].members[member].epoch += 1
        if clusters[shard].leader == member,
            clusters[shard].members[member].timeline == clusters[shard].timeline
        {
            lead(shard, member)
            note("\(name(shard, member)): starts again and leads on, with all that is on its disk")
        } else {
            note("\(name(shard, member)): starts again")
        }
    }

    /// A planned change of the leader.
    mutating func switchover(_ shard: Int) {
        guard let leader = clusters[shard].leader, clusters[shard].members[leader].isLeader else { return }
        let others = (0..<Self.regions).filter {
            $0 != leader && isPresent(shard, $0) && isOpenBothWays($0, leader)
        }
        // Only where one is there that has everything.
        guard
            let next = others.first(where: {
                clusters[shard].members[$0].log.count == clusters[shard].members[leader].log.count
                    && clusters[shard].members[$0].timeline == clusters[shard].timeline
            })
        else { return }
        note("\(name(shard, leader)): hands over to \(name(shard, next))")
        memberStops(shard, leader)
        clusters[shard].members[leader].isUp = true
        clusters[shard].timeline += 1
        begins(shard, next)
        clusters[shard].members[next].timeline = clusters[shard].timeline
        lead(shard, next)
        follow(shard, next)
    }
}
