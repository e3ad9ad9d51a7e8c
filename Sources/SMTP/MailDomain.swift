/// The part of a mail address behind the `@`: a domain name or an address literal (RFC 5321 §4.1.2, §4.1.3).
///
/// It keeps the spelling that was received and the one form by which equal domains are equal: the `lane`, in lower
/// case and A-labels, which is also the name of the queue that leads to it.
public struct MailDomain: Sendable, Hashable, CustomStringConvertible {
    /// The domain as it was received, U-labels included.
    public let text: String
    /// Lower case, A-labels only: `xn--bcher-kva.example`; an address literal keeps its brackets.
    public let lane: String

    /// Whether this is an address literal such as `[192.0.2.1]`.
    public var isAddressLiteral: Bool { lane.utf8.first == ASCII.openBracket }

    /// The longest domain, in octets (RFC 5321 §4.5.3.1.2).
    public static let maximumLength = 255

    /// Parses a domain name or an address literal that fills the whole text.
    ///
    /// - Throws: `AddressError` that says which rule of the grammar is broken.
    public init(_ text: String) throws(AddressError) {
        try self.init(octets: Array(text.utf8)[...])
    }

    /// Parses a domain name or an address literal that fills the whole run of octets.
    ///
    /// - Throws: `AddressError` that says which rule of the grammar is broken.
    public init(octets: ArraySlice<UInt8>) throws(AddressError) {
        guard let first = octets.first else { throw AddressError(.domainSyntax) }
        guard octets.count <= Self.maximumLength else { throw AddressError(.domainTooLong) }
        guard let text = String(validating: octets, as: UTF8.self) else { throw AddressError(.notUTF8) }
        self.text = text
        if first == ASCII.openBracket {
            guard octets.last == ASCII.closeBracket, let literal = AddressLiteral.normalized(text) else {
                throw AddressError(.literalSyntax)
            }
            self.lane = literal
        } else {
            self.lane = try Self.lane(of: octets)
        }
    }

    /// The domain that follows `lane` form by construction: what `description` says is the received spelling.
    public var description: String { text }

    /// Equal lanes are equal domains.
    public static func == (a: MailDomain, b: MailDomain) -> Bool { a.lane == b.lane }

    /// Hashes the lane.
    public func hash(into hasher: inout Hasher) { hasher.combine(lane) }

    /// Whether the received spelling needs SMTPUTF8 (RFC 6531).
    public var isASCII: Bool { text.utf8.allSatisfy { $0 < 0x80 } }

    private static func lane(of octets: ArraySlice<UInt8>) throws(AddressError) -> String {
        var isASCII = true
        var labelLength = 0
        var previous: UInt8 = ASCII.dot
        for octet in octets {
            if octet == ASCII.dot {
                guard labelLength > 0, previous != ASCII.hyphen else { throw AddressError(.domainSyntax) }
                labelLength = 0
            } else {
                if octet >= 0x80 {
                    isASCII = false
                } else if octet == ASCII.hyphen {
                    guard labelLength > 0 else { throw AddressError(.domainSyntax) }
                } else if !ASCII.isAlphanumeric(octet) {
                    throw AddressError(.domainSyntax)
                }
                labelLength += 1
                guard labelLength <= 63 || !isASCII else { throw AddressError(.domainTooLong) }
            }
            previous = octet
        }
        guard labelLength > 0, previous != ASCII.hyphen else { throw AddressError(.domainSyntax) }
        if isASCII {
            return String(decoding: octets.map(ASCII.lowercased), as: UTF8.self)
        }
        var labels: [String] = []
        for label in octets.split(separator: ASCII.dot, omittingEmptySubsequences: false) {
            guard let ace = InternationalLabel.ascii(String(decoding: label, as: UTF8.self)) else {
                throw AddressError(.domainSyntax)
            }
            labels.append(ace)
        }
        let lane = labels.joined(separator: ".")
        guard lane.utf8.count <= maximumLength else { throw AddressError(.domainTooLong) }
        return lane
    }
}
