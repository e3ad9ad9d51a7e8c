// Which addresses a client may connect to. A name that somebody else controls may resolve to anything, also to what only
// this machine can reach; so the very address that is about to be connected to is judged, after every lookup anew, and
// there is no gap between the judgement and the connection in which a name could change its mind (DNS rebinding).
//
// The list is closed, from the registries of RFC 6890: the IANA IPv4 and IPv6 Special-Purpose Address Registries, and
// multicast. In IPv6 only 2000::/3 is global unicast (RFC 4291 §2.4), so everything outside of it is refused whether or
// not it has a name. Prefixes that carry an IPv4 address towards a translator or a relay (NAT64, 6to4) are judged by the
// address that they carry.

import DNS

/// Judges addresses. A value without I/O.
public struct AddressPolicy: Sendable, Hashable {
    /// What is permitted although it is special: the operator's own networks.
    public var allowed: [CIDR]

    /// - allowed: blocks that may be connected to whatever they are for. They hold for an address as it stands, never for
    ///   one that another address carries.
    public init(allowed: [CIDR] = []) { self.allowed = allowed }

    /// What the policy says of one address.
    public enum Judgement: Sendable, Hashable {
        /// It may be connected to.
        case permitted
        /// It may not: it belongs to this special-purpose network.
        case refused(SpecialPurposeNetwork)
    }

    /// Judges one address.
    public func judge(_ address: IPAddress) -> Judgement {
        if allowed.contains(where: { $0.contains(address) }) { return .permitted }
        if let network = SpecialPurposeNetwork.all.first(where: { $0.block.contains(address) }) {
            return .refused(network)
        }
        if let network = SpecialPurposeNetwork.carrying(address) { return .refused(network) }
        return .permitted
    }
}

/// A block of addresses that is not for the public Internet.
public struct SpecialPurposeNetwork: Sendable, Hashable {
    /// The block.
    public let block: CIDR
    /// What it is for, in the words of its registry.
    public let purpose: String

    private init(_ block: CIDR, _ purpose: String) {
        self.block = block
        self.purpose = purpose
    }

    private static let texts: [(block: String, purpose: String)] = [
        ("0.0.0.0/8", "this network (RFC 791)"),
        ("10.0.0.0/8", "private use (RFC 1918)"),
        ("100.64.0.0/10", "shared address space of carriers (RFC 6598)"),
        ("127.0.0.0/8", "loopback (RFC 1122)"),
        ("169.254.0.0/16", "link local (RFC 3927)"),
        ("172.16.0.0/12", "private use (RFC 1918)"),
        ("192.0.0.0/24", "IETF protocol assignments (RFC 6890)"),
        ("192.0.2.0/24", "documentation (RFC 5737)"),
        ("192.88.99.0/24", "deprecated 6to4 relays (RFC 7526)"),
        ("192.168.0.0/16", "private use (RFC 1918)"),
        ("198.18.0.0/15", "benchmarking (RFC 2544)"),
        ("198.51.100.0/24", "documentation (RFC 5737)"),
        ("203.0.113.0/24", "documentation (RFC 5737)"),
        ("224.0.0.0/4", "multicast (RFC 5771)"),
        ("240.0.0.0/4", "reserved, and limited broadcast (RFC 1112, RFC 8190)"),
        ("::/128", "unspecified (RFC 4291)"),
        ("::1/128", "loopback (RFC 4291)"),
        ("::ffff:0:0/96", "IPv4-mapped (RFC 4291)"),
        ("::ffff:0:0:0/96", "IPv4-translated (RFC 2765)"),
        ("::/96", "deprecated IPv4-compatible (RFC 4291)"),
        ("64:ff9b:1::/48", "translation of local use (RFC 8215)"),
        ("100::/64", "discard only (RFC 6666)"),
        ("100:0:0:1::/64", "dummy prefix (RFC 9780)"),
        ("2001::/32", "Teredo (RFC 4380)"),
        ("2001::/23", "IETF protocol assignments (RFC 2928)"),
        ("2001:db8::/32", "documentation (RFC 3849)"),
        ("3fff::/20", "documentation (RFC 9637)"),
        ("5f00::/16", "segment routing (RFC 9602)"),
        ("fc00::/7", "unique local (RFC 4193)"),
        ("fe80::/10", "link local (RFC 4291)"),
        ("fec0::/10", "deprecated site local (RFC 3879)"),
        ("ff00::/8", "multicast (RFC 4291)"),
    ]

    /// Every block with a name, most special first.
    public static let all: [SpecialPurposeNetwork] = networks(texts)

    /// Prefixes behind which an IPv4 address stands, and where: the octet at which it begins.
    private static let carriers: [(network: SpecialPurposeNetwork, octet: Int)] =
        networks([("64:ff9b::/96", "NAT64 (RFC 6052)")]).map { ($0, 12) }
        + networks([("2002::/16", "6to4 (RFC 3056)")]).map { ($0, 2) }
    private static let globalUnicast = networks([("2000::/3", "global unicast (RFC 4291)")])
    private static let unassigned = networks([("::/0", "outside of global unicast (RFC 4291)")])

    private static func networks(_ texts: [(block: String, purpose: String)]) -> [SpecialPurposeNetwork] {
        texts.compactMap { text in CIDR(text.block).map { SpecialPurposeNetwork($0, text.purpose) } }
    }

    /// Why an address without a name of its own may not be connected to either; nil: it may.
    static func carrying(_ address: IPAddress) -> SpecialPurposeNetwork? {
        guard address.isIPv6 else { return nil }
        for (carrier, octet) in carriers where carrier.block.contains(address) {
            guard let carried = IPAddress(octets: Array(address.octets[octet..<octet + 4])),
                let inner = all.first(where: { $0.block.contains(carried) })
            else { return nil }
            return SpecialPurposeNetwork(carrier.block, "\(carrier.purpose) for \(inner.purpose)")
        }
        return globalUnicast.contains { $0.block.contains(address) } ? nil : unassigned.first
    }
}
