// Which shard takes a message: one that is led in this region, and another's when there is none. Intake goes on while any shard has a
// quorum (design §3).

import Ledger
import Logging
import ServiceLifecycle
import Synchronization

/// The leader of a shard, seen from an edge.
struct LeaderStanding: Sendable, Equatable {
    /// Where it is.
    enum Place: Sendable {
        /// In the edge's own region.
        case here
        /// In another, or nobody says where.
        case elsewhere
        /// There is none: whoever commits there waits for the next one.
        case nowhere
    }

    /// Where it is.
    var place: Place
    /// Grows with every change of leader.
    var epoch: Int

    /// A shard without members in other regions: its only server is near, and always the same.
    static let only = LeaderStanding(place: .here, epoch: 0)
}

/// The committers of all shards.
final class ShardCommitters: Service, CustomStringConvertible {
    /// Between looks for messages that wait at a shard in trouble.
    private static let interval = Duration.milliseconds(200)

    let all: [Committer]
    private let metrics: EdgeMetrics
    private let logger: Logger
    private let turn = Atomic<UInt>(0)

    /// - Parameter all: at least one.
    init(_ all: [Committer], metrics: EdgeMetrics, logger: Logger) {
        precondition(!all.isEmpty, "a ledger without shards")
        self.all = all
        self.metrics = metrics
        self.logger = logger
    }

    var description: String { "shards" }

    /// How little there is to say against a shard; the least is chosen.
    private func rank(_ committer: Committer, at now: ContinuousClock.Instant) -> Int {
        if committer.isFull { return 3 }
        guard committer.isWell(at: now) else { return 2 }
        return switch committer.leader().place {
        case .here: 0
        case .elsewhere: 1
        case .nowhere: 2
        }
    }

    /// The shard for a message that begins now; its frames and its row go there. Shards of equal rank take turns.
    func choose() -> Committer {
        guard all.count > 1 else { return all[0] }
        let now = ContinuousClock.now
        let ranks = all.map { rank($0, at: now) }
        let best = ranks.min() ?? 0
        let equals = all.indices.filter { ranks[$0] == best }
        let turn = turn.wrappingAdd(1, ordering: .relaxed).oldValue
        return all[equals[Int(turn % UInt(equals.count))]]
    }

    /// Another shard that would hardly keep a message waiting; nil when there is none.
    private func alternative(to committer: Committer, at now: ContinuousClock.Instant) -> Committer? {
        all.filter { $0 !== committer }.map { (rank($0, at: now), $0) }.filter { $0.0 < 2 }
            .min { $0.0 < $1.0 }?.1
    }

    /// Carries what waits unsent at a shard in trouble to another, until shut down.
    func run() async throws {
        guard all.count > 1 else { return try await gracefulShutdown() }
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                try? await Task.sleep(for: Self.interval)
                let now = ContinuousClock.now
                for committer in self.all
                where !committer.isWell(at: now) || committer.leader().place == .nowhere {
                    self.relieve(committer, at: now)
                }
            }
        }
    }

    /// Carries what waits unsent at one shard to others that are well, if there are any.
    func relieve(_ committer: Committer, at now: ContinuousClock.Instant) {
        guard alternative(to: committer, at: now) != nil else { return }
        let items = committer.takeUnsent()
        if items.isEmpty { return }
        metrics.moved.increment(by: items.count)
        logger.notice(
            "messages go to another shard",
            metadata: ["from": "\(committer.ledger.shard)", "count": "\(items.count)"])
        for item in items {
            if let other = alternative(to: committer, at: now), other.submit(item.work, ticket: item.ticket) {
                continue
            }
            if let ticket = item.ticket { ticket.loop.execute { ticket.answer(.overloaded, committer) } }
        }
    }
}
