// Brings leaders home: Patroni never moves a leader by itself once it runs, so a shard whose home was away stays where it went.

import Foundation
import Ledger
import Logging

/// Asks for the switchover of shards whose home is this region and whose member here could lead.
struct HomeKeeper: Sendable {
    /// Between looks.
    static let interval = Duration.seconds(5)
    /// How long a member at home must have been fit to lead before it is asked to.
    static let steadiness = Duration.seconds(20)

    let prepared: PreparedRegion
    let logger: Logger

    /// Watches until cancelled.
    func run() async {
        guard let leaders = try? ShardLeaders(prepared) else { return }
        defer { leaders.shutDown() }
        var fitSince: [String: ContinuousClock.Instant] = [:]
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.interval) } catch { return }
            for shard in prepared.plan.shards where shard.home == prepared.region.name {
                guard let leader = await candidacy(shard.name, leaders) else {
                    fitSince[shard.name] = nil
                    continue
                }
                let since = fitSince[shard.name] ?? .now
                fitSince[shard.name] = since
                guard ContinuousClock.now - since >= Self.steadiness else { continue }
                fitSince[shard.name] = nil
                await bringHome(shard.name, from: leader, leaders)
            }
        }
    }

    /// Who leads, when it is another region and the member here could.
    private func candidacy(_ shard: String, _ leaders: ShardLeaders) async -> ShardView.Member? {
        guard !FileManager.default.fileExists(atPath: prepared.layout.drained),
            let view = await leaders.view(of: shard), !view.isPaused, let leader = view.leader,
            leader.isLive, leader.region != prepared.region.name,
            let own = view.member(prepared.region.name), own.isCandidate, own.timeline == leader.timeline,
            own.lag.map({ $0 < 1 << 20 }) ?? false
        else { return nil }
        return leader
    }

    private func bringHome(_ shard: String, from leader: ShardView.Member, _ leaders: ShardLeaders) async {
        do {
            try await leaders.patroni.switchover(
                at: leader.url, from: leader.region,
                to: prepared.region.name)
            logger.notice(
                "a shard is led from home again",
                metadata: ["shard": "\(shard)", "before": "\(leader.region)"])
        } catch {
            logger.warning(
                "a shard could not be brought home; again later",
                metadata: ["shard": "\(shard)", "reason": "\(error)"])
        }
    }
}
