// The closed vocabulary in which a recipient host is described. Instruments (the handshake that carries the mail,
// later a scan) produce findings; `Verdict` judges nothing else. A finding is a fact, good or bad: whether it
// matters is the ruleset's question.

/// One fact about a recipient host and the connection to it.
public enum Finding: String, Sendable, Hashable, Codable, CaseIterable, Comparable {
    // Whether there is TLS at all.

    /// The server does not offer STARTTLS.
    case starttlsNotOffered = "starttls-not-offered"
    /// The server offers STARTTLS and then answers the command with an error.
    case starttlsRejected = "starttls-rejected"
    /// The server has no protocol version in common with us.
    case noCommonVersion = "no-common-version"
    /// The handshake broke off for another reason.
    case handshakeFailed = "handshake-failed"

    // The connection.

    /// TLS 1.0 (RFC 8996: must not be used).
    case tls10 = "tls-1.0"
    /// TLS 1.1 (RFC 8996: must not be used).
    case tls11 = "tls-1.1"
    /// TLS 1.2.
    case tls12 = "tls-1.2"
    /// TLS 1.3.
    case tls13 = "tls-1.3"
    /// The key exchange is ephemeral.
    case forwardSecrecy = "forward-secrecy"
    /// The key exchange is not ephemeral.
    case noForwardSecrecy = "no-forward-secrecy"

    // The certificate chain.

    /// The chain leads to a trusted root and every check passed.
    case chainTrusted = "chain-trusted"
    /// No certificate was presented.
    case noCertificate = "no-certificate"
    /// The certificate is its own issuer.
    case selfSigned = "self-signed"
    /// The chain ends in a root that is not trusted.
    case untrustedRoot = "untrusted-root"
    /// The issuer of the certificate was not presented and is not known.
    case missingIntermediate = "missing-intermediate"
    /// A signature in the chain does not hold.
    case badSignature = "bad-signature"
    /// Revoked by its issuer, as an OCSP response in the handshake says.
    case revoked = "certificate-revoked"
    /// Past its last day.
    case expired
    /// Before its first day.
    case notYetValid = "not-yet-valid"
    /// A key or digest that is too weak.
    case weakCertificate = "weak-certificate"
    /// Not a certificate for a server.
    case wrongPurpose = "wrong-purpose"
    /// Another fault of the chain.
    case chainInvalid = "chain-invalid"
    /// The certificate demands an OCSP response (RFC 7633), and there is none that holds. No verdict rests on it.
    case stapleMissing = "staple-missing"

    // The name.

    /// The certificate carries the name of the host.
    case nameMatches = "name-matches"
    /// The certificate does not carry the name of the host.
    case nameMismatch = "name-mismatch"
    /// The name of the host is configured, or came from DNS with a secure answer.
    case nameProven = "name-proven"
    /// The name of the host came from unsigned DNS, so whoever forges DNS chooses it.
    case nameUnproven = "name-unproven"

    // DANE (RFC 7672).

    /// DNSSEC-secure TLSA records are published for the host, usable or not: TLS is mandatory.
    case tlsaPublished = "tlsa-published"
    /// A DANE-EE record matches the certificate; its name, dates and issuer are beside the point.
    case daneMatchedEE = "dane-matched-ee"
    /// A DANE-TA record matches an issuer, and name and dates hold.
    case daneMatchedTA = "dane-matched-ta"
    /// There are usable records and none matches.
    case daneMismatch = "dane-mismatch"
    /// A DANE-TA record matches, and the certificate below it carries none of the names that it may.
    case daneNameMismatch = "dane-name-mismatch"
    /// A DANE-TA record matches, and the chain below it has expired.
    case daneExpired = "dane-expired"
    /// A DANE-TA record matches, and the chain below it does not hold.
    case daneChainInvalid = "dane-chain-invalid"
    /// None of the published records is usable.
    case daneUnusable = "dane-unusable"
    /// DNSSEC proves that there are no TLSA records.
    case daneAbsent = "dane-absent"
    /// The MX records, the address or the TLSA records are not signed.
    case daneInsecure = "dane-insecure"
    /// The TLSA records could not be looked up.
    case tlsaLookupFailed = "tlsa-lookup-failed"
    /// The TLSA records, or their absence, are wrongly signed.
    case tlsaBogus = "tlsa-bogus"
    /// A second record stands ready for the next certificate: two of usage 3, or one of usage 3 and one of usage 2.
    case daneRollover = "dane-rollover"

    // What else the host accepts, from a scan. A verdict rests on these only where the ruleset asks for scans.

