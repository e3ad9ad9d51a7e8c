// Reports on recipient domains through the api.

import Foundation
import Lab
import NIOPosix
import Settings
import SmartTLS
import TLS
import Testing

@testable import API

@Suite(.timeLimit(.minutes(2))) struct JudgeTests {
    @Test(
        "a report tells of hosts, findings, verdicts and remedies; a minute long it is the same report; scope and domain are checked"
    )
    func reports() async throws {
        let fixture = try await APIFixture.make()
        let authority = try TestAuthority()
        let identity = try authority.issue(["other.test"])
        var script = SMTPScript()
        script.tls = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM)
        let host = try await ScriptedSMTPServer.start(script)
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
}
