// From what a handshake showed to findings: every fault of a chain gets its own finding.

import DNS
import Policy
import Testing

@testable import SmartTLS
@testable import TLS

@Suite struct HostFindingsTests {
    private func evidence(
        version: TLSVersion = .tls13, verification: ChainVerification = .valid, matched: Bool? = true,
        chain: [[UInt8]] = [[1, 2, 3]]
    ) -> PeerEvidence {
        PeerEvidence(
            version: version, cipherSuite: "TLS_AES_256_GCM_SHA384", isForwardSecret: true, cipherBits: 256,
            keyExchangeGroup: "x25519", signatureAlgorithm: "RSA-PSS+SHA256", serverName: "mx.bar.test",
            alpn: nil,
            chain: chain, verification: verification, nameMatched: matched)
    }

    private func read(_ evidence: PeerEvidence) -> HostFindings {
        HostFindings(evidence: evidence, host: "mx.bar.test", name: .proven, tlsa: .absent, sts: .absent)
    }

    @Test func `a good handshake`() {
        #expect(
            read(evidence()).findings == [
                .tls13, .forwardSecrecy, .chainTrusted, .nameMatches, .nameProven, .daneAbsent,
                .stsAbsent,
            ])
    }

    @Test(arguments: [
        (TLSVersion.tls10, Finding.tls10), (.tls11, .tls11), (.tls12, .tls12), (.tls13, .tls13),
    ])
    func `each version is a finding`(version: TLSVersion, finding: Finding) {
        #expect(read(evidence(version: version)).findings.first == finding)
    }

    @Test func `no forward secrecy is a finding`() {
        var transport = evidence()
        transport.isForwardSecret = false
        #expect(read(transport).findings.contains(.noForwardSecrecy))
    }

    @Test(arguments: [
        (ChainFault.Kind.selfSigned, Finding.selfSigned), (.selfSignedInChain, .untrustedRoot),
        (.unknownIssuer, .untrustedRoot), (.missingIntermediate, .missingIntermediate),
        (.badSignature, .badSignature), (.revoked, .revoked), (.expired, .expired),
        (.notYetValid, .notYetValid),
        (.weak, .weakCertificate), (.wrongPurpose, .wrongPurpose), (.wrongName, .nameMismatch),
        (.other, .chainInvalid),
    ])
    func `each fault of a chain is a finding of its own`(kind: ChainFault.Kind, finding: Finding) {
        var fault = ChainFault(code: 1, depth: 0)
        fault.kind = kind
        let host = read(evidence(verification: .failed([fault]), matched: kind != .wrongName))
        #expect(host.findings.contains(finding))
        #expect(!host.findings.contains(.chainTrusted))
        #expect(Verdict.judge(.secure, host).outcome == .refuse)
    }

    @Test(arguments: [nil, false]) func `a name that was not found, or not asked about, does not match`(
        matched: Bool?
    ) {
        let host = read(evidence(matched: matched))
        #expect(host.findings.contains(.nameMismatch) && !host.findings.contains(.nameMatches))
    }

    @Test func `no certificate is no trusted chain`() {
        let host = read(evidence(verification: .notPresented, matched: nil, chain: []))
        #expect(host.findings.contains(.noCertificate) && host.findings.contains(.nameMismatch))
    }

    @Test func `the summary holds what an event needs, with the digest of the leaf`() {
        let summary = read(evidence()).evidence
        #expect(
            summary.tlsVersion == "TLSv1.3" && summary.keyExchangeGroup == "x25519"
                && summary.chainLength == 1)
        #expect(
            summary.certificateDigest == "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81")
    }

    @Test(arguments: [
        (TLSAbsence.notOffered, Finding.starttlsNotOffered), (.rejected, .starttlsRejected),
        (.noCommonVersion, .noCommonVersion), (.handshakeFailed("alert"), .handshakeFailed),
    ])
    func `each way to have no TLS is a finding`(absence: TLSAbsence, finding: Finding) {
        let host = HostFindings(
            absence: absence, host: "mx.bar.test", name: .unproven, tlsa: .insecure, sts: .absent)
        #expect(host.findings == [finding, .nameUnproven, .daneInsecure, .stsAbsent])
    }

    @Test func `OpenSSL's word for no common version is told apart from other failures`() {
        #expect(TLSAbsence(TLSError(.protocolVersion, "unsupported protocol")) == .noCommonVersion)
        #expect(TLSAbsence(TLSError(.closedInHandshake, "")) == .handshakeFailed("closed in handshake"))
    }

    // MARK: DANE

    private static let reference = DANEReference(
        records: [TLSARecord(usage: 3, selector: 1, matchingType: 1, data: [0x0a, 0xff])],
        baseDomain: "mx.bar.test")

    private func held(_ outcome: DANEOutcome?, _ tlsa: TLSAStatus = .published(reference)) -> HostFindings {
        var evidence = evidence()
        evidence.dane = outcome
        return HostFindings(evidence: evidence, host: "mx.bar.test", name: .proven, tlsa: tlsa, sts: .absent)
    }

    private func fault(_ kind: ChainFault.Kind) -> ChainFault {
        var fault = ChainFault(code: 1, depth: 0)
        fault.kind = kind
        return fault
    }

    @Test(arguments: [
        ([ChainFault.Kind.other], Finding.daneMismatch), ([], .daneMismatch),
        ([.unknownIssuer, .other], .daneMismatch), ([.selfSigned, .wrongName], .daneMismatch),
        ([.wrongName], .daneNameMismatch), ([.expired], .daneExpired),
        ([.expired, .wrongName], .daneExpired),
        ([.notYetValid], .daneChainInvalid), ([.wrongPurpose, .expired], .daneChainInvalid),
    ])
    func `each way not to satisfy the records is a finding of its own, and waits`(
        kinds: [ChainFault.Kind], finding: Finding
    ) {
        let host = held(.notMatched(kinds.map(fault)))
        #expect(Set(host.findings).intersection(Finding.daneFaults) == [finding])
        #expect(host.findings.contains(.tlsaPublished))
        #expect(host.evidence.detail?.hasPrefix("TLSA records of mx.bar.test: ") == true)
        #expect(host.evidence.tlsaBaseDomain == "mx.bar.test" && host.evidence.tlsaRecord == nil)
        for ruleset in [Ruleset.opportunistic, .secure, .nta7516] {
            #expect(Verdict.judge(ruleset, host).outcome == .defer)
        }
    }

    @Test func `the record that matched is kept as in a zone file`() {
        let full = TLSARecord(
            usage: 2, selector: 0, matchingType: 0, data: [UInt8](repeating: 1, count: 900))
        let first = held(.matched(Self.reference.records[0], depth: 0))
        #expect(first.findings.contains(.daneMatchedEE) && first.evidence.tlsaRecord == "3 1 1 0aff")
        let second = held(.matched(full, depth: 1))
        #expect(second.findings.contains(.daneMatchedTA))
        #expect(second.evidence.tlsaRecord == "2 0 0 " + String(repeating: "01", count: 64) + "…")
        #expect(held(.noUsableRecords).findings.contains(.daneUnusable))
    }

    @Test func `what a handshake says of records counts only where there are any`() {
        let matched = DANEOutcome.matched(Self.reference.records[0], depth: 0)
        for status in [TLSAStatus.absent, .insecure] {
            #expect(!held(matched, status).findings.contains(.daneMatchedEE))
        }
        #expect(
            Verdict.judge(.nta7516, held(nil)).outcome == .defer, "records, and nobody held it against them")
    }

    @Test(arguments: DNSFailure.Code.allCases) func `a lookup that failed is a finding with its reason`(
        code: DNSFailure.Code
    ) {
        let failure = DNSFailure(code, "_25._tcp.mx.bar.test TLSA")
        let host = HostFindings(
            unconnected: "mx.bar.test", name: .proven, tlsa: .unknown(failure), sts: .absent)
        #expect(host.findings == [.nameProven, code == .bogus ? .tlsaBogus : .tlsaLookupFailed, .stsAbsent])
        #expect(host.evidence.detail == failure.description)
        #expect(Verdict.judge(.opportunistic, host).reason == failure.reasonCode)
    }
}
