// How each member of a shard stands by its own word, as metrics: whoever stands still is seen before anybody's time limit is over.

import Metrics

/// The metrics of one shard's members.
struct MemberGauges {
    let shard: String

    private func gauge(_ name: String, _ region: String) -> Gauge {
        Gauge(label: "zegel_member_" + name, dimensions: [("shard", shard), ("member", region)])
    }

    /// Tells how they stand now; what cannot be known, as whether they follow while none of them leads, is no number.
    func show(_ standing: ShardStanding) {
        let isLed = standing.leader != nil
        func known(_ flag: Bool) -> Double { isLed ? (flag ? 1 : 0) : .nan }
        for member in standing.members {
            gauge("answers", member.region).record(member.answers ? 1 : 0)
            gauge("receives", member.region).record(known(member.follows))
            gauge("replays", member.region).record(known(member.replays))
            gauge("replay_lag_seconds", member.region).record(isLed ? member.lagSeconds ?? .nan : .nan)
        }
    }
}
