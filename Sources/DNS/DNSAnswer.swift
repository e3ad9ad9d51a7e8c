// What a lookup ends in. An answer says what is there or that nothing is; a failure says that nobody knows.
// The two are different types so that no caller can take a failure for an absence (design law 2).

/// What DNSSEC says of an answer. A bogus one is no answer: it is a `DNSFailure`.
public enum DNSSecurity: String, Sendable, Hashable, Codable {
    /// Validated from the trust anchor down; holds for an absence too.
    case secure
    /// Provably not signed, or no trust anchor is configured.
    case insecure

    /// Secure only when both are.
    public func and(_ other: DNSSecurity) -> DNSSecurity {
        self == .secure && other == .secure ? .secure : .insecure
    }
}

/// The authoritative answer to one question.
public struct DNSAnswer: Sendable, Hashable {
    /// What the answer says.
    public enum Outcome: Sendable, Hashable {
        /// The records, at least one, in the order of the packet.
        case records([DNSRecord])
        /// The name exists and has no record of that type (RFC 2308 §2.2).
        case nodata
        /// The name does not exist (RFC 2308 §2.1); with a CNAME: the end of its chain does not.
        case nxdomain
    }

    /// The name that was asked for.
    public let name: DomainName
    /// The type that was asked for.
    public let type: DNSRecordType
    /// What it says.
    public let outcome: Outcome
    /// The name at the end of the CNAME chain; the name asked for when there is none.
    public let canonicalName: DomainName
    /// What DNSSEC says of the whole answer, each link of a CNAME chain included.
    public let security: DNSSecurity
    /// How long this may be kept, in seconds.
    public let ttl: UInt32
    /// The message it was read from (RFC 1035 §4), with the RRSIG records that came with it; empty where there was none.
    public let packet: [UInt8]

    /// Takes the parts as they are; `canonicalName` defaults to the name asked for.
    public init(
        name: DomainName, type: DNSRecordType, outcome: Outcome, canonicalName: DomainName? = nil,
        security: DNSSecurity = .insecure, ttl: UInt32, packet: [UInt8] = []
    ) {
        self.name = name
        self.type = type
        self.outcome = outcome
        self.canonicalName = canonicalName ?? name
        self.security = security
        self.ttl = ttl
        self.packet = packet
    }

    /// The records, or none for an absence.
    public var records: [DNSRecord] {
        if case .records(let records) = outcome { records } else { [] }
    }

    /// Whether the name asked for is an alias.
    public var isAlias: Bool { canonicalName != name }
}

/// Why a lookup has no answer: nothing follows from it about what exists. Callers try again later.
public struct DNSFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// The kinds of failure.
    public enum Code: String, Sendable, Hashable, Codable, CaseIterable {
        /// DNSSEC validation failed: forged, expired or badly signed.
        case bogus
        /// The servers answered that they failed, or none could be reached (RCODE 2).
        case servfail
        /// The servers refused the question (RCODE 5).
        case refused
        /// No answer before the deadline of the query.
        case timeout
        /// An answer with another RCODE that says neither yes nor no.
        case otherResponseCode
        /// An answer whose data is not what its type says.
        case malformed
        /// An answer whose records do not fit into a message.
        case truncated
        /// The resolver has too many questions waiting (law 9).
        case overloaded
        /// The caller gave up.
        case cancelled
        /// The resolver itself failed or was shut down.
        case resolverFailed
    }

    /// The kind.
    public let code: Code
    /// What happened, in words; for `bogus` the validator's reason. Names domains, never persons.
    public let reason: String

    /// Takes a kind and its reason.
    public init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }

    /// Kind and reason.
    public var description: String { "DNS \(code.rawValue): \(reason)" }
}

/// Whoever answers questions: the real resolver, or a table in a test.
public protocol DNSResolving: Sendable {
    /// Asks for the records of one type at one name; follows aliases.
    ///
    /// - Throws: `DNSFailure` when there is no answer, which is never the same as an answer that says no.
    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer
}
