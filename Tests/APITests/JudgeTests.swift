// Reports on recipient domains through the api.

import Foundation
import Lab
import Ledger
import NIOPosix
import Policy
import Settings
import Testing

@testable import API
@testable import SmartTLS

@Suite(.timeLimit(.minutes(2))) struct JudgeTests {
    @Test(
        "a report tells of hosts, findings, verdicts and remedies; a minute long it is the same report; scope and domain are checked"
    )
    func reports() async throws {
        let fixture = try await APIFixture.make()
        let authority = try TestAuthority()
        let identity = try authority.issue(["other.test"])
        let host = try await ScriptedSMTPServer.start(try SMTPScript(identity))
        let port = try #require(host.address.port)
        let roots = FileManager.default.temporaryDirectory.appendingPathComponent("roots-\(UUID()).pem")
        try Data(authority.rootPEM).write(to: roots)
        defer { try? FileManager.default.removeItem(at: roots) }
        let settings = try Settings(assignments: [
            "delivery.routes=bar.test=127.0.0.1:\(port)", "delivery.trust_roots=\(roots.path)",
            "dns.trust_anchor=none",
        ])
        let judge = try DomainJudge(
            DeliverySettings(settings), DNSSettings(settings), PolicySettings(settings),
            NTASettings(settings),
            group: MultiThreadedEventLoopGroup.singleton)
        let key = try await fixture.apiKey(tenant: "demo", scopes: ["judge"])
        let other = try await fixture.apiKey(tenant: "demo", scopes: ["events:read"])
        try await fixture.serving(judge: judge) { api in
            let curl = try Curl(api)
            let answer = try await curl.get("/v1/judge?domain=Bar.TEST", key: key.text)
            #expect(answer.status == 200, "\(answer.body)")
            let report = try JSONDecoder().decode(DomainReport.self, from: Data(answer.body.utf8))
            #expect(report.domain == "bar.test" && report.hosts.count == 1)
            #expect(report.hosts.first?.findings.contains("name-mismatch") == true)
            #expect(report.verdicts["secure"]?.outcome == .refuse)
            #expect(report.verdicts["secure"]?.reasonCode == .certificateHostMismatch)
            #expect(report.verdicts["opportunistic"]?.outcome == .deliver)
            #expect(report.hosts.first?.remedies.contains { $0.english.contains("bar.test") } == true)
            _ = try await curl.get("/v1/judge?domain=bar.test", key: key.text)
            #expect(host.transcript.connections == 1 && host.transcript.mails.isEmpty)
            #expect(try await curl.get("/v1/judge?domain=bar.test", key: other.text).status == 403)
            #expect(try await curl.get("/v1/judge?domain=bar.test", key: nil).status == 401)
            #expect(try await curl.get("/v1/judge?domain=a..b", key: key.text).status == 400)
            #expect(try await curl.get("/v1/judge", key: key.text).status == 400)
        }
        try await fixture.serving { api in
            let curl = try Curl(api)
            #expect(try await curl.get("/v1/judge?domain=bar.test", key: key.text).status == 404)
        }
        try await host.stop()
    }

    @Test(
        "a report shows what workers' scans found, with its age, counts it while it holds and the host has not changed, and knows the configured rulesets"
    )
    func scans() async throws {
        let fixture = try await APIFixture.make()
        let authority = try TestAuthority()
        let identity = try authority.issue(["bar.test"])
        let host = try await ScriptedSMTPServer.start(try SMTPScript(identity))
        let port = try #require(host.address.port)
        let roots = FileManager.default.temporaryDirectory.appendingPathComponent("roots-\(UUID()).pem")
        try Data(authority.rootPEM).write(to: roots)
        defer { try? FileManager.default.removeItem(at: roots) }
        let settings = try Settings(assignments: [
            "delivery.routes=bar.test=127.0.0.1:\(port)", "delivery.trust_roots=\(roots.path)",
            "dns.trust_anchor=none",
        ])
        var own = Ruleset.secure
        (own.name, own.scan) = ("own", .known)
        // Without those that ask for an NTA 7516 record, which nobody here answers for.
        let rulesets = RulesetBook(adding: [own]).all.filter { $0.nta == nil }
        let apiPool = fixture.pool("zegel_api")
        let judge = try DomainJudge(
            DeliverySettings(settings), DNSSettings(settings), PolicySettings(settings),
            NTASettings(settings),
            group: MultiThreadedEventLoopGroup.singleton, probes: true,
            scans: KeptScans(cache: HostScanCache(pool: apiPool)))
        let key = try await fixture.apiKey(tenant: "demo", scopes: ["judge"])

        /// What a report says; each is made by a node of its own, which keeps none from before.
        @Sendable func report(_ query: String = "") async throws -> DomainReport {
            try await fixture.serving(judge: judge, rulesets: rulesets) { api in
                let answer = try await Curl(api).get("/v1/judge?domain=bar.test\(query)", key: key.text)
                #expect(answer.status == 200, "\(answer.body)")
                return try JSONDecoder().decode(DomainReport.self, from: Data(answer.body.utf8))
            }
        }
        let none = try await report()
        #expect(none.hosts.first?.scan == nil && none.verdicts["own"]?.outcome == .deliver)

        // A worker finds TLS 1.0.
        var probe = ProbeReport()
        probe.suites = [.tls10: [0x002f], .tls13: [0x1301]]
        let worker = HostScanCache(pool: fixture.pool("zegel_worker"))
        let site = HostScanKey(host: "bar.test", address: "127.0.0.1", port: Int32(port))
        let scanner = UUID()
        _ = try await worker.claim([site: 0], scanner: scanner, lease: .seconds(30))
        let version = try #require(
            try await worker.keep(
                HostScanResult(
                    facts: try CanonicalJSON.encode(ScanFacts(HostScan(report: probe))),
                    certificates: [Judgement.octets(of: CanonicalJSON.digest(identity.der))], tlsa: nil),
                of: site, freshFor: .seconds(600), scanner: scanner)
        ).version
        let kept = try await report()
        let line = try #require(kept.hosts.first)
        #expect(line.scan?.state == .fresh && (0..<60).contains(line.scan?.age ?? -1))
        #expect(line.scan?.versions.map(\.name) == ["TLSv1", "TLSv1.3"])
        #expect(line.findings.contains("accepts-old-tls") && line.grade == "insufficient")
        #expect(kept.verdicts["own"]?.reasonCode == .insufficientTLSAccepted)
        #expect(kept.verdicts["secure"]?.outcome == .deliver)
        #expect(kept.text.contains("by a worker"), "\(kept.text)")

        // A delivery sees another certificate: it is shown and counts no more, until it is made anew.
        try await worker.invalidate([site: (version, [UInt8](repeating: 7, count: 32))])
        let ended = try await report()
        #expect(ended.hosts.first?.scan?.state == .superseded)
        #expect(ended.verdicts["own"]?.outcome == .deliver && ended.hosts.first?.grade != "insufficient")
        let before = host.transcript.connections
        let fresh = try await report("&scan=fresh")
        #expect(fresh.hosts.first?.scan?.state == .new && fresh.hosts.first?.scan?.isComplete == true)
        #expect(host.transcript.connections > before + 10)
        #expect(fresh.verdicts["own"]?.outcome == .deliver)
        try await fixture.serving(judge: judge) { api in
            let answer = try await Curl(api).get("/v1/judge?domain=bar.test&scan=now", key: key.text)
            #expect(answer.status == 400)
        }
        await apiPool.close()
        try await host.stop()
    }
}
