// What a server offered in its answer to EHLO (RFC 5321 §4.1.1.1). A client uses nothing that is not in here, and forgets
// all of it after STARTTLS (RFC 3207 §4.2).

/// The limits a server announces (RFC 9422); each nil where it announces none.
public struct SMTPLimits: Sendable, Hashable {
    /// Most transactions in one session.
    public var mailMax: Int?
    /// Most recipients in one transaction.
    public var rcptMax: Int?
    /// Most recipient domains in one transaction.
    public var rcptDomainMax: Int?

    /// No limits announced.
    public init() {}

    /// Reads the arguments of the LIMITS keyword; a syntax error anywhere means no limits (RFC 9422 §4).
    init?(_ arguments: some Sequence<Substring>) {
        for argument in arguments {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard !parts[0].isEmpty else { return nil }
            let name = parts[0].uppercased()
            guard ["MAILMAX", "RCPTMAX", "RCPTDOMAINMAX"].contains(name) else { continue }
            guard parts.count == 2, parts[1].utf8.count <= 6, parts[1].utf8.allSatisfy({ $0 &- 0x30 < 10 }),
                let value = Int(parts[1]), value > 0
            else { return nil }
            switch name {
            case "MAILMAX": mailMax = value
            case "RCPTMAX": rcptMax = value
            default: rcptDomainMax = value
            }
        }
    }
}

/// The service extensions of a server, read from its EHLO reply.
public struct EHLOExtensions: Sendable, Hashable {
    /// The name the server gave itself; empty when it gave none.
    public var serverName = ""
    /// RFC 2920: commands may be sent in groups.
    public var pipelining = false
    /// RFC 6152: content may have octets above 127.
    public var eightBitMIME = false
    /// RFC 6531: addresses and header fields may be UTF-8.
    public var smtpUTF8 = false
    /// RFC 3461: NOTIFY, ORCPT, RET and ENVID may be used.
    public var dsn = false
    /// RFC 3207.
    public var startTLS = false
    /// RFC 3030: BDAT.
    public var chunking = false
    /// RFC 2034.
    public var enhancedStatusCodes = false
    /// RFC 8689.
    public var requireTLS = false
    /// RFC 1870: the SIZE parameter may be used.
    public var size = false
    /// RFC 1870 §4: the largest message in bytes; nil when there is no fixed limit.
    public var maximumSize: Int?
    /// RFC 4954: the mechanisms in upper case.
    public var authMechanisms: [String] = []
    /// RFC 9422.
    public var limits = SMTPLimits()

    /// No extensions: what a HELO gives.
    public init() {}

    /// Reads the lines of an EHLO reply; unknown and repeated keywords are passed over.
    public init(_ reply: SMTPReply) {
        serverName = reply.lines.first?.split(separator: " ").first.map(String.init) ?? ""
        for line in reply.lines.dropFirst() {
            let words = line.split(separator: " ")
            guard let keyword = words.first?.uppercased() else { continue }
            switch keyword {
            case "PIPELINING": pipelining = true
            case "8BITMIME": eightBitMIME = true
            case "SMTPUTF8": smtpUTF8 = true
            case "DSN": dsn = true
            case "STARTTLS": startTLS = true
            case "CHUNKING": chunking = true
            case "ENHANCEDSTATUSCODES": enhancedStatusCodes = true
            case "REQUIRETLS": requireTLS = true
            case "SIZE":
                size = true
                if words.count > 1, words[1].utf8.count <= 18, let limit = Int(words[1]), limit > 0 {
                    maximumSize = limit
                }
            case "AUTH": authMechanisms = words.dropFirst().map { $0.uppercased() }
            case "LIMITS": limits = SMTPLimits(words.dropFirst()) ?? SMTPLimits()
            default: break
            }
        }
    }
}
