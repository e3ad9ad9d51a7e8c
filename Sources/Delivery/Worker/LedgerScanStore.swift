// Scans in the database, as SmartTLS wants them, and how they are put together for a worker.

import DNS
import Foundation
import Ledger
import NIOCore
import Postgres
import Settings
import SmartTLS

/// Keeps scans on the control shard.
struct LedgerScanStore: HostScanStore {
    let cache: HostScanCache
    /// This process, as the one who scans.
    let scanner = UUID()

    func rows(_ sites: [ScanSite]) async throws -> [ScanSite: StoredHostScan] {
        let rows = try await cache.rows(sites.map(\.key))
        return Dictionary(
            sites.compactMap { site in rows[site.key].map { (site, StoredHostScan($0)) } },
            uniquingKeysWith: { one, _ in one })
    }

    func claim(_ known: [ScanSite: Int64], lease: Duration) async throws -> Set<ScanSite> {
        let keys = Dictionary(known.map { ($0.key.key, $0.value) }, uniquingKeysWith: { one, _ in one })
        let claimed = try await cache.claim(keys, scanner: scanner, lease: lease)
        return Set(known.keys.filter { claimed.contains($0.key) })
    }

    func renew(_ sites: [ScanSite], lease: Duration) async throws -> Set<ScanSite> {
        let renewed = try await cache.renew(sites.map(\.key), scanner: scanner, lease: lease)
        return Set(sites.filter { renewed.contains($0.key) })
    }

    func keep(_ scan: RecordedScan, of site: ScanSite, freshFor: Duration) async throws -> (
        version: Int64, madeAt: Date
    )? {
        let result = HostScanResult(
            facts: Array(scan.facts), certificates: scan.certificates.map(Judgement.octets(of:)),
            tlsa: scan.tlsa.map(Judgement.octets(of:)))
        return try await cache.keep(result, of: site.key, freshFor: freshFor, scanner: scanner)
            .map { ($0.version, $0.judgedAt) }
    }

    func invalidate(_ seen: [ScanSite: (version: Int64, sighting: ScanSighting)]) async throws {
        try await cache.invalidate(
            Dictionary(
                seen.map {
                    ($0.key.key, ($0.value.version, Judgement.octets(of: $0.value.sighting.certificate)))
                }, uniquingKeysWith: { one, _ in one }))
    }

    func release(_ sites: [ScanSite]) async throws {
        try await cache.release(sites.map(\.key), scanner: scanner)
    }
}

extension ScanSite {
    fileprivate var key: HostScanKey {
        HostScanKey(host: host, address: address.description, port: Int32(clamping: port))
    }
}

extension StoredHostScan {
    fileprivate init(_ row: HostScanRow) {
        self.init(
            version: row.version, result: row.result?.facts, certificates: row.result?.certificates ?? [],
            tlsa: row.result?.tlsa, madeAt: row.judgedAt, age: row.age, freshFor: row.freshFor,
            invalidatedAgo: row.invalidatedAgo, leasedFor: row.leasedFor)
    }
}

extension HostScans {
    /// As configured, kept in the database and counted.
    init(
        _ settings: ScanSettings, _ delivery: DeliverySettings, group: any EventLoopGroup, pool: PostgresPool
    ) {
        let metrics = ScanMetrics()
        self.init(
            store: LedgerScanStore(cache: HostScanCache(pool: pool)),
            prober: HostProber(
                group: group, heloName: delivery.hostName,
                sourceAddress: settings.sourceAddress ?? delivery.sourceAddress, limits: .keepingNothing),
            life: settings.life, observe: { metrics.count($0) })
    }
}
