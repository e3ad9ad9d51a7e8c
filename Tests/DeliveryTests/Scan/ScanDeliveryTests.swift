// Scans beside deliveries, over the whole worker: who asks for one, whom it stops, and that it stops nobody else.

import Foundation
import Lab
import Policy
import Settings
import TLS
import Testing

@testable import Delivery
@testable import SmartTLS

@Suite(.timeLimit(.minutes(3))) struct ScanDeliveryTests {
    private static func book(_ demand: ScanDemand?) -> RulesetBook {
        var ruleset = Ruleset.secure
        (ruleset.name, ruleset.scan) = ("own", demand)
        return RulesetBook(adding: [ruleset])
    }

    private static func count(_ events: [SeenEvent], _ kind: String) -> Int {
        events.count { $0.kind == kind }
    }

    @Test("required: it waits until the host is scanned, is delivered then, and the evidence holds the scan")
    func required() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        let process = ScanProcess(lab)
        _ = try await lab.accept(to: ["r@peer.test"], ruleset: "own")
        let worker = try await lab.worker(
            routes: ["peer.test": host], rulesets: Self.book(.required), scans: process.desk)
        let events = try await ScanProcess.running([process]) {
            try await lab.working([worker]) {
                try await lab.events(within: .seconds(40)) { Self.count($0, "delivered") == 1 }
            }
        }
        let first = try #require(events.first { $0.kind == "deferred" })
        #expect(first.reason == "scan-pending")
        #expect(host.transcript.mails.count == 1 && process.begun.count == 1)
        let file = try await lab.evidence(of: events)
        #expect(file.judgements.first?.scan != nil)
        #expect(file.judgements.first?.findings.findings.contains(.scanned) == true)
        try await lab.checkEvidence(of: events)
    }

    @Test("known: the first message goes on its connection alone; what the scan finds refuses the next")
    func known() async throws {
        let lab = try await WorkerLab()
        let identity = try lab.authority.issue(["peer.test"], key: try TestAuthority.rsaKey())
        let host = try await lab.host("peer.test") { script in
            script.tls = try? TLSContext.server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM)
        }
        // It accepts a suite that is none of ours to test here.
        let process = ScanProcess(
            lab,
            scan: { _ in
                var scan = ScanProcess.plain()
                scan.report.suites[.tls12] = [0x002f]
                return scan
            })
        _ = try await lab.accept(from: nil, to: ["r@peer.test"], ruleset: "own")
        let worker = try await lab.worker(
            routes: ["peer.test": host], rulesets: Self.book(.known), scans: process.desk)
        let events = try await ScanProcess.running([process]) {
            try await lab.working([worker]) {
                _ = try await lab.events { Self.count($0, "delivered") == 1 }
                try await eventually("the host is scanned", within: .seconds(30)) {
                    process.count(.scanned(isComplete: true)) == 1
                }
                // Also over a session that is open still, once what it was judged with is looked at again.
                try await eventually("a message is refused", within: .seconds(30)) {
                    _ = try await lab.accept(from: nil, to: ["r@peer.test"], ruleset: "own")
                    return try await lab.events().contains { $0.kind == "refused" }
                }
                return try await lab.events()
            }
        }
        let refused = try #require(events.first { $0.kind == "refused" })
        #expect(refused.reason == "insufficient-tls-accepted")
        try await lab.checkEvidence(of: events, alterations: 50)
    }

    @Test("another certificate, seen by a delivery, ends the scan in the database at once; a rescan follows")
    func certificate() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        let process = ScanProcess(lab)
        let worker = try await lab.worker(
            routes: ["peer.test": host], rulesets: Self.book(.required), scans: process.desk)
        _ = try await lab.accept(to: ["r@peer.test"], ruleset: "own")
        let next = try lab.authority.issue(["peer.test"])
        let events = try await ScanProcess.running([process]) {
            try await lab.working([worker]) {
                _ = try await lab.events(within: .seconds(40)) { Self.count($0, "delivered") == 1 }
                let tls = try TLSContext.server(
                    certificateChainPEM: next.chainPEM, privateKeyPEM: try next.privateKeyPEM)
                host.change { $0.tls = tls }
                try await eventually("no session is left", within: .seconds(30)) {
                    host.transcript.open == 0
                }
                _ = try await lab.accept(to: ["r@peer.test"], ruleset: "own")
                return try await lab.events(within: .seconds(40)) { Self.count($0, "delivered") == 2 }
            }
        }
        #expect(process.count(.invalidated(.certificate)) == 1 && process.begun.count == 2)
        #expect(events.count { $0.kind == "deferred" && $0.reason == "scan-pending" } >= 2)
        // The first result, its end and the second.
        #expect(try await lab.count("SELECT version FROM ledger.host_scan") == 3)
        let site = try ScanSite("peer.test", host)
        let row = try #require(try await LedgerScanStore(cache: lab.scanCache).rows([site])[site])
        #expect(row.scan?.certificates.contains(CanonicalJSON.digest(next.der)) == true)
        try await lab.checkEvidence(of: events, alterations: 50)
    }

    @Test(
        "a host whose scan hangs for ever holds up nobody: one runner delivers to it and to others, and only what needs the scan waits"
    )
    func hangs() async throws {
        let lab = try await WorkerLab()
        let slow = try await lab.host("slow.test")
        let fine = try await lab.host("fine.test")
        let gate = ScanGate()
        let process = ScanProcess(
            lab, hosts: .all,
            scan: { site in
                if site.host == "slow.test" { await gate.pass() }
                return ScanProcess.plain()
            })
        var needy = Ruleset.secure
        (needy.name, needy.scan) = ("needy", .required)
        var ruleset = Ruleset.secure
        (ruleset.name, ruleset.scan) = ("own", .known)
        let worker = try await lab.worker(
            routes: ["slow.test": slow, "fine.test": fine], settings: ["worker.concurrency=1"],
            rulesets: RulesetBook(adding: [ruleset, needy]), scans: process.desk)
        let waiting = try await lab.accept(from: nil, to: ["r@slow.test"], ruleset: "needy")
        try await ScanProcess.running([process]) {
            try await lab.working([worker]) {
                _ = try await lab.events { $0.contains { $0.reason == "scan-pending" } }
                try await eventually("its scan is under way") {
                    process.begun.contains { $0.host == "slow.test" }
                }
                for number in 0..<10 {
                    let domain = number.isMultiple(of: 2) ? "fine.test" : "slow.test"
                    let name = ["own", "secure", "needy"][number % 3]
                    if domain == "slow.test", name == "needy" { continue }
                    _ = try await lab.accept(from: nil, to: ["r@\(domain)"], ruleset: name)
                }
                let events = try await lab.events(within: .seconds(40)) {
                    Self.count($0, "delivered") == 9
                }
                #expect(!events.contains { $0.message == waiting && $0.kind == "delivered" })
                // All of that while the scan of the one host is still under way.
                #expect(process.begun.count { $0.host == "slow.test" } == 1)
                gate.open()
                _ = try await lab.events(within: .seconds(40)) {
                    $0.contains { $0.message == waiting && $0.kind == "delivered" }
                }
            }
        }
        #expect(slow.transcript.mails.count + fine.transcript.mails.count == 10)
    }

    @Test(
        "who is scanned: nobody, those of rulesets that ask, or all; and what it means for a ruleset that asks"
    )
    func hosts() async throws {
        for (hosts, expected) in [(ScanHosts.off, 0), (.ruleset, 1), (.all, 2)] {
            let lab = try await WorkerLab()
            let asked = try await lab.host("asked.test")
            let other = try await lab.host("other.test")
            let process = ScanProcess(lab, hosts: hosts, scan: { _ in ScanProcess.plain() })
            let worker = try await lab.worker(
                routes: ["asked.test": asked, "other.test": other], rulesets: Self.book(.known),
                scans: process.desk)
            _ = try await lab.accept(from: nil, to: ["r@asked.test"], ruleset: "own")
            _ = try await lab.accept(from: nil, to: ["r@other.test"], ruleset: "secure")
            try await ScanProcess.running([process]) {
                _ = try await lab.working([worker]) {
                    _ = try await lab.events { Self.count($0, "delivered") == 2 }
                    try await eventually("they are scanned") {
                        process.count(.scanned(isComplete: true)) == expected
                    }
                }
            }
            #expect(process.begun.count == expected, "\(hosts)")
        }
    }
}
