// Scans of hosts in the database: one of many gets a lease, results are its own to keep, and what was seen to be out of date ends.

import Foundation
import Lab
import Ledger
import Postgres
import Testing

@Suite struct HostScanCacheTests {
    private static let key = HostScanKey(host: "mx.bar.test", address: "127.0.0.9", port: 25)
    private static let leaf = [UInt8](repeating: 1, count: 32)
    private static let result = HostScanResult(
        facts: Array("{}".utf8), certificates: [leaf], tlsa: [UInt8](repeating: 9, count: 32))

    /// A kept result; answers its version.
    @discardableResult private func kept(
        _ cache: HostScanCache, _ key: HostScanKey = key, freshFor: Duration = .seconds(600)
    ) async throws -> Int64 {
        let scanner = UUID()
        let version = try await cache.rows([key])[key]?.version ?? 0
        #expect(try await cache.claim([key: version], scanner: scanner, lease: .seconds(30)) == [key])
        return try #require(
            try await cache.keep(Self.result, of: key, freshFor: freshFor, scanner: scanner)
        ).version
    }

    @Test("Of many that want to scan the same hosts each host has one, and nobody waits for another for ever")
    func race() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        let keys = (0..<60).map { HostScanKey(host: "mx\($0).test", address: "192.0.2.\($0)", port: 25) }
        let claimed = try await withThrowingTaskGroup(of: Set<HostScanKey>.self) { group in
            for _ in 0..<6 {
                group.addTask {
                    try await cache.claim(
                        Dictionary(uniqueKeysWithValues: keys.shuffled().map { ($0, 0) }),
                        scanner: UUID(), lease: .seconds(30))
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(claimed.reduce(0) { $0 + $1.count } == keys.count)
        #expect(claimed.reduce(Set()) { $0.union($1) } == Set(keys))
        await shard.close()
    }

    @Test("A result is what is read, its lease ends with it, and its time is counted by the database's clock")
    func result() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        #expect(try await cache.rows([Self.key]).isEmpty)
        let version = try await kept(cache)
        let other = HostScanKey(host: "mx.bar.test", address: "127.0.0.9", port: 26)
        let rows = try await cache.rows([other, Self.key])
        #expect(rows.count == 1)
        let row = try #require(rows[Self.key])
        #expect(row.result == Self.result && row.version == version && row.leasedFor == nil)
        #expect((0..<60).contains(row.age) && (500...600).contains(row.freshFor) && row.invalidatedAgo == nil)
        #expect(abs(try #require(row.judgedAt).timeIntervalSinceNow) < 60)
        await shard.close()
    }

    @Test("IPv6 addresses are compared as addresses")
    func six() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        try await kept(cache, HostScanKey(host: "six.test", address: "2001:db8::1", port: 25))
        let same = HostScanKey(host: "six.test", address: "2001:0db8:0:0::0001", port: 25)
        #expect(try await cache.rows([same])[same]?.result == Self.result)
        await shard.close()
    }

    @Test("A lease ends by its time alone; whoever lost it keeps nothing")
    func lease() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        let (slow, quick) = (UUID(), UUID())
        func claim(_ scanner: UUID) async throws -> Bool {
            try await !cache.claim([Self.key: 0], scanner: scanner, lease: .seconds(30)).isEmpty
        }
        #expect(try await claim(slow))
        let again = [try await claim(quick), try await claim(slow)]
        #expect(again == [false, false])
        #expect(try await cache.renew([Self.key], scanner: slow, lease: .seconds(30)) == [Self.key])
        #expect(try await cache.renew([Self.key], scanner: quick, lease: .seconds(30)).isEmpty)
        try await shard.execute("UPDATE ledger.host_scan SET lease_until = now() - interval '1 second'")
        #expect(try await claim(quick))
        #expect(try await cache.renew([Self.key], scanner: slow, lease: .seconds(30)).isEmpty)
        let late = try await cache.keep(Self.result, of: Self.key, freshFor: .seconds(9), scanner: slow)
        #expect(late == nil)
        #expect(try await cache.rows([Self.key])[Self.key]?.result == nil)
        try await cache.release([Self.key], scanner: slow)
        #expect(try await !claim(slow), "what is another's is not given back")
        try await cache.release([Self.key], scanner: quick)
        #expect(try await claim(slow))
        await shard.close()
    }

    @Test("Who knows an older result gets no lease: the newer one may be enough")
    func versions() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        let version = try await kept(cache)
        #expect(try await cache.claim([Self.key: version - 1], scanner: UUID(), lease: .seconds(9)).isEmpty)
        #expect(try await cache.claim([Self.key: version], scanner: UUID(), lease: .seconds(9)) == [Self.key])
        await shard.close()
    }

    @Test(
        "What a delivery saw to be out of date ends at once, unless it was a newer one; its certificate is noted"
    )
    func invalidation() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        let other = [UInt8](repeating: 2, count: 32)
        let version = try await kept(cache)
        try await cache.invalidate([Self.key: (version - 1, other)])
        #expect(try await cache.rows([Self.key])[Self.key]?.invalidatedAgo == nil)
        try await cache.invalidate([Self.key: (version, other)])
        let row = try #require(try await cache.rows([Self.key])[Self.key])
        #expect(row.invalidatedAgo != nil && row.freshFor <= 0 && row.version == version + 1)
        #expect(row.result?.certificates == [other, Self.leaf])
        // However often a host changes, the row stays small.
        for number in 0..<20 {
            try await cache.invalidate([Self.key: (row.version + Int64(number), other)])
        }
        #expect(try await cache.rows([Self.key])[Self.key]?.result?.certificates.count == 16)
        #expect(try await kept(cache) == row.version + 21)
        #expect(try await cache.rows([Self.key])[Self.key]?.invalidatedAgo == nil)
        await shard.close()
    }

    @Test("Maintenance forgets what is over since more than a day, and claims that came to nothing")
    func expiry() async throws {
        let shard = try await Shard.make()
        let cache = HostScanCache(pool: shard.worker)
        for host in ["gone.test", "late.test", "fresh.test"] {
            try await kept(cache, HostScanKey(host: host, address: "127.0.0.1", port: 25))
        }
        _ = try await cache.claim([Self.key: 0], scanner: UUID(), lease: .seconds(9))
        try await shard.execute(
            """
            UPDATE ledger.host_scan SET fresh_until = now() - interval '25 hours' WHERE host = 'gone.test';
            UPDATE ledger.host_scan SET fresh_until = now() - interval '23 hours' WHERE host = 'late.test';
            UPDATE ledger.host_scan SET lease_until = now() - interval '2 days' WHERE host = 'mx.bar.test';
            """)
        #expect(try await Maintenance(pool: shard.owner).run().scansForgotten == 2)
        let left = try await shard.rows("SELECT host FROM ledger.host_scan ORDER BY host").map {
            try $0.text(0)
        }
        #expect(left == ["fresh.test", "late.test"])
        await shard.close()
    }

    @Test(
        "The api reads what was found and changes nothing; an edge sees none of it; no worker takes one away")
    func roles() async throws {
        let shard = try await Shard.make()
        try await kept(HostScanCache(pool: shard.worker))
        #expect(
            try await HostScanCache(pool: shard.api).rows([Self.key])[Self.key]?.result == Self.result)
        for (pool, sql) in [
            (shard.worker, "DELETE FROM ledger.host_scan"), (shard.edge, "SELECT host FROM ledger.host_scan"),
            (shard.api, "SELECT scanner FROM ledger.host_scan"),
        ] {
            try await refused(pool, sql, ["42501"])
        }
        try await refused(shard.api, "UPDATE ledger.host_scan SET version = 0", ["42501", "25006"])
        await shard.close()
    }

    private func refused(_ pool: PostgresPool, _ sql: String, _ states: Set<String>) async throws {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                do {
                    try session.execute(sql)
                    Issue.record("allowed: \(sql)")
                } catch let error as PostgresError {
                    #expect(states.contains(error.sqlState ?? ""), "\(sql): \(error)")
                }
            }
        }
    }
}
