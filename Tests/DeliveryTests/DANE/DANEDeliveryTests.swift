// DANE from end to end: a worker, a validating resolver, signed zones on a real name server, and recipient hosts that each
// have the certificate of their row. What must not leave is looked for at the host.

import DNS
import Foundation
import Lab
import NIOPosix
import Policy
import Settings
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct DANEDeliveryTests {
    /// One recipient domain: its zone, its host, and how mail to it ends by ruleset.
    struct Row: Sendable {
        let rule: String
        let domain: String
        var signing = LabZone.Signing.signed
        /// `{A}` is the host's address, `{P}` the port, `{T}` the TLSA record of the host's certificate.
        let zone: String
        let identity: TestIdentity?
        var record: TLSARecord?
        /// `kind reason` by ruleset.
        let ends: [String: String]
        /// What the host is asked for by SNI; nil: nobody connects to it.
        var serverName: String?
        /// Where it is not `domain`, mail goes to a domain that an operator routes to `mx` of it.
        var recipientDomain: String?
    }

    static let everywhere = ["opportunistic", "secure", "nta7516"]

    private static func all(_ end: String) -> [String: String] {
        Dictionary(uniqueKeysWithValues: everywhere.map { ($0, end) })
    }

    /// - trusted: the authority that workers trust.
    static func rows(_ trusted: TestAuthority) throws -> [Row] {
        let past = Date.now - 3_600
        let worst = try TestAuthority.selfSigned(["other.example"], from: past - 9, to: past)
        let stranger = try TestAuthority(name: "Private")
        let below = try stranger.intermediate(name: "Private, below")
        let selfSigned = try TestAuthority.selfSigned(["mx.unusable.test"])
        let other = TLSARecord.matching(worst.certificate)
        let simple = "@ MX 10 mx\nmx A {A}\n_{P}._tcp.mx TLSA {T}\n"
        let byDANE = all("delivered dane-authenticated")
        let many = (0..<50).map {
            "_{P}._tcp.mx TLSA 3 1 1 \(String(repeating: "0\($0 % 10)\($0 / 10)a", count: 16))\n"
        }
        func trustedAs(_ name: String) throws -> TestIdentity { try trusted.issue([name]) }
        func good(
            _ rule: String, _ domain: String, _ zone: String, serverName: String,
            signing: LabZone.Signing = .signed
        ) -> Row {
            Row(
                rule: rule, domain: domain, signing: signing, zone: zone, identity: worst,
                record: .matching(worst.certificate), ends: byDANE, serverName: serverName)
        }
        var routed = good(
            "a static route to a host whose name the operator gives", "gateway.test",
            "mx A {A}\n_{P}._tcp.mx TLSA {T}\n", serverName: "mx.gateway.test")
        routed.recipientDomain = "routed.test"
        return [
            routed,
            Row(
                rule: "one host not known and the other refused: the first may be good enough later",
                domain: "partly.test",
                zone: "@ MX 10 mx.servfail.test.\n@ MX 20 mx\nmx A {A}\n", identity: nil,
                ends: ["secure": "deferred dns-failure", "nta7516": "deferred dns-failure"], serverName: ""),
            good(
                "6. DANE-EE: self-signed, expired, wrongly named, and proven", "ee.test", simple,
                serverName: "mx.ee.test"),
            Row(
                rule: "6. DANE-TA: a private authority, the certificate on the recipient domain",
                domain: "ta.test", zone: simple, identity: try below.issue(["ta.test"]),
                record: .matching(below.certificate, usage: 2), ends: byDANE, serverName: "mx.ta.test"),
            Row(
                rule: "6. DANE-TA: another name", domain: "taname.test", zone: simple,
                identity: try below.issue(["mx.other.test"]),
                record: .matching(below.certificate, usage: 2),
                ends: all("deferred certificate-host-mismatch"), serverName: "mx.taname.test"),
            Row(
                rule: "RFC 7672 §2.2: no match, and a trusted certificate saves nothing",
                domain: "mismatch.test", zone: simple, identity: try trustedAs("mx.mismatch.test"),
                record: other, ends: all("deferred tlsa-invalid"), serverName: "mx.mismatch.test"),
            Row(
                rule: "1. bogus TLSA", domain: "bogus.test",
                signing: .altered(name: "_{P}._tcp.mx", type: "TLSA"), zone: simple,
                identity: try trustedAs("mx.bogus.test"), record: other,
                ends: all("deferred dnssec-invalid")),
            Row(
                rule: "1. SERVFAIL for TLSA", domain: "servfail.test", zone: "@ MX 10 mx\nmx A {A}\n",
                identity: try trustedAs("mx.servfail.test"), ends: all("deferred dns-failure")),
            Row(
                rule: "11. provably no TLSA: what roots and the name prove", domain: "absent.test",
                zone: "@ MX 10 mx\nmx A {A}\n", identity: try trustedAs("mx.absent.test"),
                ends: [
                    "secure": "delivered tls-authenticated", "nta7516": "refused dane-required",
                    "opportunistic": "delivered tls-authenticated",
                ], serverName: "mx.absent.test"),
            Row(
                rule: "4. an unsigned zone: its TLSA records are nobody's word", domain: "plain.test",
                signing: .unsigned, zone: simple, identity: try trustedAs("mx.plain.test"), record: other,
                ends: [
                    "secure": "delivered tls-authenticated", "nta7516": "refused dane-required",
                    "opportunistic": "delivered tls-authenticated",
                ], serverName: "mx.plain.test"),
            Row(
                rule: "2. a host in an unsigned zone whose name server fails on TLSA", domain: "cloud.test",
                signing: .unsigned, zone: "@ MX 10 mx\nmx A {A}\n", identity: try trustedAs("mx.cloud.test"),
                ends: [
                    "secure": "delivered tls-authenticated", "nta7516": "refused dane-required",
                    "opportunistic": "delivered tls-authenticated",
                ], serverName: "mx.cloud.test"),
            good(
                "5. RFC 7672 §2.2.3: records at the end of an alias", "alias.test",
                "@ MX 10 mx\nmx CNAME real\nreal A {A}\n_{P}._tcp.real TLSA {T}\n",
                serverName: "real.alias.test"),
            good(
                "5. an alias without records at its end: the name itself", "alias2.test",
                "@ MX 10 mx\nmx CNAME real\nreal A {A}\n_{P}._tcp.mx TLSA {T}\n",
                serverName: "mx.alias2.test"),
            good(
                "5. RFC 7672 §2.2.2: a signed alias into an unsigned zone", "outward.test",
                "@ MX 10 mx\nmx CNAME outward.hosts.test.\n_{P}._tcp.mx TLSA {T}\n",
                serverName: "mx.outward.test"),
            good(
                "5. DNAME", "dname.test",
                "@ MX 10 mx.old\nold DNAME new\nmx.new A {A}\n_{P}._tcp.mx.new TLSA {T}\n",
                serverName: "mx.new.dname.test"),
            Row(
                rule: "7. no record is usable: TLS, not authenticated", domain: "unusable.test", zone: simple,
                identity: selfSigned, record: .matching(selfSigned.certificate, usage: 1),
                ends: [
                    "opportunistic": "delivered tls-unauthenticated",
                    "secure": "refused certificate-not-trusted", "nta7516": "refused tlsa-invalid",
                ], serverName: "mx.unusable.test"),
            Row(
                rule: "RFC 7672 §2.2: no STARTTLS where there are records: nothing in clear",
                domain: "strip.test", zone: simple, identity: nil, record: other,
                ends: all("deferred starttls-not-supported"), serverName: ""),
            good(
                "10. a TLSA answer that needs TCP", "large.test", simple + many.joined(),
                serverName: "mx.large.test"),
            good(
                "3. AAAA bogus: A goes on", "family.test", simple + "mx AAAA ::1\n",
                serverName: "mx.family.test", signing: .altered(name: "mx", type: "AAAA")),
            good(
                "4. no MX: the domain is its own host, securely", "bare.test",
                "@ A {A}\n_{P}._tcp TLSA {T}\n", serverName: "bare.test"),
            Row(
                rule: "NTA 7516: the hosts that a valid record names, and never the ordinary MX",
                domain: "nta.test",
                zone:
                    "@ MX 10 mx.servfail.test.\n@ TXT \"v=NTA7516-1;startdate=2019-06;enddate=2999-12;provider=Lab;"
                    + "ntamx=20 none;ntamx=10 in.nta.test\"\nin A {A}\n_{P}._tcp.in TLSA {T}\n",
                identity: worst, record: .matching(worst.certificate),
                ends: ["nta7516": "delivered dane-authenticated", "secure": "deferred dns-failure"],
                serverName: "in.nta.test"),
            Row(
                rule:
                    "NTA 7516: a host of a valid record that is not good enough is not replaced by a good ordinary MX",
                domain: "ntabad.test",
                zone:
                    "@ MX 10 mx\n@ TXT \"v=NTA7516-1;startdate=2019-06;enddate=2999-12;ntamx=10 in.ntabad.test\"\n"
                    + "mx A {A}\n_{P}._tcp.mx TLSA {T}\nin A {A}\n", identity: worst,
                record: .matching(worst.certificate), ends: ["nta7516": "refused dane-required"],
                serverName: "in.ntabad.test"),
            Row(
                rule: "NTA 7516: without hosts in the record the ordinary MX", domain: "ntamx.test",
                zone: simple + "@ TXT \"v=NTA7516-1;startdate=2019-06;enddate=2999-12\"\n", identity: worst,
                record: .matching(worst.certificate), ends: byDANE, serverName: "mx.ntamx.test"),
            Row(
                rule: "NTA 7516: a bogus TXT makes it wait, and only where it counts",
                domain: "ntabogus.test",
                signing: .altered(name: "@", type: "TXT"),
                zone: simple + "@ TXT \"v=NTA7516-1;startdate=2019-06;enddate=2999-12\"\n", identity: worst,
                record: .matching(worst.certificate),
                ends: [
                    "nta7516": "deferred dnssec-invalid", "secure": "delivered dane-authenticated",
                ], serverName: "mx.ntabogus.test"),
            good(
                "9. the first host fails, the second matches", "second.test",
                "@ MX 10 mx.servfail.test.\n@ MX 20 mx\nmx A {A}\n_{P}._tcp.mx TLSA {T}\n",
                serverName: "mx.second.test"),
        ]
    }

    private static func address(_ number: Int) -> String { "127.0.7.\(number + 1)" }

    private static func zones(_ rows: [Row], port: Int) -> [LabZone] {
        var zones: [LabZone] = []
        for (number, row) in rows.enumerated() {
            func filled(_ text: String) -> String {
                text.replacing("{A}", with: address(number)).replacing("{P}", with: "\(port)")
                    .replacing("{T}", with: row.record?.zoneText ?? "")
            }
            var signing = row.signing
            if case .altered(let name, let type) = signing {
                signing = .altered(name: filled(name), type: type)
            }
            zones.append(LabZone(row.domain, signing, filled(row.zone)))
        }
        let outward = rows.firstIndex { $0.domain == "outward.test" } ?? 0
        return zones + [
            LabZone("hosts.test", .unsigned, "outward A \(address(outward))\n"),
            // No data, so that every question below them is answered SERVFAIL.
            LabZone("_tcp.mx.servfail.test", .unsigned, nil),
            LabZone("_tcp.mx.cloud.test", .unsigned, nil),
        ]
    }

    @Test func `what TLSA records decide, over the whole way`() async throws {
        let lab = try await WorkerLab()
        let rows = try Self.rows(lab.authority)
        let port = Int(try freePort())
        let servers = try await ScriptedSMTPServer.start(
            rows.map(\.identity), on: rows.indices.map(Self.address), port: port)
        let names = try await NameServerLab.start(Self.zones(rows, port: port))
        let resolver = try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: try #require(IPAddress("127.0.0.1")), port: names.port)],
                trustAnchor: .file(names.trustAnchor)))
        var messages: [UUID: (Row, String)] = [:]
        for row in rows {
            for (ruleset, _) in row.ends {
                let id = try await lab.accept(
                    from: nil, to: ["r@\(row.recipientDomain ?? row.domain)"], ruleset: ruleset)
                messages[id] = (row, ruleset)
            }
        }
        let worker = try await lab.worker(
            routes: [:],
            settings: [
                "delivery.port=\(port)", "delivery.retry=1h",
                "delivery.routes=routed.test=mx.gateway.test:\(port)",
            ], resolver: resolver)
        let ids = Set(messages.keys)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(60)) { seen in
                Set(seen.filter { $0.endsAttempt }.map(\.message)).isSuperset(of: ids)
            }
        }
        for (id, (row, ruleset)) in messages {
            let end = events.first { $0.message == id && $0.endsAttempt }
            #expect(
                end.map { "\($0.kind) \($0.reason ?? "")" } == row.ends[ruleset],
                "\(row.rule), \(ruleset): \(end?.detail?.explanation ?? "")")
        }
        for (row, server) in zip(rows, servers) {
            let transcript = server.transcript
            let delivered = row.ends.values.filter { $0.hasPrefix("delivered") }.count
            #expect(transcript.mails.count == delivered, "\(row.rule)")
            if delivered == 0 {
                #expect(!transcript.commands.contains { $0.hasPrefix("MAIL") }, "\(row.rule)")
                #expect(transcript.contentBytes == 0, "\(row.rule)")
            }
            #expect(!transcript.inClear.contains { $0.hasPrefix("MAIL") }, "\(row.rule)")
            guard let name = row.serverName else {
                #expect(transcript.connections == 0, "\(row.rule)")
                continue
            }
            #expect(Set(transcript.serverNames) == (name.isEmpty ? [] : [name]), "\(row.rule)")
        }
        try await lab.checkEvidence(of: events)
        // A report on the domain comes to what its deliveries came to, and sends nothing.
        let judge = DomainJudge(
            router: Router(
                resolver: resolver,
                staticRoutes: [StaticRoute("routed.test=mx.gateway.test:\(port)")].compactMap { $0 },
                port: port, policies: try lab.policies(resolver: resolver)),
            examiner: HostExaminer(
                group: MultiThreadedEventLoopGroup.singleton,
                tls: try TLSContext.client(trust: .pem(lab.authority.rootPEM), minimumVersion: .tls10),
                heloName: "zegel.test", sourceAddress: nil, port: port, timeouts: SessionTimeouts()),
            port: port)
        for (row, server) in zip(rows, servers) {
            let mails = server.transcript.mails.count
            let report = await judge.report(
                on: row.recipientDomain ?? row.domain, under: RulesetBook().all)
            for (ruleset, end) in row.ends {
                let told = report.verdicts[ruleset].map { "\($0.outcome.event) \($0.reasonCode)" }
                #expect(told == end, "\(row.rule), \(ruleset)")
            }
            #expect(server.transcript.mails.count == mails, "\(row.rule)")
        }
        for server in servers { try await server.stop() }
        await names.stop()
    }
}
