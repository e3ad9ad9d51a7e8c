// How a shard stands, as metrics: every node of every region tells what Patroni told it, so that a member that stopped replicating is seen
// from wherever somebody looks, within seconds.

import Metrics

/// The metrics of one shard over regions.
struct ShardGauges {
    private let shard: String
    /// Regions that had a member once: one that Patroni no longer knows does not follow.
    private var regions: Set<String> = []

    init(shard: String) { self.shard = shard }

    private func gauge(_ name: String, _ region: String? = nil) -> Gauge {
        Gauge(
            label: "zegel_shard_" + name,
            dimensions: [("shard", shard)] + (region.map { [("member", $0)] } ?? []))
    }

    /// Tells how it stands now.
    /// - Parameter view: nil: no Patroni answers.
    mutating func show(_ view: ShardView?) {
        gauge("patroni_answers").record(view == nil ? 0 : 1)
        guard let view else { return }
        regions.formUnion(view.members.map(\.region))
        let leader = view.liveLeader
        gauge("has_leader").record(leader == nil ? 0 : 1)
        gauge("acknowledging_members").record(view.members.filter(\.isCandidate).count)
        gauge("failover_paused").record(view.isPaused ? 1 : 0)
        for region in regions {
            let member = view.member(region)
            let isSound = member.map { $0.isCandidate || $0 == leader } ?? false
            gauge("member_follows", region).record(isSound ? 1 : 0)
            gauge("member_leads", region).record(member != nil && member == leader ? 1 : 0)
            if let lag = member?.lag { gauge("member_lag_bytes", region).record(lag) }
        }
    }
}
