// Gives each member that is about to lead a timeline of its own. Patroni runs it when the member has the lock and before it leads
// (pre_promote); a member that gets no number does not lead.

import Foundation
import Ledger

/// The register of a shard's timelines, in etcd: which number each member has claimed.
public struct TimelineRegister: Sendable {
    /// Who claims, and where.
    public struct Member: Sendable {
        /// What Patroni calls the shard: `zegel-a`.
        public var scope: String
        /// The member's region.
        public var region: String
        /// PostgreSQL's data folder.
        public var data: String

        /// A member.
        public init(scope: String, region: String, data: String) {
            (self.scope, self.region, self.data) = (scope, region, data)
        }
    }

    /// It is all over by then. Patroni keeps the lock meanwhile, and another member may do better.
    static let limit = Duration.seconds(10)
    /// For one answer of etcd, and for those of the shard's Patronis: as long as Patroni gives them when it counts votes.
    static let patience = Duration.seconds(2)

    private let member: Member
    private let voters: [String]
    private let patronis: [String]
    private let http: MemberHTTP
    private let histories: TimelineHistories

    /// The register of a member's shard.
    /// - Parameters:
    ///   - voters: the etcds, `https://address:port`, the nearest first.
    ///   - patronis: those of the shard's members, its own among them.
    ///   - identity: PEM files: who asks, and who may vouch for those that are asked.
    /// - Throws: `configuration` for files that cannot be used.
    public init(
        _ member: Member, voters: [String], patronis: [String], identity: MemberIdentity
    ) throws(ClusterError) {
        self.member = member
        self.voters = voters
        self.patronis = patronis
        histories = TimelineHistories(data: member.data)
        http = try MemberHTTP(identity, orElse: .configuration)
    }

    /// Claims the next number and has PostgreSQL take it.
    /// - Returns: in words, what was claimed.
    /// - Throws: `timeout` when no majority of etcd, or the member's own Patroni, answered in time; `environment` when the data folder
    ///   cannot be used; `state` when another member has what this one lacks.
    public func claim() async throws(ClusterError) -> String {
        defer { http.shutDown() }
        let ends = ContinuousClock.now + Self.limit
        let (timeline, others) = try await standing(until: ends)
        let known = try histories.numbers()
        let claim = try await atAVoter(until: ends) { etcd, url, limit throws(Trouble) in
            try await register(timeline, others, known, etcd, url, limit)
        }
        if Int(claim.number) != timeline + 1 {
            try await atAVoter(until: ends) { etcd, url, limit throws(Trouble) in
                try await tellPatroni(claim, etcd, url, limit)
            }
        }
        try histories.skip(claim.skipped)
        return "timeline \(claim.number), after \(timeline)"
    }

    /// The timeline that this member is on, and what the others say of themselves.
    private func standing(
        until ends: ContinuousClock.Instant
    ) async throws(ClusterError) -> (timeline: Int, others: [MemberReport]) {
        let patroni = PatroniClient(http)
        repeat {
            let reports = await patroni.reports(from: patronis, limit: Self.patience)
            if let own = reports.first(where: { $0.region == member.region })?.timeline {
                return (own, reports.filter { $0.region != member.region })
            }
            do { try await Task.sleep(for: .milliseconds(200)) } catch { break }
        } while ContinuousClock.now < ends
        throw ClusterError(.timeout, "this member does not lead: its own Patroni does not say where it is")
    }

    // MARK: etcd

    /// Why one voter was of no use.
    private enum Trouble: Error {
        /// Another may be.
        case passing(String)
        /// None is.
        case final(ClusterError)
    }

    private func key(_ name: String) -> String { "/zegel/\(member.scope)/\(name)" }

    /// Asks one voter after the other, until one does it.
    private func atAVoter<Value: Sendable>(
        until ends: ContinuousClock.Instant,
        _ body: (EtcdClient, _ url: String, _ limit: Duration) async throws(Trouble) -> Value
    ) async throws(ClusterError) -> Value {
        if voters.isEmpty { throw ClusterError(.usage, "no voter of etcd is named") }
        let etcd = EtcdClient(http)
        var reason = ""
        while true {
            for url in voters {
                let left = ends - ContinuousClock.now
                guard left > .zero else {
                    throw ClusterError(
                        .timeout, "no timeline could be claimed, so this member does not lead: \(reason)")
                }
                do throws(Trouble) {
                    return try await body(etcd, url, min(left, Self.patience))
                } catch {
                    switch error {
                    case .final(let error): throw error
                    case .passing(let words): reason = words
                    }
                }
            }
            do {
                try await Task.sleep(for: .milliseconds(100))
            } catch {
                throw ClusterError(.process, "interrupted, so this member does not lead")
            }
        }
    }

    private func register(
        _ timeline: Int, _ others: [MemberReport], _ histories: Set<UInt32>, _ etcd: EtcdClient,
        _ url: String,
        _ limit: Duration
    ) async throws(Trouble) -> TimelineClaim {
        try await change(key("timeline"), etcd, url, limit) { seen throws(ClusterError) in
            guard var claimed = seen.map(ClaimedTimelines.init) ?? ClaimedTimelines() else {
                throw ClusterError(.state, "what etcd holds under \(key("timeline")) are no timelines")
            }
            if let refusal = TimelineClaim.refusal(timeline, others, claimed) {
                throw ClusterError(.state, "this member does not lead: \(refusal)")
            }
            // A number whose answer did not come is passed over: the next look sees it, or that it was not taken.
            let claim = try TimelineClaim(claimed: claimed.newest, histories: histories)
            claimed.add(claim, by: member.region)
            return (claimed.text, claim)
        }
    }

    /// Patroni takes the last line of the shard's history, and one, for its timeline, by which it tells a leader of the past. PostgreSQL's own
    /// history passes over what this member has not heard of.
    private func tellPatroni(
        _ claim: TimelineClaim, _ etcd: EtcdClient, _ url: String, _ limit: Duration
    ) async throws(Trouble) {
        try await change(key("history"), etcd, url, limit) { seen throws(ClusterError) in
            do {
                let text = Data((seen ?? "[]").utf8)
                var lines = try JSONSerialization.jsonObject(with: text) as? [Any] ?? []
                let line: [Any] = [
                    Int(claim.number) - 1, 0, "claimed by another member, and not followed",
                    Date().ISO8601Format(), member.region,
                ]
                lines.append(line)
                let told = try JSONSerialization.data(withJSONObject: lines, options: .withoutEscapingSlashes)
                return (String(decoding: told, as: UTF8.self), ())
            } catch {
                throw ClusterError(.state, "etcd holds no history under \(key("history")): \(error)")
            }
        }
    }

    /// Reads a key, and writes what comes of it, if nobody else wrote meanwhile.
    private func change<Value: Sendable>(
        _ key: String, _ etcd: EtcdClient, _ url: String, _ limit: Duration,
        _ next: (String?) throws(ClusterError) -> (String, Value)
    ) async throws(Trouble) -> Value {
        let ends = ContinuousClock.now + limit
        let seen: EtcdClient.Value?
        do { seen = try await etcd.value(of: key, at: url, limit: limit) } catch {
            throw .passing("\(error)")
        }
        let text: String, value: Value
        do { (text, value) = try next(seen?.text) } catch { throw .final(error) }
        let isDone: Bool
        do { isDone = try await etcd.set(key, to: text, seen: seen, at: url, limit: ends - .now) } catch {
            throw .passing("\(error)")
        }
        guard isDone else { throw .passing("others write at the same time") }
        return value
    }
}
