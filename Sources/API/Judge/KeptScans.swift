// What workers have found of recipient hosts, read from the region's member of the control shard.

import DNS
import Ledger
import SmartTLS

/// Reads the scans that workers keep.
struct KeptScans: HostScanReading {
    let cache: HostScanCache

    func rows(_ sites: [ScanSite]) async throws -> [ScanSite: StoredHostScan] {
        func key(_ site: ScanSite) -> HostScanKey {
            HostScanKey(
                host: site.host, address: site.address.description, port: Int32(clamping: site.port))
        }
        let rows = try await cache.rows(sites.map(key))
        return Dictionary(
            sites.compactMap { site in
                rows[key(site)].map { row in
                    (
                        site,
                        StoredHostScan(
                            version: row.version, result: row.result?.facts,
                            certificates: row.result?.certificates ?? [], tlsa: row.result?.tlsa,
                            madeAt: row.judgedAt, age: row.age, freshFor: row.freshFor,
                            invalidatedAgo: row.invalidatedAgo, leasedFor: row.leasedFor)
                    )
                }
            }, uniquingKeysWith: { one, _ in one })
    }
}
