// What an operator asks of a replicated cluster: how its shards stand, a planned change of leader, a region emptied of leaders.

import Ledger
import Settings

/// How a shard stands, for people and for programs.
public struct ShardStatus: Sendable, Codable, Equatable {
    /// The shard.
    public var name: String
    /// The region that leads it in good times.
    public var home: String
    /// Who leads; nil: nobody.
    public var leader: String?
    /// Its members, by region.
    public var members: [ShardView.Member]
    /// The regions that are kept from leading it.
    public var drained: [String]
    /// What is wrong, each with what mends it.
    public var troubles: [String]
}

/// The operator's view of the shards of a cluster.
public struct ClusterOperations: Sendable {
    let ledger: ReplicatedLedger

    /// The regions that hold members.
    public var sites: [String] { ledger.sites }

    /// How a command names the cluster: `--dir DIR` or `--config FILE`.
    public var option: String { ledger.place.option }

    /// The cluster whose Patronis these settings name.
    /// - Parameters:
    ///   - databases: how its databases are reached by their superuser, if that is told.
    ///   - file: where they come from, for messages.
    public init(_ settings: ReplicationSettings, databases: DatabaseSettings? = nil, file: String) {
        ledger = ReplicatedLedger(settings, databases: databases, file: file)
    }

    /// The local cluster in `directory`.
    /// - Throws: `state` when there is none, `usage` when it has one region.
    public init(directory: String) throws(ClusterError) {
        let layout = ClusterLayout(directory: directory)
        guard let plan = try ClusterPlan.load(layout.plan) else {
            throw ClusterError(
                .state, "there is no local cluster in \(layout.directory): zegel local up --dir DIR")
        }
        guard plan.isReplicated else {
            throw ClusterError(
                .usage, "the cluster in \(layout.directory) has one region: there is nobody to hand over to")
        }
        guard let region = plan.sites.first else { throw ClusterError(.state, "the plan names no region") }
        ledger = ReplicatedLedger(try ClusterIdentity(layout, plan), plan, from: region)
    }

    func leaders() throws(ClusterError) -> ShardLeaders { try ShardLeaders(ledger) }

    // MARK: Status

    /// How the shards stand; all, or the one named.
    public func status(_ only: String? = nil) async throws(ClusterError) -> [ShardStatus] {
        if let only { _ = try ledger.shard(only) }
        let leaders = try leaders()
        defer { leaders.shutDown() }
        let votes = await leaders.votes()
        return await withTaskGroup(of: ShardStatus.self) { group in
            for shard in ledger.shards where only == nil || shard.name == only {
                group.addTask { await status(of: shard, leaders, votes) }
            }
            var all: [ShardStatus] = []
            for await status in group { all.append(status) }
            return all.sorted { $0.name < $1.name }
        }
    }

    private func status(
        of shard: ShardPlan, _ leaders: ShardLeaders, _ votes: EtcdVotes
    ) async -> ShardStatus {
        let (view, standing) = await leaders.standing(of: shard.name)
        let drained = await drained(shard.name, view, leaders)
        let troubles = ShardTroubles(
            shard: shard, sites: ledger.sites, drained: drained, place: ledger.place, view: view,
            standing: standing)
        return ShardStatus(
            name: shard.name, home: shard.home, leader: troubles.leader, members: view?.members ?? [],
            drained: (drained ?? []).sorted(), troubles: [votes.trouble].compactMap(\.self) + troubles.all)
    }

    /// The regions that are kept from leading a shard; nil: none of its Patronis says.
    private func drained(_ shard: String, _ view: ShardView?, _ leaders: ShardLeaders) async -> Set<String>? {
        // The leader's first: another may not have heard of the newest change yet.
        let urls = (view?.leader.map { [$0.url] } ?? []) + leaders.urls(shard)
        for url in urls {
            if let drained = try? await leaders.patroni.drainedRegions(at: url) { return drained }
        }
        return nil
    }

    /// What etcd's voters lack, with what mends it; nil: nothing.
    public func votingTrouble() async throws(ClusterError) -> String? {
        let leaders = try leaders()
        defer { leaders.shutDown() }
        return await leaders.votes().trouble
    }

    // MARK: Planned changes

    /// Hands a shard over to another region, and returns when that one leads.
    /// - Parameter target: the region; nil: its home, or when that leads already, the member that is least behind.
    /// - Returns: who led and who leads.
    public func switchover(
        _ shard: String, to target: String?, say: @Sendable (String) -> Void
    ) async throws(ClusterError) -> (from: String, to: String) {
        let shardPlan = try ledger.shard(shard)
        if let target { try ledger.checkSite(target) }
        let leaders = try leaders()
        defer { leaders.shutDown() }
        try await leaders.votes().demandQuorum()
        return try await hand(over: shardPlan, to: target, leaders, say: say)
    }

