// Where policies outlive the process. Whoever forgets a policy can be made to believe that there never was one (RFC 8461 §10.2).
import DNS
import Foundation

/// A policy as it is kept.
public struct StoredMTASTSPolicy: Sendable, Hashable {
    /// Whose it is, in lower-case A-labels.
    public let domain: String
    /// The id under which it was published.
    public let id: String
    /// What it says, as a policy's body in its shortest form; at most 64 KB.
    public let body: [UInt8]
    /// When it was fetched.
    public let fetchedAt: Date
    /// When its time is over.
    public let expiresAt: Date

    /// Takes what was stored.
    public init(domain: String, id: String, body: [UInt8], fetchedAt: Date, expiresAt: Date) {
        (self.domain, self.id, self.body) = (domain, id, body)
        (self.fetchedAt, self.expiresAt) = (fetchedAt, expiresAt)
    }

    init(_ held: MTASTSCacheEntry.Held, of domain: DomainName) {
        self.init(
            domain: domain.text, id: held.id, body: held.policy.body, fetchedAt: held.fetchedAt,
            expiresAt: held.expiresAt)
    }

    /// The policy again; nil where it is none.
    var held: MTASTSCacheEntry.Held? {
        (try? MTASTSPolicy(body: body)).map { .init(id: id, policy: $0, fetchedAt: fetchedAt) }
    }
}

/// Keeps policies for all workers.
public protocol MTASTSStore: Sendable {
    /// The policy of a domain that was fetched last, expired or not; nil: none was.
    ///
    /// - Throws: when it cannot be read: then nobody knows.
    func policy(of domain: String) async throws -> StoredMTASTSPolicy?
    /// Domains whose policies are in the last quarter of their time, in no order, at most so many.
    func due(at time: Date, limit: Int) async throws -> [String]
    /// Keeps a policy, unless one that was fetched later is there already.
    func keep(_ policy: StoredMTASTSPolicy) async throws
}
