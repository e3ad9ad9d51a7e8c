// Where mail for a domain goes: the hosts to try in order, each with its addresses and with what DNSSEC said at
// every step, or why there is none. Connecting and judging are left to the session and to SmartTLS.
import DNS
import Policy
import SMTP

/// One address of a host.
public struct RouteAddress: Sendable, Hashable {
    /// The address.
    public let address: IPAddress
    /// What DNSSEC said of the answer it came from.
    public let security: DNSSecurity
    /// The TLSA records that a server at this address is held against. The two families of a host are looked up apart, and one
    /// may be signed where the other is not.
    public let tlsa: TLSAStatus

    /// Takes an address, the security of its answer, and the TLSA records that go with it.
    public init(_ address: IPAddress, _ security: DNSSecurity, tlsa: TLSAStatus) {
        self.address = address
        self.security = security
        self.tlsa = tlsa
    }
}

/// One host that takes mail for a domain, with at least one address.
public struct RouteHost: Sendable, Hashable {
    /// The host's name, or its address in text where an operator routed to an address.
    public let name: String
    /// The name that its certificate must carry: the host's, or the recipient domain's where it has no name.
    public let referenceName: String
    /// How that name became known.
    public let provenance: NameProvenance
    /// The port; nil means the configured one (`delivery.port`).
    public let port: Int?
    /// The preference of the MX record; lower is tried first.
    public let preference: UInt16
    /// At most `RouteLimits.addresses`, in the order in which to try them.
    public internal(set) var addresses: [RouteAddress]
    /// The answers that named its addresses and TLSA records.
    public internal(set) var lookups: [DNSAnswer] = []
}

/// Why a host of a domain, or one family of its addresses, cannot be tried now.
public struct RouteGap: Sendable, Hashable {
    /// The host's name.
    public let host: String
    /// What the lookup of its addresses, or of those of one family, ended in.
    public let failure: DNSFailure
}

/// The hosts that take mail for a domain.
public struct Route: Sendable, Hashable {
    /// How the hosts became known.
    public enum Origin: String, Sendable, Hashable {
        /// An operator's static route.
        case configured
        /// MX records.
        case mx
        /// The domain has no MX record and is its own host (RFC 5321 §5.1).
        case implicitMX
        /// The hosts that the domain's NTA 7516 record names.
        case nta
    }

    /// The recipient domain.
    public let domain: String
    /// How the hosts became known.
    public let origin: Origin
    /// What DNSSEC said of the MX records or of their absence; configured routes count as secure.
    public let security: DNSSecurity
    /// In the order in which to try them; never empty.
    public internal(set) var hosts: [RouteHost]
    /// Hosts left out because their addresses could not be looked up now, and hosts of which only one family could be. While there is
    /// one nobody has seen every host, so nothing is refused.
    public let gaps: [RouteGap]
    /// What MTA-STS says of the recipient domain, and what that was read from.
    var policy = MTASTSStanding(.unasked)
    /// What MTA-STS says of the recipient domain, at the time of asking.
    public var sts: MTASTSStatus { policy.status }
    /// What the domain's NTA 7516 record says; nil: it was not asked for.
    public internal(set) var nta: Finding?
    /// The answers that named the hosts; what was asked about a host is with the host, so that a judgement of one holds nothing of the
    /// others, however much that is (law 9).
    public internal(set) var lookups: [DNSAnswer] = []
    /// When they were asked for, in milliseconds since 1970.
    public internal(set) var routedAt: Int64 = 0

    /// A random order among hosts of equal preference (RFC 5321 §5.1) and among addresses of one family.
    func shuffled(using generator: inout any RandomNumberGenerator & Sendable) -> Route {
        var route = self
        var groups: [UInt16: [RouteHost]] = Dictionary(grouping: hosts, by: \.preference)
        route.hosts = groups.keys.sorted().flatMap { preference -> [RouteHost] in
            let group = groups.removeValue(forKey: preference) ?? []
            return group.count < 2 ? group : group.shuffled(using: &generator)
        }
        for index in route.hosts.indices where route.hosts[index].addresses.count > 1 {
            let shuffled = route.hosts[index].addresses.shuffled(using: &generator)
            route.hosts[index].addresses = RouteHost.alternating(shuffled)
        }
        return route
    }
}

extension RouteHost {
    /// IPv6 first and then turn by turn, so that a family that is broken costs one attempt and not all of them.
    static func alternating(_ addresses: [RouteAddress]) -> [RouteAddress] {
        let six = addresses.filter(\.address.isIPv6)
        let four = addresses.filter { !$0.address.isIPv6 }
        return (0..<max(six.count, four.count)).flatMap { index in
            [six, four].compactMap { index < $0.count ? $0[index] : nil }
        }
    }
}

/// Why there is no route.
public struct RoutingFailure: Error, Sendable, Hashable, CustomStringConvertible {
    /// The reason for people and events.
    public let reason: ReasonCode
    /// The status for the notification: class 4 may be tried again, class 5 is final (RFC 3463).
    public let status: EnhancedStatusCode
    /// What was looked up and what came of it. Names domains, never persons.
    public let detail: String

    /// Whether another attempt may end otherwise.
    public var isTemporary: Bool { status.statusClass == 4 }

    /// Status, reason and detail.
    public var description: String { "\(status) \(reason): \(detail)" }

    static func temporary(_ failure: DNSFailure) -> RoutingFailure {
        RoutingFailure(
            reason: failure.reasonCode, status: EnhancedStatusCode(4, 4, 3), detail: failure.description)
    }
}

extension DNSFailure {
    /// The reason of what waits for this lookup.
    public var reasonCode: ReasonCode { code == .bogus ? .dnssecInvalid : .dnsFailure }
}

/// The bounds of one route (law 9).
public enum RouteLimits {
    /// Hosts of one domain that are looked up and tried.
    public static let hosts = 10
    /// Answers about a domain, and answers about one host, that are kept for evidence: of a domain TXT and MX, of a host two families of
    /// addresses and, for each where they differ, two names at which TLSA records may be, or an alias and one name. No more is ever
    /// asked, so no judgement lacks one; and as no message is longer than 64 KB, one judgement has 8 of these at most, half a megabyte.
    static let lookups = 8
    /// Addresses of one host that are tried.
    public static let addresses = 6
    /// TLSA records of one RRset that are handed to OpenSSL.
    public static let tlsaRecords = 64
    /// Routes kept at once.
    static let cached = 10_000
    /// Octets of DNS messages kept with them; one route has at most 62 messages of 64 KB, a sixteenth of it.
    static let cachedOctets = 64 << 20
    /// The longest that a route is kept, whatever its TTL says.
    static let longest: Duration = .seconds(3600)
    /// The longest that the absence of a route is kept.
    static let longestAbsence: Duration = .seconds(300)
}
