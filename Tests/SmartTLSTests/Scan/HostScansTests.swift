// The scans of one process beside a store in memory: who asks it and how often, who waits for what, and what is bounded.

import DNS
import Foundation
import Lab
import Synchronization
import TLS
import Testing

@testable import SmartTLS

/// A store in memory, with a clock of its own.
final class MemoryScanStore: HostScanStore {
    struct State {
        var rows: [ScanSite: (version: Int64, scan: RecordedScan?, until: ContinuousClock.Instant)] = [:]
        var leases: Set<ScanSite> = []
        var queries = 0
        var asked: [Int] = []
        var failure: (any Error)?
        var isStuck = false
    }
    let state = Mutex(State())

    func rows(_ sites: [ScanSite]) async throws -> [ScanSite: StoredHostScan] {
        while state.withLock({ $0.isStuck }) { try await Task.sleep(for: .milliseconds(5)) }
        return try state.withLock { state in
            state.queries += 1
            state.asked.append(sites.count)
            if let failure = state.failure { throw failure }
            var found: [ScanSite: StoredHostScan] = [:]
            for site in sites {
                guard let row = state.rows[site] else { continue }
                found[site] = StoredHostScan(
                    version: row.version, result: row.scan.map { Array($0.facts) },
                    certificates: row.scan?.certificates.map(Judgement.octets(of:)) ?? [],
                    tlsa: row.scan?.tlsa.map(Judgement.octets(of:)), madeAt: row.scan.map { _ in Date() },
                    age: 0, freshFor: (row.until - .now) / .seconds(1),
                    invalidatedAgo: row.until <= .now ? 0 : nil,
                    leasedFor: state.leases.contains(site) ? 30 : nil)
            }
            return found
        }
    }

    func claim(_ known: [ScanSite: Int64], lease: Duration) async throws -> Set<ScanSite> {
        state.withLock { state in
            state.queries += 1
            let free = known.filter {
                !state.leases.contains($0.key) && (state.rows[$0.key]?.version ?? 0) == $0.value
            }
            state.leases.formUnion(free.keys)
            return Set(free.keys)
        }
    }

    func renew(_ sites: [ScanSite], lease: Duration) async throws -> Set<ScanSite> {
        state.withLock { $0.leases.intersection(sites) }
    }

    func keep(_ scan: RecordedScan, of site: ScanSite, freshFor: Duration) async throws -> (
        version: Int64, madeAt: Date
    )? {
        state.withLock { state in
            guard state.leases.remove(site) != nil else { return nil }
            let version = (state.rows[site]?.version ?? 0) + 1
            state.rows[site] = (version, scan, .now + freshFor)
            return (version, Date())
        }
    }

    func invalidate(_ seen: [ScanSite: (version: Int64, sighting: ScanSighting)]) async throws {
        state.withLock { state in
            for (site, known) in seen where state.rows[site]?.version == known.version {
                state.rows[site]?.version += 1
                state.rows[site]?.until = .now
            }
        }
    }

    func release(_ sites: [ScanSite]) async throws {
        state.withLock { $0.leases.subtract(sites) }
    }
}

