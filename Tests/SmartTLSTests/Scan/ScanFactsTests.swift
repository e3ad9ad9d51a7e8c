// Scans as they are kept: the same facts have the same octets, and what is kept is graded as what was found.

import DNS
import Foundation
import Lab
import Policy
import TLS
import Testing

@testable import SmartTLS

@Suite struct ScanFactsTests {
    private static func scan() throws -> HostScan {
        let authority = try TestAuthority()
        let identity = try authority.issue(["mx.test"], key: try TestAuthority.rsaKey())
        let chain = ([identity.certificate] + identity.issuers).map(TestIdentity.der)
        var report = ProbeReport()
        report.suites = [.tls10: [0x002f], .tls12: [0xc02f, 0x002f], .tls13: [0x1302, 0x1301]]
        report.groups = [.tls12: [23, 29], .tls13: [29, 256]]
        report.primes = [DiffieHellmanPrime([0x80] + [UInt8](repeating: 1, count: 127))]
        report.exchangeSignatures = [0x0201, 0x0401]
        report.prefersOwnOrder = [.tls12: true]
        report.compresses = true
        report.hasExtendedMasterSecret = false
        report.isRenegotiationSecure = false
        report.chains = [chain]
        report.handshakes = 44
        return HostScan(report: report)
    }

    @Test func `what is read again is what was written, in findings and in grades`() throws {
        let scan = try Self.scan()
        let facts = ScanFacts(scan)
        let octets = try CanonicalJSON.encode(facts)
        let read = try ScanFacts(octets)
        let again = try CanonicalJSON.encode(read)
        #expect(read == facts && octets == again)
        #expect(octets.count < ScanFacts.most / 8, "\(octets.count) octets")
        #expect(
            read.findings() == [
                .acceptsOldTLS, .acceptsWeakSuites, .compression, .renegotiationInsecure,
                .noExtendedMasterSecret,
            ])
        let before = HostGrade(scan.report, chains: scan.report.chains)
        let after = HostGrade(read.report, keys: read.keys, signatures: read.signatures)
        #expect(before == after)
    }

    @Test func `the largest report that a probe can make fits`() throws {
        var report = ProbeReport()
        for version in ProtocolVersion.allCases {
            report.suites[version] = Array(CipherSuite.all.map(\.code).prefix(200))
            report.groups[version] = NamedGroup.all.map(\.code)
        }
        #expect(try CanonicalJSON.encode(ScanFacts(HostScan(report: report))).count <= ScanFacts.most)
    }

    @Test(arguments: [
        ("[]", "no object"), ("{\"format\":1}", "parts are missing"), ("{", "no JSON"),
    ]) func `what is no record is refused`(text: String, why: String) {
        #expect(throws: (any Error).self, "\(why)") { try ScanFacts(Array(text.utf8)) }
    }

    @Test func `another format, or another order of the same parts, is refused`() throws {
        let octets = try CanonicalJSON.encode(ScanFacts(try Self.scan()))
        let text = String(decoding: octets, as: UTF8.self)
        #expect(throws: EvidenceError.self) {
            try ScanFacts(Array(text.replacing("\"format\":1", with: "\"format\":2").utf8))
        }
        #expect(throws: EvidenceError.self) { try ScanFacts(Array(text.replacing(",", with: ", ").utf8)) }
    }

    @Test
    func `the digest of TLSA records knows their name and data, and neither their order nor the recipient`()
        throws
    {
        func digest(_ records: [DNSRecord], base: String = "mx.test", further: String = "a.test") throws
            -> String?
        {
            TLSAStatus.published(
                DANEReference(
                    rrset: records, baseDomain: try DomainName(base),
                    furtherNames: [try DomainName(further)])
            ).digest
        }
        let one = DNSRecord.tlsa(usage: 3, selector: 1, matchingType: 1, data: Array(repeating: 1, count: 32))
        let two = DNSRecord.tlsa(usage: 3, selector: 1, matchingType: 1, data: Array(repeating: 2, count: 32))
        let both = try digest([one, two])
        let same = try [digest([two, one]), digest([one, two], further: "b.test")]
        #expect(both != nil && same == [both, both])
        let others = try [digest([one]), digest([two]), digest([one, two], base: "mx2.test")]
        #expect(Set(others + [both]).count == 4)
        #expect(TLSAStatus.absent.digest != nil && TLSAStatus.absent.digest != both)
        #expect(TLSAStatus.insecure.digest == nil && TLSAStatus.unknown(DNSFailure(.bogus, "")).digest == nil)
    }
}
