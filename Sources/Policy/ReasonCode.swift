// Why something was decided, as a code that machines keep and a sentence that a help desk reads out (law 8).
// The names of RFC 8460 §4.3 where it has one; ours in the same style otherwise. Kinds are text: a reader keeps
// those that it does not know.

/// The reason of a verdict, a refusal, a deferral or a delivery.
public struct ReasonCode: RawRepresentable, Sendable, Hashable, Codable, CustomStringConvertible {
    /// The code: lower-case words joined with `-`.
    public let rawValue: String

    /// Takes any text, known or not.
    public init(rawValue: String) { self.rawValue = rawValue }

    init(_ text: String) { self.rawValue = text }

    /// The code.
    public var description: String { rawValue }

    // Results of RFC 8460 §4.3.

    /// The server does not offer STARTTLS.
    public static let starttlsNotSupported = ReasonCode("starttls-not-supported")
    /// The certificate carries another name.
    public static let certificateHostMismatch = ReasonCode("certificate-host-mismatch")
    /// The certificate has expired.
    public static let certificateExpired = ReasonCode("certificate-expired")
    /// The certificate leads to no trusted root; a self-signed one too, which the findings tell apart.
    public static let certificateNotTrusted = ReasonCode("certificate-not-trusted")
    /// TLS failed for another reason.
    public static let validationFailure = ReasonCode("validation-failure")
    /// No TLSA record is valid for the certificate.
    public static let tlsaInvalid = ReasonCode("tlsa-invalid")
    /// DNSSEC validation failed.
    public static let dnssecInvalid = ReasonCode("dnssec-invalid")
    /// DANE is demanded and not there.
    public static let daneRequired = ReasonCode("dane-required")

    /// The MTA-STS policy that the domain publishes cannot be fetched.
    public static let stsPolicyFetchError = ReasonCode("sts-policy-fetch-error")
    /// What the domain serves as its MTA-STS policy is none.
    public static let stsPolicyInvalid = ReasonCode("sts-policy-invalid")
    /// The host of the MTA-STS policy has no valid certificate.
    public static let stsWebPKIInvalid = ReasonCode("sts-webpki-invalid")

    // MTA-STS, where RFC 8460 has no name.

    /// The MTA-STS policy of the domain does not name the host.
    public static let stsMXMismatch = ReasonCode("sts-mx-mismatch")
    /// It is not known whether the domain has an MTA-STS policy.
    public static let stsLookupFailed = ReasonCode("sts-lookup-failed")

    // TLS.

    /// The certificate is not valid yet.
    public static let certificateNotYetValid = ReasonCode("certificate-not-yet-valid")
    /// The certificate has been revoked by its issuer.
    public static let certificateRevoked = ReasonCode("certificate-revoked")
    /// The server speaks only a version below the floor.
    public static let tlsVersionTooLow = ReasonCode("tls-version-too-low")
    /// The key exchange is not ephemeral.
    public static let noForwardSecrecy = ReasonCode("no-forward-secrecy")
    /// No cipher suite in common.
    public static let noCommonCipher = ReasonCode("no-common-cipher")
    /// The name of the host came from unsigned DNS.
    public static let nameUnproven = ReasonCode("name-unproven")
    /// The address of the host is outside the European Economic Area, as configured.
    public static let outsideEEA = ReasonCode("outside-eea")
    /// The recipient's domain has no valid NTA 7516 record.
    public static let ntaNotCapable = ReasonCode("nta-not-capable")
    /// The server also accepts what the guidelines call insufficient.
    public static let insufficientTLSAccepted = ReasonCode("insufficient-tls-accepted")
    /// The server must have been scanned, and there is no scan of it that counts.
    public static let scanPending = ReasonCode("scan-pending")
    /// The handshake broke off.
    public static let tlsHandshakeFailed = ReasonCode("tls-handshake-failed")
    /// The message was taken in under a ruleset that this node does not know.
    public static let rulesetUnknown = ReasonCode("ruleset-unknown")

    // Deliveries.

