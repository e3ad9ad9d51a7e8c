/// One command line of a client, parsed as far as its syntax goes (RFC 5321 §4.1).
///
/// What a command may do in the state at hand is for `SMTPServerMachine` to say.
enum SMTPCommand: Equatable {
    case helo(String)
    case ehlo(String)
    case startTLS
    case auth(mechanism: String, initialResponse: String?)
    case mail(ReversePath, MailParameters)
    case rcpt(ForwardPath, RecipientParameters)
    case data
    case bdat(octets: Int, isLast: Bool)
    case rset
    case noop
    case quit
    case vrfy
    case expn
    case help
    /// Known from other standards, not implemented here.
    case unimplemented

    /// The longest command line of each verb, CRLF included: 512 octets and what the offered extensions add
    /// (RFC 5321 §4.5.3.1.4; RFC 1870 §3, RFC 3461 §4, RFC 4954 §4 and §5, RFC 6152, RFC 6531 §3.1, RFC 8689 §2).
    static func maximumLength(_ line: [UInt8]) -> Int {
        var cursor = ByteCursor(line)
        if cursor.skip(ignoringCase: "AUTH") { return authenticationLineLength }
        if cursor.skip(ignoringCase: "MAIL") { return 512 + 26 + 17 + 500 + 108 + 9 + 10 + 12 }
        if cursor.skip(ignoringCase: "RCPT") { return 512 + 500 + 28 + 10 }
        return 512
    }

    /// What is said of a line that is longer than its verb allows; its first octets are enough (RFC 4954 §4 and §6 for AUTH).
    static func tooLong(_ line: [UInt8]) -> CommandError {
        var cursor = ByteCursor(line)
        return CommandError(cursor.skip(ignoringCase: "AUTH") ? .exchangeTooLong : .lineTooLong)
    }

    /// The longest line of an AUTH exchange (RFC 4954 §4), in octets.
    static let authenticationLineLength = 12_288

    /// Parses a line without its CRLF.
    ///
    /// - Throws: The reply that names what is wrong.
    static func parse(_ line: [UInt8]) throws(CommandError) -> SMTPCommand {
        guard line.count + 2 <= maximumLength(line) else { throw tooLong(line) }
        var cursor = ByteCursor(line)
        let verb = cursor.take(while: ASCII.isLetter)
        let rest = { (cursor: inout ByteCursor) throws(CommandError) -> String in
            let text = try argument(&cursor)
            return text
        }
        switch String(decoding: verb.map(ASCII.lowercased), as: UTF8.self) {
        case "ehlo": return .ehlo(try clientName(&cursor))
        case "helo": return .helo(try clientName(&cursor))
        case "mail":
            guard cursor.skip(ASCII.space), cursor.skip(ignoringCase: "FROM:") else {
                throw CommandError(.mailSyntax)
            }
            _ = cursor.take(while: { $0 == ASCII.space })
            do {
                let path = try ReversePath.parse(&cursor)
                return .mail(path, try MailParameters.parse(&cursor))
            } catch let error as CommandError {
                throw error
            } catch {
                throw CommandError(.senderSyntax)
            }
        case "rcpt":
            guard cursor.skip(ASCII.space), cursor.skip(ignoringCase: "TO:") else {
                throw CommandError(.rcptSyntax)
            }
            _ = cursor.take(while: { $0 == ASCII.space })
            do {
                let path = try ForwardPath.parse(&cursor)
                return .rcpt(path, try RecipientParameters.parse(&cursor))
            } catch let error as CommandError {
                throw error
            } catch {
                throw CommandError(.recipientSyntax)
            }
        case "data":
            try requireEnd(&cursor)
            return .data
        case "bdat": return try chunk(rest(&cursor))
        case "rset":
            try requireEnd(&cursor)
            return .rset
        case "quit":
            try requireEnd(&cursor)
            return .quit
        case "starttls":
            try requireEnd(&cursor)
            return .startTLS
        case "noop":
            guard cursor.isAtEnd || cursor.next == ASCII.space else { throw CommandError(.unknownCommand) }
            return .noop
        case "vrfy":
            guard try !rest(&cursor).isEmpty else { throw CommandError(.argumentMissing) }
            return .vrfy
        case "expn": return .expn
        case "help": return .help
        case "auth":
            let words = try rest(&cursor).split(separator: " ", omittingEmptySubsequences: false)
            guard let mechanism = words.first, !mechanism.isEmpty, words.count <= 2 else {
                throw CommandError(.argumentMissing)
            }
            return .auth(
                mechanism: mechanism.uppercased(), initialResponse: words.count == 2 ? String(words[1]) : nil)
        case "send", "soml", "saml", "turn", "etrn", "atrn", "burl": return .unimplemented
        default: throw CommandError(.unknownCommand)
        }
    }

