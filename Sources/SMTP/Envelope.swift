/// What travels beside the content of one message: the sender and what MAIL asked (RFC 5321 §2.3.1).
///
/// Its encoding is what the edge seals as metadata and the worker opens again; recipients are sealed one by one, as
/// `EnvelopeRecipient`.
public struct Envelope: Sendable, Hashable {
    /// The kind of content that MAIL declared: BODY of RFC 6152.
    public enum Body: UInt8, Sendable, Hashable {
        /// `7BIT`, or nothing declared.
        case sevenBit = 1
        /// `8BITMIME`.
        case eightBitMIME = 2
    }

    /// The return path.
    public var reversePath: ReversePath
    /// The kind of content.
    public var body: Body
    /// Whether the client asked for SMTPUTF8 (RFC 6531).
    public var smtpUTF8: Bool
    /// Whether every hop must be authenticated TLS (RFC 8689).
    public var requireTLS: Bool
    /// ENVID, decoded from `xtext` (RFC 3461 §4.4).
    public var envelopeID: String?
    /// RET; absent when the client did not say.
    public var returnContent: ReturnContent?
    /// The complete Received header of our own, ended by CRLF, which goes in front of the content at delivery.
    public var receivedLine: [UInt8]
    /// The Subject of the content, unfolded and as it was sent, at most 998 octets; for the help desk.
    public var subject: String?

    /// An envelope from its parts.
    public init(
        reversePath: ReversePath, body: Body = .sevenBit, smtpUTF8: Bool = false, requireTLS: Bool = false,
        envelopeID: String? = nil, returnContent: ReturnContent? = nil, receivedLine: [UInt8] = [],
        subject: String? = nil
    ) {
        self.reversePath = reversePath
        self.body = body
        self.smtpUTF8 = smtpUTF8
        self.requireTLS = requireTLS
        self.envelopeID = envelopeID
        self.returnContent = returnContent
        self.receivedLine = receivedLine
        self.subject = subject
    }

    private static let version: UInt8 = 1

    /// The envelope as octets: version 1, flags, body, RET, then return path, ENVID, Received line and Subject, each
    /// behind its length.
    public func encoded() -> [UInt8] {
        var writer = RecordWriter(version: Self.version, capacity: 96 + receivedLine.count)
        writer.append(octet: (smtpUTF8 ? 1 : 0) | (requireTLS ? 2 : 0))
        writer.append(octet: body.rawValue)
        writer.append(octet: returnContent?.rawValue ?? 0)
        writer.append(text: reversePath.address.map(\.description))
        writer.append(text: envelopeID)
        writer.append(bytes: receivedLine)
        writer.append(text: subject)
        return writer.bytes
    }

    /// Decodes what `encoded()` wrote.
    ///
    /// - Throws: `EnvelopeFormatError` for octets of another version or that end early.
    public init(decoding bytes: [UInt8]) throws(EnvelopeFormatError) {
        var reader = try RecordReader(bytes, version: Self.version)
        let flags = try reader.octet()
        guard let body = Body(rawValue: try reader.octet()) else { throw EnvelopeFormatError.malformed }
        self.body = body
        smtpUTF8 = flags & 1 != 0
        requireTLS = flags & 2 != 0
        returnContent = ReturnContent(rawValue: try reader.octet())
        if let address = try reader.text() {
            guard let parsed = try? MailAddress(address) else { throw EnvelopeFormatError.malformed }
            reversePath = .mailbox(parsed)
        } else {
            reversePath = .null
        }
        envelopeID = try reader.text()
        receivedLine = try reader.bytes()
        subject = try reader.text()
        try reader.finish()
    }
}

/// One recipient of a message and what RCPT asked for it.
public struct EnvelopeRecipient: Sendable, Hashable {
    /// The mailbox.
    public var address: MailAddress
    /// NOTIFY; absent when the client did not say.
    public var notify: DSNNotify?
    /// ORCPT.
    public var originalRecipient: OriginalRecipient?

    /// A recipient from its parts.
    public init(address: MailAddress, notify: DSNNotify? = nil, originalRecipient: OriginalRecipient? = nil) {
        self.address = address
        self.notify = notify
        self.originalRecipient = originalRecipient
    }

    private static let version: UInt8 = 1

    /// The recipient as octets: version 1, NOTIFY, address, ORCPT.
    public func encoded() -> [UInt8] {
        var writer = RecordWriter(version: Self.version, capacity: 64)
        writer.append(octet: notify?.rawValue ?? 0)
        writer.append(text: address.description)
        writer.append(text: originalRecipient?.addressType)
        writer.append(text: originalRecipient?.address)
        return writer.bytes
    }

    /// Decodes what `encoded()` wrote.
    ///
    /// - Throws: `EnvelopeFormatError` for octets of another version or that end early.
    public init(decoding bytes: [UInt8]) throws(EnvelopeFormatError) {
        var reader = try RecordReader(bytes, version: Self.version)
        let bits = try reader.octet()
        notify = bits == 0 ? nil : DSNNotify(rawValue: bits)
        guard let text = try reader.text(), let parsed = try? MailAddress(text) else {
            throw EnvelopeFormatError.malformed
        }
        address = parsed
        let type = try reader.text()
        let original = try reader.text()
        if let type, let original {
            originalRecipient = OriginalRecipient(addressType: type, address: original)
        } else {
            originalRecipient = nil
        }
        try reader.finish()
    }
}
