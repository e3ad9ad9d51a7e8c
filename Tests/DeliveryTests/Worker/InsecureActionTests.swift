// What becomes of mail for a host that is not good enough, by its ruleset, over the whole worker.

import DNS
import Foundation
import Lab
import Policy
import Settings
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct InsecureActionTests {
    private static func own(_ action: InsecureAction) -> RulesetBook {
        var ruleset = Ruleset.secure
        (ruleset.name, ruleset.onInsecure) = ("own", action)
        return RulesetBook(adding: [ruleset])
    }

    private static func gateway(_ server: ScriptedSMTPServer, ruleset: String = "secure") throws -> Gateway {
        Gateway(HostPort(host: "localhost", port: try server.address.port ?? 0), ruleset: ruleset)
    }

    @Test(
        "wait: nothing is sent and the sender is told of the delay, until the host is mended; then it is delivered"
    )
    func waits() async throws {
        let lab = try await WorkerLab()
        let good = try lab.authority.issue(["peer.test"])
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let sender = try await lab.host("demo.test")
        let message = try await lab.accept(to: ["r@peer.test"], ruleset: "own")
        let worker = try await lab.worker(
            routes: ["peer.test": host, "demo.test": sender], settings: ["delivery.delay_report=1s"],
            rulesets: Self.own(.wait))
        let events = try await lab.working([worker]) {
            _ = try await lab.events { seen in
                seen.contains { $0.kind == "notified" } && seen.filter { $0.kind == "shredded" }.count == 1
            }
            #expect(!host.transcript.commands.contains { $0.hasPrefix("MAIL") })
            let tls = try TLSContext.server(
                certificateChainPEM: good.chainPEM, privateKeyPEM: try good.privateKeyPEM)
            host.change { $0.tls = tls }
            return try await lab.events { seen in
                seen.contains { $0.kind == "delivered" && $0.message == message }
            }
        }
        let own = events.filter { $0.message == message }
        #expect(own.contains { $0.kind == "deferred" && $0.reason == "starttls-not-supported" })
        #expect(!own.contains { $0.kind == "refused" })
        #expect(host.transcript.mails.count == 1 && host.transcript.mails.first?.isSecure == true)
        let reports = sender.transcript.mails.map { String(decoding: $0.content, as: UTF8.self) }
        #expect(reports.count == 1)
        #expect(reports.first?.contains("Action: delayed\r\n") == true)
        #expect(reports.first?.contains("STARTTLS") == true)
    }

    @Test("wait: at delivery.expire it goes back, and the report names the expiry and what it waited for")
    func waitExpires() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let sender = try await lab.host("demo.test")
        let message = try await lab.accept(
            to: ["r@peer.test"], ruleset: "own", acceptedAt: Date() - 60)
        let routes = ["peer.test": host, "demo.test": sender]
        let patient = try await lab.worker(routes: routes, rulesets: Self.own(.wait))
        _ = try await lab.working([patient]) {
            try await lab.events { $0.contains { $0.kind == "deferred" } }
        }
        let last = try await lab.worker(
            name: "worker-2", routes: routes, settings: ["delivery.expire=30s"], rulesets: Self.own(.wait))
        let events = try await lab.working([last]) {
            try await lab.events { $0.filter { $0.kind == "shredded" }.count == 2 }
        }
        let own = events.filter { $0.message == message }.map(\.kind)
        #expect(own.contains("deferred") && own.contains("expired") && !own.contains("refused"))
        #expect(host.transcript.contentBytes == 0)
        let report = String(decoding: try #require(sender.transcript.mails.first).content, as: UTF8.self)
        #expect(report.contains("Action: failed\r\n") && report.contains("Status: 5.4.7\r\n"))
        #expect(report.contains("within the time that was set") && report.contains("(STARTTLS)"))
    }

    @Test(
        "route: the gateway gets it over its own connection, judged by its own ruleset; the host itself gets nothing"
    )
    func routes() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let gateway = try await lab.host("localhost")
        let book = Self.own(.route(try Self.gateway(gateway)))
        let messages = [
            try await lab.accept(to: ["r@peer.test"], ruleset: "own"),
            try await lab.accept(to: ["s@peer.test"], ruleset: "own"),
        ]
        let worker = try await lab.worker(
            routes: ["peer.test": host], settings: ["worker.per_destination=1"], resolver: LocalhostNames(),
            rulesets: book)
        let events = try await lab.working([worker]) {
            try await lab.events { $0.filter { $0.kind == "delivered" }.count == 2 }
        }
        #expect(!host.transcript.commands.contains { $0.hasPrefix("MAIL") })
        #expect(host.transcript.contentBytes == 0)
        #expect(gateway.transcript.mails.count == 2)
        #expect(gateway.transcript.mails.allSatisfy { $0.isSecure })
        for message in messages {
            let own = events.filter { $0.message == message }
            // The host is asked first each time: a gateway's open session is no reason to pass it over.
            #expect(
                own.filter { $0.kind == "assessed" }.map {
                    "\($0.detail?.verdict ?? "") \($0.detail?.ruleset ?? "")"
                }
                .sorted() == ["deliver secure", "refuse own"])
            let delivered = try #require(own.first { $0.kind == "delivered" })
            #expect(delivered.detail?.remoteHost == "localhost" && delivered.detail?.ruleset == "secure")
            #expect(delivered.detail?.evidenceDigest != nil)
        }
    }

    @Test("route: a gateway that is not good enough gets nothing either, and the reason is the gateway's")
    func gatewayNotGoodEnough() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let gateway = try await lab.host("other.test")
        let message = try await lab.accept(from: nil, to: ["r@peer.test"], ruleset: "own")
        let worker = try await lab.worker(
            routes: ["peer.test": host], resolver: LocalhostNames(),
            rulesets: Self.own(.route(try Self.gateway(gateway))))
        let events = try await lab.working([worker]) {
            try await lab.events { $0.contains { $0.kind == "refused" && $0.message == message } }
        }
        let refused = try #require(events.first { $0.kind == "refused" })
        #expect(refused.reason == "certificate-host-mismatch")
        for server in [host, gateway] {
            #expect(!server.transcript.commands.contains { $0.hasPrefix("MAIL") })
        }
    }

    @Test("route: a host that is good enough is delivered to, and the gateway is not asked")
    func goodHost() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        let gateway = try await lab.host("localhost")
        _ = try await lab.accept(to: ["r@peer.test"], ruleset: "own")
        let worker = try await lab.worker(
            routes: ["peer.test": host], resolver: LocalhostNames(),
            rulesets: Self.own(.route(try Self.gateway(gateway))))
        _ = try await lab.working([worker]) {
            try await lab.events { $0.contains { $0.kind == "delivered" } }
        }
        #expect(host.transcript.mails.count == 1 && gateway.transcript.connections == 0)
    }

    @Test("route: a gateway whose name cannot be looked up, or that is away, makes the message wait")
    func gatewayAway() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let gateway = try await lab.host("localhost")
        let place = try Self.gateway(gateway)
        try await gateway.stop()
        for resolver in [LocalhostNames() as any DNSResolving, NoNames()] {
            let message = try await lab.accept(to: ["r@peer.test"], ruleset: "own")
            let worker = try await lab.worker(
                routes: ["peer.test": host], resolver: resolver, rulesets: Self.own(.route(place)))
            let events = try await lab.working([worker]) {
                try await lab.events { $0.contains { $0.kind == "deferred" && $0.message == message } }
            }
            #expect(!events.contains { $0.kind == "refused" })
        }
        #expect(host.transcript.contentBytes == 0)
    }
}

/// A resolver that knows `localhost`, unsigned.
private struct LocalhostNames: DNSResolving {
    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        var outcome = DNSAnswer.Outcome.nodata
        if type == .a, let address = IPAddress("127.0.0.1") { outcome = .records([.address(address)]) }
        return DNSAnswer(name: name, type: type, outcome: outcome, security: .insecure, ttl: 60)
    }
}
