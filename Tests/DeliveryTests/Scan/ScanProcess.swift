// The scans of one process on the lab's database: what a worker has of them, and what happened in it.

import DNS
import Foundation
import Lab
import Ledger
import NIOPosix
import Policy
import Postgres
import Settings
import Synchronization
import TLS
import Testing

@testable import Delivery
@testable import SmartTLS

/// One process that scans.
final class ScanProcess: Sendable {
    let scans: HostScans
    let desk: ScanDesk
    private let pool: PostgresPool
    private let record: Record

    private final class Record: Sendable {
        let seen = Mutex<[HostScanOccurrence]>([])
        let begun = Mutex<[ScanSite]>([])
    }

    /// - life: how long scans hold.
    /// - change: of the bounds; looks are frequent, and hosts have no rest.
    /// - scan: instead of the real prober.
    init(
        _ lab: WorkerLab, life: ClosedRange<Duration> = .seconds(3_600) ... .seconds(86_400),
        hosts: ScanHosts = .ruleset, change: (inout HostScans.Bounds) -> Void = { _ in },
        scan: (@Sendable (ScanSite) async -> HostScan)? = nil
    ) {
        let record = Record()
        let prober = HostProber(
            group: MultiThreadedEventLoopGroup.singleton, heloName: "zegel.test", sourceAddress: nil,
            limits: .keepingNothing)
        pool = PostgresPool(
            configuration: PostgresConfiguration(
                lab.postgres.dsn(database: lab.database, user: "zegel_worker")), limit: 2,
            waitLimit: .seconds(10))
        var bounds = HostScans.Bounds()
        bounds.tick = .milliseconds(30)
        bounds.patience = .seconds(20)
        bounds.entry.rest = .zero
        bounds.entry.look = .milliseconds(50)
        bounds.entry.memory = .milliseconds(300)
        change(&bounds)
        scans = HostScans(
            store: LedgerScanStore(cache: HostScanCache(pool: pool)),
            scan: { site in
                record.begun.withLock { $0.append(site) }
                if let scan { return await scan(site) }
                return await prober.scan(site)
            }, life: life, observe: { occurrence in record.seen.withLock { $0.append(occurrence) } },
            bounds: bounds)
        desk = ScanDesk(scans, hosts: hosts)
        self.record = record
    }

    /// What happened so far.
    var seen: [HostScanOccurrence] { record.seen.withLock { $0 } }
    /// Scans that were begun.
    var begun: [ScanSite] { record.begun.withLock { $0 } }
    /// How often something happened.
    func count(_ occurrence: HostScanOccurrence) -> Int { seen.count { $0 == occurrence } }

    /// The scan that counts for a site, once there is one.
    func counting(_ site: ScanSite, _ sighting: ScanSighting, within limit: Duration = .seconds(40))
        async throws
        -> HeldScan
    {
        var found: HeldScan?
        try await eventually("a scan counts", within: limit) {
            found = await scans.counting(for: site, sighting, waits: true)
            if found == nil { try await Task.sleep(for: .milliseconds(30)) }
            return found != nil
        }
        return try #require(found)
    }

    /// Runs processes while `body` runs; then they die, without giving anything back.
    static func running<T: Sendable>(
        _ processes: [ScanProcess], _ body: @Sendable () async throws -> T
    ) async throws -> T {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for process in processes { group.addTask { await process.scans.run() } }
            defer { group.cancelAll() }
            return try await body()
        }
    }

    /// A scan that finds one version, at once.
    static func plain() -> HostScan {
        var report = ProbeReport()
        report.suites = [.tls13: [0x1301]]
        return HostScan(report: report)
    }
}

extension ScanSite {
    /// That of a host of the lab under a name.
    init(_ name: String, _ host: ScriptedSMTPServer) throws {
        self.init(
            host: name, address: try #require(IPAddress("127.0.0.1")), port: try host.address.port ?? 0)
    }
}

extension ScanSighting {
    /// What a host with this certificate shows.
    init(_ identity: TestIdentity, tlsa: String? = nil) {
        self.init(certificate: CanonicalJSON.digest(identity.der), tlsa: tlsa, ttl: .seconds(3_600))
    }
}

/// A gate that scans wait at.
final class ScanGate: Sendable {
    private let isOpen = Mutex(false)
    func open() { isOpen.withLock { $0 = true } }
    func pass() async {
        while !isOpen.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(5)) }
    }
}

extension WorkerLab {
    /// What the database keeps of scans.
    var scanCache: HostScanCache { HostScanCache(pool: admin) }
}
