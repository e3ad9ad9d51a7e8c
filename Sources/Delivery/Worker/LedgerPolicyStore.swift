// MTA-STS policies in the database, as SmartTLS wants them.

import Foundation
import Ledger
import SmartTLS

/// Keeps policies on the control shard.
struct LedgerPolicyStore: MTASTSStore {
    let cache: PolicyCache

    func policy(of domain: String) async throws -> StoredMTASTSPolicy? {
        try await cache.row(domain).map { row in
            StoredMTASTSPolicy(
                domain: row.domain, id: row.id, body: row.body, fetchedAt: row.fetchedAt,
                expiresAt: row.expiresAt)
        }
    }

    func due(at time: Date, limit: Int) async throws -> [String] {
        try await cache.due(at: time, limit: limit)
    }

    func keep(_ policy: StoredMTASTSPolicy) async throws {
        try await cache.put(
            PolicyRow(
                domain: policy.domain, id: policy.id, body: policy.body, fetchedAt: policy.fetchedAt,
                expiresAt: policy.expiresAt))
    }
}
