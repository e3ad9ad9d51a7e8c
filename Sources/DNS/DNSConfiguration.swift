// What a resolver is told at its start: whom to ask, what to trust, and its limits.

/// The settings of one resolver. Every limit has a default that suits one node.
public struct DNSConfiguration: Sendable, Hashable {
    /// Where validation starts.
    public enum TrustAnchor: Sendable, Hashable {
        /// Nowhere: every answer is insecure.
        case none
        /// A file with DS or DNSKEY records in zone-file form.
        case file(String)

        /// The root's anchor as Debian's package `dns-root-data` keeps it.
        public static let root = TrustAnchor.file("/usr/share/dns/root.key")
    }

    /// A recursive or authoritative server that is asked.
    public struct Forwarder: Sendable, Hashable, CustomStringConvertible {
        /// Its address.
        public let address: IPAddress
        /// Its port, 53 unless given.
        public let port: UInt16

        /// Takes an address and a port.
        public init(address: IPAddress, port: UInt16 = 53) {
            self.address = address
            self.port = port
        }

        /// `addr@port`.
        public var description: String { "\(address)@\(port)" }
    }

    /// Asked for everything, all being equal; none: the resolver recurses from the root itself.
    public var forwarders: [Forwarder]
    /// Where validation starts.
    public var trustAnchor: TrustAnchor
    /// From question to answer, waiting included.
    public var queryDeadline: Duration = .seconds(15)
    /// Questions under way at once.
    public var concurrentQueries: Int = 256
    /// Questions that may wait for one of those places; more are refused with `.overloaded`.
    public var waitingQueries: Int = 4096
    /// Memory of the cache of records, in bytes; messages, keys and absences get as much again together.
    public var cacheBytes: Int = 16 << 20

    /// Takes whom to ask and what to trust.
    public init(forwarders: [Forwarder] = [], trustAnchor: TrustAnchor = .root) {
        self.forwarders = forwarders
        self.trustAnchor = trustAnchor
    }
}

/// A setting of the resolver that cannot hold.
public struct DNSConfigurationError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong and what would be right.
    public let reason: String

    /// The reason.
    public var description: String { reason }
}
