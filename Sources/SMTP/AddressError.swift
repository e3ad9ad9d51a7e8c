/// Why a text is not a mail address; it never carries the text itself, which is personal data.
public struct AddressError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The rule that is broken.
    public enum Code: Sendable, Equatable {
        /// No angle brackets, or something between or behind them that does not belong there.
        case pathSyntax
        /// Longer than 256 octets, brackets included (RFC 5321 §4.5.3.1.3).
        case pathTooLong
        /// Not a dot-string, nor a closed quoted string.
        case localPartSyntax
        /// Longer than 64 octets (RFC 5321 §4.5.3.1.1).
        case localPartTooLong
        /// No `@`, or nothing behind it.
        case domainMissing
        /// An empty label, or an octet that a label cannot hold.
        case domainSyntax
        /// Longer than 255 octets, or a label longer than 63 (RFC 5321 §4.5.3.1.2).
        case domainTooLong
        /// Brackets without an IPv4 or IPv6 address in them.
        case literalSyntax
        /// Octets above 127 that are not UTF-8 (RFC 6531 §3.3).
        case notUTF8
    }

    /// The rule that is broken.
    public let code: Code

    /// An error for a broken rule.
    public init(_ code: Code) { self.code = code }

    /// A sentence for people.
    public var description: String {
        switch code {
        case .pathSyntax: "the path is not an address in angle brackets"
        case .pathTooLong: "the path is longer than 256 octets"
        case .localPartSyntax: "the local part is malformed"
        case .localPartTooLong: "the local part is longer than 64 octets"
        case .domainMissing: "the address has no domain"
        case .domainSyntax: "the domain is malformed"
        case .domainTooLong: "the domain or one of its labels is too long"
        case .literalSyntax: "the address literal is malformed"
        case .notUTF8: "the address is not UTF-8"
        }
    }
}
