// Clients, and edges that drive the real group commit.

import Edge
import Foundation
import Ledger
import Postgres

extension World {
    mutating func newCommitter() -> SimulatedEdge.Committer {
        SimulatedEdge.Committer(group: GroupCommit(limits: edgeLimits))
    }

    // MARK: Clients

    mutating func sends(_ client: Int) {
        if clients[client].isDone { return }
        let candidates = edges.indices.filter { nodes[edges[$0].node].isUp }
        guard !candidates.isEmpty else { return push(.sends(client: client), after: .seconds(1)) }
        let edge = candidates[dice.below(candidates.count)]
        let shard = shard(for: edge)
        let message = newMessage(client, edge: edge, shard: shard)
        let number = tries.count
        tries.append(
            Try(
                client: client, edge: edge, shard: shard, epoch: nodes[edges[edge].node].epoch,
                message: message))
        note(
            "client \(client): sends content \(client) to \(name(edge: edge)), m\(message) for shard \(Self.shardNames[shard])"
        )
        // Most have patience; some connections break.
        let patience =
            dice.happens(temper.impatience) && !isStormOver ? dice.milliseconds(50...5000) : .seconds(50)
        push(.clientTires(try: number), after: patience)
        let now = instant(edges[edge].node)
        if edges[edge].committers[shard].group.enqueue(
            .message(messages[message].row), ticket: number, now: now)
        {
            commit(edge, shard)
        } else {
            tries[number].isAnswered = true
            push(.clientHears(try: number, is250: false), after: .milliseconds(2))
        }
    }

    /// Its own region's shard where that has a leader, else another's that has one.
    private mutating func shard(for edge: Int) -> Int {
        let region = nodes[edges[edge].node].region
        func leads(_ shard: Int, from member: Int) -> Bool {
            let one = clusters[shard].members[member]
            return one.isUp && one.isLeader && isOpenBothWays(region, member)
        }
        let all = clusters.indices
        if let home = all.first(where: { leads($0, from: region) }), !dice.happens(200) { return home }
        let reachable = all.filter { shard in (0..<Self.regions).contains { leads(shard, from: $0) } }
        return reachable.isEmpty ? dice.below(clusters.count) : reachable[dice.below(reachable.count)]
    }

    private mutating func newMessage(_ client: Int, edge: Int, shard: Int) -> Int {
        let number = messages.count
        let at = date(edges[edge].node)
        let id = SimulatedID.make(
            .message, number, milliseconds: Int64(at.timeIntervalSinceReferenceDate * 1000))
        let (deliveries, recipients) = (clients[client].deliveries, clients[client].recipients)
        let row = MessageRow(
            id: id, tenant: "t", acceptedAt: at, ruleset: "r", size: 1, keyedDigest: [], contentKey: Self.key,
            metadataKey: Self.key, sealedEnvelope: [], frames: [], frameCount: 0,
            deliveries: (0..<deliveries).map { DeliveryRow(number: Int32($0), lane: "") },
            recipients: (0..<deliveries * recipients).map {
                RecipientRow(number: Int32($0), delivery: Int32($0 / recipients), sealedAddress: [])
            }, replayTag: SimulatedID.tag(client))
        messages.append(MessageInfo(id: id, content: client, shard: shard, row: row))
        insertions.append([])
        messageIDs[number] = id
        return number
    }

    private static let key = KeyReference(
        batchKeyID: SimulatedID.make(.event, 0), index: 0, wrapped: [])

    mutating func clientTires(_ number: Int) {
        let one = tries[number]
        guard one.isOpen else { return }
        tries[number].isOpen = false
        clients[one.client].unanswered += 1
        note(
            "client \(one.client): its connection to \(name(edge: one.edge)) is gone before an answer to m\(one.message)"
        )
        push(.sends(client: one.client), after: dice.milliseconds(50...3000))
    }

    mutating func clientHears(_ number: Int, _ is250: Bool) {
        let one = tries[number]
        guard one.isOpen else { return }
        tries[number].isOpen = false
        guard is250 else {
            // Told to come again: whether something was kept, nobody knows to the end.
            clients[one.client].unanswered += 1
            note("client \(one.client): hears 451")
            return push(.sends(client: one.client), after: dice.milliseconds(200...4000))
        }
        clients[one.client].isDone = true
        note("client \(one.client): hears 250")
        if dice.happens(500) { push(.acknowledged(try: number), after: dice.milliseconds(1...2000)) }
    }