    /// What follows the verb and one space, without trailing spaces; printable ASCII only.
    private static func argument(_ cursor: inout ByteCursor) throws(CommandError) -> String {
        if cursor.isAtEnd { return "" }
        guard cursor.skip(ASCII.space) else { throw CommandError(.unknownCommand) }
        var octets = cursor.remaining
        while octets.last == ASCII.space { octets.removeLast() }
        guard octets.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }),
            let text = String(validating: octets, as: UTF8.self)
        else { throw CommandError(.argumentSyntax) }
        return text
    }

    private static func requireEnd(_ cursor: inout ByteCursor) throws(CommandError) {
        _ = cursor.take(while: { $0 == ASCII.space })
        guard cursor.isAtEnd else { throw CommandError(.argumentUnexpected) }
    }

    /// `Domain` or `address-literal` of RFC 5321 §4.1.1.1; the underscore that is common in names of hosts is let through.
    private static func clientName(_ cursor: inout ByteCursor) throws(CommandError) -> String {
        let name = try argument(&cursor)
        guard !name.isEmpty else { throw CommandError(.argumentMissing) }
        let isName = name.utf8.allSatisfy {
            ASCII.isAlphanumeric($0) || $0 == ASCII.dot || $0 == ASCII.hyphen || $0 == 0x5F
        }
        guard name.utf8.count <= MailDomain.maximumLength,
            isName || (name.utf8.first == ASCII.openBracket && (try? MailDomain(name)) != nil)
        else { throw CommandError(.argumentSyntax) }
        return name
    }

    /// `BDAT SP chunk-size [SP "LAST"]` (RFC 3030 §2).
    private static func chunk(_ argument: String) throws(CommandError) -> SMTPCommand {
        let words = argument.split(separator: " ", omittingEmptySubsequences: false)
        guard let size = words.first, !size.isEmpty, size.utf8.allSatisfy(ASCII.isDigit),
            size.utf8.count <= 18,
            let octets = Int(size), words.count <= 2, words.count == 1 || words[1].uppercased() == "LAST"
        else { throw CommandError(.chunkSyntax) }
        return .bdat(octets: octets, isLast: words.count == 2)
    }
}

/// What is wrong with the syntax of a command.
struct CommandError: Error, Equatable {
    enum Code: Equatable {
        case lineTooLong
        case exchangeTooLong
        case unknownCommand
        case argumentMissing
        case argumentUnexpected
        case argumentSyntax
        case mailSyntax
        case rcptSyntax
        case senderSyntax
        case recipientSyntax
        case chunkSyntax
        case parameterUnknown
        case parameterSyntax
        case bareLineEnd
    }

    let code: Code
    init(_ code: Code) { self.code = code }

    /// RFC 5321 §4.2.2 and §4.3.2, RFC 3463 §3.
    var reply: SMTPReply {
        switch code {
        case .lineTooLong: SMTPReply(500, .init(5, 5, 2), "Line too long")
        case .exchangeTooLong: SMTPReply(500, .init(5, 5, 6), "Authentication exchange line is too long")
        case .unknownCommand: SMTPReply(500, .init(5, 5, 1), "Command not recognised")
        case .argumentMissing: SMTPReply(501, .init(5, 5, 4), "This command needs an argument")
        case .argumentUnexpected: SMTPReply(501, .init(5, 5, 4), "This command takes no argument")
        case .argumentSyntax: SMTPReply(501, .init(5, 5, 4), "Argument not understood")
        case .mailSyntax: SMTPReply(501, .init(5, 5, 2), "Syntax: MAIL FROM:<address>")
        case .rcptSyntax: SMTPReply(501, .init(5, 5, 2), "Syntax: RCPT TO:<address>")
        case .senderSyntax: SMTPReply(501, .init(5, 1, 7), "Sender address not understood")
        case .recipientSyntax: SMTPReply(501, .init(5, 1, 3), "Recipient address not understood")
        case .chunkSyntax: SMTPReply(501, .init(5, 5, 4), "Syntax: BDAT octets [LAST]")
        case .parameterUnknown: SMTPReply(555, .init(5, 5, 4), "Parameter not recognised or not implemented")
        case .parameterSyntax: SMTPReply(501, .init(5, 5, 4), "Parameter not understood")
        case .bareLineEnd: SMTPReply(500, .init(5, 5, 2), "Lines end in CR LF, and neither stands alone")
        }
    }
}
