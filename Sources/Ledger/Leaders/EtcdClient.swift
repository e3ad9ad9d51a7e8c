// etcd's JSON interface (its gRPC gateway, version 3), as a client: whether a voter votes, and one key that is changed only by who has seen
// its newest value.

import Foundation

/// Why etcd did not answer, or did not do it.
public struct EtcdError: Error, Sendable, Equatable, CustomStringConvertible {
    /// In words.
    public var description: String

    init(_ description: String) { self.description = description }
}

/// Speaks to the voters of one cluster.
public struct EtcdClient: Sendable {
    private let http: MemberHTTP

    /// A client that speaks over `http`.
    public init(_ http: MemberHTTP) { self.http = http }

    /// What a voter says of itself.
    public enum Health: Sendable, Equatable {
        /// It answers, and a majority stands behind it.
        case voting
        /// It answers, and has no majority.
        case alone
        /// It answers, and has a reason of its own not to work: its words.
        case alarmed(String)
        /// It does not answer.
        case silent
    }

    /// Whether the etcd at `url` (`https://address:port`) votes. An answer takes it a round of its quorum.
    public func health(at url: String, limit: Duration = .seconds(3)) async -> Health {
        guard let answer = try? await http.send(.get, url + "/health", limit: limit) else { return .silent }
        return Health(status: answer.status, body: answer.body)
    }

    /// What a key holds.
    public struct Value: Sendable, Equatable {
        /// The text.
        public var text: String
        /// What etcd counted its last change as: whoever names it changes this value and no later one.
        public var revision: Int64
    }

    /// What a majority holds under a key; nil: nothing.
    /// - Parameter url: the voter that is asked: `https://address:port`.
    /// - Throws: when it does not answer, or has no majority.
    public func value(of key: String, at url: String, limit: Duration) async throws(EtcdError) -> Value? {
        let range: Range = try await ask("range", ["key": Self.coded(key)], at: url, limit: limit)
        guard let found = range.kvs?.first else { return nil }
        guard let revision = Int64(found.revision),
            let text = Data(base64Encoded: found.value ?? "").flatMap({ String(data: $0, encoding: .utf8) })
        else { throw EtcdError("\(url): the value of \(key) cannot be read") }
        return Value(text: text, revision: revision)
    }

    /// Changes a key if it is still as it was seen.
    /// - Parameter seen: what ``value(of:at:limit:)`` answered.
    /// - Returns: false: somebody else changed it since.
    /// - Throws: when there is no answer: it may have been done or not.
    public func set(
        _ key: String, to text: String, seen: Value?, at url: String, limit: Duration
    ) async throws(EtcdError) -> Bool {
        let key = Self.coded(key)
        let change = Transaction(
            compare: [.init(key: key, revision: String(seen?.revision ?? 0))],
            success: [.init(put: .init(key: key, value: Self.coded(text)))])
        let done: Outcome = try await ask("txn", change, at: url, limit: limit)
        return done.succeeded ?? false
    }

    // MARK: The interface's own words

    private struct Range: Decodable {
        struct Entry: Decodable {
            var value: String?
            var revision: String
            private enum CodingKeys: String, CodingKey {
                case value
                case revision = "mod_revision"
            }
        }
        var kvs: [Entry]?
    }

    private struct Transaction: Encodable {
        struct Comparison: Encodable {
            var key: String
            // 0: the key is not there.
            var revision: String
            var target = "MOD"
            var result = "EQUAL"
            private enum CodingKeys: String, CodingKey {
                case key, target, result
                case revision = "mod_revision"
            }
        }
        struct Request: Encodable {
            struct Put: Encodable {
                var key: String
                var value: String
            }
            var put: Put
            private enum CodingKeys: String, CodingKey { case put = "request_put" }
        }
        var compare: [Comparison]
        var success: [Request]
    }

    private struct Outcome: Decodable { var succeeded: Bool? }

    private static func coded(_ text: String) -> String { Data(text.utf8).base64EncodedString() }

    private func ask<Answer: Decodable>(
        _ what: String, _ question: some Encodable, at url: String, limit: Duration
    ) async throws(EtcdError) -> Answer {
        do {
            let body = Array(try JSONEncoder().encode(question))
            let answer = try await http.send(.post, "\(url)/v3/kv/\(what)", body: body, limit: limit)
            guard answer.status == 200 else {
                let words = String(decoding: answer.body.prefix(300), as: UTF8.self)
                throw EtcdError("\(url) answered \(answer.status): \(words)")
            }
            return try JSONDecoder().decode(Answer.self, from: Data(answer.body))
        } catch let error as EtcdError {
            throw error
        } catch {
            throw EtcdError("\(url): \(error)")
        }
    }
}

extension EtcdClient.Health {
    /// Reads what etcd answers to `GET /health`.
    init(status: Int, body: [UInt8]) {
        struct Answer: Decodable {
            var health: String
            var reason: String?
        }
        let answer = try? JSONDecoder().decode(Answer.self, from: Data(body))
        if status == 200, answer?.health == "true" {
            self = .voting
        } else if let reason = answer?.reason, reason.contains("ALARM") {
            self = .alarmed(reason)
        } else {
            self = .alone
        }
    }
}