    /// Delivered over TLS to a host that its TLSA records in DNSSEC prove.
    public static let daneAuthenticated = ReasonCode("dane-authenticated")
    /// Delivered over TLS to a host that the domain's MTA-STS policy names and a trusted certificate proves.
    public static let stsAuthenticated = ReasonCode("sts-authenticated")
    /// Delivered over TLS to a host whose name a trusted certificate proves.
    public static let tlsAuthenticated = ReasonCode("tls-authenticated")
    /// Delivered over TLS to a host that proved no name.
    public static let tlsUnauthenticated = ReasonCode("tls-unauthenticated")
    /// Delivered without TLS, as the ruleset allows.
    public static let cleartextAllowed = ReasonCode("cleartext-allowed")

    // Looking up.

    /// A DNS lookup had no answer.
    public static let dnsFailure = ReasonCode("dns-failure")
    /// The recipient's domain does not exist.
    public static let noSuchDomain = ReasonCode("no-such-domain")
    /// The domain says that it takes no mail (RFC 7505).
    public static let nullMX = ReasonCode("null-mx")
    /// The domain has no mail server with an address.
    public static let noMailHost = ReasonCode("no-mail-host")
    /// The best mail server of the domain is this one.
    public static let mailLoop = ReasonCode("mail-loop")
    /// The recipient's domain is no valid domain name.
    public static let domainInvalid = ReasonCode("domain-invalid")
    /// The recipient's domain is an address in brackets.
    public static let addressLiteral = ReasonCode("address-literal")

    // Connecting and speaking.

    /// The server took no connection.
    public static let connectionRefused = ReasonCode("connection-refused")
    /// The server did not answer in time.
    public static let connectionTimeout = ReasonCode("connection-timeout")
    /// The connection broke off.
    public static let connectionLost = ReasonCode("connection-lost")
    /// The server broke the rules of SMTP.
    public static let protocolViolation = ReasonCode("protocol-violation")
    /// The server answered 4xx; or it offers us no service: it greeted with 554 (RFC 5321 §3.1), or refused EHLO and HELO. Another host
    /// may take the message, or this one later.
    public static let remoteDeferred = ReasonCode("remote-deferred")
    /// The server answered 5xx.
    public static let remoteRejected = ReasonCode("remote-rejected")
    /// The server's limit is below the size of the message.
    public static let sizeExceeded = ReasonCode("size-exceeded")
    /// The server does not take internationalised addresses.
    public static let smtputf8NotSupported = ReasonCode("smtputf8-not-supported")
    /// The server does not take 8-bit content.
    public static let eightBitNotSupported = ReasonCode("eightbit-not-supported")
    /// The server cannot promise TLS for the rest of the way (RFC 8689).
    public static let requireTLSNotSupported = ReasonCode("requiretls-not-supported")

    // Ourselves.

    /// The key service did not open the message.
    public static let keyServiceUnavailable = ReasonCode("key-service-unavailable")
    /// The stored message is not what was sealed.
    public static let integrityFailure = ReasonCode("integrity-failure")
    /// It could not be delivered in the time that was given.
    public static let messageExpired = ReasonCode("message-expired")
    /// The key that opens the message has been destroyed.
    public static let keyDestroyed = ReasonCode("key-destroyed")
    /// The answer to the end of the content never came.
    public static let finalDotInDoubt = ReasonCode("final-dot-in-doubt")
    /// The same bytes and envelope were taken in before, as another message, which is delivered in its stead.
    public static let replayed = ReasonCode("replayed")
    /// The shard was restored to a moment before, and it is not known whether the message was delivered since.
    public static let restoredInDoubt = ReasonCode("restored-in-doubt")
    /// The shard was restored to a moment before, and nobody knows what became of the message since.
    public static let restoredUnknown = ReasonCode("restored-unknown")
    /// Taken in after the moment that the shard was restored to: nothing is left of it but its events.
    public static let restoredLost = ReasonCode("restored-lost")
    /// An operator decided so.
    public static let operatorDecision = ReasonCode("operator-decision")
    /// An operator wants it ended unsent, and its sender told.
    public static let operatorReturn = ReasonCode("operator-return")
    /// Too much is under way.
    public static let overloaded = ReasonCode("overloaded")
}