    private func hand(
        over shard: ShardPlan, to target: String?, _ leaders: ShardLeaders,
        besides excluded: Set<String> = [],
        say: @Sendable (String) -> Void
    ) async throws(ClusterError) -> (from: String, to: String) {
        let (seen, standing) = await leaders.standing(of: shard.name)
        guard let view = seen else {
            throw ClusterError(.state, "no Patroni of shard \(shard.name) answers")
        }
        guard let leader = view.liveLeader else {
            throw ClusterError(
                .state,
                "shard \(shard.name) has no leader to hand over: Patroni is choosing one, or there is no quorum "
                    + "(zegel shard status \(option))")
        }
        // Etcd goes on calling a member streaming whose receiver stands still.
        func isFit(_ member: ShardView.Member) -> Bool {
            member.isCandidate
                && (standing.leader == nil || standing.member(member.region)?.follows ?? true)
        }
        let candidates = view.members.filter {
            isFit($0) && $0.region != leader.region && !excluded.contains($0.region)
        }
        let chosen = target ?? (leader.region == shard.home ? nil : shard.home)
        let wanted =
            try chosen.map { (name) throws(ClusterError) -> ShardView.Member in
                if name == leader.region {
                    throw ClusterError(.usage, "shard \(shard.name) is led by \(name) already")
                }
                guard let member = view.member(name) else {
                    throw ClusterError(.state, "shard \(shard.name) has no living member in \(name)")
                }
                guard isFit(member) else {
                    throw ClusterError(
                        .state,
                        "the member of shard \(shard.name) in \(name) does not follow its leader (\(member.state)): it would "
                            + "lose what was acknowledged; wait until zegel shard status shows it as a quorum standby"
                    )
                }
                if let lag = standing.lag(of: member, behind: leader.region), lag > 1 << 20 {
                    throw ClusterError(
                        .state,
                        "the member of shard \(shard.name) in \(name) is \(lag) bytes behind: wait until it has caught up"
                    )
                }
                return member
            }
            ?? candidates.min {
                (standing.lag(of: $0, behind: leader.region) ?? .max)
                    < (standing.lag(of: $1, behind: leader.region) ?? .max)
            }
        guard let wanted else {
            throw ClusterError(.state, "no other member of shard \(shard.name) could lead it")
        }
        say("shard \(shard.name): \(leader.region) hands over to \(wanted.region)")
        try await ask(leaders, from: leader, to: wanted)
        try await awaitLeader(wanted.region, of: shard.name, leaders)
        return (leader.region, wanted.region)
    }

    /// Asks Patroni for the change; again for a while where it refuses a member that is fit: under load the one that was asked may not have
    /// seen that yet.
    private func ask(
        _ leaders: ShardLeaders, from leader: ShardView.Member, to wanted: ShardView.Member
    ) async throws(ClusterError) {
        let deadline = ContinuousClock.now + .seconds(10)
        while true {
            do {
                return try await leaders.patroni.switchover(
                    at: leader.url, from: leader.region, to: wanted.region)
            } catch {
                guard error.code == .refused, ContinuousClock.now < deadline else {
                    throw ClusterError(.state, "Patroni refused: \(error)")
                }
            }
            try await pause()
        }
    }

    func pause() async throws(ClusterError) {
        do { try await Task.sleep(for: .milliseconds(200)) } catch {
            throw ClusterError(.process, "interrupted")
        }
    }

    func awaitLeader(_ region: String, of shard: String, _ leaders: ShardLeaders) async throws(ClusterError) {
        let deadline = ContinuousClock.now + .seconds(30)
        while await leaders.leader(of: shard) != region {
            guard ContinuousClock.now < deadline else {
                throw ClusterError(
                    .timeout, "\(region) does not lead after 30 s: zegel shard status \(shard) \(option)")
            }
            try await pause()
        }
    }

    /// Moves every leader out of a region, and keeps them out until ``undrain(_:)``.
    /// - Returns: the shards that moved, with who leads them now.
    public func drain(_ name: String, say: @Sendable (String) -> Void) async throws(ClusterError) -> [String:
        String]
    {
        try ledger.checkSite(name)
        let leaders = try leaders()
        defer { leaders.shutDown() }
        try await leaders.votes().demandQuorum()
        var drained: Set<String> = []
        for shard in ledger.shards { drained.formUnion(try await knownDrained(shard.name, leaders)) }
        let excluded = drained.union([name])
        guard ledger.sites.contains(where: { !excluded.contains($0) }) else {
            throw ClusterError(
                .state,
                "\(name) is the last region that may lead: bring another back first (zegel region undrain)")
        }
        // First the mark: nothing comes home meanwhile.
        for shard in ledger.shards { try await mark(shard.name, name, isDrained: true, leaders) }
        var moved: [String: String] = [:]
        for shard in ledger.shards where await leaders.leader(of: shard.name) == name {
            let home = shard.home != name && !excluded.contains(shard.home) ? shard.home : nil
            moved[shard.name] = try await hand(
                over: ShardPlan(name: shard.name, home: home ?? name), to: home, leaders, besides: excluded,
                say: say
            ).to
        }
        return moved
    }

    /// Lets the leaders of a region come home again.
    /// - Returns: false when it was not drained.
    public func undrain(_ name: String) async throws(ClusterError) -> Bool {
        try ledger.checkSite(name)
        let leaders = try leaders()
        defer { leaders.shutDown() }
        var was = false
        for shard in ledger.shards where try await knownDrained(shard.name, leaders).contains(name) {
            try await mark(shard.name, name, isDrained: false, leaders)
            was = true
        }
        return was
    }

    private func knownDrained(_ shard: String, _ leaders: ShardLeaders) async throws(ClusterError) -> Set<
        String
    > {
        guard let drained = await drained(shard, await leaders.view(of: shard), leaders) else {
            throw ClusterError(.state, "no Patroni of shard \(shard) answers (zegel shard status \(option))")
        }
        return drained
    }

    private func mark(
        _ shard: String, _ region: String, isDrained: Bool, _ leaders: ShardLeaders
    ) async throws(ClusterError) {
        guard let leader = await leaders.view(of: shard)?.leader else {
            throw ClusterError(
                .state, "shard \(shard) has no leader: first that (zegel shard status \(option))")
        }
        do {
            try await leaders.patroni.setDrained(region, isDrained, at: leader.url)
        } catch {
            throw ClusterError(.state, "Patroni of shard \(shard) did not keep it: \(error)")
        }
    }
}
