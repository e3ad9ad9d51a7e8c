// Group commit and the settling of unknown outcomes, as a value without I/O (design §7).
//
// Whatever is ready when the last commit is back goes into the next one, at the pace of `CommitPace`. A batch that fails on its data is
// halved until the one at fault stands alone. A batch whose outcome nobody knows is submitted again, the same ids, until the settle
// time is over; then its messages are withdrawn. Batches of new items overlap, as many as `Limits.overlap` says: where the quorum is far
// away a commit takes as long as the way there and back, whatever is in it. Every other step is taken alone, when none is under way.

import Foundation
import Ledger
import NIOCore
import Postgres

/// The state of one shard's intake. `Ticket` is how the owner finds who asked.
package struct GroupCommit<Ticket: Sendable> {
    /// Where the bounds are.
    package struct Limits: Sendable {
        /// Most content of one transaction, in octets.
        package var batchBytes = 8 << 20
        /// Most items of one transaction.
        package var batchCount = 256
        /// Most content that waits, in octets.
        package var queueBytes = 64 << 20
        /// Most items that wait.
        package var queueCount = 8192
        /// How long the outcome of an item may stay unknown, and how long it may wait for the database.
        package var settle = Duration.seconds(60)
        /// How much longer it is tried to take an item back whose outcome stayed unknown.
        package var withdrawal = Duration.seconds(20)
        /// Waits after failures double from the first to the last.
        package var backOff = Duration.milliseconds(100)...Duration.seconds(2)
        /// How long acknowledged tags may wait for a batch to go with.
        package var tagDelay = Duration.seconds(1)
        /// Most tags of one transaction, and the most that wait.
        package var tagCount = 1024
        /// From the beginning of a commit of several items to that of the next one, unless a whole batch waits.
        package var gather = Duration.milliseconds(5)
        /// Most transactions under way at a time. One that is begun beside others begins no sooner than `gather` after the last.
        package var overlap = 1

        package init() {}
    }

    struct Item: Sendable {
        var ticket: Ticket?
        var work: IntakeWork
        var size: Int
        var deadline: ContinuousClock.Instant
        /// Times that the tag was said to be there and then was not.
        var vanishedTags = 0
        var isPreviousTagTried = false
    }

    /// Items that go into one transaction.
    struct Group: Sendable {
        var items: [Item]
        /// An earlier transaction with these items may have happened.
        var isRepeat = false
        /// It comes from the queue and has met no trouble: other such groups may be under way beside it, unless it `bringsKeys`.
        var isFresh = false
        /// It needs a batch key that the shard may not have: two transactions that bring the same one would wait for each other.
        var bringsKeys = false
        /// Octets of content.
        var size = 0

        var mayOverlap: Bool { isFresh && !bringsKeys }
        /// Yesterday's tags that are to be looked up first.
        var untried: [[UInt8]] { items.compactMap { $0.isPreviousTagTried ? nil : $0.previousTag } }
    }

    /// Names a transaction among those under way.
    package typealias Slot = Int

    /// What is to be done next; it ends with the method that its name suggests.
    package enum Step: Sendable {
        /// Commit the batch (`resubmit` when `isRepeat`), with the batch keys that are lacking: those that the shard may not have.
        case submit(Slot, IntakeBatch, isRepeat: Bool, lacking: Set<UUID>)
        /// Ask for messages under these tags of yesterday's key.
        case lookUp(Slot, [[UInt8]])
        /// Ask for the first message under this tag.
        case replay([UInt8])
        /// Take these messages back.
        case withdraw([UUID])
        /// Drop the uploaded frames of a message that will not come.
        case abandon(UUID)
        /// Nothing, until something is enqueued or the time has come.
        case wait(until: ContinuousClock.Instant?)
        /// Nothing, until a step that is under way ends or the time has come, whatever is enqueued: there is no room, or more will come.
        case rest(until: ContinuousClock.Instant?)
    }

    /// Transactions, and questions before them; several at a time.
    enum UnderWay {
        case submission(Group, tags: [[UInt8]], keys: Set<UUID>)
        case lookUp(Group)

        var mayOverlap: Bool {
            group.mayOverlap
        }

        var group: Group {
            switch self {
            case .submission(let group, _, _), .lookUp(let group): group
            }
        }
    }

    /// What is done alone.
    enum Alone {
        case replay(Item, isRepeat: Bool)
        case withdrawal([Item])
        case abandonment
    }

    let limits: Limits
    var queue = CircularBuffer<Item>(initialCapacity: 64)
    var queuedBytes = 0
    /// Groups that come before the queue, the next one last.
    var groups: [Group] = []
    var overdue: [Item] = []
    /// Messages whose tag is there already.
    var asked: [(item: Item, isRepeat: Bool)] = []
    var tags: [[UInt8]] = []
    var tagsSince: ContinuousClock.Instant?
    /// Acknowledged tags that found no room: they end with their window. The owner counts them.
    var forgottenTags = 0
    var abandoned: [UUID] = []
    var underWay: [Slot: UnderWay] = [:]
    var alone: Alone?
    private var lastSlot: Slot = 0
    var failures = 0
    var retryAt: ContinuousClock.Instant?
    var pace: CommitPace
    /// Batch keys of transactions whose outcome is not known: every later one carries them until one is durable.
    var unsureKeys: [BatchKeyRow] = []
    /// Batch keys that are durably in the shard: those of late, and those from before.
    private var knownKeys: Set<UUID> = []
    private var olderKeys: Set<UUID> = []
    var answers: [(ticket: Ticket, answer: IntakeAnswer)] = []

    /// Batch keys that are remembered, twice; one that is not is looked for in the shard.
    private static var knownKeyLimit: Int { 4096 }

    package init(limits: Limits = Limits()) {
        self.limits = limits
        pace = CommitPace(gather: limits.gather)
    }

    // MARK: What comes in

    /// Whether the queue is so full that no new content should be taken in.
    package var isFull: Bool { queuedBytes >= limits.queueBytes || queue.count >= limits.queueCount }

    /// Items that wait for a transaction of their own.
    var waiting: Int { queue.count + groups.reduce(0) { $0 + $1.items.count } }

    /// Nothing is under way and nothing waits, but for tags.
    package var isIdle: Bool {
        underWay.isEmpty && alone == nil && queue.isEmpty && groups.isEmpty && overdue.isEmpty
            && asked.isEmpty
            && abandoned.isEmpty
    }

    /// Puts an item into the queue; false when it is full.
    package mutating func enqueue(_ work: IntakeWork, ticket: Ticket?, now: ContinuousClock.Instant) -> Bool {
        guard !isFull else { return false }
        let size = work.size
        queuedBytes += size
        queue.append(Item(ticket: ticket, work: work, size: size, deadline: now + limits.settle))
        return true
    }

    /// A client has shown that it got the 250 of the message with this tag.
    package mutating func acknowledge(_ tag: [UInt8], now: ContinuousClock.Instant) {
        guard tags.count < limits.tagCount else {
            forgottenTags += 1
            return
        }
        if tags.isEmpty { tagsSince = now }
        tags.append(tag)
    }

    /// Frames were committed of a message that will not come; the sweeper takes those that do not fit here.
    package mutating func abandon(_ id: UUID) {
        if abandoned.count < 1024 { abandoned.append(id) }
    }

    /// Takes out what was certainly never committed and has all its frames with it: another shard may take that. What an earlier
    /// transaction may have brought stays, and so do parts of what this shard has begun.
    package mutating func takeUnsent() -> [(work: IntakeWork, ticket: Ticket?)] {
        var taken: [(work: IntakeWork, ticket: Ticket?)] = []
        func mayGo(_ item: Item) -> Bool {
            switch item.work {
            case .message(let row): !row.isUploaded
            case .rejection: true
            case .upload: false
            }
        }
        for item in queue where mayGo(item) {
            queuedBytes -= item.size
            taken.append((item.work, item.ticket))
        }
        queue.removeAll(where: mayGo)
        for index in groups.indices where !groups[index].isRepeat {
            for item in groups[index].items where mayGo(item) { taken.append((item.work, item.ticket)) }
            groups[index].items.removeAll(where: mayGo)
        }
        groups.removeAll { $0.items.isEmpty }
        return taken
    }

    package mutating func takeAnswers() -> [(ticket: Ticket, answer: IntakeAnswer)] {
        defer { answers = [] }
        return answers
    }

    package mutating func takeForgottenTags() -> Int {
        defer { forgottenTags = 0 }
        return forgottenTags
    }

    // MARK: The next step

    /// - Parameter flushes: acknowledged tags do not wait any more (the node shuts down).
    package mutating func next(now: ContinuousClock.Instant, flushes: Bool = false) -> Step {
        if let retryAt {
            expire(now)
            if retryAt > now { return .wait(until: retryAt) }
            self.retryAt = nil
        }
        if alone != nil { return .rest(until: nil) }
        if !underWay.isEmpty { return nextBeside(now: now, flushes: flushes) }
        if !overdue.isEmpty {
            let items = overdue
            overdue = []
            alone = .withdrawal(items)
            return .withdraw(items.compactMap(\.messageID))
        }
        while let (asking, isRepeat) = asked.popLast(), case .message(let row) = asking.work,
            let tag = row.replayTag
        {
            var item = asking
            if tags.contains(tag) {
                // The client of the first one has shown here that it has its 250; that goes with the same transaction.
                item.mark(keepsTag: false)
                groups.append(Group(items: [item], isRepeat: isRepeat))
                continue
            }
            alone = .replay(item, isRepeat: isRepeat)
            return .replay(tag)
        }
        if let group = groups.popLast() { return begin(group) }
        if !queue.isEmpty {
            if let end = pace.rest(at: now), !flushes, !isBatchWaiting { return .rest(until: end) }
            return begin(nextGroup(now))
        }
        if let since = tagsSince,
            flushes || since + limits.tagDelay <= now || tags.count >= limits.tagCount / 2
        {
            return begin(Group(items: []))
        }
        if let id = abandoned.popLast() {
            alone = .abandonment
            return .abandon(id)
        }
        return .wait(until: tagsSince.map { $0 + limits.tagDelay })
    }

    /// What may be begun while transactions are under way: others of new items, as long as nothing went wrong.
    private mutating func nextBeside(now: ContinuousClock.Instant, flushes: Bool) -> Step {
        guard underWay.count < limits.overlap, failures == 0, unsureKeys.isEmpty, overdue.isEmpty,
            asked.isEmpty,
            groups.allSatisfy(\.mayOverlap), underWay.values.allSatisfy(\.mayOverlap)
        else { return .rest(until: nil) }
        if let group = groups.last, isAwaited(group) { return .rest(until: nil) }
        if let group = groups.popLast() { return begin(group) }
        if queue.isEmpty { return .wait(until: nil) }
        if let end = pace.restBeside(at: now), !flushes, !isBatchWaiting { return .rest(until: end) }
        // Law 9: what is under way is bounded as one batch and its successor are.
        guard underWay.values.reduce(0, { $0 + $1.group.size }) < 2 * limits.batchBytes else {
            return .rest(until: nil)
        }
        let group = nextGroup(now)
        if group.mayOverlap, !isAwaited(group) { return begin(group) }
        groups.append(group)
        return .rest(until: nil)
    }

    /// Whether a look-up for this group would miss what a transaction under way is about to bring. Under one key the tags themselves
    /// collide; yesterday's are only looked for.
    private func isAwaited(_ group: Group) -> Bool {
        let (untried, tags) = (Set(group.untried), Set(group.items.compactMap(\.replayTag)))
        return underWay.values.contains { other in
            other.group.items.contains { item in
                item.replayTag.map(untried.contains) ?? false || item.previousTag.map(tags.contains) ?? false
            }
        }
    }

    /// Whether as much waits as one transaction takes.
    private var isBatchWaiting: Bool { queue.count >= limits.batchCount || queuedBytes >= limits.batchBytes }

    private mutating func nextGroup(_ now: ContinuousClock.Instant) -> Group {
        var group = Group(items: [], isFresh: true)
        var size = 0
        while let item = queue.first, group.items.count < limits.batchCount,
            group.items.isEmpty || size + item.size <= limits.batchBytes
        {
            size += item.size
            group.items.append(queue.removeFirst())
        }
        queuedBytes -= size
        group.size = size
        pace.began(items: group.items.count, at: now)
        group.bringsKeys = group.items.contains { !$0.batchKeys.allSatisfy(isKnown) }
        return group
    }

    private func isKnown(_ key: UUID) -> Bool { knownKeys.contains(key) || olderKeys.contains(key) }

    /// Puts those aside whose bytes another of the group has under yesterday's key: they are looked up when that one is there.
    private mutating func setAside(_ group: inout Group) {
        let tags = Set(group.items.compactMap(\.replayTag))
        func follows(_ item: Item) -> Bool {
            !item.isPreviousTagTried && item.previousTag.map(tags.contains) ?? false
        }
        guard group.items.contains(where: follows) else { return }
        var later = group
        later.items = group.items.filter(follows)
        group.items.removeAll(where: follows)
        groups.append(later)
    }

    private mutating func begin(_ all: Group) -> Step {
        var group = all
        setAside(&group)
        lastSlot += 1
        let untried = group.untried
        if !untried.isEmpty {
            underWay[lastSlot] = .lookUp(group)
            return .lookUp(lastSlot, untried)
        }
        var batch = IntakeBatch()
        batch.batchKeys = unsureKeys
        for item in group.items {
            switch item.work {
            case .message(let row): batch.messages.append(row)
            case .upload(let row): batch.uploads.append(row)
            case .rejection(let row): batch.rejections.append(row)
            }
        }
        batch.acknowledgedTags = tags
        let used = batch.usedBatchKeys
        let carried = Set(unsureKeys.map(\.id))
        underWay[lastSlot] = .submission(group, tags: tags, keys: used.union(carried))
        tags = []
        tagsSince = nil
        return .submit(
            lastSlot, batch, isRepeat: group.isRepeat || !unsureKeys.isEmpty,
            lacking: used.filter { !isKnown($0) && !carried.contains($0) })
    }

    /// A transaction with these keys, or with messages under them, is durable: so they are there.
    mutating func found(_ keys: Set<UUID>) {
        if knownKeys.count > Self.knownKeyLimit {
            olderKeys = knownKeys
            knownKeys = []
        }
        knownKeys.formUnion(keys)
        unsureKeys.removeAll { keys.contains($0.id) }
    }
}

extension GroupCommit.Item {
    var messageID: UUID? {
        if case .message(let row) = work { return row.id }
        return nil
    }

    /// Those that its rows are sealed under.
    var batchKeys: [UUID] {
        if case .message(let row) = work { return [row.contentKey.batchKeyID, row.metadataKey.batchKeyID] }
        return []
    }

    var previousTag: [UInt8]? {
        if case .message(let row) = work { return row.previousTag }
        return nil
    }

    var replayTag: [UInt8]? {
        if case .message(let row) = work { return row.replayTag }
        return nil
    }

    /// Its bytes were taken before, from a client that has shown that it got its 250: it is kept, marked. Under
    /// the same tag the earlier message keeps that.
    mutating func mark(keepsTag: Bool) {
        guard case .message(var row) = work else { return }
        row.isPossibleDuplicate = true
        if !keepsTag { row.replayTag = nil }
        work = .message(row)
    }
}