    /// There is a complete scan of the host, made with this certificate and these TLSA records, whose time is not over.
    case scanned

    /// Bytes in clear behind the answer to STARTTLS (RFC 3207 §5).
    case starttlsInjection = "starttls-injection"
    /// SSL 3.0, TLS 1.0 or TLS 1.1 (RFC 8996).
    case acceptsOldTLS = "accepts-old-tls"
    /// A suite that the guidelines call insufficient.
    case acceptsWeakSuites = "accepts-weak-suites"
    /// Compression of TLS (RFC 3749), which gives secrets away.
    case compression
    /// No secure renegotiation (RFC 5746).
    case renegotiationInsecure = "renegotiation-insecure"
    /// A client may start another handshake before TLS 1.3.
    case clientRenegotiation = "client-renegotiation"
    /// Data before the end of the handshake (RFC 8446 §2.3), which can be replayed.
    case acceptsEarlyData = "accepts-early-data"
    /// No extended master secret (RFC 7627).
    case noExtendedMasterSecret = "no-extended-master-secret"

    // MTA-STS (RFC 8461).

    /// A policy in mode `enforce` is in force for the recipient domain.
    case stsEnforce = "sts-enforce"
    /// A policy in mode `testing` is: it is reported and demands nothing.
    case stsTesting = "sts-testing"
    /// The recipient domain publishes no policy, or one of mode `none`.
    case stsAbsent = "sts-absent"
    /// An operator's static route stands in for the MX records that a policy would be about.
    case stsBypassed = "sts-bypassed"
    /// The policy does not name this host.
    case stsMXMismatch = "sts-mx-mismatch"
    /// The policy in force names this host, whose name unsigned DNS gave.
    case nameProvenBySTS = "name-proven-by-sts"
    /// A policy is published, none is held, and it could not be fetched.
    case stsPolicyFetchError = "sts-policy-fetch-error"
    /// The same, and what was fetched is no policy.
    case stsPolicyInvalid = "sts-policy-invalid"
    /// The same, for the certificate of the policy host.
    case stsWebPKIInvalid = "sts-webpki-invalid"
    /// Nobody knows whether there is a policy.
    case stsLookupFailed = "sts-lookup-failed"
    /// The answer for the policy's record is wrongly signed, and no policy is held.
    case stsBogus = "sts-bogus"

    // NTA 7516, of the address.

    /// By the configured networks it is outside the European Economic Area.
    case outsideEEA = "outside-eea"

    // NTA 7516, of the recipient domain and not of the host.

    /// The domain has a valid record in a secure answer.
    case ntaCapable = "nta-capable"
    /// It has no record.
    case ntaAbsent = "nta-absent"
    /// It has one in an answer that is not signed, which may be anyone's.
    case ntaInsecure = "nta-insecure"
    /// The last month of its record is over.
    case ntaExpired = "nta-expired"
    /// The first month of its record is still to come.
    case ntaNotYetValid = "nta-not-yet-valid"
    /// What it has is no record that can be read, or more than one.
    case ntaMalformed = "nta-malformed"

    /// The order of this list, which is the order of a report.
    public static func < (left: Finding, right: Finding) -> Bool { left.rank < right.rank }

    private var rank: Int { Finding.allCases.firstIndex(of: self) ?? 0 }

    /// What a scan can find that the guidelines call insufficient and that an attacker could choose.
    static let insufficientOffers: Set<Finding> = [
        .starttlsInjection, .acceptsOldTLS, .acceptsWeakSuites, .compression, .renegotiationInsecure,
    ]

    /// The ways not to satisfy usable TLSA records.
    static let daneFaults: [Finding] = [
        .daneMismatch, .daneChainInvalid, .daneExpired, .daneNameMismatch,
    ]

    /// Ways to know that no policy demands anything.
    static let stsUndemanding: Set<Finding> = [
        .stsAbsent, .stsBypassed, .stsTesting, .stsPolicyFetchError, .stsPolicyInvalid, .stsWebPKIInvalid,
    ]

    /// Ways not to get at a policy that is published: as if there were none, and nobody knows what it would have proven.
    static let stsUnavailable: [Finding] = [.stsPolicyFetchError, .stsPolicyInvalid, .stsWebPKIInvalid]

    /// The faults of a chain, gravest first: the first that is found names the reason.
    static let chainFaults: [Finding] = [
        .noCertificate, .revoked, .badSignature, .selfSigned, .untrustedRoot, .missingIntermediate, .expired,
        .notYetValid, .weakCertificate, .wrongPurpose, .chainInvalid,
    ]
}
