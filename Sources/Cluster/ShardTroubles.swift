// What is wrong with a shard, each with the command that mends it: a value, from what Patroni's members and etcd say.

import Ledger

/// The troubles of one shard.
struct ShardTroubles: Sendable {
    /// Octets of WAL that a member may lack before that is told.
    static let lag = 16 << 20

    let shard: ShardPlan
    /// The regions that have a member.
    let sites: [String]
    /// The regions that are kept from leading it; nil: not known.
    var drained: Set<String>?
    /// The cluster, for the commands.
    let place: ReplicatedLedger.Place
    /// What etcd knows; nil: nobody reached it.
    let view: ShardView?
    /// What the members say of themselves.
    let standing: ShardStanding

    /// Who leads: by etcd's word, and where nobody reaches that, by the members' own.
    var leader: String? {
        if let view { return view.liveLeader?.region }
        return standing.leader?.region
    }

    /// All of them.
    var all: [String] {
        guard view != nil || standing.members.contains(where: \.answers) else {
            return ["no Patroni of the shard answers: \(place.startAll(shard.name))"]
        }
        var troubles: [String] = []
        let leader = leader
        if leader == nil {
            troubles.append(
                "nobody leads: another member takes over within 30 s where it can be sure to have all that was acknowledged; "
                    + "if it stays so, bring a region back, or see what is at risk: "
                    + "zegel shard failover \(shard.name) --to REGION \(place.option)")
        }
        if let leader, leader != shard.home {
            troubles.append(
                drained?.contains(shard.home) == true
                    ? "led away from home: \(shard.home) is drained, until zegel region undrain \(shard.home) \(place.option)"
                    : "led away from home (\(shard.home)): it goes back by itself, or now: "
                        + place.switchover(shard.name, to: shard.home))
        }
        let followers = sites.filter { $0 != leader }
        troubles += followers.compactMap(trouble)
        if leader != nil, !followers.contains(where: counts) {
            troubles.append("no member acknowledges: commits wait, and intake of this shard goes elsewhere")
        }
        if view?.isPaused == true {
            troubles.append("Patroni is paused: nobody takes over until: \(place.resume(shard))")
        }
        return troubles + versions
    }

    private func counts(_ site: String) -> Bool {
        view?.member(site)?.isCandidate ?? standing.member(site)?.isSynchronous ?? false
    }

    private func command(_ what: String, _ site: String) -> String {
        place.mend(what, shard.name, in: site)
    }

    private func trouble(of site: String) -> String? {
        let member = standing.member(site)
        let seen = view?.member(site)
        let isSeen = seen.map { $0.state != "stopped" && $0.state != "unknown" } ?? false
        guard isSeen || member?.answers == true else {
            return "no member in \(site): \(place.start(shard.name, in: site))"
        }
        guard let member, member.answers else {
            return
                "the Patroni of the member in \(site) does not answer: it is stuck or cut off, and its guard ends a PostgreSQL "
                + "that nobody minds: \(place.look(shard.name, in: site))"
        }
        let state = seen?.state ?? member.state ?? "unknown"
        if member.isReplayPaused {
            return "the member in \(site) has its replay paused, and what is read there grows old: "
                + command("restart", site)
        }
        if standing.leader != nil, !member.follows {
            let what = "the member in \(site) does not follow its leader (Patroni calls it \(state))"
            if state.contains("creating") || state.contains("starting") || state.contains("rewind") {
                return "\(what): it is being made or rewound; if it stays so: \(command("reinit", site))"
            }
            return
                "\(what): \(command("restart", site)), and if that does not help: \(command("reinit", site))"
        }
        if !member.replays {
            return
                "the member in \(site) receives and does not replay: a long read may hold that back for 30 s; if it stays so: "
                + command("restart", site)
        }
        if standing.leader != nil, let seen, !seen.isCandidate {
            return
                "the member in \(site) follows and does not count yet (\(state)): it does within a few seconds"
        }
        if let lag = member.lag, lag > Self.lag {
            return
                "the member in \(site) is \(lag >> 20) MB behind: its line or its disk is too slow if that grows"
        }
        return nil
    }

    /// Members that run different programs.
    private var versions: [String] {
        func listed<Version: Hashable>(
            _ version: (ShardStanding.Member) -> Version?, _ text: (Version) -> String
        ) -> String? {
            let all = standing.members.compactMap { member in
                version(member).map { (member.region, $0) }
            }
            guard Set(all.map(\.1)).count > 1 else { return nil }
            return all.map { "\(text($0.1)) in \($0.0)" }.joined(separator: ", ")
        }
        var found: [String] = []
        let majors = Set(standing.members.compactMap(\.serverVersion).map { $0 / 10_000 })
        if let text = listed(\.serverVersion, { "\($0 / 10_000).\($0 % 10_000)" }) {
            found.append(
                majors.count > 1
                    ? "members of different major versions of PostgreSQL (\(text)) cannot follow each other: install that of "
                        + "the leader, then \(command("reinit", "REGION"))"
                    : "members of different versions of PostgreSQL (\(text)): update those that follow first, each with "
                        + "\(command("restart", "REGION")), then hand over: \(place.switchover(shard.name))")
        }
        if let text = listed(\.patroniVersion, { "Patroni \($0)" }) {
            found.append(
                "different versions of Patroni (\(text)): update them region by region, each drained first")
        }
        return found
    }
}
