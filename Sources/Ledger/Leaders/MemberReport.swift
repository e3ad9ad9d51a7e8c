// What one member's Patroni tells of its own PostgreSQL, asked of the server at that moment. `/cluster` tells what members wrote into etcd
// up to a loop ago, and goes on calling a member streaming whose receiver stands still.

import Foundation

/// `GET /patroni` of one member.
public struct MemberReport: Sendable, Equatable {
    /// The region, which is the member's name.
    public var region: String
    /// Whether it writes.
    public var leads: Bool
    /// Patroni's word for what it does.
    public var state: String
    /// Its timeline; nil: it does not say.
    public var timeline: Int?
    /// PostgreSQL's version: 150014 is 15.14.
    public var serverVersion: Int?
    /// Patroni's version.
    public var patroniVersion: String?
    /// Octets of WAL written, by a leader; nil: it follows.
    public var written: Int?
    /// Octets of WAL received, by one that follows.
    public var received: Int?
    /// Octets of WAL replayed, by one that follows.
    public var replayed: Int?
    /// When the newest transaction that it replayed was committed.
    public var replayedAt: Date?
    /// Somebody has paused the replay.
    public var isReplayPaused: Bool
    /// Who streams from it, by region, and whether the acknowledgement counts.
    public var followers: [String: Bool]
    /// Those who are being sent what they missed, by region.
    public var catchingUp: Set<String> = []
    /// When its Patroni reached etcd last.
    public var consensusSeen: Date?
    /// The Patroni that told this: `https://address:port`.
    public var url = ""

    /// Octets of WAL that it has: written, or received, or where nobody sends to it, replayed.
    public var position: Int? { written ?? [received, replayed].compactMap(\.self).max() }
}

extension MemberReport {
    private struct Answer: Decodable {
        struct WAL: Decodable {
            var location: Int?
            var receivedLocation: Int?
            var replayedLocation: Int?
            var replayedTimestamp: String?
            var paused: Bool?
        }
        struct Follower: Decodable {
            var applicationName: String?
            var state: String?
            var syncState: String?
        }
        struct Program: Decodable {
            var version: String?
            var name: String?
        }
        var state: String?
        var role: String?
        var timeline: Int?
        var serverVersion: Int?
        var xlog: WAL?
        var replication: [Follower]?
        var patroni: Program?
        var dcsLastSeen: Double?
    }

    /// Reads what `GET /patroni` answers.
    /// - Throws: when it is no answer of Patroni, or names no member.
    init(json: [UInt8]) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let answer = try decoder.decode(Answer.self, from: Data(json))
        guard let name = answer.patroni?.name else { throw CocoaError(.coderValueNotFound) }
        region = name
        leads = answer.xlog?.location != nil
        state = answer.state ?? "unknown"
        timeline = answer.timeline
        serverVersion = answer.serverVersion
        patroniVersion = answer.patroni?.version
        written = answer.xlog?.location
        received = answer.xlog?.receivedLocation
        replayed = answer.xlog?.replayedLocation
        replayedAt = answer.xlog?.replayedTimestamp.flatMap(Self.moment)
        isReplayPaused = answer.xlog?.paused ?? false
        followers = [:]
        for follower in answer.replication ?? [] {
            guard let name = follower.applicationName else { continue }
            guard follower.state == "streaming" else {
                if follower.state == "catchup" { catchingUp.insert(name) }
                continue
            }
            followers[name] = follower.syncState == "quorum" || follower.syncState == "sync"
        }
        consensusSeen = answer.dcsLastSeen.map { Date(timeIntervalSince1970: $0) }
    }

    /// `2026-11-27 07:15:01.123456+00:00`, the fraction and its length as Python likes.
    static func moment(_ text: String) -> Date? {
        let parts = text.prefix(19)
        let format = Date.ISO8601FormatStyle(
            dateSeparator: .dash, dateTimeSeparator: .space, timeSeparator: .colon, timeZone: .gmt
        ).year().month().day().time(includingFractionalSeconds: false)
        // PostgreSQL's time zone is UTC here: the offset is always zero.
        guard let whole = try? Date(String(parts), strategy: format) else { return nil }
        let rest = text.dropFirst(19)
        guard rest.first == "." else { return whole }
        let digits = rest.dropFirst().prefix { $0.isNumber }
        return whole + (Double("0." + digits) ?? 0)
    }
}
