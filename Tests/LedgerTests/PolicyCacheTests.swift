// MTA-STS policies in the database: the one fetched last stays, for workers alone, and goes when its time is long over.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct PolicyCacheTests {
    private func row(_ domain: String, _ id: String, at: TimeInterval, lasting: TimeInterval = 86_400)
        -> PolicyRow
    {
        PolicyRow(
            domain: domain, id: id, body: Array("mode:enforce\n".utf8),
            fetchedAt: Date(timeIntervalSince1970: at),
            expiresAt: Date(timeIntervalSince1970: at + lasting))
    }

    @Test("The one that was fetched last stays, whoever writes last")
    func latest() async throws {
        let shard = try await Shard.make()
        let cache = PolicyCache(pool: shard.worker)
        #expect(try await cache.row("bar.test") == nil)
        for policy in [
            row("bar.test", "1", at: 1_000), row("bar.test", "2", at: 2_000), row("bar.test", "0", at: 500),
        ] {
            try await cache.put(policy)
        }
        #expect(try await cache.row("bar.test") == row("bar.test", "2", at: 2_000))
        #expect(try await cache.row("other.test") == nil)
        await shard.close()
    }

    @Test("Due is what is in the last quarter of its time")
    func due() async throws {
        let shard = try await Shard.make()
        let cache = PolicyCache(pool: shard.worker)
        let now = Date().timeIntervalSince1970
        for (domain, age) in [("young.test", 70.0), ("due.test", 80), ("over.test", 101)] {
            try await cache.put(row(domain, "1", at: now - age, lasting: 100))
        }
        #expect(try await cache.due(at: Date(timeIntervalSince1970: now), limit: 9) == ["due.test"])
        #expect(try await cache.due(at: Date(timeIntervalSince1970: now), limit: 0).isEmpty)
        await shard.close()
    }

    @Test("Maintenance forgets what expired more than a day ago, and nothing else")
    func expiry() async throws {
        let shard = try await Shard.make()
        let cache = PolicyCache(pool: shard.worker)
        let now = Date().timeIntervalSince1970
        try await cache.put(row("gone.test", "1", at: now - 4 * 86_400, lasting: 2 * 86_400))
        try await cache.put(row("late.test", "1", at: now - 2 * 86_400, lasting: 1.5 * 86_400))
        try await cache.put(row("valid.test", "1", at: now))
        #expect(try await Maintenance(pool: shard.owner).run().policiesForgotten == 1)
        #expect(try await cache.row("gone.test") == nil)
        #expect(try await cache.row("late.test") != nil)
        #expect(try await cache.row("valid.test") != nil)
        await shard.close()
    }

    @Test("A worker cannot take a policy away, and edge and api see none")
    func roles() async throws {
        let shard = try await Shard.make()
        for (pool, sql) in [
            (shard.worker, "DELETE FROM ledger.policy_cache"), (shard.edge, "TABLE ledger.policy_cache"),
            (shard.api, "TABLE ledger.policy_cache"),
        ] {
            try await pool.withConnection { connection in
                try await connection.perform { session in
                    do {
                        try session.execute(sql)
                        Issue.record("allowed: \(sql)")
                    } catch let error as PostgresError {
                        #expect(error.sqlState == "42501", "\(sql): \(error)")
                    }
                }
            }
        }
        await shard.close()
    }
}
