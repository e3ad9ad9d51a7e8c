// The beginning of a history, what goes wrong in it, and its end.

import Delivery
import Edge
import Foundation
import Ledger

extension World {
    /// A history of a seed, before anything has happened.
    init(seed: UInt64, flaw: Flaw?, lean: Temper.Kind?, isTraced: Bool) {
        self.flaw = flaw
        dice = Dice(seed: seed)
        trace = isTraced ? Trace() : nil
        temper = Temper(&dice, lean: lean)
        edgeLimits.settle = .seconds(temper.settle)
        edgeLimits.withdrawal = .seconds(10)
        edgeLimits.overlap = dice.within(1...3)
        hasGuard = dice.happens(500)
        let shards = dice.happens(700) ? 2 : dice.within(1...3)
        for shard in 0..<shards { clusters.append(makeCluster(home: shard % Self.regions)) }
        isReplicating = [[Bool]](
            repeating: [Bool](repeating: false, count: Self.regions), count: shards)
        for _ in 0..<2 {
            edges.append(
                SimulatedEdge(node: makeNode(), committers: (0..<shards).map { _ in newCommitter() }))
        }
        let workerNodes = dice.within(2...3)
        for _ in 0..<workerNodes {
            let node = makeNode()
            for shard in 0..<shards {
                workers.append(
                    SimulatedWorker(
                        node: node, shard: shard,
                        lease: LeaseRenewal(worker: SimulatedID.make(.worker, 0), lease: Self.lease)))
            }
        }
        for node in Set(workers.map(\.node)).sorted() where temper.workersFrom > 0 {
            nodes[node].isUp = false
            push(.restart(node: node), after: temper.workersFrom)
        }
        if temper.workersFrom == 0 { for worker in workers.indices { startWorker(worker) } }
        for shard in 0..<shards { push(.consensus(shard: shard), after: dice.milliseconds(0...2000)) }
        for client in 0..<dice.within(4...9) {
            clients.append(
                SimulatedClient(
                    deliveries: dice.happens(350) ? 2 : 1, recipients: dice.happens(200) ? 2 : 1))
            push(.sends(client: client), after: dice.milliseconds(500...45_000))
        }
        for number in 0..<dice.within(temper.faults) {
            push(.fault(number), after: dice.milliseconds(1000...50_000))
        }
        push(.healAll, after: Self.stormEnds)
        push(.looks, after: Self.stormEnds + .seconds(10))
    }

    private mutating func makeNode() -> Int {
        nodes.append(
            Node(
                region: dice.below(Self.regions), drift: Int64(dice.within(-20_000...20_000)),
                offset: dice.milliseconds(0...4000) - .seconds(2),
                timelines: [Int32](repeating: 0, count: clusters.count)))
        return nodes.count - 1
    }

    private mutating func makeCluster(home: Int) -> Cluster {
        let members = (0..<Self.regions).map { member in
            Member(
                isLeader: member == home,
                model: ShardModel(
                    tables: ShardTables(), timeline: 1, times: Self.times, flaw: flaw),
                acknowledged: [Int](repeating: 0, count: Self.regions),
                offset: dice.milliseconds(0...4000) - .seconds(2), drift: Int64(dice.within(-500...500)))
        }
        return Cluster(members: members, leader: home)
    }

    // MARK: Faults

    func isRegionGone(_ region: Int) -> Bool { goneUntil[region] > now }

    mutating func fault(_ number: Int) {
        switch number < 0 ? .waitsCancelled : temper.fault(&dice) {
        case .workerDies:
            crash(node: workers[dice.below(workers.count)].node, dice.milliseconds(500...30_000))
        case .edgeDies: crash(node: edges[dice.below(edges.count)].node, dice.milliseconds(500...20_000))
        case .nodeStops: pause(node: dice.below(nodes.count), dice.milliseconds(300...45_000))
        case .regionCut: cutRegion()
        case .leaderDies: crashLeader()
        case .regionLost: loseRegion()
        case .regionFrozen: freezeRegion()
        case .waitsCancelled: cancelWaits()
        case .switchover: switchover(dice.below(clusters.count))
        case .namesEmptied: emptyNames()
        case .peersLost: losePeers()
        }
    }

