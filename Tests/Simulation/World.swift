// One history: everything that takes part, a queue of what happens, and the seed that decides it.

import Delivery
import Edge
import Foundation
import Ledger

/// The lines of a history that is told.
final class Trace {
    var lines: [String] = []
}

/// A history in the making.
struct World {
    static let regions = 3
    static let nobody = SimulatedID.make(.worker, 0)
    /// Faults happen before this; then all is mended, and everything must come to an end.
    static let stormEnds = Ticks.seconds(60)
    /// By then nothing may be left to do.
    static let limit = Ticks.seconds(600)
    static let lease = Duration.seconds(15)
    static let finalDot = Ticks.seconds(40)
    static let callLimit = Ticks.seconds(15)
    /// How long a delivery waits for the word of a shard without a leader.
    static let questionBound = Ticks.seconds(45)
    /// Where the monotonic clocks of a history begin; only differences count.
    static let origin = ContinuousClock.now
    /// Where its calendar begins, in microseconds of `Date`'s reference.
    static let calendar = Ticks.seconds(800_000_000)

    let flaw: Flaw?
    var dice: Dice
    let temper: Temper
    var edgeLimits = GroupCommit<Int>.Limits()
    var now: Ticks = 0
    var queue = HappeningQueue()
    var steps = 0
    var nodes: [Node] = []
    var clusters: [Cluster] = []
    var edges: [SimulatedEdge] = []
    var workers: [SimulatedWorker] = []
    var clients: [SimulatedClient] = []
    var tries: [Try] = []
    var messages: [MessageInfo] = []
    var messageIDs: [Int: UUID] = [:]
    var attempts: [Attempt] = []
    var calls: [Call] = []
    var copies: [Copy] = []
    var workerIDs = 0
    var eventIDs = 0
    /// Links that are cut, from region to region: how many cuts lie on it.
    var cuts = [[Int]](repeating: [Int](repeating: 0, count: regions), count: regions)
    var cutList: [(from: [Int], to: [Int], isHealed: Bool)] = []
    var isReplicating: [[Bool]] = []
    /// Until when a region is gone.
    var goneUntil = [Ticks](repeating: 0, count: regions)
    var hasGuard = true
    var isStormOver = false
    var isFinished = false
    /// For the laws.
    var insertions: [[Int32]] = []
    var violations: [String] = []
    let trace: Trace?

    func note(_ text: @autoclosure () -> String) {
        guard let trace else { return }
        let time = String(Double(now / 1000) / 1000)
        trace.lines.append("\(String(repeating: " ", count: max(0, 8 - time.count)))\(time)  \(text())")
    }

    mutating func violate(_ text: String) {
        violations.append(text)
        note("VIOLATION \(text)")
    }

    mutating func push(_ happening: Happening, after delay: Ticks) {
        queue.push(happening, at: now + max(0, delay))
    }

    // MARK: Clocks and ways

    func local(_ node: Int) -> Ticks { now + now * nodes[node].drift / 1_000_000 }

    func instant(_ node: Int) -> ContinuousClock.Instant { Self.origin + .microseconds(local(node)) }

