// What a handshake settles on, graded by the table of NCSC-NL 2025-05, and what goes wrong before or in it.

import Lab
import SmartTLS
import TLS

extension RecipientCase {
    private static let tooLow = Verdicts(
        opportunistic: "deliver tls-authenticated", secure: "refuse tls-version-too-low",
        nta7516: "refuse tls-version-too-low")
    private static let notSecret = Verdicts(
        opportunistic: "deliver tls-authenticated", secure: "refuse no-forward-secrecy",
        nta7516: "refuse no-forward-secrecy")
    private static let brokenOff = Verdicts.all("defer tls-handshake-failed")

    private static func offering(
        _ name: String, _ rule: String, _ host: MailHost, grade: String?, _ verdicts: Verdicts = .trusted,
        findings: [Finding] = []
    ) -> RecipientCase {
        RecipientCase(
            name: "offers-\(name)", rule: rule, signing: .unsigned, hosts: [host], verdicts: verdicts,
            findings: findings, grade: grade)
    }

    private static func tls12(
        _ name: String, _ rule: String, suite: String, _ certificate: CertificateKind = .trusted,
        grade: String, _ verdicts: Verdicts = .trusted
    ) -> RecipientCase {
        var host = MailHost(certificate)
        host.versions = (.tls12, .tls12)
        host.suites = suite
        return offering(name, rule, host, grade: grade, verdicts)
    }

    static let parameters: [RecipientCase] = [
        offering(
            "tls10", "RFC 8996 §4: TLS 1.0 at most", .speaking(.tls10, .tls10), grade: "insufficient", tooLow,
            findings: [.tls10]),
        offering(
            "tls11", "RFC 8996 §5: TLS 1.1 at most", .speaking(.tls10, .tls11), grade: "insufficient", tooLow,
            findings: [.tls11]),
        offering(
            "tls12", "NCSC 2025-05: TLS 1.2 is sufficient", .speaking(.tls12, .tls12), grade: "sufficient",
            findings: [.tls12, .forwardSecrecy]),
        offering(
            "tls13", "NCSC 2025-05: TLS 1.3 is good, and a P-256 key sufficient", .speaking(.tls13, .tls13),
            grade: "sufficient", findings: [.tls13, .forwardSecrecy]),
        offering(
            "no-common-version", "RFC 8446 §6.2: protocol_version",
            .alerting(70), grade: "unknown",
            Verdicts(
                opportunistic: "defer tls-handshake-failed", secure: "refuse tls-version-too-low",
                nta7516: "refuse tls-version-too-low"), findings: [.noCommonVersion]),
        offering(
            "no-common-suite", "RFC 8446 §6.2: handshake_failure", .alerting(40), grade: "unknown", brokenOff,
            findings: [.handshakeFailed]),
        tls12(
            "static-rsa", "RFC 9325 §4.1: RSA key exchange has no forward secrecy",
            suite: "AES128-GCM-SHA256",
            .trustedRSA, grade: "insufficient", notSecret),
        tls12(
            "static-rsa-cbc", "NCSC 2025-05: RSA key exchange, CBC with SHA-1", suite: "AES128-SHA",
            .trustedRSA,
            grade: "insufficient", notSecret),
        tls12(
            "cbc-sha1", "NCSC 2025-05: CBC with SHA-1 is insufficient", suite: "ECDHE-ECDSA-AES128-SHA",
            grade: "insufficient"),
        tls12(
            "cbc-sha256", "NCSC 2025-05: CBC with SHA-256 is being phased out",
            suite: "ECDHE-ECDSA-AES128-SHA256", grade: "phase out"),
        tls12(
            "chacha20", "NCSC 2025-05: ChaCha20 is sufficient", suite: "ECDHE-ECDSA-CHACHA20-POLY1305",
            grade: "sufficient"),
        tls12(
            "aes256-gcm", "NCSC 2025-05: AES-256 with GCM is sufficient",
            suite: "ECDHE-ECDSA-AES256-GCM-SHA384",
            grade: "sufficient"),
        tls12(
            "dhe-2048", "NCSC 2025-05: 2048 bits are insufficient for DHE",
            suite: "DHE-RSA-AES128-GCM-SHA256",
            .trustedRSA, grade: "insufficient"),
        offering(
            "ffdhe3072", "NCSC 2025-05: ffdhe3072 is being phased out",
            .offering(groups: "ffdhe3072"), grade: "phase out"),
        offering(
            "ffdhe2048", "NCSC 2025-05: ffdhe2048 is insufficient",
            .offering(groups: "ffdhe2048"), grade: "insufficient"),
        offering(
            "secp521r1", "NCSC 2025-05: secp521r1 is sufficient",
            .offering(groups: "P-521"), grade: "sufficient"),
        offering(
            "x448", "NCSC 2025-05: x448 is sufficient", .offering(groups: "X448"),
            grade: "sufficient"),
        offering(
            "aes128-gcm", "NCSC 2025-05: TLS_AES_128_GCM_SHA256 is sufficient",
            .offering(suites: "TLS_AES_128_GCM_SHA256"), grade: "sufficient"),
    ]

