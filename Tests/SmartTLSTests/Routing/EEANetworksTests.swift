// Which addresses are outside the European Economic Area, as configured.

import DNS
import Foundation
import Lab
import NIOPosix
import Settings
import TLS
import Testing

@testable import SmartTLS

@Suite struct EEANetworksTests {
    private static func networks(_ inside: String, _ outside: String) -> EEANetworks {
        func blocks(_ text: String) -> [NetworkBlock] {
            text.split(separator: " ").compactMap { NetworkBlock(String($0)) }
        }
        return EEANetworks(inside: blocks(inside), outside: blocks(outside))
    }

    @Test(
        arguments: [
            ("", "", "192.0.2.1", nil),
            ("192.0.2.0/24", "", "192.0.2.1", nil),
            ("192.0.2.0/24", "", "198.51.100.1", EEANetworks.unlisted),
            ("192.0.2.0/24", "", "2001:db8::1", EEANetworks.unlisted),
            ("192.0.2.0/24 2001:db8::/32", "", "2001:db8::1", nil),
            ("", "198.51.100.0/24", "198.51.100.1", "198.51.100.0/24"),
            ("", "198.51.100.0/24", "192.0.2.1", nil),
            ("192.0.2.0/24", "192.0.2.128/25", "192.0.2.200", "192.0.2.128/25"),
            ("192.0.2.0/24", "192.0.2.128/25", "192.0.2.1", nil),
        ] as [(String, String, String, String?)])
    func exclusions(inside: String, outside: String, address: String, excluded: String?) throws {
        let found = Self.networks(inside, outside).exclusion(of: try #require(IPAddress(address)))
        #expect(found == excluded)
        if let found { #expect(EEANetworks.holds(found, for: address)) }
    }

    @Test func `a recorded network must hold the address`() {
        #expect(!EEANetworks.holds("198.51.100.0/24", for: "192.0.2.1"))
        #expect(!EEANetworks.holds("nonsense", for: "192.0.2.1"))
    }

    @Test func `the network is in the evidence, which comes to the same again`() async throws {
        let authority = try TestAuthority()
        let identity = try authority.issue(["mx.test"])
        let server = try await ScriptedSMTPServer.start(try SMTPScript(identity))
        let route = try await Router(
            resolver: DNSTable([:]),
            staticRoutes: [
                try #require(StaticRoute("mx.test=127.0.0.1:\(try server.address.port ?? 0)"))
            ]
        ).route(to: "mx.test")
        let examiner = HostExaminer(
            group: MultiThreadedEventLoopGroup.singleton,
            tls: try .examining(trust: .pem(authority.rootPEM)), heloName: "zegel.test", sourceAddress: nil,
            port: 25, eea: Self.networks("", "127.0.0.0/8"), timeouts: SessionTimeouts())
        let host = try #require(route.hosts.first)
        guard case .seen(let seen) = await examiner.examine(route, host, host.addresses[0]) else {
            throw LabError("no connection")
        }
        await seen.session?.quit()
        try await server.stop()
        let judgement = try #require(seen.judgement(seen.verdict(under: .secure), under: .secure))
        #expect(judgement.exclusion == "127.0.0.0/8")
        #expect(judgement.findings.findings.contains(.outsideEEA))
        #expect(seen.verdict(under: .nta7516).reason == .outsideEEA)
        let certificates = Judgement.certificates(of: seen.peer)
        try await judgement.review(certificates: certificates)
        for other in ["192.0.2.0/24", nil] {
            var object = try #require(
                try JSONSerialization.jsonObject(with: Data(judgement.encoded().octets)) as? [String: Any])
            object["exclusion"] = other
            let altered = try JSONDecoder().decode(
                Judgement.self, from: try JSONSerialization.data(withJSONObject: object))
            await #expect(throws: EvidenceError.self) { try await altered.review(certificates: certificates) }
        }
    }

    @Test func `the header is set whole or not at all`() throws {
        #expect(try NTASettings(Settings(assignments: [])).header == nil)
        let both = try Settings(assignments: ["nta.header_name=X-A", "nta.header_value=b c"])
        #expect(try NTASettings(both).header == "X-A: b c")
        for one in ["nta.header_name=X-A", "nta.header_value=b"] {
            #expect(throws: SettingsError.self) { try NTASettings(Settings(assignments: [one])) }
        }
        for wrong in [
            "nta.header_name=X A", "nta.header_name=X:A", "nta.header_name=Xé",
            "nta.header_value=a\r\nBcc: x",
        ] {
            #expect(throws: SettingsError.self, "\(wrong)") { try Settings(assignments: [wrong]) }
        }
    }
}
