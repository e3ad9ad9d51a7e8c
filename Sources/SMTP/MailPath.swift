/// The return path of MAIL: an address, or `<>` for mail that must never be answered (RFC 5321 §4.1.1.2, §4.5.5).
public enum ReversePath: Sendable, Hashable, CustomStringConvertible {
    /// `<>`: delivery reports and other automatic mail.
    case null
    /// The mailbox that gets delivery reports.
    case mailbox(MailAddress)

    /// Parses `<>` or `<mailbox>`; a source route in front of the mailbox is accepted and dropped
    /// (RFC 5321 §4.1.1.3, appendix C).
    ///
    /// - Throws: `AddressError` that says which rule of the grammar is broken.
    public init(_ text: String) throws(AddressError) {
        var cursor = ByteCursor(Array(text.utf8))
        self = try Self.parse(&cursor)
        guard cursor.isAtEnd else { throw AddressError(.pathSyntax) }
    }

    /// The address, unless the path is null.
    public var address: MailAddress? {
        switch self {
        case .null: nil
        case .mailbox(let address): address
        }
    }

    /// The path on the wire, with its angle brackets.
    public var description: String { address.map { "<\($0)>" } ?? "<>" }

    static func parse(_ cursor: inout ByteCursor) throws(AddressError) -> ReversePath {
        let inner = try MailPathGrammar.bracketed(&cursor)
        guard !inner.isEmpty else { return .null }
        return .mailbox(try MailAddress(octets: MailPathGrammar.droppingSourceRoute(inner)))
    }
}

/// The recipient of RCPT: an address, or `<postmaster>` without a domain (RFC 5321 §4.1.1.3).
public enum ForwardPath: Sendable, Hashable, CustomStringConvertible {
    /// The reserved local name of this very host (RFC 5321 §4.5.1).
    case postmaster
    /// A mailbox.
    case mailbox(MailAddress)

    /// Parses `<mailbox>` or `<postmaster>`; a source route in front of the mailbox is accepted and dropped
    /// (RFC 5321 §4.1.1.3, appendix C).
    ///
    /// - Throws: `AddressError` that says which rule of the grammar is broken.
    public init(_ text: String) throws(AddressError) {
        var cursor = ByteCursor(Array(text.utf8))
        self = try Self.parse(&cursor)
        guard cursor.isAtEnd else { throw AddressError(.pathSyntax) }
    }

    /// The address, unless the path is the reserved name alone.
    public var address: MailAddress? {
        switch self {
        case .postmaster: nil
        case .mailbox(let address): address
        }
    }

    /// The path on the wire, with its angle brackets.
    public var description: String { address.map { "<\($0)>" } ?? "<postmaster>" }

    static func parse(_ cursor: inout ByteCursor) throws(AddressError) -> ForwardPath {
        let inner = try MailPathGrammar.bracketed(&cursor)
        if inner.elementsEqual("postmaster".utf8, by: { ASCII.lowercased($0) == $1 }) { return .postmaster }
        return .mailbox(try MailAddress(octets: MailPathGrammar.droppingSourceRoute(inner)))
    }
}

/// What both kinds of path share.
private enum MailPathGrammar {
    /// The longest path, in octets, brackets included (RFC 5321 §4.5.3.1.3).
    static let maximumLength = 256

    /// The octets between `<` and the `>` that closes it; a quoted string may hold a `>`.
    static func bracketed(_ cursor: inout ByteCursor) throws(AddressError) -> ArraySlice<UInt8> {
        guard cursor.skip(ASCII.less) else { throw AddressError(.pathSyntax) }
        let start = cursor.position
        var isQuoted = false
        while let octet = cursor.next {
            if octet == ASCII.greater && !isQuoted {
                let inner = cursor.taken(since: start)
                _ = cursor.take()
                guard inner.count + 2 <= maximumLength else { throw AddressError(.pathTooLong) }
                return inner
            }
            if octet == ASCII.quote { isQuoted.toggle() }
            _ = cursor.take()
            if octet == ASCII.backslash && isQuoted { _ = cursor.take() }
        }
        throw AddressError(.pathSyntax)
    }

    /// `@one,@two:user@domain` without the part up to the colon.
    static func droppingSourceRoute(_ inner: ArraySlice<UInt8>) throws(AddressError) -> ArraySlice<UInt8> {
        guard inner.first == ASCII.at else { return inner }
        guard let colon = inner.firstIndex(of: ASCII.colon) else { throw AddressError(.pathSyntax) }
        for hop in inner[..<colon].split(separator: ASCII.comma, omittingEmptySubsequences: false) {
            guard hop.first == ASCII.at else { throw AddressError(.pathSyntax) }
            _ = try MailDomain(octets: hop.dropFirst())
        }
        return inner[inner.index(after: colon)...]
    }
}
