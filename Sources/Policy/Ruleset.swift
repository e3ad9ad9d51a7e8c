// What a delivery must satisfy, as versioned data: nothing here looks at a host. `SmartTLS` judges findings
// against it. Where several rulesets match, the strictest holds (design law 10); no combination loosens.

/// The oldest protocol version a ruleset accepts.
public enum ProtocolFloor: String, Sendable, Hashable, Codable, Comparable, CaseIterable {
    /// TLS 1.2 (RFC 5246), the floor of RFC 9325.
    case tls12 = "TLSv1.2"
    /// TLS 1.3 (RFC 8446).
    case tls13 = "TLSv1.3"

    /// Older is less.
    public static func < (left: ProtocolFloor, right: ProtocolFloor) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// How the recipient's server must prove who it is. A later case is stricter.
public enum AuthenticationDemand: String, Sendable, Hashable, Codable, Comparable, CaseIterable {
    /// Not at all: any certificate will do.
    case none
    /// A certificate chain to the trusted roots, with the name of the host (RFC 6125, RFC 9525); where TLSA records are
    /// published, a match of these and nothing else.
    case pkixName = "pkix-name"
    /// A TLSA record in DNSSEC (RFC 7672).
    case dane

    /// Weaker is less.
    public static func < (left: AuthenticationDemand, right: AuthenticationDemand) -> Bool {
        left.rank < right.rank
    }

    private var rank: Int { AuthenticationDemand.allCases.firstIndex(of: self) ?? 0 }
}

/// The demands on one delivery. Rulesets are data: they are stored, carried and compared by name and version.
public struct Ruleset: Sendable, Hashable, Codable {
    /// The name by which labels, messages and events refer to it.
    public var name: String
    /// Counts up with every change of its content.
    public var version: Int
    /// Whether a connection without TLS is never good enough.
    public var requiresTLS: Bool
    /// The oldest protocol version; nil takes whatever TLS offers.
    public var minimumVersion: ProtocolFloor?
    /// Whether the key exchange must be ephemeral, so that a key stolen later opens nothing recorded before.
    public var requiresForwardSecrecy: Bool
    /// How the server must prove who it is.
    public var authentication: AuthenticationDemand
    /// Whether a host name that came from unsigned DNS may be the name that the certificate is held against.
    public var acceptsUnprovenName: Bool
    /// What happens when a host is not good enough.
    public var onInsecure: InsecureAction
    /// What the recipient domain's NTA 7516 record counts for; nil: it is not asked for.
    public var nta: NTADemand?
    /// What a scan of the host counts for: what else it accepts; nil: nothing.
    public var scan: ScanDemand?

    /// Takes the demands; see each property.
    public init(
        name: String, version: Int, requiresTLS: Bool, minimumVersion: ProtocolFloor?,
        requiresForwardSecrecy: Bool, authentication: AuthenticationDemand, acceptsUnprovenName: Bool,
        onInsecure: InsecureAction = .return, nta: NTADemand? = nil, scan: ScanDemand? = nil
    ) {
        self.name = name
        self.version = version
        self.requiresTLS = requiresTLS
        self.minimumVersion = minimumVersion
        self.requiresForwardSecrecy = requiresForwardSecrecy
        self.authentication = authentication
        self.acceptsUnprovenName = acceptsUnprovenName
        self.onInsecure = onInsecure
        self.nta = nta
        self.scan = scan
    }

    /// TLS where it is offered, with any certificate that TLSA records do not contradict; cleartext only where it is not
    /// offered and there are no such records.
    public static let opportunistic = Ruleset(
        name: "opportunistic", version: 1, requiresTLS: false, minimumVersion: nil,
        requiresForwardSecrecy: false, authentication: .none, acceptsUnprovenName: true)

    /// TLS 1.2 or newer, forward secrecy, and what TLSA records prove or, without any, a certificate from a trusted root with
    /// the name of the MX host.
    public static let secure = Ruleset(
        name: "secure", version: 1, requiresTLS: true, minimumVersion: .tls12, requiresForwardSecrecy: true,
        authentication: .pkixName, acceptsUnprovenName: true)

    /// As `secure`, with the host proven by DANE and every name by DNSSEC (NTA 7516), at no address that is configured as outside the
    /// EEA, at the hosts that the domain names for NTA 7516
    /// where it names any.
    public static let nta7516 = Ruleset(
        name: "nta7516", version: 3, requiresTLS: true, minimumVersion: .tls12, requiresForwardSecrecy: true,
        authentication: .dane, acceptsUnprovenName: false, nta: .preferred)

    /// Whether whatever satisfies this ruleset satisfies `other` too, and what does not goes nowhere that `other` would not let
    /// it go.
    public func isAtLeastAsStrict(as other: Ruleset) -> Bool {
        (requiresTLS || !other.requiresTLS)
            && floorRank >= other.floorRank
            && (requiresForwardSecrecy || !other.requiresForwardSecrecy)
            && authentication >= other.authentication
            && (!acceptsUnprovenName || other.acceptsUnprovenName)
            && onInsecure.isAtLeastAsStrict(as: other.onInsecure)
            && NTADemand.isAtLeast(nta, other.nta)
            && ScanDemand.isAtLeast(scan, other.scan)
    }

    /// The strictest of several; nil when there is none.
    ///
    /// Where none of them is as strict as all others, the result joins the demands of all, so that nothing is
    /// loosened; its name joins theirs with `+`, and `RulesetBook` reads it back.
    public static func strictest(of rulesets: [Ruleset]) -> Ruleset? {
        guard let first = rulesets.first else { return nil }
        return rulesets.dropFirst().reduce(first) { $0.joined(with: $1) }
    }

    private func joined(with other: Ruleset) -> Ruleset {
        if name == other.name { return version >= other.version ? self : other }
        if isAtLeastAsStrict(as: other) {
            return other.isAtLeastAsStrict(as: self) ? (name < other.name ? self : other) : self
        }
        if other.isAtLeastAsStrict(as: self) { return other }
        let names = Set(name.split(separator: "+") + other.name.split(separator: "+")).sorted()
        return Ruleset(
            name: names.joined(separator: "+"), version: max(version, other.version),
            requiresTLS: requiresTLS || other.requiresTLS,
            minimumVersion: floorRank >= other.floorRank ? minimumVersion : other.minimumVersion,
            requiresForwardSecrecy: requiresForwardSecrecy || other.requiresForwardSecrecy,
            authentication: max(authentication, other.authentication),
            acceptsUnprovenName: acceptsUnprovenName && other.acceptsUnprovenName,
            onInsecure: onInsecure.joined(with: other.onInsecure),
            nta: NTADemand.isAtLeast(nta, other.nta) ? nta : other.nta,
            scan: ScanDemand.isAtLeast(scan, other.scan) ? scan : other.scan)
    }

    private var floorRank: Int {
        minimumVersion.flatMap(ProtocolFloor.allCases.firstIndex).map { $0 + 1 } ?? 0
    }
}
