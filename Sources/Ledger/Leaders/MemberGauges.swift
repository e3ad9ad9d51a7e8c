// How each member of a shard stands by its own word, as metrics: whoever stands still is seen before anybody's time limit is over.

import Metrics

/// The metrics of one shard's members.
struct MemberGauges {
    let shard: String

    private func gauge(_ name: String, _ region: String) -> Gauge {
        Gauge(label: "zegel_member_" + name, dimensions: [("shard", shard), ("member", region)])
    }

    /// Tells how they stand now. Nothing is said of whether they follow while none of them leads.
    func show(_ standing: ShardStanding) {
        for member in standing.members {
            gauge("answers", member.region).record(member.answers ? 1 : 0)
            guard standing.leader != nil else { continue }
            gauge("receives", member.region).record(member.follows ? 1 : 0)
            gauge("replays", member.region).record(member.replays ? 1 : 0)
            if let lag = member.lagSeconds { gauge("replay_lag_seconds", member.region).record(lag) }
        }
    }
}
