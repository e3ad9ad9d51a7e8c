// The decision table: what was found, and what each ruleset makes of it. `docs/verdicts.md` shows the same rows.

import Foundation
import Lab
import Policy
import Testing

@testable import SmartTLS

@Suite struct VerdictTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let findings: Set<Finding>
        /// `outcome reason` under `opportunistic`, `secure` and `nta7516`.
        let ends: [String]
        var testDescription: String { rule }

        init(
            _ rule: String, _ findings: Set<Finding>, _ opportunistic: String, _ secure: String,
            _ nta7516: String
        ) {
            (self.rule, self.findings, self.ends) = (rule, findings, [opportunistic, secure, nta7516])
        }
    }

    /// A host with which nothing is wrong, but for what is taken away or added.
    private static func good(_ without: Set<Finding> = [], _ plus: Set<Finding> = []) -> Set<Finding> {
        let all: Set<Finding> = [
            .tls13, .forwardSecrecy, .chainTrusted, .nameMatches, .nameProven, .daneAbsent, .stsAbsent,
        ]
        return all.subtracting(without).union(plus)
    }

    /// A host with a trusted certificate and TLSA records, but for what is taken away or added.
    private static func published(_ without: Set<Finding> = [], _ plus: Set<Finding> = []) -> Set<Finding> {
        good([.daneAbsent], [.tlsaPublished]).subtracting(without).union(plus)
    }

    /// The same in a domain with an enforced policy that names it.
    private static func enforced(_ without: Set<Finding> = [], _ plus: Set<Finding> = []) -> Set<Finding> {
        good([.stsAbsent], [.stsEnforce]).subtracting(without).union(plus)
    }

    private static let bySTS = "deliver sts-authenticated"
    private static let byDANE = "deliver dane-authenticated"
    private static let mismatch = "defer tlsa-invalid"
    private static let unknown = "defer validation-failure"
    private static let proven = "deliver tls-authenticated"
    private static let unproven = "deliver tls-unauthenticated"
    private static let noDANE = "refuse dane-required"
    private static let broken = "defer tls-handshake-failed"

    static let rows: [Row] = [
        Row("TLS 1.3, trusted, name matches and is proven", good(), proven, proven, noDANE),
        Row("TLS 1.2", good([.tls13], [.tls12]), proven, proven, noDANE),
        Row(
            "design §9: a name from unsigned DNS is enough for secure", good([.nameProven], [.nameUnproven]),
            proven, proven, noDANE),
        Row(
            "no STARTTLS", [.starttlsNotOffered, .nameUnproven, .daneInsecure, .stsAbsent],
            "deliver cleartext-allowed",
            "refuse starttls-not-supported", "refuse starttls-not-supported"),
        Row(
            "law 2: STARTTLS offered and then refused is no licence for cleartext",
            [.starttlsRejected, .nameUnproven, .daneInsecure, .stsAbsent], broken, broken, broken),
        Row(
            "law 2: a handshake that broke off is no licence for cleartext",
            [.handshakeFailed, .nameUnproven, .daneInsecure, .stsAbsent],
            broken, broken, broken),
        Row(
            "no version in common", [.noCommonVersion, .nameUnproven, .daneInsecure, .stsAbsent], broken,
            "refuse tls-version-too-low",
            "refuse tls-version-too-low"),
        Row(
            "RFC 8996: TLS 1.1", good([.tls13], [.tls11]), proven, "refuse tls-version-too-low",
            "refuse tls-version-too-low"),
        Row(
            "RFC 8996: TLS 1.0", good([.tls13], [.tls10]), proven, "refuse tls-version-too-low",
            "refuse tls-version-too-low"),
        Row(
            "no forward secrecy", good([.tls13, .forwardSecrecy], [.tls12, .noForwardSecrecy]), proven,
            "refuse no-forward-secrecy", "refuse no-forward-secrecy"),
        Row(
            "self-signed", good([.chainTrusted], [.selfSigned]), unproven, "refuse certificate-not-trusted",
            noDANE),
        Row(
            "unknown root", good([.chainTrusted], [.untrustedRoot]), unproven,
            "refuse certificate-not-trusted",
            noDANE),
        Row(
            "missing intermediate", good([.chainTrusted], [.missingIntermediate]), unproven,
            "refuse certificate-not-trusted", noDANE),
        Row("expired", good([.chainTrusted], [.expired]), unproven, "refuse certificate-expired", noDANE),
        Row(
            "not yet valid", good([.chainTrusted], [.notYetValid]), unproven,
            "refuse certificate-not-yet-valid",
            noDANE),
        Row(
            "wrong name", good([.nameMatches], [.nameMismatch]), unproven, "refuse certificate-host-mismatch",
            noDANE),
        Row(
            "self-signed, expired and wrongly named: the gravest names the reason",
            good([.chainTrusted, .nameMatches], [.selfSigned, .expired, .nameMismatch]), unproven,
            "refuse certificate-not-trusted", noDANE),
        Row(
            "revoked, as its OCSP response says", good([.chainTrusted], [.revoked]), unproven,
            "refuse certificate-revoked", noDANE),
        Row(
            "weak certificate", good([.chainTrusted], [.weakCertificate]), unproven,
            "refuse validation-failure",
            noDANE),
        Row(
            "wrong purpose", good([.chainTrusted], [.wrongPurpose]), unproven, "refuse validation-failure",
            noDANE),
        Row(
            "no certificate", good([.chainTrusted, .nameMatches], [.noCertificate, .nameMismatch]), unproven,
            "refuse certificate-not-trusted", noDANE),
        Row(
            "nothing known of the connection: nothing follows", [.nameProven, .daneAbsent, .stsAbsent],
            unknown,
            unknown, unknown),
        Row(
            "RFC 7672 §2.2.1: without DNSSEC there is no DANE", good([.daneAbsent], [.daneInsecure]), proven,
            proven, noDANE),
        Row(
            "RFC 7671 §5.1: DANE-EE matches a certificate that is self-signed, expired and wrongly named",
            published(
                [.chainTrusted, .nameMatches], [.daneMatchedEE, .selfSigned, .expired, .nameMismatch]),
            byDANE,
            byDANE, byDANE),
        Row(
            "RFC 7671 §5.2: DANE-TA matches a private authority",
            published([.chainTrusted], [.daneMatchedTA, .untrustedRoot]), byDANE, byDANE, byDANE),
        Row(
            "RFC 7671 §5.1: DANE-EE matches a certificate that its issuer has revoked",
            published([.chainTrusted], [.daneMatchedEE, .revoked]), byDANE, byDANE, byDANE),
        Row(
            "DANE matches, and the address is outside the EEA",
            published([], [.daneMatchedEE, .outsideEEA]), byDANE, byDANE, "refuse outside-eea"),
        Row(
            "no DANE, and the address is outside the EEA", good([], [.outsideEEA]), proven, proven,
            "refuse outside-eea"),
        Row(
            "no record matches, and the address is outside the EEA: who it is counts first",
            published([], [.daneMismatch, .outsideEEA]), mismatch, mismatch, mismatch),
        Row(
            "RFC 7633: the certificate demands an OCSP response, and none came: reported only",
            good([], [.stapleMissing]), proven, proven, noDANE),
        Row(
            "DANE matches, over TLS 1.1", published([.tls13], [.tls11, .daneMatchedEE]), byDANE,
            "refuse tls-version-too-low", "refuse tls-version-too-low"),
        Row(
            "DANE matches, without forward secrecy",
            published([.tls13, .forwardSecrecy], [.tls12, .noForwardSecrecy, .daneMatchedEE]), byDANE,
            "refuse no-forward-secrecy", "refuse no-forward-secrecy"),
        Row(
            "RFC 7672 §2.2: no record matches, and a trusted certificate saves nothing",
            published([], [.daneMismatch]), mismatch, mismatch, mismatch),
        Row(
            "no record matches, over TLS 1.1: who is not known to be the host is not refused for it",
            published([.tls13], [.tls11, .daneMismatch]), mismatch, mismatch, mismatch),
        Row(
            "RFC 7672 §3.2.2: DANE-TA matches, the name does not", published([], [.daneNameMismatch]),
            "defer certificate-host-mismatch", "defer certificate-host-mismatch",
            "defer certificate-host-mismatch"),
        Row(
            "RFC 7671 §5.2: DANE-TA matches, the chain has expired", published([], [.daneExpired]),
            "defer certificate-expired", "defer certificate-expired", "defer certificate-expired"),
        Row(
            "DANE-TA matches, the chain does not hold", published([], [.daneChainInvalid]), unknown, unknown,
            unknown),
        Row(
            "RFC 7672 §2.2: no STARTTLS where records are published: never in clear",
            [.starttlsNotOffered, .nameProven, .tlsaPublished], "defer starttls-not-supported",
            "defer starttls-not-supported", "defer starttls-not-supported"),
        Row(
            "no version in common where records are published",
            [.noCommonVersion, .nameProven, .tlsaPublished],
            broken, "defer tls-version-too-low", "defer tls-version-too-low"),
        Row(
            "RFC 7672 §2.2: no record is usable, so TLS without DANE; the certificate is trusted",
            published([], [.daneUnusable]), proven, proven, "refuse tlsa-invalid"),
        Row(
            "no record is usable, and the certificate is self-signed",
            published([.chainTrusted], [.daneUnusable, .selfSigned]), unproven,
            "refuse certificate-not-trusted",
            "refuse tlsa-invalid"),
        Row(
            "RFC 7672 §2.1.2: the TLSA records could not be looked up", [.tlsaLookupFailed, .nameProven],
            "defer dns-failure", "defer dns-failure", "defer dns-failure"),
        Row(
            "RFC 7672 §2.1.2: the TLSA records are wrongly signed", [.tlsaBogus, .nameProven],
            "defer dnssec-invalid", "defer dnssec-invalid", "defer dnssec-invalid"),
        Row(
            "records, and nothing known of what the handshake made of them", published(), unknown, unknown,
            unknown),
        Row(
            "not known whether there are TLSA records: nothing follows", good([.daneAbsent]), unknown,
            unknown, unknown),
        Row(
            "no STARTTLS, and not known whether there are TLSA records: nothing in clear",
            [.starttlsNotOffered, .nameUnproven], unknown, unknown, unknown),
        Row(
            "RFC 8461 §4: an enforced policy names the host, and its certificate holds", enforced(), bySTS,
            bySTS, noDANE),
        Row(
            "RFC 8461 §4.1: the enforced policy does not name the host: nothing goes there",
            enforced([], [.stsMXMismatch]), "defer sts-mx-mismatch", "defer sts-mx-mismatch", noDANE),
        Row(
            "the policy does not name the host, over TLS 1.1: what it shows is not the domain's",
            enforced([.tls13], [.tls11, .stsMXMismatch]), "defer sts-mx-mismatch", "defer sts-mx-mismatch",
            "refuse tls-version-too-low"),
        Row(
            "RFC 8461 §5: enforced, and self-signed: not delivered here, not even under opportunistic",
            enforced([.chainTrusted], [.selfSigned]), "defer certificate-not-trusted",
            "refuse certificate-not-trusted", noDANE),
        Row(
            "enforced, and expired", enforced([.chainTrusted], [.expired]), "defer certificate-expired",
            "refuse certificate-expired", noDANE),
        Row(
            "enforced, and wrongly named", enforced([.nameMatches], [.nameMismatch]),
            "defer certificate-host-mismatch", "refuse certificate-host-mismatch", noDANE),
        Row(
            "enforced, over TLS 1.1", enforced([.tls13], [.tls11]), "defer tls-version-too-low",
            "refuse tls-version-too-low", "refuse tls-version-too-low"),
        Row(
            "enforced, without forward secrecy: the policy does not ask for it",
            enforced([.tls13, .forwardSecrecy], [.tls12, .noForwardSecrecy]), bySTS,
            "refuse no-forward-secrecy", "refuse no-forward-secrecy"),
        Row(
            "enforced, no STARTTLS: never in clear",
            [.starttlsNotOffered, .nameUnproven, .daneInsecure, .stsEnforce, .nameProvenBySTS],
            "defer starttls-not-supported", "refuse starttls-not-supported", "refuse starttls-not-supported"),
        Row(
            "enforced, the handshake broke off",
            [.handshakeFailed, .nameUnproven, .daneInsecure, .stsEnforce, .nameProvenBySTS], broken, broken,
            broken),
        Row(
            "RFC 8461 §5: testing, and self-signed: reported only",
            good([.stsAbsent, .chainTrusted], [.stsTesting, .selfSigned]), unproven,
            "refuse certificate-not-trusted", noDANE),
        Row(
            "testing, and the policy does not name the host: reported only",
            good([.stsAbsent], [.stsTesting, .stsMXMismatch]), proven, proven, noDANE),
        Row(
            "RFC 8461 §5.1: a policy that cannot be fetched and was never held",
            good([.stsAbsent], [.stsPolicyFetchError]), proven, proven, noDANE),
        Row(
            "the same, for a policy that is none", good([.stsAbsent], [.stsPolicyInvalid]), proven, proven,
            noDANE),
        Row(
            "the same, for the certificate of its host", good([.stsAbsent], [.stsWebPKIInvalid]), proven,
            proven, noDANE),
        Row(
            "law 2: its record could not be looked up and no policy is held: nobody knows",
            good([.stsAbsent], [.stsLookupFailed]), "defer sts-lookup-failed", "defer sts-lookup-failed",
            noDANE),
        Row(
            "law 2: its record is wrongly signed and no policy is held", good([.stsAbsent], [.stsBogus]),
            "defer dnssec-invalid", "defer dnssec-invalid", noDANE),
        Row(
            "not known whether there is a policy: nothing follows", good([.stsAbsent]), unknown, unknown,
            noDANE),
        Row(
            "a static route: no MX that a policy could be about", good([.stsAbsent], [.stsBypassed]), proven,
            proven, noDANE),
        Row(
            "RFC 8461 §2: a record matches, and the policy does not name the host: DANE decides",
            published([.stsAbsent], [.daneMatchedEE, .stsEnforce, .stsMXMismatch]), byDANE, byDANE, byDANE),
        Row(
            "RFC 8461 §2: no record matches, and the policy is satisfied: DANE decides",
            published([.stsAbsent], [.daneMismatch, .stsEnforce]), mismatch, mismatch, mismatch),
        Row(
            "a record matches, and the policy could not be looked up",
            published([.stsAbsent], [.daneMatchedEE, .stsLookupFailed]), byDANE, byDANE, byDANE),
        Row(
            "no record is usable, so that nothing decides but the policy",
            published([.stsAbsent, .chainTrusted], [.daneUnusable, .stsEnforce, .selfSigned]),
            "defer certificate-not-trusted", "refuse certificate-not-trusted", "refuse tlsa-invalid"),
        Row(
            "no record is usable, and the policy does not name the host",
            published([.stsAbsent], [.daneUnusable, .stsEnforce, .stsMXMismatch]), "defer sts-mx-mismatch",
            "defer sts-mx-mismatch", "refuse tlsa-invalid"),
    ]

    private func host(_ findings: Set<Finding>) -> HostFindings {
        HostFindings(findings, evidence: EvidenceSummary(host: "mx.bar.test"))
    }

    private func ends(_ ruleset: Ruleset, _ findings: Set<Finding>) -> String {
        let verdict = Verdict.judge(ruleset, host(findings))
        #expect(verdict.ruleset == ruleset.name && verdict.rulesetVersion == ruleset.version)
        #expect((verdict.outcome == .deliver) == verdict.shortcomings.isEmpty)
        return "\(verdict.outcome) \(verdict.reason)"
    }

    @Test(arguments: rows) func `verdicts`(_ row: Row) {
        let found = [Ruleset.opportunistic, .secure, .nta7516].map { ends($0, row.findings) }
        #expect(found == row.ends)
    }

    @Test func `law 10: what a stricter ruleset delivers, a looser one delivers too, over random findings`() {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SplitMix(seed)
        var delivered = 0
        var deliveredByDANE = 0
        for _ in 0..<20_000 {
            let findings = Set(Finding.allCases.filter { _ in random.next() % 5 == 0 })
                .subtracting([.starttlsNotOffered, .starttlsRejected, .noCommonVersion, .handshakeFailed])
                .union(
                    [VerdictTests.good(), VerdictTests.published([], [.daneMatchedEE]), []][
                        Int(random.next() % 3)]
                )
                .subtracting(random.next() % 2 == 0 ? [.tlsaBogus, .tlsaLookupFailed] : [])
                .subtracting(random.next() % 2 == 0 ? Finding.daneFaults : [])
            let secure = Verdict.judge(.secure, host(findings))
            if secure.outcome == .deliver {
                delivered += 1
                #expect(Verdict.judge(.opportunistic, host(findings)).outcome == .deliver)
            }
            if Verdict.judge(.nta7516, host(findings)).outcome == .deliver {
                deliveredByDANE += 1
                #expect(secure.outcome == .deliver)
                #expect(!findings.isDisjoint(with: [.daneMatchedEE, .daneMatchedTA]), "nta7516 needs DANE")
            }
            if !findings.isDisjoint(with: Finding.daneFaults), findings.contains(.tlsaPublished) {
                #expect(Verdict.judge(.opportunistic, host(findings)).outcome == .defer)
            }
            #expect(Verdict.judge(.secure, host(findings)) == secure, "the same findings, the same verdict")
        }
        #expect(delivered > 100 && deliveredByDANE > 100)
    }

    @Test(arguments: rows) func `what is certain before a connection is what it ends in`(_ row: Row) {
        for ruleset in [Ruleset.opportunistic, .secure, .nta7516] {
            guard let foregone = Verdict.foregone(ruleset, host(row.findings)) else { continue }
            #expect(foregone.outcome == .defer)
            #expect(foregone == Verdict.judge(ruleset, host(row.findings)))
        }
    }

    @Test func `docs/verdicts.md shows these rows and no other`() throws {
        let document = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../docs/verdicts.md")
        let text = try String(contentsOf: document, encoding: .utf8)
        let table = text.split(separator: "## The table").last?.split(separator: "\n## ").first
        let shown = table?.split(separator: "\n")
            .filter { $0.hasPrefix("| ") }.dropFirst().map(String.init)
        #expect(shown == VerdictTests.rows.map { "| \($0.rule) | \($0.ends.joined(separator: " | ")) |" })
    }

    @Test func `every reason of a verdict has words`() {
        for code in Set(VerdictTests.rows.flatMap(\.ends).compactMap { $0.split(separator: " ").last }) {
            #expect(ReasonCode.known.contains(ReasonCode(rawValue: String(code))), "\(code)")
        }
    }

    @Test func `all shortcomings are named, the gravest first`() {
        let verdict = Verdict.judge(
            .secure,
            host([
                .tls11, .noForwardSecrecy, .selfSigned, .expired, .nameMismatch, .nameUnproven, .daneInsecure,
                .stsAbsent,
            ]))
        #expect(
            verdict.shortcomings.map(\.rawValue) == [
                "tls-version-too-low", "no-forward-secrecy", "certificate-not-trusted", "certificate-expired",
                "certificate-host-mismatch",
            ])
    }

    @Test(
        "law 2: while a policy that is published cannot be had, a name is unproven for now and not for good",
        arguments: [Finding.stsPolicyFetchError, .stsPolicyInvalid, .stsWebPKIInvalid])
    func policyNotToBeHad(_ fault: Finding) {
        var own = Ruleset.secure
        (own.name, own.acceptsUnprovenName) = ("own", false)
        let findings = VerdictTests.good([.nameProven, .stsAbsent], [.nameUnproven, fault])
        #expect(ends(own, findings) == "defer \(fault.rawValue)")
        // What the host itself lacks is no less lacking.
        let old = findings.subtracting([.tls13]).union([.tls11])
        #expect(ends(own, old) == "refuse tls-version-too-low")
        #expect(ends(.secure, findings) == VerdictTests.proven, "RFC 8461 §5.1: as if there were none")
    }

    @Test func `a ruleset of its own that demands proof of the name refuses what is unproven`() {
        var own = Ruleset.secure
        (own.name, own.acceptsUnprovenName) = ("own", false)
        #expect(ends(own, VerdictTests.good([.nameProven], [.nameUnproven])) == "refuse name-unproven")
        #expect(ends(own, VerdictTests.good()) == "deliver tls-authenticated")
        let bySTS = VerdictTests.enforced([.nameProven], [.nameUnproven, .nameProvenBySTS])
        #expect(ends(own, bySTS) == "deliver sts-authenticated")
        var dane = Ruleset.nta7516
        dane.name = "dane"
        let matched = bySTS.subtracting([.daneAbsent]).union([.tlsaPublished, .daneMatchedEE])
        #expect(
            ends(dane, matched) == "refuse name-unproven", "MTA-STS proves nothing where DANE is demanded")
    }

    @Test(arguments: 0..<3) func `a ruleset that demands anything of TLS demands TLS`(change: Int) {
        var own = Ruleset.opportunistic
        own.name = "own"
        switch change {
        case 0: own.minimumVersion = .tls13
        case 1: own.requiresForwardSecrecy = true
        default: own.authentication = .pkixName
        }
        #expect(
            ends(own, [.starttlsNotOffered, .nameProven, .daneAbsent, .stsAbsent])
                == "refuse starttls-not-supported")
    }

    @Test func `a floor of TLS 1.3 refuses TLS 1.2`() {
        var own = Ruleset.secure
        (own.name, own.minimumVersion) = ("own", .tls13)
        #expect(ends(own, VerdictTests.good([.tls13], [.tls12])) == "refuse tls-version-too-low")
    }

    @Test func `a ruleset that is not known waits`() {
        let verdict = Verdict.unknownRuleset(named: "theirs")
        #expect(verdict.outcome == .defer && verdict.reason == .rulesetUnknown && verdict.ruleset == "theirs")
    }

    @Test func `over several hosts: delivered, else waiting for one that may be better, else refused`() {
        func verdict(_ findings: Set<Finding>) -> Verdict { Verdict.judge(.secure, host(findings)) }
        let good = verdict(VerdictTests.good())
        let broken = verdict([.handshakeFailed, .daneAbsent, .stsAbsent])
        let bad = verdict([.starttlsNotOffered, .daneAbsent, .stsAbsent])
        #expect(Verdict.overall([bad, good])?.outcome == .deliver)
        #expect(Verdict.overall([bad, broken])?.outcome == .defer)
        #expect(Verdict.overall([bad, bad])?.outcome == .refuse)
        #expect(Verdict.overall([]) == nil)
    }

    @Test func `findings and verdicts survive JSON`() throws {
        for row in VerdictTests.rows {
            let host = host(row.findings)
            let verdict = Verdict.judge(.secure, host)
            let again = try JSONDecoder().decode(HostFindings.self, from: try JSONEncoder().encode(host))
            #expect(again == host)
            #expect(Verdict.judge(.secure, again) == verdict)
            #expect(
                try JSONDecoder().decode(Verdict.self, from: try JSONEncoder().encode(verdict)) == verdict)
        }
    }
}
