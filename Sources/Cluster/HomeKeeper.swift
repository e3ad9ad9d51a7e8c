// Brings leaders home: Patroni never moves a leader by itself once it runs, so a shard whose home was away stays where it went.

import Ledger
import Logging

/// Asks for the switchover of shards whose home is this region and whose member here could lead.
struct HomeKeeper: Sendable {
    /// Between looks.
    static let interval = Duration.seconds(5)
    /// How long a member at home must have been fit to lead before it is asked to.
    static let steadiness = Duration.seconds(20)

    let ledger: ReplicatedLedger
    /// The region whose shards come home.
    let region: String
    let logger: Logger

    /// Watches until cancelled.
    func run() async {
        guard let leaders = try? ShardLeaders(ledger) else { return }
        defer { leaders.shutDown() }
        var fitSince: [String: ContinuousClock.Instant] = [:]
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.interval) } catch { return }
            for shard in ledger.shards where shard.home == region {
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
        guard let view = await leaders.view(of: shard), !view.isPaused, let leader = view.liveLeader,
            leader.region != region,
            let own = view.member(region), own.isCandidate, own.timeline == leader.timeline,
            await leaders.standing(of: shard).standing.lag(of: own, behind: leader.region).map({
                $0 < 1 << 20
            }) ?? false,
            // Unless it is known that the region may lead, nothing is moved.
            let drained = try? await leaders.patroni.drainedRegions(at: leader.url), !drained.contains(region)
        else { return nil }
        return leader
    }

    private func bringHome(_ shard: String, from leader: ShardView.Member, _ leaders: ShardLeaders) async {
        do {
            try await leaders.patroni.switchover(
                at: leader.url, from: leader.region,
                to: region)
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
