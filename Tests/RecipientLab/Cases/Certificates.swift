// Certificates where no TLSA record decides: what roots and the name prove, each fault told apart. And their grades.

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    private static func certificate(
        _ name: String, _ rule: String, _ kind: CertificateKind, names: [String] = ["mx"],
        _ verdicts: Verdicts, _ finding: Finding, grade: String = "sufficient"
    ) -> RecipientCase {
        RecipientCase(
            name: "certificate-\(name)", rule: rule, signing: .unsigned,
            hosts: [MailHost(kind, names: names)],
            verdicts: verdicts, findings: [finding], grade: grade)
    }

    static let certificates: [RecipientCase] = [
        certificate("trusted", "RFC 5280 §6: a chain to a trusted root", .trusted, .trusted, .chainTrusted),
        certificate(
            "trusted-below", "RFC 5280 §6: by way of an intermediate", .trustedBelow, .trusted, .chainTrusted),
        certificate(
            "wildcard", "RFC 9525 §6.3: a wildcard for the leftmost label", .trusted, names: ["*"], .trusted,
            .nameMatches),
        certificate(
            "several-names", "RFC 9525 §6.3: one of several names", .trusted,
            names: ["other.example.", "mx"],
            .trusted, .nameMatches),
        certificate(
            "self-signed", "RFC 5280 §6.1: self-signed", .selfSigned, .untrusted("certificate-not-trusted"),
            .selfSigned),
        certificate(
            "unknown-issuer", "RFC 5280 §6.1: an issuer that nobody knows, its root not presented",
            .privateBelow,
            .untrusted("certificate-not-trusted"), .untrustedRoot),
        certificate(
            "unknown-root", "RFC 5280 §6.1: a root that is not trusted, presented", .privateWithRoot,
            .untrusted("certificate-not-trusted"), .untrustedRoot),
        certificate(
            "missing-intermediate", "RFC 8446 §4.4.2: the intermediate is not presented",
            .missingIntermediate,
            .untrusted("certificate-not-trusted"), .missingIntermediate),
        certificate(
            "expired", "RFC 5280 §4.1.2.5: past its last day", .expired, .untrusted("certificate-expired"),
            .expired),
        certificate(
            "not-yet-valid", "RFC 5280 §4.1.2.5: before its first day", .notYetValid,
            .untrusted("certificate-not-yet-valid"), .notYetValid),
        certificate(
            "wrong-name", "RFC 9525 §6: another name", .trusted, names: ["other.example."],
            .untrusted("certificate-host-mismatch"), .nameMismatch),
        certificate(
            "domain-name", "RFC 8461 §4.1: the name of the domain and not of its host", .trusted,
            names: ["@"],
            .untrusted("certificate-host-mismatch"), .nameMismatch),
        certificate(
            "wildcard-too-deep", "RFC 9525 §6.3: a wildcard is one label", .trusted, names: ["*.test."],
            .untrusted("certificate-host-mismatch"), .nameMismatch),
        RecipientCase(
            name: "certificate-common-name", rule: "RFC 9525 appendix A: a common name is no name",
            signing: .unsigned,
            hosts: [.named(.trusted, commonName: "mx")], verdicts: .untrusted("certificate-host-mismatch"),
            findings: [.nameMismatch]),
        certificate(
            "for-clients", "RFC 5280 §4.2.1.12: for clients", .forClients, .untrusted("validation-failure"),
            .wrongPurpose),
        certificate(
            "for-code", "RFC 5280 §4.2.1.12: for the signing of code", .forCode,
            .untrusted("validation-failure"), .wrongPurpose),
        certificate(
            "weak-key", "NCSC 2025-05: RSA with 1024 bits", .weakKey, .untrusted("validation-failure"),
            .weakCertificate, grade: "insufficient"),
        certificate(
            "weak-signature", "NCSC 2025-05, RFC 9155 §2: signed with SHA-1", .weakSignature,
            .untrusted("validation-failure"), .weakCertificate, grade: "insufficient"),
        certificate(
            "impostor", "RFC 5280 §4.2.1.9: issued by the owner of an ordinary certificate", .trustedImpostor,
            .untrusted("validation-failure"), .wrongPurpose),
        certificate(
            "rsa-2048", "NCSC 2025-05: RSA with 2048 bits is being phased out", .trustedRSA, .trusted,
            .chainTrusted, grade: "phase out"),
        certificate(
            "worst", "design §9: the gravest of several faults names the reason", .worst,
            names: ["other.example."],
            .untrusted("certificate-not-trusted"), .selfSigned),
    ]
}