    /// The client sent something after its 250.
    mutating func acknowledged(_ number: Int) {
        let one = tries[number]
        let node = edges[one.edge].node
        guard nodes[node].isUp, nodes[node].epoch == one.epoch else { return }
        guard nodes[node].pausedUntil <= now else {
            return push(.acknowledged(try: number), after: nodes[node].pausedUntil - now)
        }
        edges[one.edge].committers[one.shard].group.acknowledge(
            SimulatedID.tag(one.client), now: instant(node))
        commit(one.edge, one.shard)
    }

    // MARK: Committers

    /// Drives one committer until it waits.
    mutating func commit(_ edge: Int, _ shard: Int) {
        let node = edges[edge].node
        guard nodes[node].isUp else { return }
        guard nodes[node].pausedUntil <= now else {
            return wake(edge, shard, after: nodes[node].pausedUntil - now)
        }
        while begin(edge, shard, node) {}
    }

    /// Begins the next step of a committer; false: it waits.
    private mutating func begin(_ edge: Int, _ shard: Int, _ node: Int) -> Bool {
        let step = edges[edge].committers[shard].group.next(now: instant(node))
        tell(edge, shard)
        switch step {
        case .wait(let until?), .rest(let until?):
            wake(edge, shard, after: wait(node, until: until))
            return false
        case .wait(nil), .rest(nil): return false
        case .submit(let slot, let batch, let isRepeat, _):
            edges[edge].committers[shard].submitted[slot] = batch.messages.map(\.id)
            note(
                "\(name(edge: edge)): \(isRepeat ? "resubmits" : "commits") \(list(batch.messages.map(\.id))) to \(Self.shardNames[shard])\(batch.acknowledgedTags.isEmpty ? "" : ", acknowledged \(batch.acknowledgedTags.map(SimulatedID.content))")"
            )
            if isRepeat {
                edges[edge].committers[shard].looking[slot] = batch
                call(
                    .look(edge: edge, slot: slot), node: node, shard: shard, .known(batch.messages.map(\.id)))
            } else {
                call(
                    .commit(edge: edge, slot: slot), node: node, shard: shard, .intake(batch, isMarked: false)
                )
            }
        case .lookUp(let slot, _):
            edges[edge].committers[shard].group.lookedUp(slot, [:], now: instant(node))
        case .replay(let tag):
            call(.replay(edge: edge), node: node, shard: shard, .replay(SimulatedID.content(tag)))
        case .withdraw(let ids):
            note("\(name(edge: edge)): withdraws \(list(ids))")
            call(.withdrawal(edge: edge), node: node, shard: shard, .withdraw(ids))
        case .abandon: edges[edge].committers[shard].group.abandonmentEnded()
        }
        return true
    }

    private func list(_ ids: [UUID]) -> String {
        "[" + ids.map { "m\(SimulatedID.number($0))" }.joined(separator: " ") + "]"
    }

    private mutating func wake(_ edge: Int, _ shard: Int, after delay: Ticks) {
        let at = now + delay
        guard at < edges[edge].committers[shard].wakesAt else { return }
        edges[edge].committers[shard].wakesAt = at
        queue.push(.edgeWakes(edge: edge, shard: shard, at: at), at: at)
    }

    /// Answers go to clients.
    private mutating func tell(_ edge: Int, _ shard: Int) {
        for (ticket, answer) in edges[edge].committers[shard].group.takeAnswers() {
            let one = tries[ticket]
            tries[ticket].isAnswered = true
            var is250 = false
            switch answer {
            case .durable:
                is250 = true
                promise(one.client, by: one.message)
            case .replayed(let first):
                is250 = true
                promise(one.client, by: SimulatedID.number(first))
            default: break
            }
            note("\(name(edge: edge)): answers m\(one.message): \(is250 ? "250" : "451"), \(answer)")
            push(.clientHears(try: ticket, is250: is250), after: dice.milliseconds(1...20))
        }
    }

    /// Laws 1 and 6, at the moment of a 250: the quorum has what it is about.
    private mutating func promise(_ client: Int, by message: Int) {
        clients[client].isPromised = true
        let shard = messages[message].shard
        if !insertions[message].contains(where: { clusters[shard].entries[Int($0)].isDurable }) {
            violate(
                "law 1: 250 for m\(message), which the quorum of shard \(Self.shardNames[shard]) does not have"
            )
        }
    }

    // MARK: What the shard said

    private func error(_ inDoubt: Bool) -> PostgresError {
        PostgresError(inDoubt ? .connectionLost : .connectFailed, "", inDoubt: inDoubt)
    }

