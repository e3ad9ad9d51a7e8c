// Asks Patroni who leads each shard: every other second, and at once when a connection broke.

import Foundation
import Logging
import ServiceLifecycle

/// Keeps the routes to a cluster's leaders true.
public struct LeaderWatch: Service, CustomStringConvertible {
    /// Between looks when nothing happens.
    static let interval = Duration.seconds(2)
    /// Between looks while a shard has no leader, or connections to it fail.
    static let searchInterval = Duration.milliseconds(300)
    /// Between questions to every member.
    static let memberInterval = Duration.seconds(4)

    private let patroni: PatroniClient
    private let shards: [(route: LeaderRoute, urls: [String])]
    private let asksMembers: Bool
    private let logger: Logger

    /// A watch over these shards.
    /// - Parameters:
    ///   - shards: each route with the Patronis of its members, those of the own region first.
    ///   - asksMembers: each member is asked how it stands, too: Patroni goes on calling one streaming whose receiver stands still.
    public init(
        _ patroni: PatroniClient, _ shards: [(route: LeaderRoute, urls: [String])], asksMembers: Bool = false,
        logger: Logger
    ) {
        self.patroni = patroni
        self.shards = shards
        self.asksMembers = asksMembers
        self.logger = logger
    }

    /// Its name in the log.
    public var description: String { "leader watch" }

    /// Watches until graceful shutdown or cancellation.
    public func run() async {
        await cancelWhenGracefulShutdown {
            await withDiscardingTaskGroup { group in
                for shard in shards {
                    group.addTask { await watch(shard.route, shard.urls) }
                    if asksMembers { group.addTask { await watchMembers(of: shard.route.shard, shard.urls) } }
                }
            }
        }
        patroni.shutDown()
    }

    private func watch(_ route: LeaderRoute, _ urls: [String]) async {
        var known: String?
        var isSearching = true
        var gauges = ShardGauges(shard: route.shard)
        while !Task.isCancelled {
            let view = try? await patroni.view(of: route.shard, from: urls)
            let leader = view?.liveLeader?.region
            gauges.show(view)
            if let view {
                if leader == nil { route.forget() } else { route.learned(view) }
            }
            if leader != known {
                logger.notice(
                    "leader of a shard",
                    metadata: [
                        "shard": "\(route.shard)", "region": "\(leader ?? "none")",
                        "before": "\(known ?? "none")",
                    ])
                known = leader
            }
            let began = ContinuousClock.now
            await route.look.wait(until: began + (isSearching ? Self.searchInterval : Self.interval))
            // Woken before its time: a connection broke. Many break together, and one look is enough for all.
            let isWoken = ContinuousClock.now - began < Self.searchInterval
            isSearching = leader == nil || isWoken
            if isWoken { try? await Task.sleep(for: .milliseconds(100)) }
        }
    }

    /// Who stands still is told by two looks.
    private func watchMembers(of shard: String, _ urls: [String]) async {
        let gauges = MemberGauges(shard: shard)
        var before: ShardStanding?
        var known: Set<String> = []
        while !Task.isCancelled {
            var standing = await patroni.standing(of: shard, from: urls, known: known).standing
            known = Set(standing.members.map(\.region))
            let look = standing
            if let before { standing.compare(with: before) }
            before = look
            gauges.show(standing)
            try? await Task.sleep(for: Self.memberInterval)
        }
    }
}