    mutating func crash(node: Int, _ duration: Ticks) {
        guard nodes[node].isUp else { return }
        nodes[node].isUp = false
        nodes[node].epoch += 1
        nodes[node].pausedUntil = 0
        if let edge = edges.firstIndex(where: { $0.node == node }) {
            note("\(name(edge: edge)): killed")
            for number in tries.indices where tries[number].edge == edge && tries[number].isOpen {
                push(.clientTires(try: number), after: dice.milliseconds(5...500))
            }
            edges[edge].committers = clusters.indices.map { _ in newCommitter() }
        } else {
            note("W\(node - edges.count + 1): killed")
        }
        push(.restart(node: node), after: duration)
    }

    mutating func restart(_ node: Int) {
        if nodes[node].isUp { return }
        if isRegionGone(nodes[node].region) {
            return push(.restart(node: node), after: goneUntil[nodes[node].region] - now + 1000)
        }
        nodes[node].isUp = true
        nodes[node].epoch += 1
        note("node \(node): starts")
        for worker in workers.indices where workers[worker].node == node { startWorker(worker) }
    }

    private mutating func pause(node: Int, _ duration: Ticks) {
        guard nodes[node].isUp else { return }
        note("node \(node): stands still for \(duration / 1000) ms")
        nodes[node].pausedUntil = max(nodes[node].pausedUntil, now + duration)
        nodes[node].pauses += 1
    }

    private mutating func freezeRegion() {
        let region = dice.below(Self.regions)
        let duration =
            dice.happens(500) ? dice.milliseconds(500...40_000) : dice.milliseconds(14_000...30_000)
        note("R\(region + 1): frozen for \(duration / 1000) ms")
        for node in nodes.indices where nodes[node].region == region { pause(node: node, duration) }
        for shard in clusters.indices {
            clusters[shard].members[region].pausedUntil = max(
                clusters[shard].members[region].pausedUntil, now + duration)
        }
    }

    private mutating func cutRegion() {
        let region = dice.below(Self.regions)
        let others = (0..<Self.regions).filter { $0 != region }
        let peers = dice.happens(700) ? others : [others[dice.below(2)]]
        let way = dice.below(4)
        if way != 1 { cut([region], peers) }
        if way != 2 { cut(peers, [region]) }
        note(
            "R\(region + 1): cut from \(peers.map { "R\($0 + 1)" })\(way == 1 ? ", inwards" : way == 2 ? ", outwards" : "")"
        )
    }

    private mutating func cut(_ from: [Int], _ to: [Int]) {
        for one in from { for other in to { cuts[one][other] += 1 } }
        cutList.append((from, to, false))
        push(.heal(cut: cutList.count - 1), after: dice.milliseconds(1000...40_000))
    }

    mutating func heal(_ number: Int) {
        let (from, to, isHealed) = cutList[number]
        if isHealed { return }
        cutList[number].isHealed = true
        note("the way from \(from.map { "R\($0 + 1)" }) to \(to.map { "R\($0 + 1)" }) is open again")
        for one in from { for other in to { cuts[one][other] -= 1 } }
        for shard in clusters.indices { stream(shard) }
    }

    private mutating func crashLeader() {
        let shard = dice.below(clusters.count)
        guard let leader = clusters[shard].leader, clusters[shard].members[leader].isUp else { return }
        note("\(name(shard, leader)): the leader's server is killed")
        memberStops(shard, leader)
        push(.memberStarts(shard: shard, member: leader), after: dice.milliseconds(500...30_000))
    }

