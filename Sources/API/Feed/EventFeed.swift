// The feed over all shards: one page of events in an order in which every reader may stop and go on.

import Foundation
import Ledger
import Postgres
import ServiceLifecycle
import Synchronization

/// An event with its shard and the cursor of a reader that has read up to and including it.
struct FeedItem: Sendable {
    var shard: String
    var event: FeedEvent
    var cursor: FeedCursor
}

/// What one request of the feed answers.
struct FeedPage: Sendable {
    var items: [FeedItem]
    var next: FeedCursor
    /// More may follow at once.
    var isFull: Bool
    /// Shards that nobody could be asked about now: their events come with a later page.
    var unread: [String] = []
    /// How far the members had come that were read.
    var seen = ReadPosition()
}

/// Reads pages, and waits for one on request.
struct EventFeed: Sendable {
    /// Why a cursor cannot be gone on from.
    enum Refusal: Error { case unknownShard, unknownIncarnation }

    /// Readers that may wait at once; further ones get their empty page at once.
    static let waiterLimit = 1000

    let ledgers: [EventLedger]
    private let waiters: WaiterCount

    init(_ ledgers: [EventLedger]) {
        self.ledgers = ledgers.sorted { $0.shard < $1.shard }
        self.waiters = WaiterCount()
    }

    /// Up to `limit` events after `cursor`, of one tenant or of all. When there is none, asks again until `wait` is over.
    /// - Parameter floor: no member is read that has not come so far.
    /// - Throws: `Refusal`; `ShardUnreadable` when no shard can be read.
    func page(
        after cursor: FeedCursor, tenant: String?, limit: Int, wait: Duration,
        floor: ReadPosition = ReadPosition()
    ) async throws -> FeedPage {
        // Places in shards that are elsewhere now, since one of them was restored alone, are kept for a reader that goes there.
        guard cursor.positions.isEmpty || ledgers.contains(where: { cursor.positions[$0.shard] != nil })
        else {
            throw Refusal.unknownShard
        }
        let first = try await page(after: cursor, tenant: tenant, limit: limit, floor: floor)
        guard first.items.isEmpty, wait > .zero, waiters.enter() else { return first }
        defer { waiters.leave() }
        let end = ContinuousClock.now + wait
        var pause = Duration.milliseconds(100)
        while ContinuousClock.now < end, !Task.isShuttingDownGracefully {
            let nap = min(pause, end - ContinuousClock.now)
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: nap) }
            try Task.checkCancellation()
            pause = min(.seconds(1), pause * 1.5)
            let page = try await page(after: cursor, tenant: tenant, limit: limit, floor: floor)
            if !page.items.isEmpty { return page }
        }
        return first
    }

    private func page(
        after cursor: FeedCursor, tenant: String?, limit: Int, floor: ReadPosition
    ) async throws -> FeedPage {
        let answers = try await read(after: cursor, tenant: tenant, limit: limit, floor: floor)
        var lists: [(shard: String, events: ArraySlice<FeedEvent>)] = []
        var unread: [ShardUnreadable] = []
        var seen = floor
        for (ledger, answer) in zip(ledgers, answers) {
            switch answer {
            case .success(let reading):
                lists.append((ledger.shard, reading.value[...]))
                seen.see(ledger.shard, reading.position)
            case .failure(let reason): unread.append(reason)
            }
        }
        // A reader of the other shards is not kept waiting: its cursor stays where it is in the one that is away.
        if lists.isEmpty, let reason = unread.first { throw reason }
        let isFull = lists.contains { $0.events.count >= limit }
        var items: [FeedItem] = []
        var place = cursor
        // Within a shard the order is the ledger's; among shards the older event goes first.
        while items.count < limit,
            let turn = lists.indices.filter({ !lists[$0].events.isEmpty })
                .min(by: {
                    (lists[$0].events.first?.at ?? .distantFuture)
                        < (lists[$1].events.first?.at ?? .distantFuture)
                }),
            let event = lists[turn].events.popFirst()
        {
            place.positions[lists[turn].shard] = event.position
            items.append(FeedItem(shard: lists[turn].shard, event: event, cursor: place))
        }
        return FeedPage(
            items: items, next: place, isFull: isFull, unread: unread.map(\.shard), seen: seen)
    }

    /// What each shard answers, in their order; all are asked at once.
    private func read(
        after cursor: FeedCursor, tenant: String?, limit: Int, floor: ReadPosition
    ) async throws -> [Result<ShardReading<[FeedEvent]>, ShardUnreadable>] {
        try await withThrowingTaskGroup(
            of: (Int, Result<ShardReading<[FeedEvent]>, ShardUnreadable>).self
        ) { group in
            for (index, ledger) in ledgers.enumerated() {
                group.addTask {
                    do {
                        let reading = try await ledger.notBefore(floor.positions[ledger.shard]).page(
                            after: cursor.positions[ledger.shard], tenant: tenant,
                            limit: Int32(clamping: limit))
                        return (index, .success(reading))
                    } catch let reason as ShardUnreadable {
                        return (index, .failure(reason))
                    } catch is UnknownIncarnation {
                        throw Refusal.unknownIncarnation
                    }
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }
}

/// Counts readers that wait.
private final class WaiterCount: Sendable {
    private let count = Mutex(0)

    func enter() -> Bool {
        count.withLock { count in
            guard count < EventFeed.waiterLimit else { return false }
            count += 1
            return true
        }
    }

    func leave() { count.withLock { $0 -= 1 } }
}
