// A forced failover: a member is made leader that nobody handed over to. What would be lost by it is told first, as far as anybody who
// still answers knows it; what nobody knows is said to be unknown.

import Foundation
import Ledger
import Postgres

/// What a forced failover of a shard to one member may lose.
public struct FailoverRisk: Sendable, Codable, Equatable {
    /// The shard.
    public var shard: String
    /// The region that would lead.
    public var to: String
    /// Regions whose member does not answer, or cannot say what it has.
    public var silent: [String]
    /// The region whose member has more than this one does; nil: none that answers.
    public var ahead: String?
    /// Octets of WAL that somebody is known to have had and this member has not.
    public var bytes: Int
    /// When the newest transaction that this member has was committed; nil: it cannot tell.
    public var newest: Date?
    /// Seconds from then until now: what was accepted in them may be lost.
    public var seconds: Double?
    /// Messages at risk; nil: nobody who answers knows.
    public var messages: Int?
    /// Messages that this member has of the minute before its newest transaction; nil: it cannot tell.
    public var lastMinute: Int?
    /// Whether what the members have still grows: they replay what they had received, and have said less than they have.
    public var isUnsettled: Bool
    /// Whether it is certain that nothing acknowledged is lost: every acknowledged commit is at two members, so one of all but one that
    /// answer has it, and this one has as much as any.
    public var losesNothing: Bool

    /// For people, a line each.
    public var lines: [String] {
        if losesNothing {
            return [
                "nothing acknowledged is at risk: the member in \(to) has all that any member that answers has, and "
                    + "all but \(silent.isEmpty ? "none" : silent.joined(separator: ", ")) answer"
            ]
        }
        var lines = ["at risk: what was acknowledged and the member in \(to) does not have"]
        if !silent.isEmpty {
            lines.append("  silent          \(silent.joined(separator: ", ")): what they alone have is lost")
        }
        if isUnsettled {
            lines.append(
                "  not settled     members still replay what they had received: look again in a moment")
        }
        if let ahead { lines.append("  more advanced   \(ahead): a failover to it loses less") }
        lines.append(
            "  known WAL       \(bytes) bytes\(silent.isEmpty ? "" : ", and what was written in the last 5 s or so before the loss")"
        )
        if let newest, let seconds {
            let at = newest.formatted(.iso8601)
            lines.append(
                "  since           \(at), the newest commit there: at most \(Int(seconds.rounded(.up))) s of intake"
            )
        } else {
            lines.append("  since           not known")
        }
        if let messages {
            lines.append("  messages        \(messages)")
        } else {
            lines.append(
                "  messages        not known: nobody who answers has them"
                    + (lastMinute.map { "; the minute before that commit had \($0)" } ?? ""))
        }
        return lines
    }

    /// The risk, from what members and etcd tell.
    /// - Parameters:
    ///   - sites: the regions that have a member.
    ///   - before: what the members said at earlier looks; nobody leads, so it should be the same.
    /// - Throws: `state` where the member cannot lead.
    init(
        shard: String, to: String, sites: [String], view: ShardView?, reports: [MemberReport],
        before: [MemberReport] = [], now: Date = Date()
    ) throws(ClusterError) {
        guard let own = reports.first(where: { $0.region == to }), let position = own.position else {
            throw ClusterError(
                .state,
                "the member of shard \(shard) in \(to) does not answer, so it cannot lead: is its region up?")
        }
        self.shard = shard
        self.to = to
        // A Patroni answers also for a PostgreSQL that is down: what that one has, nobody knows.
        let others = reports.filter { $0.region != to && $0.position != nil }
        silent = sites.filter { site in site != to && !others.contains { $0.region == site } }
        let known = [own] + others
        isUnsettled = known.contains { one in
            one.isReplayPaused || before.contains { $0.region == one.region && $0.position != one.position }
                || (view?.member(one.region)?.position ?? 0) > (one.position ?? 0)
        }
        // What is on an older timeline has less, whatever place in the WAL it is at.
        let areTimelinesKnown = known.allSatisfy { $0.timeline != nil }
        func place(_ report: MemberReport) -> (Int, Int) {
            (areTimelinesKnown ? report.timeline ?? 0 : 0, report.position ?? 0)
        }
        let best = others.max { place($0) < place($1) }
        ahead = best.flatMap { place($0) > place(own) ? $0.region : nil }
        let most = ahead == nil ? 0 : best.map { place($0).1 } ?? 0
        // The last place that the leader itself wrote into etcd.
        let told = view?.members.compactMap { member in
            member.position.flatMap { at in member.lag.map { at + $0 } }
        }.max()
        bytes = max(0, max(most, told ?? 0) - position)
        newest = own.replayedAt
        seconds = own.replayedAt.map { max(0, now.timeIntervalSince($0)) }
        losesNothing = silent.count < 2 && ahead == nil && areTimelinesKnown && !isUnsettled
        messages = losesNothing ? 0 : nil
    }
}

