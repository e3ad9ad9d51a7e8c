/// A mailbox: local part, `@`, domain (RFC 5321 §4.1.2, RFC 6531 §3.3).
///
/// The local part keeps the spelling that was received, quotes included, because only its own host may interpret
/// it; two addresses are equal when their unquoted local parts and the lanes of their domains are.
public struct MailAddress: Sendable, Hashable, CustomStringConvertible {
    /// The local part as it was received: a dot-string, or a quoted string with its quotes.
    public let localPart: String
    /// The domain or address literal.
    public let domain: MailDomain

    /// The longest local part, in octets (RFC 5321 §4.5.3.1.1).
    public static let maximumLocalPartLength = 64

    /// Parses a mailbox that fills the whole text, without angle brackets.
    ///
    /// - Throws: `AddressError` that says which rule of the grammar is broken.
    public init(_ text: String) throws(AddressError) {
        try self.init(octets: Array(text.utf8)[...])
    }

    /// Parses a mailbox that fills the whole run of octets, without angle brackets.
    ///
    /// - Throws: `AddressError` that says which rule of the grammar is broken.
    public init(octets: ArraySlice<UInt8>) throws(AddressError) {
        var cursor = ByteCursor(octets)
        let local = try Self.parseLocalPart(&cursor)
        guard cursor.skip(ASCII.at) else { throw AddressError(.domainMissing) }
        self.localPart = local
        self.domain = try MailDomain(octets: cursor.remaining)
    }

    /// The address on the wire, without angle brackets.
    public var description: String { "\(localPart)@\(domain.text)" }

    /// The queue that leads to it: the domain in lower case and A-labels.
    public var lane: String { domain.lane }

    /// Whether the address can be sent without SMTPUTF8.
    public var isASCII: Bool { localPart.utf8.allSatisfy { $0 < 0x80 } && domain.isASCII }

    /// The local part without quotes and quoted pairs.
    public var unquotedLocalPart: String {
        guard localPart.utf8.first == ASCII.quote else { return localPart }
        var result: [UInt8] = []
        var isEscaped = false
        for octet in localPart.utf8.dropFirst().dropLast() {
            if octet == ASCII.backslash && !isEscaped {
                isEscaped = true
            } else {
                result.append(octet)
                isEscaped = false
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The form by which an address is looked up: unquoted, lower case, domain as its lane.
    public var normalized: String { "\(unquotedLocalPart.lowercased())@\(domain.lane)" }

    /// Compares what the addresses mean, not how they are spelled.
    public static func == (a: MailAddress, b: MailAddress) -> Bool {
        a.domain == b.domain && (a.localPart == b.localPart || a.unquotedLocalPart == b.unquotedLocalPart)
    }

    /// Hashes what `==` compares.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(unquotedLocalPart)
        hasher.combine(domain)
    }

    /// `Local-part` of RFC 5321 §4.1.2, up to and not including the `@` or the end.
    static func parseLocalPart(_ cursor: inout ByteCursor) throws(AddressError) -> String {
        let start = cursor.position
        if cursor.skip(ASCII.quote) {
            var isClosed = false
            while let octet = cursor.take() {
                if octet == ASCII.quote {
                    isClosed = true
                    break
                }
                if octet == ASCII.backslash {
                    guard let escaped = cursor.take(), escaped >= 0x20, escaped != 0x7F else { break }
                } else if octet < 0x20 || octet == 0x7F {
                    break
                }
            }
            guard isClosed else { throw AddressError(.localPartSyntax) }
        } else {
            repeat {
                guard !cursor.take(while: ASCII.isAtomText).isEmpty else {
                    throw AddressError(.localPartSyntax)
                }
            } while cursor.skip(ASCII.dot)
        }
        let octets = cursor.taken(since: start)
        guard octets.count <= maximumLocalPartLength else { throw AddressError(.localPartTooLong) }
        guard let text = String(validating: octets, as: UTF8.self) else { throw AddressError(.notUTF8) }
        return text
    }
}
