// What TLSA records decide: RFC 7671, RFC 7672. Hosts have the worst certificate that a record can still prove.

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    /// The digest of nobody's key.
    static let other = String(repeating: "0123456789abcdef", count: 4)
    private static let unmatched = Verdicts.all("defer tlsa-invalid")

    private static func ee(_ name: String, _ rule: String, _ records: [String], _ verdicts: Verdicts = .dane)
        -> RecipientCase
    {
        RecipientCase(
            name: name, rule: rule, zone: plain + records.map { "_{P}._tcp.mx TLSA {\($0)}\n" }.joined(),
            hosts: [MailHost(.worst, names: ["other.example."])], verdicts: verdicts)
    }

    private static func ta(
        _ name: String, _ rule: String, _ records: [String], _ certificate: CertificateKind,
        names: [String] = ["mx"], _ verdicts: Verdicts = .dane, findings: [Finding] = []
    ) -> RecipientCase {
        RecipientCase(
            name: name, rule: rule, zone: plain + records.map { "_{P}._tcp.mx TLSA {\($0)}\n" }.joined(),
            hosts: [MailHost(certificate, names: names)], verdicts: verdicts, findings: findings)
    }

    static let endEntity: [RecipientCase] = [
        ee("ee-3-1-1", "RFC 7671 §5.1: DANE-EE ignores name, dates and issuer", ["3 1 1 A"]),
        ee("ee-3-0-1", "RFC 6698 §2.1: the whole certificate, SHA-256", ["3 0 1 A"]),
        ee("ee-3-1-2", "RFC 6698 §2.1: the key, SHA-512", ["3 1 2 A"]),
        ee("ee-3-0-2", "RFC 6698 §2.1: the whole certificate, SHA-512", ["3 0 2 A"]),
        ee("ee-3-1-0", "RFC 6698 §2.1.3: the key itself", ["3 1 0 A"]),
        ee("ee-3-0-0", "RFC 6698 §2.1.3: the certificate itself", ["3 0 0 A"]),
        ee("ee-mismatch", "RFC 7672 §2.2: no record matches: later", ["3 1 1 \(other)"], unmatched),
        RecipientCase(
            name: "ee-mismatch-trusted",
            rule: "RFC 7672 §2.2: no record matches, and a trusted certificate saves nothing",
            zone: published("3 1 1 \(other)"), verdicts: unmatched, findings: [.daneMismatch, .chainTrusted]),
        RecipientCase(
            name: "ee-rollover",
            rule: "RFC 7671 §8.1: the record of the next key beside that of the present one",
            zone: published("3 1 1 \(other)", "3 1 1 A"), hosts: [MailHost(.worst)], verdicts: .dane,
            findings: [.daneRollover]),
        ee(
            "ee-beside-ta", "RFC 7671 §4: of DANE-EE and DANE-TA either may match: the first",
            ["3 1 1 A", "2 1 1 \(other)"]),
        ee(
            "agility-stronger-fails", "RFC 7671 §9: of two digests the strongest alone counts",
            ["3 1 1 A", "3 1 2 \(other)\(other)"], unmatched),
        ee(
            "agility-stronger-matches", "RFC 7671 §9: of two digests the strongest alone counts",
            ["3 1 1 \(other)", "3 1 2 A"]),
        ee(
            "agility-by-selector", "RFC 7671 §9: the strongest of each usage and selector",
            ["3 1 1 A", "3 0 2 \(other)\(other)"]),
        ee(
            "agility-whole", "RFC 7671 §9: what is no digest is always looked at",
            ["3 1 0 A", "3 1 2 \(other)\(other)"]),
        RecipientCase(
            name: "ee-large", rule: "RFC 7766 §5: a TLSA answer that needs TCP",
            zone: published("3 1 1 A")
                + (10..<60).map {
                    "_{P}._tcp.mx TLSA 3 1 1 \(String(repeating: "\($0)", count: 32))\n"
                }.joined(), hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "tlsa-alias", rule: "RFC 7672 §2.2.3: TLSA records at the end of an alias",
            zone: plain + "_{P}._tcp.mx CNAME _dane.elsewhere\n_dane.elsewhere TLSA {3 1 1 A}\n",
            hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "tlsa-alias-unsigned",
            rule: "RFC 7672 §2.2.3: the alias leads to where nothing is signed: no DANE",
            zone: plain + "_{P}._tcp.mx CNAME _dane.{N}-hosts.test.\n",
            otherZones: [LabZone("{N}-hosts.test", .unsigned, "_dane TLSA 3 1 1 \(other)\n")],
            verdicts: .trusted, findings: [.daneInsecure]),
        RecipientCase(
            name: "tlsa-wildcard", rule: "RFC 4592 §2.1: TLSA records by wildcard, with their proof",
            zone: plain + "*.mx TLSA {3 1 1 A}\n", hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "tlsa-unsigned-child",
            rule: "RFC 7672 §2.2.3: TLSA records in an unsigned zone below the host: no DANE",
            zone: plain + "_tcp.mx NS ns\n",
            otherZones: [LabZone("_tcp.mx.{D}", .unsigned, "_{P} TLSA 3 1 1 \(other)\n")], verdicts: .trusted,
            findings: [.daneInsecure]),
        RecipientCase(
            name: "tlsa-other-port", rule: "RFC 7672 §2.2: records for another port are none for this",
            zone: plain + "_1._tcp.mx TLSA 3 1 1 \(other)\n", verdicts: .trusted, findings: [.daneAbsent]),
        RecipientCase(
            name: "dual-certificates", rule: "RFC 7671 §8.4: RSA and ECDSA side by side, a record for each",
            zone: published("3 1 1 A", "3 1 1 A.second"), hosts: [.dual(.tls12)],
            verdicts: .dane),
        RecipientCase(
            name: "dual-one-published",
            rule: "RFC 7671 §8.4: RSA and ECDSA side by side, and no record for the one that is presented",
            zone: published("3 1 1 A"), hosts: [.dual(.tls13)], verdicts: unmatched),
        RecipientCase(
            name: "ee-tls11", rule: "RFC 8996 §5: a record matches, and TLS 1.1 is none",
            zone: published("3 1 1 A"), hosts: [.speaking(.tls10, .tls11)],
            verdicts: Verdicts(
                opportunistic: "deliver dane-authenticated", secure: "refuse tls-version-too-low",
                nta7516: "refuse tls-version-too-low")),
        RecipientCase(
            name: "ee-no-starttls", rule: "RFC 7672 §2.2: records and no STARTTLS: never in clear",
            zone: published("3 1 1 \(other)"), hosts: [MailHost(nil)],
            verdicts: .all("defer starttls-not-supported")),
        RecipientCase(
            name: "ee-starttls-rejected",
            rule: "RFC 7672 §2.2: records, and STARTTLS is rejected: never in clear",
            zone: published("3 1 1 A"), hosts: [.answering(.startTLS, .reply("454 4.7.0 not now"))],
            verdicts: .all("defer tls-handshake-failed")),
    ]

    static let trustAnchors: [RecipientCase] = [
        ta("ta-intermediate-key", "RFC 7671 §5.2: an intermediate's key", ["2 1 1 A.ca"], .privateBelow),
        ta("ta-intermediate", "RFC 7671 §5.2: an intermediate's certificate", ["2 0 1 A.ca"], .privateBelow),
        ta("ta-root", "RFC 7671 §5.2.2: a private root, presented", ["2 0 1 A.root"], .privateWithRoot),
        ta("ta-root-key", "RFC 7671 §5.2.2: its key", ["2 1 1 A.root"], .privateWithRoot),
        ta(
            "ta-absent", "RFC 7671 §5.2.2: a digest of a root that is not presented", ["2 0 1 A.root"],
            .privateBelow, unmatched),
        ta(
            "ta-whole", "RFC 7671 §5.2.3: the root itself in the record, not presented", ["2 0 0 A.root"],
            .privateBelow),
        ta(
            "ta-bare-key", "RFC 7671 §5.2.3: the root's key in the record, not presented", ["2 1 0 A.root"],
            .privateBelow),
        ta(
            "ta-trusted-root", "RFC 7671 §5.2: a root that is trusted too, presented", ["2 1 1 A.ca"],
            .trustedBelow),
        ta(
            "ta-leaf", "RFC 7671 §5.2: the record of an anchor does not match the server's own certificate",
            ["2 1 1 A"], .privateBelow, unmatched),
        ta(
            "ta-leaf-self-signed", "RFC 7671 §5.2: nor one that is its own issuer", ["2 1 1 A"], .selfSigned,
            unmatched),
        ta(
            "ta-shuffled", "RFC 8446 §4.4.2: a chain in another order, with strangers in it",
            ["2 1 1 A.root"], .privateShuffled),
        ta(
            "ta-next-hop", "RFC 7672 §3.2.2: the name of the recipient domain", ["2 1 1 A.ca"], .privateBelow,
            names: ["@"]),
        ta(
            "ta-wildcard", "RFC 7672 §3.2.3: a wildcard for the leftmost label", ["2 1 1 A.ca"],
            .privateBelow,
            names: ["*"]),
        ta(
            "ta-wrong-name", "RFC 7672 §3.2.2: another name", ["2 1 1 A.ca"], .privateBelow,
            names: ["other.example."], .all("defer certificate-host-mismatch"), findings: [.daneNameMismatch]),
        RecipientCase(
            name: "ta-common-name", rule: "RFC 9525 appendix A: a common name is no name",
            zone: published("2 1 1 A.ca"),
            hosts: [.named(.privateBelow, commonName: "mx")],
            verdicts: .all("defer certificate-host-mismatch")),
        RecipientCase(
            name: "ta-domain-alias-end", rule: "RFC 7672 §3.2.2: the name at the end of the domain's alias",
            recipient: "alias",
            zone: "alias CNAME real\nreal MX 10 mx\nmx A {A}\n_{P}._tcp.mx TLSA {2 1 1 A.ca}\n",
            hosts: [MailHost(.privateBelow, names: ["real"])], verdicts: .dane),
        RecipientCase(
            name: "ta-implicit-alias",
            rule:
                "RFC 7672 §3.2.2: no MX, records at the end of the domain's alias, the name the domain's own",
            recipient: "alias", zone: "alias CNAME real\nreal A {A}\n_{P}._tcp.real TLSA {2 1 1 A.ca}\n",
            hosts: [MailHost(.privateBelow, names: ["alias"])], verdicts: .dane),
        RecipientCase(
            name: "ta-mx-alias-name",
            rule: "RFC 7672 §3.2.2: the name of the host before its alias is not among those",
            zone: "@ MX 10 mx\nmx CNAME real\nreal A {A}\n_{P}._tcp.real TLSA {2 1 1 A.ca}\n",
            hosts: [MailHost(.privateBelow, names: ["mx"])], verdicts: .all("defer certificate-host-mismatch")
        ),
        ta(
            "ta-expired", "RFC 7671 §5.2: dates count below an anchor", ["2 1 1 A.ca"], .privateExpired,
            .all("defer certificate-expired"), findings: [.daneExpired]),
        ta(
            "ta-not-yet-valid", "RFC 7671 §5.2: the first day counts too", ["2 1 1 A.ca"],
            .privateNotYetValid,
            .all("defer validation-failure"), findings: [.daneChainInvalid]),
        ta(
            "ta-wrong-purpose", "RFC 5280 §4.2.1.12: a certificate for clients", ["2 1 1 A.ca"],
            .privateForClients, .all("defer validation-failure")),
        ta(
            "ta-too-deep", "RFC 5280 §4.2.1.9: an authority below one that allows none", ["2 1 1 A.root"],
            .privateTooDeep, .all("defer validation-failure")),
        ta(
            "ta-impostor", "RFC 5280 §4.2.1.9: issued by the owner of an ordinary certificate",
            ["2 1 1 A.root"], .impostor, .all("defer validation-failure")),
        ta(
            "ta-beside-ee", "RFC 7671 §4: of DANE-EE and DANE-TA either may match: the second",
            ["3 1 1 \(other)", "2 1 1 A.ca"], .privateBelow),
    ]

    static let unusable: [RecipientCase] = {
        let authenticated = Verdicts(
            opportunistic: "deliver tls-authenticated", secure: "deliver tls-authenticated",
            nta7516: "refuse tlsa-invalid")
        func row(
            _ name: String, _ rule: String, _ records: [String], _ verdicts: Verdicts? = nil,
            _ certificate: CertificateKind? = .trusted
        ) -> RecipientCase {
            RecipientCase(
                name: name, rule: rule, zone: plain + records.map { "_{P}._tcp.mx TLSA {\($0)}\n" }.joined(),
                hosts: [MailHost(certificate)], verdicts: verdicts ?? authenticated)
        }
        return [
            row("usage-1", "RFC 7672 §3.1.3: PKIX-EE is not usable: TLS without DANE", ["1 1 1 A"]),
            row("usage-0", "RFC 7672 §3.1.3: PKIX-TA is not usable", ["0 1 1 A.ca"]),
            row("usage-4", "RFC 6698 §4.1: an unknown usage is not usable", ["4 1 1 A"]),
            row("selector-2", "RFC 6698 §4.1: an unknown selector is not usable", ["3 2 1 A"]),
            row("matching-3", "RFC 6698 §4.1: an unknown matching type is not usable", ["3 1 3 \(other)"]),
            row(
                "digest-too-short", "RFC 6698 §2.1.3: a digest of the wrong length is not usable",
                ["3 1 1 0123456789"]),
            row(
                "digest-too-long", "RFC 6698 §2.1.3: a digest of the wrong length is not usable",
                ["3 1 1 \(other)00"]),
            row(
                "unusable-self-signed", "RFC 7672 §2.2: none is usable: TLS is mandatory, and proves nothing",
                ["1 1 1 A"],
                Verdicts(
                    opportunistic: "deliver tls-unauthenticated", secure: "refuse certificate-not-trusted",
                    nta7516: "refuse tlsa-invalid"), .selfSigned),
            row(
                "unusable-no-starttls", "RFC 7672 §2.2: none is usable, and still never in clear",
                ["1 1 1 \(other)"], .all("defer starttls-not-supported"), nil),
            row(
                "usage-1-beside-ee", "RFC 7672 §3.1.3: what is not usable is passed over",
                ["1 1 1 \(other)", "3 1 1 A"], .dane, .worst),
            row(
                "usage-1-beside-mismatch", "RFC 7672 §3.1.3: PKIX-EE matches and DANE-EE does not: no match",
                ["1 1 1 A", "3 1 1 \(other)"], unmatched),
        ]
    }()

    static let security: [RecipientCase] = [
        RecipientCase(
            name: "tlsa-absent", rule: "RFC 7672 §2.2: provably no records: what roots and the name prove",
            verdicts: .trusted, findings: [.daneAbsent]),
        RecipientCase(
            name: "all-unsigned", rule: "RFC 7672 §2.1.1: an unsigned zone's records are nobody's word",
            signing: .unsigned, zone: published("3 1 1 \(other)"), verdicts: .trusted,
            findings: [.daneInsecure]),
        RecipientCase(
            name: "mx-insecure",
            rule: "RFC 7672 §2.2.1: an MX that is not signed: no DANE, whatever its host has",
            signing: .unsigned, zone: "@ MX 10 mx.{N}-hosts.test.\n",
            otherZones: [
                LabZone("{N}-hosts.test", .signed, "mx A {A}\n_{P}._tcp.mx TLSA 3 1 1 \(other)\n")
            ], hosts: [MailHost(names: ["mx.{N}-hosts.test."])], verdicts: .trusted,
            findings: [.daneInsecure, .nameUnproven]),
        RecipientCase(
            name: "address-insecure", rule: "RFC 7672 §2.2.2: an address that is not signed: no DANE",
            zone: "@ MX 10 mx.{N}-hosts.test.\n",
            otherZones: [
                LabZone("{N}-hosts.test", .unsigned, "mx A {A}\n_{P}._tcp.mx TLSA 3 1 1 \(other)\n")
            ], hosts: [MailHost(names: ["mx.{N}-hosts.test."])], verdicts: .trusted,
            findings: [.daneInsecure, .nameProven]),
        RecipientCase(
            name: "address-insecure-servfail",
            rule:
                "RFC 7672 §2.2.2: TLSA is not asked for where the address is insecure: its failure stops nothing",
            zone: "@ MX 10 mx.{N}-hosts.test.\n",
            otherZones: [
                LabZone("{N}-hosts.test", .unsigned, "mx A {A}\n"),
                // No data, so that every question below it is answered SERVFAIL.
                LabZone("_tcp.mx.{N}-hosts.test", .unsigned, nil),
            ], hosts: [MailHost(names: ["mx.{N}-hosts.test."])],
            verdicts: .trusted, findings: [.daneInsecure]),
        RecipientCase(
            name: "signatures-expired", rule: "RFC 4035 §5.3.1: signatures that have ended prove nothing",
            signing: .expired, zone: published("3 1 1 A"), verdicts: .all("defer dnssec-invalid")),
        RecipientCase(
            name: "family-aaaa-bogus", rule: "RFC 7672 §2.1.2: AAAA is bogus and A is not: A goes on",
            signing: .altered(name: "mx", type: "AAAA"), zone: published("3 1 1 A") + "mx AAAA ::1\n",
            hosts: [MailHost(.worst)], verdicts: .dane),
        RecipientCase(
            name: "family-a-bogus", rule: "RFC 7672 §2.1.2: A is bogus and there is no AAAA: later",
            signing: .altered(name: "mx", type: "A"), zone: published("3 1 1 A"), hosts: [MailHost(.worst)],
            verdicts: .all("defer dnssec-invalid")),
        RecipientCase(
            name: "mx-bogus-with-good-host", rule: "RFC 7672 §2.1.2: a bogus MX is no way to a good host",
            signing: .altered(name: "@", type: "MX"), zone: published("3 1 1 A"), hosts: [MailHost(.worst)],
            verdicts: .all("defer dnssec-invalid")),
    ]
}

extension MailHost {
    /// A host with these versions only, and a trusted certificate.
    static func speaking(_ oldest: TLSVersion, _ newest: TLSVersion) -> MailHost {
        var host = MailHost()
        host.versions = (oldest, newest)
        return host
    }

    /// A certificate with a common name and no other.
    static func named(_ certificate: CertificateKind, commonName: String) -> MailHost {
        var host = MailHost(certificate, names: [])
        host.commonName = commonName
        return host
    }
}