extension ClusterOperations {
    /// What a forced failover would lose. Changes nothing.
    /// - Throws: `usage` for a name that is none, `state` where a planned change would do, or nothing can be done.
    public func risk(ofFailover shard: String, to target: String) async throws(ClusterError) -> FailoverRisk {
        _ = try ledger.shard(shard)
        try ledger.checkSite(target)
        let leaders = try leaders()
        defer { leaders.shutDown() }
        var earlier: [MemberReport] = []
        var risk = try await risk(shard, to: target, leaders, &earlier)
        // All but one answer, so they may choose one of them by themselves, and lose nothing by it: they are given the time.
        let deadline = ContinuousClock.now + Self.election
        while risk.silent.count < 2, ContinuousClock.now < deadline {
            try await pause()
            risk = try await self.risk(shard, to: target, leaders, &earlier)
        }
        return risk
    }

    /// How long an election takes at most once a lease is over, looks of the members and of this program included.
    private static let election = Duration.seconds(15)

    /// - Parameter earlier: what members said at the looks before; this one's is added.
    private func risk(
        _ shard: String, to target: String, _ leaders: ShardLeaders, _ earlier: inout [MemberReport]
    ) async throws(ClusterError) -> FailoverRisk {
        try await leaders.votes().demandQuorum()
        earlier += await leaders.patroni.reports(from: leaders.urls(shard))
        do { try await Task.sleep(for: .seconds(1)) } catch { throw ClusterError(.process, "interrupted") }
        let view = await leaders.view(of: shard)
        let reports = await leaders.patroni.reports(from: leaders.urls(shard))
        if let leader = view?.leader?.region ?? reports.first(where: \.leads)?.region {
            guard leader != target else {
                throw ClusterError(.state, "shard \(shard) is led by \(target) already")
            }
            throw ClusterError(
                .state,
                "shard \(shard) is led by \(leader): a planned change loses nothing: "
                    + "\(ledger.place.switchover(shard, to: target)). If that leader is lost, its lease runs out within 20 s, and "
                    + "another takes over by itself where it can")
        }
        var risk = try FailoverRisk(
            shard: shard, to: target, sites: ledger.sites, view: view, reports: reports, before: earlier)
        guard !risk.losesNothing else { return risk }
        if let newest = risk.newest {
            risk.lastMinute = await accepted(shard, by: view?.member(target), since: newest - 60)
            // Whoever has more tells what that is; what the silent ones have besides it does not know.
            if let ahead = risk.ahead, risk.silent.count < 2 {
                risk.messages = await accepted(shard, by: view?.member(ahead), since: newest)
            }
        }
        return risk
    }

    /// Messages that a member has of the time since a moment; nil: it cannot be asked.
    private func accepted(_ shard: String, by member: ShardView.Member?, since moment: Date) async -> Int? {
        guard let member, let owner = ledger.owner[shard] else { return nil }
        var configuration = PostgresConfiguration(
            owner, applicationName: "zegel-operator", connectTimeout: .seconds(3))
        configuration.overrides += [
            ("host", member.host), ("port", String(member.port)), ("target_session_attrs", "any"),
        ]
        guard let connection = try? await PostgresConnection.connect(configuration) else { return nil }
        let count = try? await connection.perform(deadline: .seconds(5)) { session in
            try LedgerDatabase.accepted(since: moment, session)
        }
        await connection.close()
        return count
    }