    private mutating func loseRegion() {
        let region = dice.below(Self.regions)
        let duration = dice.milliseconds(2000...45_000)
        note("R\(region + 1): lost for \(duration / 1000) ms")
        goneUntil[region] = max(goneUntil[region], now + duration)
        for node in nodes.indices where nodes[node].region == region { crash(node: node, duration + 500_000) }
        for shard in clusters.indices where clusters[shard].members[region].isUp {
            memberStops(shard, region)
            push(.memberStarts(shard: shard, member: region), after: duration + 200_000)
        }
    }

    private mutating func losePeers() {
        let shard = dice.below(clusters.count)
        guard let leader = clusters[shard].leader else { return }
        note("shard \(Self.shardNames[shard]): both peers of \(name(shard, leader)) are stopped")
        for member in 0..<Self.regions where member != leader && clusters[shard].members[member].isUp {
            memberStops(shard, member)
            push(
                .memberStarts(shard: shard, member: member),
                after: dice.happens(500) ? dice.milliseconds(9000...16_000) : dice.milliseconds(3000...40_000)
            )
        }
    }

    private mutating func cancelWaits() {
        let shard = dice.below(clusters.count)
        for member in 0..<Self.regions where clusters[shard].members[member].isLeader {
            for one in clusters[shard].members[member].model.waiting where dice.happens(800) {
                cancelWait(one.ticket)
            }
        }
        // Some more, so that one meets a commit that waits.
        if dice.happens(800), !isStormOver { push(.fault(-1), after: dice.milliseconds(1...3000)) }
    }

    private mutating func emptyNames() {
        let shard = dice.below(clusters.count)
        guard let leader = clusters[shard].leader, clusters[shard].members[leader].isLeader else { return }
        note("\(name(shard, leader)): synchronous names are emptied")
        clusters[shard].members[leader].hasNoNames = true
        // Nobody is waited for any more, and no warning says so.
        release(shard, leader, upTo: .max)
        push(.namesReturn(shard: shard, member: leader), after: dice.milliseconds(1000...20_000))
    }

    // MARK: The end

    mutating func healAll() {
        note("everything is mended")
        isStormOver = true
        goneUntil = [Ticks](repeating: 0, count: Self.regions)
        for number in cutList.indices { heal(number) }
        for node in nodes.indices {
            nodes[node].pausedUntil = min(nodes[node].pausedUntil, now)
            restart(node)
        }
        for shard in clusters.indices {
            for member in 0..<Self.regions {
                clusters[shard].members[member].pausedUntil = min(
                    clusters[shard].members[member].pausedUntil, now)
                clusters[shard].members[member].hasNoNames = false
                memberStarts(shard, member)
            }
        }
    }

    /// Is there anything left to do?
    mutating func looks() {
        if whatIsOpen.isEmpty {
            judge()
            isFinished = true
        } else {
            push(.looks, after: .seconds(4))
        }
    }

    var whatIsOpen: String {
        if let client = clients.firstIndex(where: { !$0.isDone }) { return "client \(client) has no 250" }
        for shard in clusters.indices {
            guard let leader = clusters[shard].leader, clusters[shard].members[leader].isLeader else {
                return "shard \(Self.shardNames[shard]) has no leader"
            }
            let tables = clusters[shard].members[leader].model.tables
            if let index = tables.deliveries.firstIndex(where: { $0 != nil && $0?.state != .held }) {
                return
                    "m\(index / ShardTables.deliveriesOfMessage).\(index % ShardTables.deliveriesOfMessage) \(tables.delivery(index).map { "\($0)" } ?? "")"
            }
        }
        for worker in workers.indices
        where !workers[worker].attempts.isEmpty || workers[worker].isCommitting {
            return "\(name(worker: worker)) is at work"
        }
        for (edge, one) in edges.enumerated() where one.committers.contains(where: { !$0.group.isIdle }) {
            return "\(name(edge: edge)) is at work"
        }
        return ""
    }
}
