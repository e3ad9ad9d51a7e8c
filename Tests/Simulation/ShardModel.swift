// The model of one leader of a shard: transactions that hold their locks until the quorum has them, and what each statement of Ledger
// does to the rows. A transaction is one step; what waits for a lock begins again when it is free, as READ COMMITTED looks again.

import Foundation
import Ledger
import Postgres

/// A leader.
struct ShardModel: Sendable {
    /// The bounds of a lease and of a final dot, in ticks.
    struct Times: Sendable {
        var lease = Ticks.seconds(15)
        var finalDot = Ticks.seconds(600)
    }

    /// A transaction that waits for its quorum.
    struct Waiting: Sendable {
        let ticket: Int
        let position: Int
        let writes: [ShardTables.Write]
        let locks: [Int]
        let reply: ShardReply
    }

    /// What happened to a request at once.
    enum Outcome {
        /// It changed nothing that waits.
        case answered(ShardReply)
        /// It is in the log, at `Waiting.position`.
        case waits([ShardTables.Write])
        /// It waits for a lock.
        case blocked
    }

    private(set) var tables: ShardTables
    private(set) var waiting: [Waiting] = []
    private(set) var blocked: [(ticket: Int, request: ShardRequest)] = []
    let times: Times
    let flaw: Flaw?
    /// The timeline that it leads.
    let timeline: Int32
    /// For a flaw: claims of each delivery since it leads.
    var claimsHere: [Int: Int64] = [:]

    init(tables: ShardTables, timeline: Int32, times: Times, flaw: Flaw?) {
        self.tables = tables
        self.timeline = timeline
        self.times = times
        self.flaw = flaw
    }

    // MARK: Transactions

    /// Begins a transaction that will be at `position` in the log, if it writes.
    mutating func begin(_ request: ShardRequest, ticket: Int, position: Int, now: Ticks) -> Outcome {
        var work = Work(now: now)
        guard let reply = execute(request, &work) else {
            blocked.append((ticket, request))
            return .blocked
        }
        guard work.mustLog else { return .answered(reply) }
        waiting.append(
            Waiting(ticket: ticket, position: position, writes: work.writes, locks: work.locks, reply: reply))
        return .waits(work.writes)
    }

    /// The quorum has the log up to `position`: what waited is visible. Answers who is told.
    mutating func release(upTo position: Int) -> [Waiting] {
        guard let first = waiting.first, first.position <= position else { return [] }
        var done: [Waiting] = []
        waiting.removeAll { one in
            guard one.position <= position else { return false }
            done.append(one)
            return true
        }
        for one in done { tables.apply(one.writes) }
        return done
    }

    /// A wait is cancelled: visible all the same. Nil: it does not wait (any more).
    mutating func cancel(_ ticket: Int) -> Waiting? {
        guard let index = waiting.firstIndex(where: { $0.ticket == ticket }) else { return nil }
        let one = waiting.remove(at: index)
        tables.apply(one.writes)
        return one
    }

    /// A request that waits for a lock is given up. False: it does not.
    mutating func giveUp(_ ticket: Int) -> Bool {
        let count = blocked.count
        blocked.removeAll { $0.ticket == ticket }
        return blocked.count != count
    }

    /// Those that waited for locks, to be begun again.
    mutating func takeBlocked() -> [(ticket: Int, request: ShardRequest)] {
        defer { blocked = [] }
        return blocked
    }

    /// Changes rows from outside, as a test does that lets time pass.
    mutating func put(_ writes: [ShardTables.Write]) { tables.apply(writes) }

    // MARK: Locks

    enum Table: Int {
        case message, delivery, tag, lease, leaseShared, leaseReclaimed, dots, incarnation
    }

    struct Work {
        let now: Ticks
        var writes: [ShardTables.Write] = []
        var locks: [Int] = []
        /// A row was locked, or a mark written: the commit waits.
        var mustLog = false

        mutating func lock(_ table: Table, _ index: Int) {
            locks.append(table.rawValue << 32 | index)
            mustLog = true
        }

