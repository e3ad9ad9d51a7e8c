// MTA-STS from end to end: a worker, a validating resolver, zones on a real name server, policy hosts over HTTPS and recipient
// hosts that each have the certificate of their row. What must not leave is looked for at the host.

import DNS
import Foundation
import Lab
import NIOPosix
import Policy
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct MTASTSDeliveryTests {
    /// One recipient domain: its zone, its policy host, its mail host, and how mail to it ends by ruleset.
    struct Row: Sendable {
        let rule: String
        let domain: String
        var signing = LabZone.Signing.unsigned
        /// Besides the addresses of `mx` and `mta-sts`; `{P}` is the port, `{T}` the TLSA record.
        var zone = "@ MX 10 mx\n_mta-sts TXT \"v=STSv1; id=1\"\n"
        /// What its policy host serves; nil: it has none.
        var policy: String?
        var change: @Sendable (inout PolicyHost) -> Void = { _ in }
        /// Nil: no STARTTLS.
        let identity: TestIdentity?
        var record: TLSARecord?
        /// What a report says of the policy.
        var complaint: String?
        /// `kind reason` by ruleset.
        let ends: [String: String]
    }

    private static func policy(_ mode: String = "enforce", _ hosts: String...) -> String {
        "version: STSv1\r\nmode: \(mode)\r\n" + hosts.map { "mx: \($0)\r\n" }.joined() + "max_age: 86400\r\n"
    }

    private static func ends(
        _ opportunistic: String, _ secure: String, _ nta7516: String = "refused dane-required"
    )
        -> [String: String]
    {
        ["opportunistic": opportunistic, "secure": secure, "nta7516": nta7516]
    }

    private static func rows(_ trusted: TestAuthority) throws -> [Row] {
        let proven = "delivered tls-authenticated"
        let bySTS = "delivered sts-authenticated"
        func good(_ domain: String) throws -> TestIdentity { try trusted.issue(["mx.\(domain)"]) }
        func bad(_ domain: String) throws -> TestIdentity { try TestAuthority.selfSigned(["mx.\(domain)"]) }
        let dane = try bad("dane.test")
        return [
            Row(
                rule: "enforced and satisfied", domain: "enforce.test",
                policy: policy("enforce", "*.other.test", "mx.enforce.test"),
                identity: try good("enforce.test"),
                ends: ends(bySTS, bySTS)),
            Row(
                rule: "§4.1: *. is one label", domain: "wildcard.test",
                policy: policy("enforce", "*.wildcard.test"),
                identity: try good("wildcard.test"), ends: ends(bySTS, bySTS)),
            Row(
                rule: "§4.1: a host that the policy does not name is not used", domain: "wrongmx.test",
                policy: policy("enforce", "mx.other.test", "wrongmx.test"),
                identity: try good("wrongmx.test"),
                ends: ends("deferred sts-mx-mismatch", "deferred sts-mx-mismatch")),
            Row(
                rule: "the next host is named", domain: "second.test",
                zone: "@ MX 10 mx.wrongmx.test.\n@ MX 20 mx\n_mta-sts TXT \"v=STSv1; id=1\"\n",
                policy: policy("enforce", "mx.second.test"), identity: try good("second.test"),
                ends: ["opportunistic": bySTS, "secure": bySTS]),
            Row(
                rule: "§4.2: self-signed, also under opportunistic", domain: "self.test",
                policy: policy("enforce", "mx.self.test"), identity: try bad("self.test"),
                ends: ends("deferred certificate-not-trusted", "refused certificate-not-trusted")),
            Row(
                rule: "§4.2: another name", domain: "name.test", policy: policy("enforce", "mx.name.test"),
                identity: try trusted.issue(["mx.other.test"]),
                ends: ends("deferred certificate-host-mismatch", "refused certificate-host-mismatch")),
            Row(
                rule: "no STARTTLS: not in clear", domain: "clear.test",
                policy: policy("enforce", "mx.clear.test"),
                identity: nil,
                ends: ends(
                    "deferred starttls-not-supported", "refused starttls-not-supported",
                    "refused starttls-not-supported")),
            Row(
                rule: "§5: testing only reports", domain: "testing.test",
                policy: policy("testing", "mx.other.test"),
                identity: try bad("testing.test"),
                ends: ends("delivered tls-unauthenticated", "refused certificate-not-trusted")),
            Row(
                rule: "mode none", domain: "none.test", policy: policy("none"),
                identity: try bad("none.test"),
                ends: ends("delivered tls-unauthenticated", "refused certificate-not-trusted")),
            Row(
                rule: "§3.3: a redirect is not followed", domain: "redirect.test", policy: "",
                change: { host in
                    host.status = 301
                    host.location = "https://mta-sts.wrongmx.test:{P}/.well-known/mta-sts.txt"
                }, identity: try good("redirect.test"), complaint: "HTTP status 301",
                ends: ends(proven, proven)),
            Row(
                rule: "§3.3: the policy host's certificate is wrong", domain: "webpki.test",
                policy: policy("enforce", "mx.other.test"),
                change: { host in
                    if let own = try? TestAuthority.selfSigned(["mta-sts.webpki.test"]) {
                        host.identity = own
                    }
                }, identity: try good("webpki.test"), complaint: "certificate rejected",
                ends: ends(proven, proven)),
            Row(
                rule: "§3.3: the policy host has the certificate of another domain", domain: "neighbour.test",
                policy: policy("enforce", "mx.other.test"),
                change: { host in
                    if let other = try? trusted.issue(["neighbour.test"]) { host.identity = other }
                }, identity: try good("neighbour.test"), ends: ends(proven, proven)),
            Row(
                rule: "§3.3: not text/plain", domain: "html.test", policy: policy("enforce", "mx.other.test"),
                change: { $0.type = "text/html" }, identity: try good("html.test"),
                complaint: "not text/plain", ends: ends(proven, proven)
            ),
            Row(
                rule: "law 2: the record cannot be looked up", domain: "servfail.test", zone: "@ MX 10 mx\n",
                identity: try good("servfail.test"),
                ends: ends("deferred sts-lookup-failed", "deferred sts-lookup-failed")),
            Row(
                rule: "§2: DANE matches, whatever the policy names", domain: "dane.test", signing: .signed,
                zone: "@ MX 10 mx\n_mta-sts TXT \"v=STSv1; id=1\"\n_{P}._tcp.mx TLSA {T}\n",
                policy: policy("enforce", "mx.other.test"), identity: dane,
                record: .matching(dane.certificate),
                ends: ends(
                    "delivered dane-authenticated", "delivered dane-authenticated",
                    "delivered dane-authenticated")),
            Row(
                rule: "§2: DANE does not match, whatever the policy says", domain: "mismatch.test",
                signing: .signed,
                zone: "@ MX 10 mx\n_mta-sts TXT \"v=STSv1; id=1\"\n_{P}._tcp.mx TLSA {T}\n",
                policy: policy("enforce", "mx.mismatch.test"), identity: try good("mismatch.test"),
                record: .matching(dane.certificate),
                ends: ends("deferred tlsa-invalid", "deferred tlsa-invalid", "deferred tlsa-invalid")),
            Row(
                rule: "provably no TLSA in a signed zone: the policy decides", domain: "absent.test",
                signing: .signed, policy: policy("enforce", "mx.absent.test"),
                identity: try good("absent.test"),
                ends: ends(bySTS, bySTS)),
            Row(
                rule: "two domains on one host: without a policy", domain: "shared.test",
                zone: "@ MX 10 mx\n",
                identity: try bad("shared.test"),
                ends: ends("delivered tls-unauthenticated", "refused certificate-not-trusted")),
            Row(
                rule: "two domains on one host: with a policy", domain: "tenant.test",
                zone: "@ MX 10 mx.shared.test.\n_mta-sts TXT \"v=STSv1; id=1\"\n",
                policy: policy("enforce", "mx.shared.test"), identity: try bad("tenant.test"),
                ends: ends("deferred certificate-not-trusted", "refused certificate-not-trusted")),
        ]
    }

    private static func mail(_ number: Int) -> String { "127.0.8.\(number + 1)" }
    private static func web(_ number: Int) -> String { "127.0.9.\(number + 1)" }

    private static func policyHosts(_ rows: [Row], _ trusted: TestAuthority) async throws -> PolicyHosts {
        var hosts: [PolicyHost] = []
        for (number, row) in rows.enumerated() {
            guard let policy = row.policy else { continue }
            var host = PolicyHost(
                address: web(number), identity: try trusted.issue(["mta-sts.\(row.domain)"]), body: policy)
            row.change(&host)
            hosts.append(host)
        }
        return try await .start(hosts)
    }

    private static func names(_ rows: [Row], port: Int) async throws -> NameServerLab {
        var zones: [LabZone] = []
        for (number, row) in rows.enumerated() {
            let text =
                row.zone.replacing("{P}", with: "\(port)").replacing("{T}", with: row.record?.zoneText ?? "")
                + "mx A \(mail(number))\nmta-sts A \(web(number))\n"
            zones.append(LabZone(row.domain, row.signing, text))
        }
        // No data, so that every question below it is answered SERVFAIL.
        zones.append(LabZone("_mta-sts.servfail.test", .unsigned, nil))
        return try await .start(zones)
    }

    private static func resolver(_ names: NameServerLab) throws -> UnboundResolver {
        try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: try #require(IPAddress("127.0.0.1")), port: names.port)],
                trustAnchor: .file(names.trustAnchor)))
    }

    @Test func `what a policy decides, over the whole way`() async throws {
        let lab = try await WorkerLab()
        let rows = try Self.rows(lab.authority)
        let port = Int(try freePort())
        let servers = try await ScriptedSMTPServer.start(
            rows.map(\.identity), on: rows.indices.map(Self.mail), port: port)
        let hosts = try await Self.policyHosts(rows, lab.authority)
        let names = try await Self.names(rows, port: port)
        var messages: [UUID: (Row, String)] = [:]
        for row in rows {
            for (ruleset, _) in row.ends {
                messages[try await lab.accept(from: nil, to: ["r@\(row.domain)"], ruleset: ruleset)] = (
                    row, ruleset
                )
            }
        }
        let worker = try await lab.worker(
            routes: [:],
            settings: ["delivery.port=\(port)", "delivery.retry=1h", "policy.port=\(hosts.port)"],
            resolver: try Self.resolver(names))
        let ids = Set(messages.keys)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(60)) { seen in
                Set(seen.filter(\.endsAttempt).map(\.message)).isSuperset(of: ids)
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
            // Mail to tenant.test goes to the host of shared.test, and its own is asked for nothing.
            let delivered =
                row.domain == "tenant.test" ? 0 : row.ends.values.filter { $0.hasPrefix("delivered") }.count
            #expect(transcript.mails.count == delivered, "\(row.rule)")
            #expect(transcript.commands.filter { $0.hasPrefix("MAIL") }.count == delivered, "\(row.rule)")
            if delivered == 0 { #expect(transcript.contentBytes == 0, "\(row.rule)") }
            #expect(!transcript.inClear.contains { $0.hasPrefix("MAIL") }, "\(row.rule)")
        }
        let asked = hosts.log.split(separator: "\n").filter { $0.hasSuffix("/.well-known/mta-sts.txt") }
        #expect(Set(asked).count == asked.count, "each policy is fetched once")
        #expect(!asked.contains { $0.hasPrefix("127.0.9.11 ") }, "no request where the certificate is wrong")
        try await lab.checkEvidence(of: events, alterations: 100)
        // A report comes to what deliveries came to, and says what is wrong with a policy.
        let resolver = try Self.resolver(names)
        let judge = DomainJudge(
            router: Router(
                resolver: resolver, port: port,
                policies: try lab.policies(settings: ["policy.port=\(hosts.port)"], resolver: resolver)),
            examiner: HostExaminer(
                group: MultiThreadedEventLoopGroup.singleton,
                tls: try TLSContext.client(trust: .pem(lab.authority.rootPEM), minimumVersion: .tls10),
                heloName: "zegel.test", sourceAddress: nil, port: port, timeouts: SessionTimeouts()),
            port: port)
        for row in rows {
            let report = await judge.report(on: row.domain, under: RulesetBook().all)
            for (ruleset, end) in row.ends {
                let told = report.verdicts[ruleset].map { "\($0.outcome.event) \($0.reasonCode)" }
                #expect(told == end, "\(row.rule), \(ruleset)")
            }
            let detail = report.hosts.last?.evidence?.stsDetail ?? ""
            if let complaint = row.complaint { #expect(detail.contains(complaint), "\(row.rule): \(detail)") }
        }
        for server in servers { try await server.stop() }
        await hosts.stop()
        await names.stop()
    }

    @Test func `a policy survives the worker and its host; then a certificate that fails gets nothing`()
        async throws
    {
        let lab = try await WorkerLab()
        let row = try #require(Self.rows(lab.authority).first)
        let port = Int(try freePort())
        let server = try await ScriptedSMTPServer.start(
            try SMTPScript(row.identity), on: Self.mail(0), port: port)
        let hosts = try await Self.policyHosts([row], lab.authority)
        let names = try await Self.names([row], port: port)
        func end(of message: UUID) async throws -> String? {
            let worker = try await lab.worker(
                routes: [:],
                settings: ["delivery.port=\(port)", "delivery.retry=1h", "policy.port=\(hosts.port)"],
                resolver: try Self.resolver(names))
            let events = try await lab.working([worker]) {
                try await lab.events { $0.contains { $0.endsAttempt && $0.message == message } }
            }
            return events.first { $0.endsAttempt && $0.message == message }.map {
                "\($0.kind) \($0.reason ?? "")"
            }
        }
        func accept() async throws -> UUID {
            try await lab.accept(from: nil, to: ["r@\(row.domain)"], ruleset: "opportunistic")
        }
        #expect(try await end(of: accept()) == "delivered sts-authenticated")
        #expect(
            try await lab.count("SELECT count(*) FROM ledger.policy_cache WHERE domain = 'enforce.test'") == 1
        )
        await hosts.stop()
        #expect(try await end(of: accept()) == "delivered sts-authenticated")
        let swapped = try TestAuthority.selfSigned(["mx.enforce.test"])
        let tls = try TLSContext.server(
            certificateChainPEM: swapped.chainPEM, privateKeyPEM: try swapped.privateKeyPEM)
        server.change { $0.tls = tls }
        #expect(try await end(of: accept()) == "deferred certificate-not-trusted")
        server.change { $0.tls = nil }
        #expect(try await end(of: accept()) == "deferred starttls-not-supported")
        #expect(server.transcript.mails.count == 2)
        #expect(server.transcript.commands.filter { $0.hasPrefix("MAIL") }.count == 2)
        try await server.stop()
        await names.stop()
    }
}