@Suite(.timeLimit(.minutes(1))) struct HostScansTests {
    static let certificate = String(repeating: "ab", count: 32)
    static let seen = ScanSighting(certificate: certificate, tlsa: nil, ttl: .seconds(3600))

    static func site(_ number: Int) throws -> ScanSite {
        ScanSite(
            host: "mx\(number).test", address: try #require(IPAddress("127.0.0.1")), port: 1_000 + number)
    }

    static func found(complete: Bool = true) -> HostScan {
        var report = ProbeReport()
        report.suites = [.tls13: [0x1301]]
        report.isComplete = complete
        return HostScan(report: report)
    }

    private static func bounds() -> HostScans.Bounds {
        var bounds = HostScans.Bounds()
        bounds.tick = .milliseconds(20)
        bounds.entry.rest = .zero
        bounds.pause = .milliseconds(20)
        return bounds
    }

    /// Runs scans while `body` runs.
    static func running<T: Sendable>(
        _ scans: HostScans, _ body: @Sendable () async throws -> T
    ) async throws -> T {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await scans.run() }
            defer { group.cancelAll() }
            return try await body()
        }
    }

    /// The scan that counts for a site, once there is one.
    private static func counting(_ scans: HostScans, _ site: ScanSite) async throws -> HeldScan {
        var found: HeldScan?
        try await eventually("a scan counts") {
            found = await scans.counting(for: site, Self.seen, waits: true)
            if found == nil { try await Task.sleep(for: .milliseconds(20)) }
            return found != nil
        }
        return try #require(found)
    }

    private static let life: ClosedRange<Duration> = .seconds(3_600) ... .seconds(86_400)

    @Test
    func `a warm host costs no query, however many deliveries ask, and strangers are asked for together`()
        async throws
    {
        let store = MemoryScanStore()
        let scanned = Mutex(0)
        let hits = Mutex(0)
        let scans = HostScans(
            store: store,
            scan: { _ in
                scanned.withLock { $0 += 1 }
                return Self.found()
            }, life: Self.life,
            observe: { if $0 == .hit { hits.withLock { $0 += 1 } } }, bounds: Self.bounds())
        let sites = try (0..<100).map(Self.site)
        try await Self.running(scans) {
            await withTaskGroup(of: Void.self) { group in
                for site in sites {
                    group.addTask { #expect(await scans.counting(for: site, Self.seen, waits: true) == nil) }
                }
            }
            // A hundred deliveries, each of which waited for what is known, in a few statements.
            #expect(store.state.withLock { $0.asked.count } < 30)
            try await eventually("all are scanned") { scanned.withLock { $0 == 100 } }
            try await eventually("all are kept") { store.state.withLock { $0.rows.count == 100 } }
            for site in sites {
                #expect(try await Self.counting(scans, site).findings == [.scanned])
            }
            let before = store.state.withLock { $0.asked.reduce(0, +) }
            for _ in 0..<20 {
                for site in sites {
                    #expect(await scans.counting(for: site, Self.seen, waits: true) != nil)
                }
            }
            let after = store.state.withLock { $0.asked.reduce(0, +) }
            #expect(after - before <= 200, "2,000 deliveries read \(after - before) rows")
        }
        #expect(scanned.withLock { $0 } == 100, "one each")
        #expect(hits.withLock { $0 } >= 2_000)
    }

    @Test func `nobody waits for a scan, nor for a store that fails or hangs`() async throws {
        let store = MemoryScanStore()
        let scans = HostScans(
            store: store,
            scan: { _ in
                try? await Task.sleep(for: .seconds(3_600))
                return Self.found()
            }, life: Self.life,
            bounds: {
                var bounds = Self.bounds()
                bounds.patience = .milliseconds(50)
                return bounds
            }())
        try await Self.running(scans) {
            #expect(await scans.counting(for: try Self.site(1), Self.seen, waits: true) == nil)
            try await eventually("it is being scanned") { store.state.withLock { $0.leases.count == 1 } }
            // The scan of the first goes on for ever: the same host and others are answered all the same.
            #expect(await scans.counting(for: try Self.site(1), Self.seen, waits: true) == nil)
            #expect(await scans.counting(for: try Self.site(2), Self.seen, waits: true) == nil)
            store.state.withLock { $0.failure = LabError("away") }
            #expect(await scans.counting(for: try Self.site(3), Self.seen, waits: true) == nil)
            store.state.withLock { ($0.failure, $0.isStuck) = (nil, true) }
            #expect(await scans.counting(for: try Self.site(4), Self.seen, waits: true) == nil)
            store.state.withLock { $0.isStuck = false }
            try await eventually("the store is asked again") { store.state.withLock { $0.leases.count == 4 } }
        }
        await scans.resign()
        #expect(store.state.withLock { $0.leases.isEmpty }, "leases of scans that were left are given back")
        // Nothing runs any more, and still nobody waits.
        #expect(await scans.counting(for: try Self.site(9), Self.seen, waits: true) == nil)
    }

    @Test func `what is remembered and what is scanned at once is bounded`() async throws {
        let store = MemoryScanStore()
        let atOnce = Mutex((now: 0, most: 0))
        let scans = HostScans(
            store: store,
            scan: { _ in
                atOnce.withLock {
                    $0.now += 1
                    $0.most = max($0.most, $0.now)
                }
                try? await Task.sleep(for: .milliseconds(2))
                atOnce.withLock { $0.now -= 1 }
                return Self.found()
            }, life: Self.life,
            bounds: {
                var bounds = Self.bounds()
                (bounds.entries, bounds.scans, bounds.batch) = (50, 3, 20)
                return bounds
            }())
        try await Self.running(scans) {
            for number in 0..<200 {
                _ = await scans.counting(for: try Self.site(number), Self.seen, waits: false)
                #expect(await scans.rememberedCount <= 50)
            }
            try await eventually("the last are scanned") {
                store.state.withLock { $0.rows.keys.contains { $0.host == "mx199.test" } }
            }
        }
        #expect(atOnce.withLock { $0.most } <= 3)
        #expect(store.state.withLock { $0.asked.max() ?? 0 } <= 20)
    }

    @Test
    func `a domain that DNSSEC does not reach and one that it does share the scan of their host`()
        async throws
    {
        let store = MemoryScanStore()
        let scanned = Mutex(0)
        let scans = HostScans(
            store: store,
            scan: { _ in
                scanned.withLock { $0 += 1 }
                return Self.found()
            }, life: Self.life, bounds: Self.bounds())
        let host = try DomainName("mx1.test")
        let record = DNSRecord.tlsa(
            usage: 3, selector: 1, matchingType: 1, data: Array(repeating: 1, count: 32))
        let published = TLSAStatus.published(
            DANEReference(rrset: [record], baseDomain: host, furtherNames: []))
        // The same host, named by MX records that are signed and by MX records that are not (RFC 7672 §2.2.1).
        let sightings = [published, .insecure].map {
            ScanSighting(certificate: Self.certificate, tlsa: $0.digest, ttl: .seconds(3600))
        }
        try await Self.running(scans) {
            for sighting in sightings + sightings {
                var found: HeldScan?
                try await eventually("a scan counts") {
                    found = await scans.counting(for: try Self.site(1), sighting, waits: true)
                    if found == nil { try await Task.sleep(for: .milliseconds(20)) }
                    return found != nil
                }
                #expect(found?.record.tlsa == published.digest)
            }
        }
        #expect(scanned.withLock { $0 } == 1, "one for both, and neither ends it")
    }

    @Test func `a scan that is not complete says what it knows, and not that the host was scanned`()
        async throws
    {
        let store = MemoryScanStore()
        let scans = HostScans(
            store: store,
            scan: { _ in
                var scan = Self.found(complete: false)
                scan.report.suites[.tls10] = [0x002f]
                return scan
            }, life: Self.life, bounds: Self.bounds())
        try await Self.running(scans) {
            let found = try await Self.counting(scans, try Self.site(1))
            #expect(found.findings == [.acceptsOldTLS, .acceptsWeakSuites])
        }
    }
}