    private func isSure(_ isWarned: Bool, _ hasNames: Bool, _ warned: Flaw) -> Bool {
        (!isWarned || flaw == warned) && (hasNames || flaw == .emptyNamesCount)
    }

    mutating func committed(
        _ edge: Int, _ shard: Int, _ slot: GroupCommit<Int>.Slot, _ answer: CallAnswer
    ) {
        let now = instant(edges[edge].node)
        let outcome: IntakeOutcome
        switch answer {
        case .done(.conflict(let error), _, _): outcome = .atFault(error)
        case .done(_, let isWarned, let hasNames):
            outcome = isSure(isWarned, hasNames, .warnedAcceptCounts) ? .durable : .notDurable("")
        case .unavailable: outcome = .unavailable(error(false))
        case .inDoubt: outcome = .inDoubt(error(true))
        }
        let submitted = edges[edge].committers[shard].submitted.removeValue(forKey: slot) ?? []
        note("\(name(edge: edge)): commit of \(list(submitted)) is \(word(outcome))")
        edges[edge].committers[shard].group.submitted(slot, outcome, newKeys: [], now: now)
        tell(edge, shard)
        if case .durable = outcome, !submitted.isEmpty { ring(shard) }
        if flaw == .movesInDoubt, case .inDoubt = outcome { move(submitted, edge, from: shard) }
        commit(edge, shard)
    }

    private func word(_ outcome: IntakeOutcome) -> String {
        switch outcome {
        case .durable: "durable"
        case .notDurable: "not durable"
        case .inDoubt: "in doubt"
        case .atFault(let error): "refused (\(error.table ?? ""))"
        case .unavailable: "not done"
        }
    }

    /// The flaw: another shard is given what may be in this one.
    private mutating func move(_ ids: [UUID], _ edge: Int, from shard: Int) {
        let other = (shard + 1) % clusters.count
        if other == shard { return }
        for id in ids {
            let row = messages[SimulatedID.number(id)].row
            _ = edges[edge].committers[other].group.enqueue(
                .message(row), ticket: nil, now: instant(edges[edge].node))
        }
        commit(edge, other)
    }

    /// Half of a resubmission: what is there already.
    mutating func looked(
        _ edge: Int, _ shard: Int, _ slot: GroupCommit<Int>.Slot, _ answer: CallAnswer, call number: Int
    ) {
        let node = edges[edge].node
        guard var batch = edges[edge].committers[shard].looking.removeValue(forKey: slot) else { return }
        switch answer {
        case .done(.messages(let known), _, _):
            batch.messages.removeAll { known.contains($0.id) }
            call(
                .commit(edge: edge, slot: slot), node: node, shard: shard,
                .intake(batch, isMarked: flaw != .unmarkedResubmission),
                connection: flaw == .twoServerResubmission ? nil : number)
        case .inDoubt, .unavailable, .done:
            // A question has no commit that could be in doubt.
            committed(edge, shard, slot, .unavailable)
        }
    }

    mutating func replayed(_ edge: Int, _ shard: Int, _ answer: CallAnswer) {
        var first: EarlierAccept??
        if case .done(.earlier(let earlier), let isWarned, let hasNames) = answer,
            earlier == nil || isSure(isWarned, hasNames, .warnedReplayCounts)
        {
            first = .some(earlier)
        }
        note("\(name(edge: edge)): a replay is \(word(first))")
        edges[edge].committers[shard].group.replayed(first, now: instant(edges[edge].node))
        tell(edge, shard)
        commit(edge, shard)
    }

    private func word(_ first: EarlierAccept??) -> String {
        switch first {
        case .some(.stands(let id)?): "of m\(SimulatedID.number(id))"
        case .some(.acknowledged?): "of one whose client has its 250"
        case .some(nil): "of nothing"
        case nil: "not certain yet"
        }
    }

    mutating func withdrawn(_ edge: Int, _ shard: Int, _ answer: CallAnswer) {
        var standing: Set<UUID>?
        if case .done(.withdrawal(let withdrawn, let stands), let isWarned, let hasNames) = answer,
            !isWarned, hasNames
        {
            standing = stands
            note("\(name(edge: edge)): withdrew \(list(Array(withdrawn))), standing \(list(Array(stands)))")
        }
        edges[edge].committers[shard].group.withdrawn(standing: standing, now: instant(edges[edge].node))
        tell(edge, shard)
        commit(edge, shard)
    }

    /// The ledger's NOTIFY.
    mutating func ring(_ shard: Int) {
        for (index, worker) in workers.enumerated() where worker.shard == shard {
            push(.bell(worker: index), after: dice.milliseconds(1...60))
        }
    }
}
