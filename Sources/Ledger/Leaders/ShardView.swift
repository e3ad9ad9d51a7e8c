// A shard as Patroni sees it: which member leads, which follow, how far behind. Only read here; who leads is Patroni's to decide
// (law 6).

import Foundation

/// The members of a shard, as one of their Patronis told.
public struct ShardView: Sendable, Equatable, Codable {
    /// One member.
    public struct Member: Sendable, Equatable, Codable {
        /// What it is in its shard.
        public enum Role: String, Sendable, Codable {
            /// The one that writes.
            case leader
            /// A member whose acknowledgement counts, and that may lead next.
            case quorum = "quorum_standby"
            /// The same, where every named member must acknowledge.
            case synchronous = "sync_standby"
            /// A member that follows, and counts for nothing yet.
            case replica
            /// A role that this version does not know.
            case other
        }

        /// The region, which is its name.
        public var region: String
        /// What it is.
        public var role: Role
        /// Patroni's word for what it does: `running`, `streaming`, `stopped`, `starting`, …
        public var state: String
        /// PostgreSQL's address.
        public var host: String
        /// PostgreSQL's port.
        public var port: Int
        /// Its Patroni: `https://address:port`.
        public var url: String
        /// The timeline that it is on; nil: it does not say.
        public var timeline: Int?
        /// Octets of WAL behind the leader; nil: unknown.
        public var lag: Int?
        /// Octets of WAL that it had when it last wrote so into etcd; nil: unknown, or it leads.
        public var position: Int?

        /// Whether it is up and follows its leader or leads.
        public var isLive: Bool { state == "running" || state == "streaming" }
        /// Whether it may take over without losing an acknowledged commit.
        public var isCandidate: Bool { state == "streaming" && (role == .quorum || role == .synchronous) }
    }

    /// The shard.
    public var shard: String
    /// Its members, by region.
    public var members: [Member]
    /// Somebody has told Patroni to keep its hands off.
    public var isPaused: Bool

    /// Who leads; nil: nobody.
    public var leader: Member? { members.first { $0.role == .leader } }

    /// Who leads and is up; nil: nobody.
    public var liveLeader: Member? { leader.flatMap { $0.isLive ? $0 : nil } }

    /// The one of several that knows most: it names a leader, of the newest timeline.
    static func newest(of views: [ShardView]) -> ShardView? {
        views.max { ($0.leader?.timeline ?? -1) < ($1.leader?.timeline ?? -1) }
    }

    /// The member of a region.
    public func member(_ region: String) -> Member? { members.first { $0.region == region } }
}

extension ShardView {
    private struct Answer: Decodable {
        struct Member: Decodable {
            var name: String
            var role: String?
            var state: String?
            var host: String?
            var port: Int?
            var url: String?
            var timeline: Int?
            var lag: Lag?
            var lsn: String?

            enum CodingKeys: String, CodingKey {
                case name, role, state, host, port, timeline, lag, lsn
                case url = "api_url"
            }
        }
        /// A number, or `unknown`.
        enum Lag: Decodable {
            case octets(Int)
            case unknown

            init(from decoder: any Decoder) throws {
                let value = try decoder.singleValueContainer()
                self = (try? value.decode(Int.self)).map { .octets($0) } ?? .unknown
            }
        }
        var members: [Member]
        var pause: Bool?
    }

    /// `0/6F64FE8`, PostgreSQL's way to write a place in the WAL, as octets from its beginning.
    package static func octets(_ text: String) -> Int? {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let high = UInt32(parts[0], radix: 16), let low = UInt32(parts[1], radix: 16)
        else { return nil }
        return Int(high) << 32 | Int(low)
    }

    /// Reads what `GET /cluster` answers.
    /// - Throws: when it is no answer of Patroni.
    init(shard: String, json: [UInt8]) throws {
        let answer = try JSONDecoder().decode(Answer.self, from: Data(json))
        self.shard = shard
        isPaused = answer.pause ?? false
        members = answer.members.map { member in
            var lag: Int?
            if case .octets(let octets) = member.lag { lag = octets }
            return Member(
                region: member.name, role: Member.Role(rawValue: member.role ?? "") ?? .other,
                state: member.state ?? "unknown", host: member.host ?? "", port: member.port ?? 0,
                // Patroni tells the address of one of its pages.
                url: (member.url ?? "").replacing("/patroni", with: ""), timeline: member.timeline, lag: lag,
                position: member.lsn.flatMap(Self.octets))
        }.sorted { $0.region < $1.region }
    }
}