    private static func failing(
        _ name: String, _ rule: String, _ host: MailHost, _ verdicts: Verdicts, findings: [Finding] = []
    ) -> RecipientCase {
        RecipientCase(
            name: "session-\(name)", rule: rule, signing: .unsigned, hosts: [host], verdicts: verdicts,
            findings: findings)
    }

    static let sessions: [RecipientCase] = [
        failing(
            "no-starttls", "RFC 3207 §4: STARTTLS is not offered", MailHost(nil),
            Verdicts(
                opportunistic: "deliver cleartext-allowed", secure: "refuse starttls-not-supported",
                nta7516: "refuse starttls-not-supported"), findings: [.starttlsNotOffered]),
        failing(
            "helo-only", "RFC 5321 §3.2: EHLO is not known, so that nothing is offered",
            .answering(.ehlo, .reply("502 5.5.1 what?")),
            Verdicts(
                opportunistic: "deliver cleartext-allowed", secure: "refuse starttls-not-supported",
                nta7516: "refuse starttls-not-supported")),
        failing(
            "starttls-rejected", "law 2: STARTTLS is offered and then rejected: no licence for cleartext",
            .answering(.startTLS, .reply("454 4.7.0 not now")), brokenOff, findings: [.starttlsRejected]),
        failing(
            "starttls-unknown", "law 2: the same for good", .answering(.startTLS, .reply("502 5.5.1 no")),
            brokenOff, findings: [.starttlsRejected]),
        failing(
            "response-injected", "RFC 3207 §5: an answer in clear behind the 220",
            .answering(.startTLS, .raw("220 go\r\n250 injected\r\n")), brokenOff, findings: [.handshakeFailed]
        ),
        failing(
            "cleartext-for-tls", "RFC 8446 §5.1: cleartext in place of a ServerHello",
            .saying(Array("250 hello\r\n".utf8)), brokenOff, findings: [.handshakeFailed]),
        failing(
            "closed-in-starttls", "law 2: the connection ends at STARTTLS: no licence for cleartext",
            .answering(.startTLS, .close), .all("defer connection-lost")),
        failing(
            "silent-handshake", "RFC 5321 §4.5.3.2: no answer to STARTTLS",
            .answering(.startTLS, .silence), .all("defer connection-timeout")),
        failing(
            "silent-greeting", "RFC 5321 §4.5.3.2.1: no greeting", .answering(.connect, .silence),
            .all("defer connection-timeout")),
        failing(
            "greeting-554", "RFC 5321 §3.1: 554 for a greeting", .answering(.connect, .reply("554 5.3.2 no")),
            .all("defer remote-deferred")),
        failing(
            "greeting-421", "RFC 5321 §3.8: 421 for a greeting",
            .answering(.connect, .replyThenClose("421 4.3.2 later")), .all("defer remote-deferred")),
        failing(
            "closed-at-once", "RFC 5321 §4.5.4.1: the connection ends at once", .answering(.connect, .close),
            .all("defer connection-lost")),
        failing(
            "endless-greeting", "law 9: a greeting without end",
            .answering(.connect, .raw(String(repeating: "220-no end\r\n", count: 20_000))),
            .all("defer protocol-violation")),
    ]
}

extension MailHost {
    /// These octets in clear in place of TLS.
    fileprivate static func saying(_ octets: [UInt8]) -> MailHost {
        var host = MailHost(nil)
        host.octetsForTLS = octets
        return host
    }

    /// A fatal alert in place of a ServerHello.
    fileprivate static func alerting(_ code: UInt8) -> MailHost { saying([21, 3, 3, 0, 2, 2, code]) }
}
