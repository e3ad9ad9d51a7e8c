// Routing over the real resolver against real name servers: the whole way from a domain to addresses, with what
// DNSSEC says, and what becomes of it when the name servers go away.

import DNS
import Lab
import Policy
import Testing

@testable import SmartTLS

@Suite(.timeLimit(.minutes(1))) struct RealNamesTests {
    private func world() async throws -> (NameServerLab, Router) {
        let lab = try await NameServerLab.start([
            LabZone(
                "good.test", .signed, "@ MX 20 b\n@ MX 10 a\na A 127.0.0.71\na AAAA ::1\nb A 127.0.0.72\n"),
            LabZone("plain.test", .unsigned, "@ MX 10 mx.good.test.\n@ MX 10 a.good.test.\n"),
            LabZone("mixed.test", .signed, "@ MX 10 mx.hosts.test.\n"),
            LabZone("hosts.test", .unsigned, "mx A 127.0.0.73\n"),
            LabZone("null.test", .signed, "@ MX 0 .\n"),
            LabZone("bare.test", .signed, "@ A 127.0.0.74\n"),
            LabZone(
                "altered.test", .altered(name: "@", type: "MX"),
                "@ MX 10 mx\n@ A 127.0.0.9\nmx A 127.0.0.75\n"),
            LabZone("badhost.test", .altered(name: "mx", type: "A"), "@ MX 10 mx\nmx A 127.0.0.76\n"),
        ])
        let loopback = try #require(IPAddress("127.0.0.1"))
        let resolver = try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: loopback, port: lab.port)], trustAnchor: .file(lab.trustAnchor)))
        return (lab, Router(resolver: resolver, ownName: "out.own.test"))
    }

    private func ends(_ router: Router, _ domain: String) async -> String {
        do {
            let route = try await router.route(to: domain)
            let hosts = route.hosts.map { host in
                let addresses = host.addresses.map { "\($0.address)/\($0.security)" }.joined(separator: " ")
                return "\(host.name) \(host.provenance) \(addresses)"
            }
            return "\(route.origin) \(route.security): \(hosts.joined(separator: ", "))"
        } catch {
            return "\(error.status) \(error.reason)"
        }
    }

    @Test func `from a domain to addresses, each with what DNSSEC says`() async throws {
        let (lab, router) = try await world()
        let rows = [
            (
                "good.test",
                "mx secure: a.good.test proven ::1/secure 127.0.0.71/secure, b.good.test proven 127.0.0.72/secure"
            ),
            ("plain.test", "mx insecure: a.good.test unproven ::1/secure 127.0.0.71/secure"),
            ("mixed.test", "mx secure: mx.hosts.test proven 127.0.0.73/insecure"),
            ("bare.test", "implicitMX secure: bare.test proven 127.0.0.74/secure"),
            ("null.test", "5.1.10 null-mx"),
            ("nowhere.test", "5.1.2 no-such-domain"),
            ("altered.test", "4.4.3 dnssec-invalid"),
            ("badhost.test", "4.4.3 dnssec-invalid"),
        ]
        for (domain, expected) in rows {
            let found = await ends(router, domain)
            #expect(found == expected, "\(domain)")
        }
        // Law 2: name servers that are away make mail wait; what is known is used while its TTL lasts.
        await lab.stop()
        #expect(await ends(router, "unknown.test") == "4.4.3 dns-failure")
        #expect(await ends(router, "good.test") == rows[0].1)
    }
}
