// Evidence is judged again from itself alone: at any later time with the same result, and not at all where something is missing or
// says otherwise.

import DNS
import Foundation
import Lab
import NIOPosix
import Policy
import Settings
import TLS
import Testing

@testable import SmartTLS

@Suite(.timeLimit(.minutes(1))) struct JudgementTests {
    /// What a real connection to a host with this certificate comes to under `secure`.
    private static func judged(
        _ identity: TestIdentity?, trusting root: TestAuthority
    ) async throws -> (judgement: Judgement, certificates: [String: [UInt8]]) {
        let server = try await ScriptedSMTPServer.start(try SMTPScript(identity))
        let port = try #require(server.address.port)
        let router = Router(
            resolver: DNSTable([:]),
            staticRoutes: [try #require(StaticRoute("mx.test=127.0.0.1:\(port)"))])
        let examiner = HostExaminer(
            group: MultiThreadedEventLoopGroup.singleton,
            tls: try TLSContext.client(trust: .pem(root.rootPEM)), heloName: "zegel.test", sourceAddress: nil,
            port: 25, timeouts: SessionTimeouts())
        let route = try await router.route(to: "mx.test")
        let host = try #require(route.hosts.first)
        guard case .seen(let seen) = await examiner.examine(route, host, host.addresses[0]) else {
            throw LabError("no connection")
        }
        await seen.session?.quit()
        try await server.stop()
        let judgement = try #require(seen.judgement(seen.verdict(under: .secure), under: .secure))
        return (judgement, Judgement.certificates(of: seen.peer))
    }

    @Test("a certificate that has ended since was good then: old evidence holds, whatever the clock says")
    func old() async throws {
        let root = try TestAuthority()
        func judged(for validity: TimeInterval) async throws -> (
            end: Date, seen: (judgement: Judgement, certificates: [String: [UInt8]])
        ) {
            let end = Date.now + validity
            let identity = try root.issue(["mx.test"], from: .now - 3_600, to: end)
            return (end, try await Self.judged(identity, trusting: root))
        }
        var (end, (judgement, certificates)) = try await judged(for: 2)
        // On a busy machine it has ended before the connection is made.
        for validity in [5.0, 20] where judgement.madeAt / 1000 >= Int64(end.timeIntervalSince1970) {
            (end, (judgement, certificates)) = try await judged(for: validity)
        }
        #expect(judgement.verdict.outcome == .deliver)
        try await judgement.review(certificates: certificates)
        try await eventually("the certificate has ended", within: .seconds(30)) { Date.now > end + 1 }
        try await judgement.review(certificates: certificates)
        // The same record, dated after the end of the certificate, is no evidence of a delivery.
        let late = try judgement.altered {
            $0["madeAt"] = Int64(end.timeIntervalSince1970 * 1000) + 5_000
        }
        await #expect(throws: EvidenceError.self) { try await late.review(certificates: certificates) }
    }

    /// What a host without TLS comes to.
    private static func withoutTLS(
        _ route: Route, _ host: RouteHost, _ address: RouteAddress, under ruleset: Ruleset
    ) -> Judgement {
        let findings = HostFindings(
            absence: .notOffered, host: host.referenceName, name: host.provenance, tlsa: address.tlsa,
            sts: route.sts
        ).adding(route.nta)
        return Judgement(
            at: route.routedAt, route: route, host: host, address: address, port: 25, exclusion: nil,
            peer: nil, absence: .notOffered, ruleset: ruleset, findings: findings,
            verdict: Verdict.judge(ruleset, findings))
    }

    @Test(
        "where most is asked nothing is left out: an alias in each family, both signed or one, before TLSA records",
        arguments: [DNSSecurity.secure, .insecure])
    func mostLookups(_ six: DNSSecurity) async throws {
        let table = DNSTable([
            "bar.test TXT": .nodata(.secure), "bar.test MX": .mx("10 mx.bar.test", security: .secure),
            "mx.bar.test A": .addresses("192.0.2.1", security: .secure, canonical: "four.test"),
            "mx.bar.test AAAA": .addresses("2001:db8::1", security: six, canonical: "six.test"),
            "mx.bar.test CNAME": .records([.cname(try DomainName("six.test"))], .secure),
            "_25._tcp.four.test TLSA": .nodata(.secure), "_25._tcp.six.test TLSA": .nodata(.secure),
            "_25._tcp.mx.bar.test TLSA": .records(
                [.tlsa(usage: 3, selector: 1, matchingType: 1, data: Array(repeating: 7, count: 32))],
                .secure),
        ])
        let route = try await Router(resolver: table).route(to: "bar.test", heedsNTA: true)
        let host = try #require(route.hosts.first)
        #expect(host.addresses.count == 2)
        for address in host.addresses {
            let judgement = Self.withoutTLS(route, host, address, under: .nta7516)
            #expect(judgement.lookups.count == Set(table.questions).count)
            #expect(judgement.lookups.count == 7)
            try await judgement.review(certificates: [:])
        }
    }

    @Test("law 9: it holds the answers of its own host alone, at most 1 MB, however much others have")
    func hostileZone() async throws {
        var world: [String: DNSTable.Entry] = [:]
        var exchanges: [DNSRecord] = []
        for number in 0..<10 {
            let name = "mx\(number).bar.test"
            exchanges.append(.mx(preference: UInt16(number), exchange: try DomainName(name)))
            func many(_ address: (Int) -> String) -> DNSTable.Entry {
                .records((0..<1_600).compactMap { IPAddress(address($0)).map { .address($0) } }, .secure)
            }
            world["\(name) A"] = many { "192.0.\($0 / 250).\($0 % 250)" }
            world["\(name) AAAA"] = many { "2001:db8::\(String($0, radix: 16))" }
            world["_25._tcp.\(name) TLSA"] = .nodata(.secure)
        }
        world["bar.test MX"] = .records(exchanges, .secure)
        let route = try await Router(resolver: DNSTable(world)).route(to: "bar.test")
        #expect(route.hosts.count == 10)
        for host in route.hosts {
            let judgement = Self.withoutTLS(route, host, host.addresses[0], under: .opportunistic)
            let octets = judgement.lookups.reduce(0) { $0 + $1.packet.count }
            #expect(octets > 80_000 && octets <= 1 << 20, "\(octets)")
            #expect(
                Set(judgement.lookups.map(\.name.text)) == ["bar.test", host.name, "_25._tcp.\(host.name)"])
            try await judgement.review(certificates: [:])
        }
    }

    @Test("a refusal is evidence too: without STARTTLS, self-signed, wrongly named")
    func refusals() async throws {
        let root = try TestAuthority()
        let rows: [(TestIdentity?, ReasonCode)] = [
            (nil, .starttlsNotSupported),
            (try TestAuthority.selfSigned(["mx.test"]), .certificateNotTrusted),
            (try root.issue(["other.test"]), .certificateHostMismatch),
        ]
        for (identity, reason) in rows {
            let (judgement, certificates) = try await Self.judged(identity, trusting: root)
            #expect(judgement.verdict.outcome == .refuse)
            #expect(judgement.verdict.reason == reason)
            try await judgement.review(certificates: certificates)
        }
    }

    @Test("a long chain out of order is recorded whole: the issuer that counts may be the last of it")
    func longChain() async throws {
        let root = try TestAuthority()
        let below = try root.intermediate()
        var identity = try below.issue(["mx.test"])
        let strangers = try (0..<20).map { try TestAuthority(name: "Stranger \($0)").certificate }
        identity.issuers = strangers + identity.issuers
        let (judgement, certificates) = try await Self.judged(identity, trusting: root)
        #expect(judgement.verdict.outcome == .deliver)
        try await judgement.review(certificates: certificates)
    }

    @Test("a delivery that rests on a refusal, or a refusal on its opposite, is no evidence")
    func kinds() async throws {
        let root = try TestAuthority()
        let rows = [
            ("delivered", "250 OK", try await Self.judged(try root.issue(["mx.test"]), trusting: root)),
            ("refused", nil, try await Self.judged(nil, trusting: root)),
        ]
        for (kind, reply, (judgement, certificates)) in rows {
            func verified(_ kind: String) async throws {
                let (octets, digest) = try judgement.encoded()
                let delivery = DeliveryEvidence(
                    message: UUID(), recipient: 0, event: UUID(), kind: kind, judgement: digest, reply: reply)
                let file = try EvidenceFile(
                    deliveries: [.init(delivery, digest: delivery.digest)], judgements: [octets],
                    certificates: Array(certificates.values))
                _ = try await EvidenceFile.verified(try file.encoded())
            }
            try await verified(kind)
            for other in ["delivered", "refused", "bounced", ""] where other != kind {
                await #expect(throws: EvidenceError.self, "\(kind) as \(other)") { try await verified(other) }
            }
        }
    }

    @Test("what is missing, unknown or says otherwise is found")
    func faults() async throws {
        let root = try TestAuthority()
        let (judgement, certificates) = try await Self.judged(try root.issue(["mx.test"]), trusting: root)
        let stranger = try await Self.judged(try TestAuthority.selfSigned(["mx.test"]), trusting: root)
        func code(_ judgement: Judgement, _ certificates: [String: [UInt8]]) async -> EvidenceError.Code? {
            do {
                try await judgement.review(certificates: certificates)
                return nil
            } catch { return error.code }
        }
        #expect(await code(judgement, certificates) == nil)
        #expect(await code(judgement, [:]) == .incomplete)
        #expect(await code(try judgement.altered { $0["format"] = 99 }, certificates) == .unreadable)
        #expect(
            await code(try judgement.altered { $0["address"] = "127.0.0.9" }, certificates)
                == .contradicted)
        // A chain that proves nothing under findings that say that it does.
        let chain = try #require(stranger.judgement.connection?.chain)
        let swapped = try judgement.altered { object in
            var connection = object["connection"] as? [String: Any]
            connection?["chain"] = chain
            connection?["anchor"] = nil
            object["connection"] = connection
        }
        #expect(await code(swapped, stranger.certificates) == .contradicted)
        // A verdict that the findings do not bear.
        let harsher = try judgement.altered { object in
            var ruleset = object["ruleset"] as? [String: Any]
            ruleset?["authentication"] = "dane"
            object["ruleset"] = ruleset
        }
        #expect(await code(harsher, certificates) == .contradicted)
    }
}