    /// How long until a moment of a node's monotonic clock; at least a millisecond.
    func wait(_ node: Int, until: ContinuousClock.Instant) -> Ticks {
        let (seconds, attoseconds) = (until - instant(node)).components
        return max(1000, seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
    }

    func date(_ node: Int) -> Date { Date(ticks: Self.calendar + nodes[node].offset + local(node)) }

    func isOpen(_ from: Int, _ to: Int) -> Bool { cuts[from][to] == 0 }
    func isOpenBothWays(_ one: Int, _ other: Int) -> Bool { isOpen(one, other) && isOpen(other, one) }

    mutating func latency(_ from: Int, _ to: Int) -> Ticks {
        from == to ? 300 + Ticks(dice.below(1500)) : 4000 + Ticks(dice.below(20_000))
    }

    mutating func newWorkerID() -> UUID {
        workerIDs += 1
        return SimulatedID.make(.worker, workerIDs)
    }

    mutating func newEventID() -> UUID {
        eventIDs += 1
        return SimulatedID.make(.event, eventIDs)
    }

    // MARK: Running

    mutating func run() {
        while let (at, happening) = queue.pop() {
            now = at
            if now > Self.limit {
                violate("law 1: something never ends: \(whatIsOpen)")
                return
            }
            steps += 1
            if let until = standsStill(happening), until > now {
                queue.push(happening, at: until)
                continue
            }
            take(happening)
            if isFinished || violations.count > 3 { return }
        }
    }

    /// Until when whoever it happens to stands still.
    private func standsStill(_ happening: Happening) -> Ticks? {
        switch happening {
        case .arrives(let call), .cancelArrives(let call):
            let call = calls[call]
            return call.member < 0 ? nil : clusters[call.shard].members[call.member].pausedUntil
        case .replicates(let shard, let to), .acknowledges(let shard, _, let to, _, _):
            return clusters[shard].members[to].pausedUntil
        case .answers(let call), .breaks(let call, _), .expires(let call):
            return nodes[calls[call].node].pausedUntil
        case .edgeWakes(let edge, _, _): return nodes[edges[edge].node].pausedUntil
        case .leaseStep(let worker, _), .poll(let worker, _), .bell(let worker), .commits(let worker, _):
            return nodes[workers[worker].node].pausedUntil
        case .begins(let attempt), .asks(let attempt), .transferred(let attempt), .dotLeaves(let attempt),
            .concludes(let attempt, _):
            return nodes[workers[attempts[attempt].worker].node].pausedUntil
        default: return nil
        }
    }

    private mutating func take(_ happening: Happening) {
        switch happening {
        case .arrives(let call): arrives(call)
        case .answers(let call): answers(call)
        case .breaks(let call, let wasSent): breaks(call, wasSent)
        case .expires(let call): expires(call)
        case .cancelArrives(let call): cancelArrives(call)
        case .replicates(let shard, let to): replicates(shard, to)
        case .acknowledges(let shard, let from, let to, let timeline, let position):
            acknowledges(shard, from, to, timeline, position)
        case .consensus(let shard): consensus(shard)
        case .edgeWakes(let edge, let shard, let at):
            if edges[edge].committers[shard].wakesAt == at {
                edges[edge].committers[shard].wakesAt = .max
                commit(edge, shard)
            }
        case .leaseStep(let worker, let epoch): leaseStep(worker, epoch)
        case .poll(let worker, let epoch): poll(worker, epoch)
        case .bell(let worker): claim(worker)
        case .commits(let worker, let epoch):
            if epoch == nodes[workers[worker].node].epoch { sendCompletions(worker) }
        case .begins(let attempt): begins(attempt)
        case .asks(let attempt): askOthers(attempt)
        case .transferred(let attempt):
            attempts[attempt].isTransferred = true
            mayEnd(attempt)
        case .dotLeaves(let attempt): dotLeaves(attempt)
        case .dotArrives(let attempt): dotArrives(attempt)
        case .concludes(let attempt, let conclusion): concludes(attempt, conclusion)
        case .sends(let client): sends(client)
        case .clientTires(let number): clientTires(number)
        case .clientHears(let number, let is250): clientHears(number, is250)
        case .acknowledged(let number): acknowledged(number)
        case .fault(let number): fault(number)
        case .restart(let node): restart(node)
        case .memberStarts(let shard, let member): memberStarts(shard, member)
        case .heal(let cut): heal(cut)
        case .namesReturn(let shard, let member):
            clusters[shard].members[member].hasNoNames = false
            note("\(name(shard, member)): synchronous names are back")
        case .healAll: healAll()
        case .looks: looks()
        }
    }

    // MARK: Names

    static let shardNames = ["a", "b", "c", "d"]
    func name(_ shard: Int, _ member: Int) -> String { "\(Self.shardNames[shard])/R\(member + 1)" }
    func name(edge: Int) -> String { "E\(edge + 1)" }
    func name(worker: Int) -> String {
        "W\(workers[worker].node - edges.count + 1)\(Self.shardNames[workers[worker].shard])"
    }
    func name(_ claim: DeliveryReference) -> String {
        "m\(SimulatedID.number(claim.message)).\(claim.number)#\(claim.fence)"
    }
}

/// What happens next: a binary heap by time, then by order of coming.
struct HappeningQueue {
    private struct Slot {
        let at: Ticks
        let order: Int
        let happening: Happening
    }

    private var slots: [Slot] = []
    private var order = 0

    mutating func push(_ happening: Happening, at: Ticks) {
        order += 1
        slots.append(Slot(at: at, order: order, happening: happening))
        var child = slots.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard Self.isBefore(slots[child], slots[parent]) else { break }
            slots.swapAt(child, parent)
            child = parent
        }
    }

    mutating func pop() -> (Ticks, Happening)? {
        guard let first = slots.first else { return nil }
        let last = slots.removeLast()
        if !slots.isEmpty {
            slots[0] = last
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < slots.count {
                    if Self.isBefore(slots[child], slots[least]) { least = child }
                }
                if least == parent { break }
                slots.swapAt(parent, least)
                parent = least
            }
        }
        return (first.at, first.happening)
    }

    private static func isBefore(_ one: Slot, _ other: Slot) -> Bool {
        one.at == other.at ? one.order < other.order : one.at < other.at
    }
}
