/// What an SMTP server offers and where its limits are.
public struct SMTPServerOptions: Sendable {
    /// The name of this host, in the greeting and the EHLO reply.
    public var hostName: String
    /// The largest content, in octets; announced by SIZE.
    public var maximumSize: Int
    /// The most recipients of a transaction; RFC 5321 §4.5.3.1.8 asks for at least 100.
    public var maximumRecipients: Int
    /// The longest line of content, in octets, CRLF included (RFC 5321 §4.5.3.1.6: at least 1000).
    public var maximumLineLength: Int
    /// Whether mail is taken over TLS only.
    public var requiresTLS: Bool
    /// Whether STARTTLS can be offered.
    public var offersSTARTTLS: Bool
    /// Errors of a client, syntax and sequence, after which the connection is closed with 421.
    public var maximumErrors: Int
    /// Failed AUTH attempts after which the connection is closed with 421.
    public var maximumAuthenticationFailures: Int
    /// Where mail to `<postmaster>` without a domain goes (RFC 5321 §4.5.1); without it such mail is refused.
    public var postmaster: MailAddress?

    /// Options with the defaults of the standard.
    public init(
        hostName: String, maximumSize: Int = 52_428_800, maximumRecipients: Int = 1000,
        maximumLineLength: Int = 1000, requiresTLS: Bool = true, offersSTARTTLS: Bool = true,
        maximumErrors: Int = 20, maximumAuthenticationFailures: Int = 3, postmaster: MailAddress? = nil
    ) {
        self.hostName = hostName
        self.maximumSize = maximumSize
        self.maximumRecipients = maximumRecipients
        self.maximumLineLength = maximumLineLength
        self.requiresTLS = requiresTLS
        self.offersSTARTTLS = offersSTARTTLS
        self.maximumErrors = maximumErrors
        self.maximumAuthenticationFailures = maximumAuthenticationFailures
        self.postmaster = postmaster
    }
}

/// One transaction as the client has asked for it so far (RFC 5321 §3.3).
public struct MailTransaction: Sendable, Equatable {
    /// The return path.
    public var reversePath: ReversePath
    /// BODY.
    public var body: Envelope.Body
    /// SMTPUTF8.
    public var smtpUTF8: Bool
    /// REQUIRETLS.
    public var requireTLS: Bool
    /// ENVID.
    public var envelopeID: String?
    /// RET.
    public var returnContent: ReturnContent?
    /// SIZE, in octets, as the client estimates it.
    public var declaredSize: Int?
    /// The recipients that were accepted, each address once.
    public var recipients: [EnvelopeRecipient] = []
}
