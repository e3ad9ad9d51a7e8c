/// The Received header that a message gets on its way through us (RFC 5321 §4.4).
///
/// It names the client as it named itself and by its address, this host, the protocol by the keywords of RFC 3848 and
/// RFC 6531 §4.3, the message id and the time of acceptance: nothing in it changes when the same message is delivered again, and
/// no recipient is named.
public struct ReceivedHeader: Sendable {
    /// The name the client gave in EHLO or HELO: a domain or an address literal.
    public var clientName: String
    /// The client's IP address, as text.
    public var clientAddress: String
    /// The name of this host.
    public var hostName: String
    /// Whether the client said EHLO.
    public var isExtended: Bool
    /// Whether the connection was encrypted.
    public var isEncrypted: Bool
    /// Whether the client gave credentials.
    public var isAuthenticated: Bool
    /// Whether the transaction asked for SMTPUTF8.
    public var smtpUTF8: Bool
    /// The TLS version and cipher suite for people, such as `TLSv1.3 TLS_AES_256_GCM_SHA384`.
    public var tlsDescription: String?

    /// A header from its parts.
    public init(
        clientName: String, clientAddress: String, hostName: String, isExtended: Bool, isEncrypted: Bool,
        isAuthenticated: Bool, smtpUTF8: Bool, tlsDescription: String? = nil
    ) {
        self.clientName = clientName
        self.clientAddress = clientAddress
        self.hostName = hostName
        self.isExtended = isExtended
        self.isEncrypted = isEncrypted
        self.isAuthenticated = isAuthenticated
        self.smtpUTF8 = smtpUTF8
        self.tlsDescription = tlsDescription
    }

    /// The value of the `with` clause: `ESMTPSA`, `UTF8SMTPS` and so on (RFC 3848, RFC 6531 §4.3).
    public var protocolKeyword: String {
        guard isExtended else { return "SMTP" }
        let base = smtpUTF8 ? "UTF8SMTP" : "ESMTP"
        return base + (isEncrypted ? "S" : "") + (isAuthenticated ? "A" : "")
    }

    /// The complete header, folded, ended by CRLF.
    ///
    /// - Parameters:
    ///   - messageID: The id of the message in the ledger.
    ///   - acceptedAt: Seconds since 1970-01-01 00:00 UTC.
    public func encoded(messageID: String, acceptedAt seconds: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(320)
        bytes.append(contentsOf: "Received: from ".utf8)
        bytes.append(contentsOf: clientName.utf8)
        bytes.append(contentsOf: " ([".utf8)
        if clientAddress.utf8.contains(ASCII.colon) { bytes.append(contentsOf: "IPv6:".utf8) }
        bytes.append(contentsOf: clientAddress.utf8)
        bytes.append(contentsOf: "])\r\n".utf8)
        if let tlsDescription {
            bytes.append(contentsOf: "\t(using ".utf8)
            bytes.append(contentsOf: tlsDescription.utf8)
            bytes.append(contentsOf: ")\r\n".utf8)
        }
        bytes.append(contentsOf: "\tby ".utf8)
        bytes.append(contentsOf: hostName.utf8)
        bytes.append(contentsOf: " with ".utf8)
        bytes.append(contentsOf: protocolKeyword.utf8)
        bytes.append(contentsOf: " id ".utf8)
        bytes.append(contentsOf: messageID.utf8)
        bytes.append(contentsOf: ";\r\n\t".utf8)
        MailDate.append(secondsSince1970: seconds, to: &bytes)
        bytes.append(ASCII.cr)
        bytes.append(ASCII.lf)
        return bytes
    }
}
