// What heeding a known scan costs one connection, in microseconds. Run by hand with optimisation on:
//   ZEGEL_BENCH=1 swift test -c release -Xswiftc -enable-testing --filter ScanCostTests
// Budget: 200 µs.

import DNS
import Foundation
import Lab
import Policy
import TLS
import Testing

@testable import SmartTLS

@Suite(.enabled(if: ProcessInfo.processInfo.environment["ZEGEL_BENCH"] != nil), .serialized)
struct ScanCostTests {
    @Test func `asking for the scan of one host among ten thousand, and judging with it`() async throws {
        let store = MemoryScanStore()
        let facts = try CanonicalJSON.encode(HostScanEntryTests.facts())
        let record = RecordedScan(
            madeAt: Date(), certificates: [HostScansTests.certificate], tlsa: nil, facts: facts)
        let sites = try (0..<9_000).map(HostScansTests.site)
        store.state.withLock { state in
            for site in sites { state.rows[site] = (1, record, .now + .seconds(3_600)) }
        }
        let scans = HostScans(
            store: store, scan: { _ in HostScansTests.found() }, life: .seconds(3_600) ... .seconds(3_600))
        var ruleset = Ruleset.secure
        (ruleset.name, ruleset.scan) = ("own", .required)
        let own = ruleset
        let findings = HostFindings(
            [.tls13, .forwardSecrecy, .chainTrusted, .nameMatches, .nameProven, .daneAbsent, .stsAbsent],
            evidence: EvidenceSummary(host: "mx.test"))
        try await HostScansTests.running(scans) {
            for site in sites {
                _ = await scans.counting(for: site, HostScansTests.seen, waits: true)
            }
            let clock = ContinuousClock()
            let count = 20_000
            let without = clock.measure {
                for _ in 0..<count { _ = Verdict.judge(.secure, findings) }
            }
            var delivered = 0
            let with = await clock.measure {
                for number in 0..<count {
                    let site = sites[number % sites.count]
                    await scans.prepare(site)
                    guard
                        let scan = await scans.counting(for: site, HostScansTests.seen, waits: true)
                    else { continue }
                    let all = HostFindings(
                        Set(findings.findings).union(scan.findings), evidence: findings.evidence)
                    if Verdict.judge(own, all).outcome == .deliver { delivered += 1 }
                }
            }
            #expect(delivered == count)
            print("a known scan adds \((with - without) / count) to a connection")
        }
    }
}
