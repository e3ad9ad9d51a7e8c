// Patroni's REST interface, as a client: asks who leads, and asks for a planned change.

import Foundation
import HTTPClient
import NIOCore

/// Why Patroni did not answer, or did not do it.
public struct PatroniError: Error, Sendable, Equatable, CustomStringConvertible {
    /// Nobody answered, or the one that did refused.
    public enum Code: Sendable { case unreachable, refused, unreadable }
    /// Which of them.
    public var code: Code
    /// In words.
    public var description: String

    init(_ code: Code, _ description: String) {
        self.code = code
        self.description = description
    }
}

/// Speaks to the Patronis of one cluster.
public struct PatroniClient: Sendable {
    private let http: MemberHTTP

    /// A client.
    /// - Parameters:
    ///   - authorityPEM: who signed the members' certificates.
    ///   - identity: who asks; needed for whatever changes something.
    /// - Throws: `TLSError` for certificates that cannot be used.
    public init(authorityPEM: [UInt8], identity: HTTPClientIdentity? = nil, group: any EventLoopGroup) throws
    {
        self.init(try MemberHTTP(authorityPEM: authorityPEM, identity: identity, group: group))
    }

    /// A client that speaks over `http`.
    public init(_ http: MemberHTTP) { self.http = http }

    /// Ends idle connections.
    public func shutDown() { http.shutDown() }

    /// How a shard stands. All of its Patronis are asked at once, and the one is believed that names a leader of the newest timeline: one
    /// that is cut off tells of the past.
    /// - Parameter urls: the Patronis of the shard's members.
    /// - Throws: `unreachable` when none answered in time.
    public func view(
        of shard: String, from urls: [String], limit: Duration = .seconds(2)
    ) async throws(PatroniError) -> ShardView {
        let found = await withTaskGroup(of: ShardView?.self) { group in
            for url in urls {
                group.addTask {
                    guard let answer = try? await send(.get, url + "/cluster", limit: limit),
                        answer.status == 200
                    else { return nil }
                    return try? ShardView(shard: shard, json: answer.body)
                }
            }
            var views: [ShardView] = []
            for await view in group { if let view { views.append(view) } }
            return ShardView.newest(of: views)
        }
        guard let found else {
            throw PatroniError(
                .unreachable,
                "no Patroni of shard \(shard) answers at \(urls.joined(separator: ", "))")
        }
        return found
    }

    /// Asks for a planned change of leader and waits for Patroni's answer.
    /// - Parameters:
    ///   - url: the Patroni of any member.
    ///   - leader: who leads now; the change is refused when that is not so.
    ///   - candidate: who shall lead.
    /// - Throws: `refused` with Patroni's reason.
    public func switchover(at url: String, from leader: String, to candidate: String)
        async throws(PatroniError)
    {
        let body = try Self.json(["leader": leader, "candidate": candidate])
        let answer = try await send(.post, url + "/switchover", body: body, limit: .seconds(60))
        guard answer.status == 200 else { throw Self.refusal(answer) }
    }

    /// The regions that are to lead nothing. Kept beside Patroni's own settings in etcd, under `zegel`, of which Patroni takes no notice: so
    /// whoever brings leaders home reads it wherever it runs.
    /// - Parameter url: the Patroni of any member.
    /// - Throws: `unreachable`, `refused`, or `unreadable` for an answer that is none.
    public func drainedRegions(at url: String) async throws(PatroniError) -> Set<String> {
        let answer = try await send(.get, url + "/config", limit: .seconds(5))
        guard answer.status == 200 else { throw Self.refusal(answer) }
        guard let shared = try? JSONDecoder().decode(SharedSettings.self, from: Data(answer.body)) else {
            throw PatroniError(.unreadable, "\(url)/config is not what Patroni answers")
        }
        return Set((shared.zegel?.drained ?? [:]).filter(\.value).keys)
    }

    /// Keeps a region from leading a shard, or lets it again.
    /// - Parameter url: the Patroni of any member of the shard.
    /// - Throws: `refused` with Patroni's reason.
    public func setDrained(_ region: String, _ isDrained: Bool, at url: String) async throws(PatroniError) {
        // null takes the entry away.
        let change = ["zegel": ["drained": [region: isDrained ? true : nil as Bool?]]]
        guard let body = try? JSONEncoder().encode(change) else {
            throw PatroniError(.unreadable, "a request cannot be written")
        }
        let answer = try await send(.patch, url + "/config", body: Array(body), limit: .seconds(10))
        guard answer.status == 200 else { throw Self.refusal(answer) }
    }

