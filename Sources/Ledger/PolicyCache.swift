// MTA-STS policies as the database keeps them, for every worker.

import Foundation
import Postgres

/// One domain's policy.
public struct PolicyRow: Sendable, Hashable {
    /// Whose it is, in lower-case A-labels.
    public let domain: String
    /// The id under which it was published.
    public let id: String
    /// Its lines; at most 64 KB.
    public let body: [UInt8]
    /// When it was fetched.
    public let fetchedAt: Date
    /// When its time is over.
    public let expiresAt: Date

    /// Takes the columns.
    public init(domain: String, id: String, body: [UInt8], fetchedAt: Date, expiresAt: Date) {
        self.domain = domain
        self.id = id
        self.body = body
        self.fetchedAt = fetchedAt
        self.expiresAt = expiresAt
    }
}

/// The policies, on the control shard, as role `zegel_worker`.
public struct PolicyCache: Sendable {
    private let pool: PostgresPool

    /// Takes a pool on the control shard.
    public init(pool: PostgresPool) { self.pool = pool }

    /// The policy of a domain, expired or not; nil: none is there.
    ///
    /// - Throws: `PostgresError` when the database does not answer.
    public func row(_ domain: String) async throws -> PolicyRow? {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    "SELECT id, body, fetched_at, expires_at FROM ledger.policy_cache WHERE domain = $1",
                    [.text(domain)]
                ).first.map { row in
                    PolicyRow(
                        domain: domain, id: try row.text(0), body: try row.bytes(1),
                        fetchedAt: try row.timestamp(2), expiresAt: try row.timestamp(3))
                }
            }
        }
    }

    /// Domains whose policies are in the last quarter of their time, in no order, at most so many.
    ///
    /// - Throws: `PostgresError` when the database does not answer.
    public func due(at time: Date, limit: Int) async throws -> [String] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    """
                    SELECT domain FROM ledger.policy_cache
                    WHERE expires_at > $1 AND expires_at - (expires_at - fetched_at) / 4 < $1
                    ORDER BY random() LIMIT $2
                    """, [.timestamp(time), .int8(Int64(limit))]
                ).map { try $0.text(0) }
            }
        }
    }

    /// Keeps a policy, unless one that was fetched later is there already.
    ///
    /// - Throws: `PostgresError` when the database does not take it.
    public func put(_ row: PolicyRow) async throws {
        try await pool.withConnection { connection in
            _ = try await connection.perform { session in
                try session.query(
                    """
                    INSERT INTO ledger.policy_cache AS kept (domain, id, body, fetched_at, expires_at)
                    VALUES ($1, $2, $3, $4, $5)
                    ON CONFLICT (domain) DO UPDATE SET id = excluded.id, body = excluded.body,
                        fetched_at = excluded.fetched_at, expires_at = excluded.expires_at
                    WHERE kept.fetched_at < excluded.fetched_at
                    """,
                    [
                        .text(row.domain), .text(row.id), .bytes(row.body), .timestamp(row.fetchedAt),
                        .timestamp(row.expiresAt),
                    ])
            }
        }
    }
}
