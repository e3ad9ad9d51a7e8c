// One mail transaction as a client asks for it, and what became of it: the input and output values of SMTPClientMachine.

/// One recipient of a transaction a client sends.
public struct ClientRecipient: Sendable, Hashable {
    /// The forward path without angle brackets.
    public var address: String
    /// The value of NOTIFY (RFC 3461 §4.1), such as `FAILURE,DELAY`; sent only to a server that offers DSN.
    public var notify: String?
    /// The value of ORCPT (RFC 3461 §4.2), address type included and already in xtext; sent only to a server that offers DSN.
    public var originalRecipient: String?

    /// A recipient.
    public init(address: String, notify: String? = nil, originalRecipient: String? = nil) {
        self.address = address
        self.notify = notify
        self.originalRecipient = originalRecipient
    }
}

/// The envelope of one transaction a client sends.
public struct ClientTransaction: Sendable, Hashable {
    /// The reverse path without angle brackets; empty for the null reverse path.
    public var reversePath: String
    /// The recipients, at least one.
    public var recipients: [ClientRecipient]
    /// Size of the content in bytes, for SIZE (RFC 1870 §5); an estimate is fine, nil says nothing.
    public var size: Int?
    /// True when the content has octets above 127 (RFC 6152).
    public var isEightBit: Bool
    /// True when an address or a header field is UTF-8 (RFC 6531).
    public var needsSMTPUTF8: Bool
    /// True when the sender asked for REQUIRETLS (RFC 8689).
    public var requiresTLS: Bool
    /// ENVID (RFC 3461 §4.4), in xtext.
    public var envelopeID: String?
    /// RET (RFC 3461 §4.3): `HDRS` or `FULL`.
    public var returnContent: String?

    /// A transaction.
    public init(
        reversePath: String, recipients: [ClientRecipient], size: Int? = nil, isEightBit: Bool = false,
        needsSMTPUTF8: Bool = false, requiresTLS: Bool = false, envelopeID: String? = nil,
        returnContent: String? = nil
    ) {
        self.reversePath = reversePath
        self.recipients = recipients
        self.size = size
        self.isEightBit = isEightBit
        self.needsSMTPUTF8 = needsSMTPUTF8
        self.requiresTLS = requiresTLS
        self.envelopeID = envelopeID
        self.returnContent = returnContent
    }
}

/// Why a server cannot take a transaction, found before a byte of it was sent.
public enum CapabilityProblem: Error, Sendable, Hashable {
    /// The content is larger than the server's SIZE (RFC 1870 §6.1).
    case tooLarge(limit: Int)
    /// 8-bit content, no 8BITMIME (RFC 6152 §3).
    case noEightBitMIME
    /// UTF-8 addresses or headers, no SMTPUTF8 (RFC 6531 §3.5).
    case noSMTPUTF8
    /// REQUIRETLS asked, not offered (RFC 8689 §4.2.1).
    case noRequireTLS
    /// An argument holds a control character, a space or an angle bracket that would break the command line.
    case unsafeArgument

    /// The reply that a server would have given.
    public var reply: SMTPReply {
        switch self {
        case .tooLarge(let limit):
            SMTPReply(
                552, EnhancedStatusCode(5, 3, 4), "Message is larger than the \(limit) bytes the host accepts"
            )
        case .noEightBitMIME:
            SMTPReply(554, EnhancedStatusCode(5, 6, 3), "8-bit content, and the host does not offer 8BITMIME")
        case .noSMTPUTF8:
            SMTPReply(
                553, EnhancedStatusCode(5, 6, 7),
                "Internationalised address, and the host does not offer SMTPUTF8")
        case .noRequireTLS:
            SMTPReply(
                550, EnhancedStatusCode(5, 7, 30), "REQUIRETLS was asked, and the host does not offer it")
        case .unsafeArgument:
            SMTPReply(553, EnhancedStatusCode(5, 1, 3), "An address cannot be written in a command")
        }
    }
}

/// What became of one recipient before the content's own reply.
public enum ClientRecipientOutcome: Sendable, Hashable {
    /// RCPT was accepted; the final reply of the transaction decides.
    case accepted
    /// RCPT, or what it needed (MAIL, DATA), was refused with this reply; `isTransient` says whether it may succeed later.
    case rejected(SMTPReply, isTransient: Bool)
    /// The recipient was never concluded on: beyond the server's RCPTMAX, or the connection ended first.
    case notAttempted
}

/// What became of a transaction.
public struct ClientTransactionOutcome: Sendable, Hashable {
    /// One per recipient, in the order of the transaction.
    public var recipients: [ClientRecipientOutcome]
    /// True once the final dot of content for accepted recipients was handed out to be written.
    public var dotSent: Bool
    /// The reply to the final dot. `dotSent` without it: in doubt.
    public var finalReply: SMTPReply?

    /// An outcome.
    public init(recipients: [ClientRecipientOutcome], dotSent: Bool = false, finalReply: SMTPReply? = nil) {
        self.recipients = recipients
        self.dotSent = dotSent
        self.finalReply = finalReply
    }
}

extension SMTPReply {
    /// Whether a recipient whose RCPT got this reply may succeed later. A bare 552 to RCPT means "too many recipients" of an old server
    /// and is transient (RFC 5321 §4.5.3.1.10).
    var isTransientForRecipient: Bool {
        isTransientNegative || (code == 552 && (enhanced == nil || enhanced == EnhancedStatusCode(5, 5, 3)))
    }
}
