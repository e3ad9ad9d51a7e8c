// Where scans outlive the process and are shared by all workers, and where it is settled who of them scans.

import Foundation

/// What is kept of one site, as it is now.
public struct StoredHostScan: Sendable {
    /// Counts up with every result and every invalidation.
    public let version: Int64
    /// The last result; nil: none yet, or none that can be read.
    public let scan: RecordedScan?
    /// How old it is.
    public let age: Duration
    /// How long it holds yet; zero or less: no more.
    public let freshFor: Duration
    /// How long ago a delivery saw something else; nil: none has since.
    public let invalidatedAgo: Duration?
    /// How long somebody's lease goes on; nil: nobody scans.
    public let leasedFor: Duration?

    /// Takes what was stored: columns as they are, certificates and TLSA records by their SHA-256, times in seconds.
    public init(
        version: Int64, result facts: [UInt8]?, certificates: [[UInt8]], tlsa: [UInt8]?, madeAt: Date?,
        age: Double, freshFor: Double, invalidatedAgo: Double?, leasedFor: Double?
    ) {
        self.version = version
        if let facts, let madeAt {
            scan = RecordedScan(
                madeAt: madeAt, certificates: certificates.map { CanonicalJSON.hexadecimal($0) },
                tlsa: tlsa.map { CanonicalJSON.hexadecimal($0) }, facts: facts)
        } else {
            scan = nil
        }
        // A wrong clock or column is no reason to trap.
        func duration(_ seconds: Double) -> Duration {
            .seconds(seconds.isFinite ? min(max(seconds, -1e9), 1e9) : 0)
        }
        self.age = max(.zero, duration(age))
        self.freshFor = duration(freshFor)
        self.invalidatedAgo = invalidatedAgo.map { max(.zero, duration($0)) }
        self.leasedFor = leasedFor.flatMap { $0 > 0 ? duration($0) : nil }
    }
}

/// Reads scans.
public protocol HostScanReading: Sendable {
    /// What is kept of these sites; those of which nothing is are left out.
    ///
    /// - Throws: when it cannot be read.
    func rows(_ sites: [ScanSite]) async throws -> [ScanSite: StoredHostScan]
}

/// Keeps scans for all workers, and gives out leases.
public protocol HostScanStore: HostScanReading {
    /// Takes leases on those sites of which nothing has come in since the version that is known here (0: none), and that nobody
    /// else has.
    ///
    /// - Returns: the sites that are this process's to scan.
    func claim(_ known: [ScanSite: Int64], lease: Duration) async throws -> Set<ScanSite>
    /// Goes on with leases, and answers which are this process's still.
    func renew(_ sites: [ScanSite], lease: Duration) async throws -> Set<ScanSite>
    /// Keeps a result and ends its lease; answers what it is now known by, and nil where the lease was lost.
    func keep(_ scan: RecordedScan, of site: ScanSite, freshFor: Duration) async throws -> (
        version: Int64, madeAt: Date
    )?
    /// Ends the time of results that were seen to be out of date, each with what was known here and what was seen.
    func invalidate(_ seen: [ScanSite: (version: Int64, sighting: ScanSighting)]) async throws
    /// Gives leases back.
    func release(_ sites: [ScanSite]) async throws
}
