// Gives each member that is about to lead a timeline of its own. Patroni runs it when the member has the lock and before it leads
// (pre_promote); a member that gets no number does not lead.

import Foundation
import HTTPClient
import Ledger
import NIOPosix

/// The register of a shard's timelines, in etcd: the highest number that any member has claimed.
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

    /// All voters are asked within this time: the lock that the member holds meanwhile lasts for 20 s.
    static let limit = Duration.seconds(10)
    /// For one answer.
    static let patience = Duration.seconds(2)

    private let member: Member
    private let voters: [String]
    private let http: MemberHTTP

    /// The register of a member's shard.
    /// - Parameters:
    ///   - voters: `https://address:port`, the nearest first.
    ///   - identity: PEM files: who asks, and who may vouch for the voters.
    /// - Throws: `configuration` for files that cannot be used.
    public init(_ member: Member, voters: [String], identity: MemberIdentity) throws(ClusterError) {
        self.member = member
        self.voters = voters
        func read(_ path: String) throws(ClusterError) -> [UInt8] {
            guard let data = FileManager.default.contents(atPath: path) else {
                throw ClusterError(.configuration, "\(path) cannot be read")
            }
            return Array(data)
        }
        let (authority, chain, key) = (
            try read(identity.authority), try read(identity.certificate), try read(identity.key)
        )
        do {
            http = try MemberHTTP(
                authorityPEM: authority,
                identity: HTTPClientIdentity(certificateChainPEM: chain, privateKeyPEM: key),
                group: MultiThreadedEventLoopGroup.singleton)
        } catch {
            throw ClusterError(.configuration, "\(identity.certificate) cannot be used: \(error)")
        }
    }

    /// Claims the next number and has PostgreSQL take it.
    /// - Returns: in words, what was claimed.
    /// - Throws: `timeout` when no majority of etcd answered in time; `environment` when the data folder cannot be used.
    public func claim() async throws(ClusterError) -> String {
        defer { http.shutDown() }
        let histories = TimelineHistories(data: member.data)
        let claim = try await register(try histories.numbers())
        try histories.skip(claim.skipped)
        let skipped = claim.skipped.map { "\($0)" }.joined(separator: ", ")
        return "timeline \(claim.number)"
            + (skipped.isEmpty ? "" : "; claimed by others, and not known here: \(skipped)")
    }

    private var key: String { "/zegel/\(member.scope)/timeline" }

    private func register(_ histories: Set<UInt32>) async throws(ClusterError) -> TimelineClaim {
        let etcd = EtcdClient(http)
        let ends = ContinuousClock.now + Self.limit
        var reason = "no voter is named"
        repeat {
            for url in voters {
                do {
                    let seen = try await etcd.value(of: key, at: url, limit: Self.patience)
                    let claimed = seen.map { TimelineClaim.number(in: $0.text) }
                    if let seen, claimed == .some(nil) {
                        throw ClusterError(
                            .state, "etcd holds \(seen.text) under \(key): that is no timeline")
                    }
                    let claim = TimelineClaim(claimed: claimed ?? nil, histories: histories)
                    // A number whose answer did not come is passed over: the next look sees it, or that it was not taken.
                    if try await etcd.set(
                        key, to: claim.text(of: member.region), seen: seen, at: url, limit: Self.patience)
                    {
                        return claim
                    }
                    reason = "others claim at the same time"
                } catch let error as ClusterError {
                    throw error
                } catch {
                    reason = "\(error)"
                }
                guard ContinuousClock.now < ends else { break }
            }
            do { try await Task.sleep(for: .milliseconds(100)) } catch { break }
        } while ContinuousClock.now < ends
        throw ClusterError(
            .timeout, "no timeline could be claimed, so this member does not lead: \(reason)")
    }
}