        mutating func write(_ write: ShardTables.Write) {
            writes.append(write)
            mustLog = true
        }
    }

    func isLocked(_ table: Table, _ index: Int) -> Bool {
        if waiting.isEmpty { return false }
        let key = table.rawValue << 32 | index
        return waiting.contains { $0.locks.contains(key) }
    }

    // MARK: Statements

    /// Nil: a lock is held by another.
    mutating func execute(_ request: ShardRequest, _ work: inout Work) -> ShardReply? {
        switch request {
        case .intake(let batch, let isMarked): return intake(batch, isMarked, &work)
        case .known(let ids): return .messages(known(ids))
        case .replay(let content): return replay(content, &work)
        case .withdraw(let ids): return withdraw(ids, &work)
        case .register(let worker): return register(SimulatedID.number(worker), &work)
        case .heartbeat(let worker): return heartbeat(SimulatedID.number(worker), &work)
        case .resign(let worker):
            let worker = SimulatedID.number(worker)
            guard tables.lease(worker) != nil else { return .done }
            if isLocked(.lease, worker) || isLocked(.leaseReclaimed, worker) { return nil }
            work.lock(.lease, worker)
            work.write(.lease(worker, .min))
            return .done
        case .claim(let worker, let limit, let perLane):
            return claim(SimulatedID.number(worker), limit, perLane, &work)
        case .open(let references):
            return .claims(
                references.map { reference in
                    claim(of: reference, tables.delivery(index(reference)))
                })
        case .claims(let worker):
            let worker = Int32(SimulatedID.number(worker))
            return .references(
                tables.deliveries.indices.compactMap { index in
                    guard let row = tables.deliveries[index], row.state == .claimed, row.worker == worker
                    else {
                        return nil
                    }
                    return reference(index, row.fence)
                })
        case .release(let worker, let references): return release(worker, references, &work)
        case .dots(let worker, let asked, let inFlight):
            return dots(SimulatedID.number(worker), asked, inFlight, &work)
        case .complete(let completions): return complete(completions, &work)
        case .reclaim: return reclaim(&work)
        case .promote: return promote(&work)
        case .ask(let content):
            // That nobody holds a tag is relied on: only a leader that still has the quorum may say so.
            if flaw != .unmarkedQuestion { work.mustLog = true }
            guard let tag = tables.tag(content) else { return .holders([]) }
            let message = Int(tag.message)
            let wasClaimed = (0..<ShardTables.deliveriesOfMessage).contains { number in
                guard number < Int(tables.message(message)?.deliveries ?? 0) else { return false }
                return tables.delivery(ShardTables.delivery(message, number)).map { $0.fence > 0 } ?? true
            }
            return .holders([
                ReplayHolder(
                    message: messageID(message), isAcknowledged: tag.isAcknowledged, wasClaimed: wasClaimed)
            ])
        case .yield(let content, let to):
            guard var tag = tables.tag(content), Int(tag.message) == SimulatedID.number(to) else {
                return .flag(false)
            }
            if isLocked(.tag, content) { return nil }
            tag.isReplayed = true
            work.lock(.tag, content)
            work.write(.tag(content, tag))
            return .flag(true)
        }
    }

    /// Ids as they came in: the model knows counters only.
    var ids: [Int: UUID] = [:]
    func messageID(_ number: Int) -> UUID { ids[number] ?? SimulatedID.make(.message, number) }

    func index(_ reference: DeliveryReference) -> Int {
        ShardTables.delivery(SimulatedID.number(reference.message), Int(reference.number))
    }

    func reference(_ delivery: Int, _ fence: Int64) -> DeliveryReference {
        DeliveryReference(
            message: messageID(delivery / ShardTables.deliveriesOfMessage),
            number: Int32(delivery % ShardTables.deliveriesOfMessage), fence: fence)
    }

    func known(_ ids: [UUID]) -> Set<UUID> {
        Set(ids.filter { tables.message(SimulatedID.number($0)).map { !$0.isWithdrawn } ?? false })
    }
}
