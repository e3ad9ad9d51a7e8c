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
    func page(
        after cursor: FeedCursor, tenant: String?, limit: Int, wait: Duration
    ) async throws -> FeedPage {
        guard Set(cursor.positions.keys).isSubset(of: ledgers.map(\.shard)) else {
            throw Refusal.unknownShard
        }
        let first = try await page(after: cursor, tenant: tenant, limit: limit)
        guard first.items.isEmpty, wait > .zero, waiters.enter() else { return first }
        defer { waiters.leave() }
        let end = ContinuousClock.now + wait
        var pause = Duration.milliseconds(100)
        while ContinuousClock.now < end, !Task.isShuttingDownGracefully {
            let nap = min(pause, end - ContinuousClock.now)
            try? await cancelWhenGracefulShutdown { try await Task.sleep(for: nap) }
            try Task.checkCancellation()
            pause = min(.seconds(1), pause * 1.5)
            let page = try await page(after: cursor, tenant: tenant, limit: limit)
            if !page.items.isEmpty { return page }
        }
        return first
    }

    private func page(after cursor: FeedCursor, tenant: String?, limit: Int) async throws -> FeedPage {
        var lists: [(shard: String, events: ArraySlice<FeedEvent>)] = []
        for ledger in ledgers {
            do {
                let events = try await ledger.events(
                    after: cursor.positions[ledger.shard], tenant: tenant,
                    limit: Int32(clamping: limit))
                lists.append((ledger.shard, events[...]))
            } catch is UnknownIncarnation {
                throw Refusal.unknownIncarnation
            }
        }
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
        return FeedPage(items: items, next: place, isFull: isFull)
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