    /// Makes a member lead. The risk is looked at again: what it says is what was confirmed, or this is refused.
    public func failover(
        _ confirmed: FailoverRisk, say: @Sendable (String) -> Void
    ) async throws(ClusterError) {
        let leaders = try leaders()
        defer { leaders.shutDown() }
        var earlier: [MemberReport] = []
        let now = try await risk(confirmed.shard, to: confirmed.to, leaders, &earlier)
        guard now.bytes <= confirmed.bytes, now.losesNothing || !confirmed.losesNothing,
            now.silent == confirmed.silent, now.ahead == confirmed.ahead,
            !now.isUnsettled || confirmed.isUnsettled
        else {
            throw ClusterError(.state, "what is at risk has changed meanwhile; look again")
        }
        let url = try await url(of: confirmed.to, confirmed.shard, leaders)
        say("shard \(confirmed.shard): \(confirmed.to) is made leader")
        do {
            try await leaders.patroni.failover(at: url, to: confirmed.to)
        } catch {
            throw ClusterError(.state, "Patroni refused: \(error)")
        }
        try await awaitLeader(confirmed.to, of: confirmed.shard, leaders)
    }

    private func url(
        of region: String, _ shard: String, _ leaders: ShardLeaders
    ) async throws(ClusterError) -> String {
        let reports = await leaders.patroni.reports(from: leaders.urls(shard))
        guard let report = reports.first(where: { $0.region == region }) else {
            throw ClusterError(
                .state,
                "the Patroni of shard \(shard) in \(region) does not answer: \(ledger.place.look(shard, in: region))"
            )
        }
        return report.url
    }

    // MARK: One member

    /// Restarts the PostgreSQL of a member that does not follow, or copies its leader's data anew.
    /// - Returns: whether it follows; false: it is up, and nobody leads.
    /// - Throws: `state` for a leader, and where there is nobody to copy from.
    public func mend(
        _ shard: String, in region: String, anew: Bool, say: @Sendable (String) -> Void
    ) async throws(ClusterError) -> Bool {
        _ = try ledger.shard(shard)
        try ledger.checkSite(region)
        let leaders = try leaders()
        defer { leaders.shutDown() }
        try await leaders.votes().demandQuorum()
        let leader = await leaders.leader(of: shard)
        guard leader != region else {
            throw ClusterError(
                .state,
                "\(region) leads shard \(shard): hand it over first: \(ledger.place.switchover(shard))")
        }
        guard leader != nil || !anew else {
            throw ClusterError(
                .state, "shard \(shard) has no leader to copy from: zegel shard status \(shard) \(option)")
        }
        let url = try await url(of: region, shard, leaders)
        say("shard \(shard): the member in \(region) is \(anew ? "made anew" : "restarted")")
        do {
            if anew {
                try await leaders.patroni.reinitialize(at: url, force: true)
            } else {
                try await leaders.patroni.restart(at: url)
            }
        } catch {
            throw ClusterError(.state, "Patroni refused: \(error)")
        }
        guard leader != nil else { return false }
        try await awaitFollower(region, of: shard, within: anew ? 600 : 60, leaders)
        return true
    }

    private func awaitFollower(
        _ region: String, of shard: String, within seconds: Int, _ leaders: ShardLeaders
    ) async throws(ClusterError) {
        let deadline = ContinuousClock.now + .seconds(seconds)
        while true {
            let (view, standing) = await leaders.standing(of: shard)
            if view?.member(region)?.isCandidate == true, standing.member(region)?.follows == true { return }
            guard ContinuousClock.now < deadline else {
                throw ClusterError(
                    .timeout,
                    "the member in \(region) does not follow yet: zegel shard status \(shard) \(option)")
            }
            try await pause()
        }
    }
}
