// REQUIRETLS (RFC 8689) from the claim on: what the next hop must be, and what its report is like.

import DNS
import Foundation
import Lab
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct RequireTLSTests {
    /// A next hop, and the reason of the bounce; nil: it is delivered.
    struct Row: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let ruleset: String
        var offers = true
        var certificate: Certificate = .good
        let bounce: String?

        enum Certificate: Sendable { case good, none, selfSigned, otherName }
    }

    static let rows: [Row] = [
        Row(testDescription: "proven and offered", ruleset: "secure", bounce: nil),
        Row(testDescription: "the ruleset asks for less", ruleset: "opportunistic", bounce: nil),
        Row(
            testDescription: "§4.2.1: not offered", ruleset: "secure", offers: false,
            bounce: "requiretls-not-supported"),
        Row(
            testDescription: "no TLS, which the ruleset allows", ruleset: "opportunistic", certificate: .none,
            bounce: "requiretls-not-supported"),
        Row(
            testDescription: "a self-signed certificate, which the ruleset allows", ruleset: "opportunistic",
            certificate: .selfSigned, bounce: "requiretls-not-supported"),
        Row(
            testDescription: "another name, which the ruleset allows", ruleset: "opportunistic",
            certificate: .otherName, bounce: "requiretls-not-supported"),
    ]

    @Test("RFC 8689 §4.2.1: TLS, a proven host and REQUIRETLS, else 5.7.30 for good", arguments: rows)
    func nextHop(_ row: Row) async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { script in
            let identity =
                switch row.certificate {
                case .good: try? lab.authority.issue(["peer.test"])
                case .none: nil as TestIdentity?
                case .selfSigned: try? TestAuthority.selfSigned(["peer.test"])
                case .otherName: try? lab.authority.issue(["other.test"])
                }
            script.tls = identity.flatMap { identity in
                try? TLSContext.server(
                    certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM)
            }
            if row.offers { script.extensions.append("REQUIRETLS") }
        }
        let sender = try await lab.host("demo.test") { $0.extensions.append("REQUIRETLS") }
        // §4.1 note: the header that asks for the opposite counts for nothing beside it.
        let message = try await lab.accept(
            to: ["r@peer.test"], ruleset: row.ruleset,
            content: Array("TLS-Required: No\r\nSubject: test\r\n\r\nhello\r\n".utf8), requireTLS: true)
        let worker = try await lab.worker(routes: ["peer.test": host, "demo.test": sender])
        let events = try await lab.working([worker]) {
            try await lab.events { $0.filter { $0.kind == "shredded" }.count == (row.bounce == nil ? 1 : 2) }
        }
        let end = try #require(
            events.first { $0.message == message && ["delivered", "bounced", "refused"].contains($0.kind) })
        guard let bounce = row.bounce else {
            #expect(end.kind == "delivered")
            let mail = try #require(host.transcript.mails.first)
            #expect(mail.isSecure && mail.mail.hasSuffix(" REQUIRETLS"))
            return
        }
        #expect(end.kind == "bounced" && end.reason == bounce && end.detail?.status == "5.7.30")
        #expect(!host.transcript.commands.contains { $0.hasPrefix("MAIL") })
        // §5: the report asks for the same, and carries the header only.
        let mail = try #require(sender.transcript.mails.first)
        #expect(mail.isSecure && mail.mail.hasSuffix(" REQUIRETLS"))
        let report = String(decoding: mail.content, as: UTF8.self)
        #expect(report.contains("Status: 5.7.30\r\n") && report.contains("(REQUIRETLS)"))
        #expect(report.contains("Subject: test\r\n") && !report.contains("hello"))
    }

    @Test("law 2: while the policy that may prove the host cannot be fetched, the message waits")
    func policyHostAway() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("mx.peer.test") { $0.extensions.append("REQUIRETLS") }
        let record = DNSRecord.txt([Array("v=STSv1; id=1".utf8)])
        let table = DNSTable([
            "peer.test MX": .mx("10 mx.peer.test"), "mx.peer.test A": .addresses("127.0.0.1"),
            "_mta-sts.peer.test TXT": .records([record]), "mta-sts.peer.test A": .addresses("127.0.0.1"),
        ])
        let message = try await lab.accept(from: nil, to: ["r@peer.test"], requireTLS: true)
        let port = try #require(host.address.port)
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(port)", "policy.port=1"], resolver: table)
        let events = try await lab.working([worker]) {
            try await lab.events { $0.contains { ["deferred", "bounced", "held"].contains($0.kind) } }
        }
        let end = events.first { $0.message == message && ["deferred", "bounced", "held"].contains($0.kind) }
        #expect(end?.kind == "deferred" && end?.reason == "sts-policy-fetch-error")
        #expect(!host.transcript.commands.contains { $0.hasPrefix("MAIL") })
    }

    @Test("RFC 8689 §5: a report that its next hop cannot take so is held, and goes nowhere")
    func reportHeld() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        let sender = try await lab.host("demo.test")
        _ = try await lab.accept(to: ["r@peer.test"], requireTLS: true)
        let worker = try await lab.worker(routes: ["peer.test": host, "demo.test": sender])
        _ = try await lab.working([worker]) { try await lab.events { $0.contains { $0.kind == "held" } } }
        #expect(sender.transcript.mails.isEmpty && host.transcript.mails.isEmpty)
    }
}