    /// What is ours of the settings that a shard's members share.
    private struct SharedSettings: Decodable {
        struct Ours: Decodable { var drained: [String: Bool]? }
        var zegel: Ours?
    }

    /// What the members say of themselves, as far as they answer in time.
    public func reports(from urls: [String], limit: Duration = .seconds(2)) async -> [MemberReport] {
        await withTaskGroup(of: MemberReport?.self) { group in
            for url in urls {
                group.addTask {
                    guard let answer = try? await send(.get, url + "/patroni", limit: limit),
                        var report = try? MemberReport(json: answer.body)
                    else { return nil }
                    report.url = url
                    return report
                }
            }
            var reports: [MemberReport] = []
            for await report in group { if let report { reports.append(report) } }
            return reports
        }
    }

    /// How a shard stands at this moment: to etcd, and to its members themselves.
    /// - Parameter known: regions that have a member, also those that nobody hears of.
    public func standing(
        of shard: String, from urls: [String], known: Set<String>
    ) async -> (view: ShardView?, standing: ShardStanding) {
        async let asked = try? view(of: shard, from: urls)
        async let reports = reports(from: urls)
        let seen = await asked
        return (seen, ShardStanding(shard: shard, view: seen, reports: await reports, known: known))
    }

    /// Makes a member lead that nobody hands over to, whatever it lacks. Never where there is a leader.
    /// - Throws: `refused` with Patroni's reason.
    public func failover(at url: String, to candidate: String) async throws(PatroniError) {
        let body = try Self.json(["candidate": candidate])
        let answer = try await send(.post, url + "/failover", body: body, limit: .seconds(60))
        guard answer.status == 200 else { throw Self.refusal(answer) }
    }

    /// Restarts a member's PostgreSQL and returns when it is up again.
    /// - Throws: `refused` with Patroni's reason.
    public func restart(at url: String) async throws(PatroniError) {
        let answer = try await send(.post, url + "/restart", body: Array("{}".utf8), limit: .seconds(90))
        guard answer.status == 200 else { throw Self.refusal(answer) }
    }

    /// Has a Patroni read its configuration file anew. It returns before that is done.
    /// - Throws: `refused` with Patroni's reason.
    public func reload(at url: String) async throws(PatroniError) {
        let answer = try await send(.post, url + "/reload", limit: .seconds(10))
        guard (200...202).contains(answer.status) else { throw Self.refusal(answer) }
    }

    /// Throws a member's data away and copies its leader's. Returns once that has begun.
    /// - Parameter force: also where Patroni is about something with that member, which it then gives up: a rewind, a recovery, a copy.
    /// - Throws: `refused` with Patroni's reason.
    public func reinitialize(at url: String, force: Bool) async throws(PatroniError) {
        let body = Array(#"{"force": \#(force)}"#.utf8)
        let answer = try await send(.post, url + "/reinitialize", body: body, limit: .seconds(30))
        guard answer.status == 200 else { throw Self.refusal(answer) }
    }

    /// Whether the Patroni at `url` says that it is alive: its loop turned lately.
    public func isAlive(at url: String, limit: Duration) async -> Bool {
        guard let answer = try? await send(.get, url + "/liveness", limit: limit) else { return false }
        return answer.status == 200
    }

    private func send(
        _ method: HTTPRequest.Method, _ url: String, body: [UInt8] = [], limit: Duration
    ) async throws(PatroniError) -> HTTPResponse {
        do {
            return try await http.send(method, url, body: body, limit: limit)
        } catch {
            throw PatroniError(.unreachable, "\(url): \(error)")
        }
    }

    private static func json(_ fields: [String: String]) throws(PatroniError) -> [UInt8] {
        guard let data = try? JSONEncoder().encode(fields) else {
            throw PatroniError(.unreadable, "a request cannot be written")
        }
        return Array(data)
    }

    private static func refusal(_ answer: HTTPResponse) -> PatroniError {
        let words = String(decoding: answer.body.prefix(500), as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
        return PatroniError(.refused, words.isEmpty ? "Patroni answered \(answer.status)" : words)
    }
}
