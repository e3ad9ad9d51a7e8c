// Makes a member anew that does not come back by itself: Patroni follows and rewinds, and gives up on data that neither helps.

import Ledger
import Logging

/// Whether the member of a region has been lost to its shard for so long that it should be copied anew. A value without I/O.
struct LostMember {
    /// How long one that is up may not follow.
    static let patience = Duration.seconds(120)
    /// How long one may take to start: replaying what it had takes time.
    static let startPatience = Duration.seconds(300)

    let region: String
    private var since: ContinuousClock.Instant?

    init(region: String) { self.region = region }

    /// Whether it is to be made anew, by how the shard stands now.
    mutating func isLost(
        _ view: ShardView?, _ standing: ShardStanding, at now: ContinuousClock.Instant
    ) -> Bool {
        guard let view, !view.isPaused, let leader = view.liveLeader, leader.region != region,
            // What was acknowledged is at two others: nothing that this one has is needed.
            view.members.contains(where: { $0.isCandidate && $0.region != region }),
            let own = standing.member(region), own.answers, !own.follows, let state = own.state
        else {
            since = nil
            return false
        }
        let patience: Duration
        switch state {
        case "running", "start failed", "crashed": patience = Self.patience
        case "starting": patience = Self.startPatience
        // It is being copied or rewound already, or somebody has stopped it.
        default: return false
        }
        let began = since ?? now
        since = began
        guard now - began >= patience else { return false }
        since = nil
        return true
    }
}

/// Makes the members of this region anew that are lost to their shards.
struct MemberKeeper: Sendable {
    /// Between looks.
    static let interval = Duration.seconds(10)

    let ledger: ReplicatedLedger
    let region: String
    let logger: Logger

    /// Watches until cancelled.
    func run() async {
        guard let leaders = try? ShardLeaders(ledger) else { return }
        defer { leaders.shutDown() }
        var members = ledger.shards.map { (shard: $0.name, member: LostMember(region: region)) }
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.interval) } catch { return }
            for index in members.indices {
                let shard = members[index].shard
                let (view, standing) = await leaders.standing(of: shard)
                guard members[index].member.isLost(view, standing, at: .now) else { continue }
                await remake(shard, leaders)
            }
        }
    }

    private func remake(_ shard: String, _ leaders: ShardLeaders) async {
        let reports = await leaders.patroni.reports(from: leaders.urls(shard))
        guard let url = reports.first(where: { $0.region == region })?.url else { return }
        do {
            try await leaders.patroni.reinitialize(at: url)
            logger.warning(
                "a member that did not come back is made anew",
                metadata: ["shard": "\(shard)", "region": "\(region)"])
        } catch {
            logger.warning(
                "a member could not be made anew; again later",
                metadata: ["shard": "\(shard)", "reason": "\(error)"])
        }
    }
}
