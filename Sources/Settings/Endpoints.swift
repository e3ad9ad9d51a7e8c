// Addresses as an operator writes them: host:port, networks of a tenant, static routes, forwarders.
import Foundation

/// A host name or address with a port: `mx.example.org:25`, `127.0.0.1:8025`, `[::1]:25`.
public struct HostPort: Sendable, Hashable, CustomStringConvertible {
    /// Host name or address, an IPv6 address without its brackets.
    public var host: String
    /// 0 … 65535; 0 asks the system for a free port when listening.
    public var port: Int

    /// Makes a pair of a host and a port.
    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Reads `host:port`; an IPv6 address stands in brackets. Nil for anything else.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        var host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            guard IPAddressBytes(host)?.bytes.count == 16 else { return nil }
        } else {
            guard Self.isHostName(host) else { return nil }
        }
        let digits = text[text.index(after: colon)...]
        guard digits.allSatisfy({ $0.isASCII && $0.isNumber }), let port = Int(digits), port <= 65535 else {
            return nil
        }
        self.init(host: host, port: port)
    }

    /// `host:port`, IPv6 in brackets.
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// RFC 1123 §2.1: labels of letters, digits and hyphens (and underscores, which exist), at most 253 octets.
    static func isHostName(_ text: String) -> Bool {
        guard !text.isEmpty, text.utf8.count <= 253 else { return false }
        return text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") }
        }
    }
}

/// The bytes of an IPv4 (4) or IPv6 (16) address.
struct IPAddressBytes: Sendable, Hashable {
    var bytes: [UInt8]

    init?(_ text: String) {
        var v4 = in_addr()
        var v6 = in6_addr()
        if inet_pton(AF_INET, text, &v4) == 1 {
            bytes = withUnsafeBytes(of: &v4) { Array($0) }
        } else if inet_pton(AF_INET6, text, &v6) == 1 {
            bytes = withUnsafeBytes(of: &v6) { Array($0) }
        } else {
            return nil
        }
    }
}

/// A network in CIDR form: `10.1.0.0/16`.
public struct NetworkBlock: Sendable, Hashable, CustomStringConvertible {
    /// The address of the network, as written.
    public var address: String
    /// Bits of the prefix: 0 … 32 or 0 … 128.
    public var prefixLength: Int
    private var bytes: [UInt8]

    /// Reads `address/length`; an address without a length is one host. Host bits behind the prefix must be zero.
    public init?(_ text: String) {
        let cidr = trimmed(text).split(separator: "/", omittingEmptySubsequences: false)
        guard (1...2).contains(cidr.count), let parsed = IPAddressBytes(String(cidr[0])) else { return nil }
        let most = parsed.bytes.count * 8
        guard let length = cidr.count == 2 ? Int(cidr[1]) : most, (0...most).contains(length) else {
            return nil
        }
        for (i, byte) in parsed.bytes.enumerated()
        where byte & Self.hostBits(ofByte: i, prefix: length) != 0 { return nil }
        self.address = String(cidr[0])
        self.prefixLength = length
        self.bytes = parsed.bytes
    }

    private static func hostBits(ofByte i: Int, prefix: Int) -> UInt8 {
        let network = min(8, max(0, prefix - i * 8))
        return network == 8 ? 0 : UInt8(0xFF) >> UInt8(network)
    }

    /// Whether `address` (text of an IPv4 or IPv6 address, also IPv4 mapped into IPv6) lies in this network.
    public func contains(_ address: String) -> Bool {
        guard var other = IPAddressBytes(address)?.bytes else { return false }
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
        if bytes.count == 4, other.count == 16, other.starts(with: mapped) { other.removeFirst(12) }
        guard other.count == bytes.count else { return false }
        return zip(bytes, other).enumerated().allSatisfy { i, pair in
            (pair.0 ^ pair.1) & ~Self.hostBits(ofByte: i, prefix: prefixLength) == 0
        }
    }

    /// `address/length`
    public var description: String { "\(address)/\(prefixLength)" }
}

/// A network whose clients belong to a tenant: `10.1.0.0/16=demo`.
public struct TenantNetwork: Sendable, Hashable, CustomStringConvertible {
    /// The network.
    public var network: NetworkBlock
    /// The tenant's name.
    public var tenant: String

    /// Reads `cidr=tenant`.
    public init?(_ text: String) {
        guard let equals = text.lastIndex(of: "="), let network = NetworkBlock(String(text[..<equals])) else {
            return nil
        }
        let tenant = trimmed(text[text.index(after: equals)...])
        guard !tenant.isEmpty else { return nil }
        self.network = network
        self.tenant = tenant
    }

    /// Bits of the network's prefix: 0 … 32 or 0 … 128.
    public var prefixLength: Int { network.prefixLength }

    /// Whether `address` (text of an IPv4 or IPv6 address, also IPv4 mapped into IPv6) lies in the network.
    public func contains(_ address: String) -> Bool { network.contains(address) }

    /// `cidr=tenant`
    public var description: String { "\(network)=\(tenant)" }
}

/// A static route: mail for `domain` goes to `target` instead of to its MX.
public struct StaticRoute: Sendable, Hashable, CustomStringConvertible {
    /// The recipient domain in lower case.
    public var domain: String
    /// The host and port that takes its mail.
    public var target: HostPort

    /// Reads `domain=host:port`.
    public init?(_ text: String) {
        guard let equals = text.firstIndex(of: "=") else { return nil }
        let domain = trimmed(text[..<equals]).lowercased()
        guard HostPort.isHostName(domain), let target = HostPort(trimmed(text[text.index(after: equals)...])),
            target.port > 0
        else { return nil }
        self.domain = domain
        self.target = target
    }

    /// `domain=host:port`
    public var description: String { "\(domain)=\(target)" }
}

/// A DNS server that queries are forwarded to, as unbound writes it: `192.0.2.53@53`.
public struct DNSForwarder: Sendable, Hashable, CustomStringConvertible {
    /// IPv4 or IPv6 address.
    public var address: String
    /// 1 … 65535, default 53.
    public var port: Int

    /// Reads `address` or `address@port`.
    public init?(_ text: String) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), IPAddressBytes(String(parts[0])) != nil,
            let port = parts.count == 2 ? Int(parts[1]) : 53, (1...65535).contains(port)
        else { return nil }
        self.address = String(parts[0])
        self.port = port
    }

    /// `address@port`
    public var description: String { "\(address)@\(port)" }
}

/// A ledger shard and how to reach its database: `a=host=/run/postgresql dbname=zegel`.
public struct ShardDSN: Sendable, Hashable, CustomStringConvertible {
    /// The shard's name.
    public var name: String
    /// libpq connection text, which may hold a password.
    public var dsn: String

    /// Reads `name=conninfo`; the name holds letters, digits, hyphens and underscores.
    public init?(_ text: String) {
        guard let equals = text.firstIndex(of: "=") else { return nil }
        let name = trimmed(text[..<equals])
        let dsn = trimmed(text[text.index(after: equals)...])
        guard HostPort.isHostName(name), !name.contains("."), dsn.contains("=") || dsn.contains("://") else {
            return nil
        }
        self.name = name
        self.dsn = dsn
    }

    /// Only the name: a DSN may hold a password.
    public var description: String { name }
}

/// The Patronis of a shard's members: `a=https://192.0.2.1:8008 https://192.0.2.2:8008`.
public struct ShardPatroni: Sendable, Hashable, CustomStringConvertible {
    /// The shard's name.
    public var name: String
    /// `https://address:port` of each.
    public var urls: [String]

    /// Reads `name=URL URL …`.
    public init?(_ text: String) {
        guard let equals = text.firstIndex(of: "=") else { return nil }
        name = trimmed(text[..<equals])
        urls = text[text.index(after: equals)...].split(separator: " ").map(String.init)
        guard HostPort.isHostName(name), !name.contains("."), !urls.isEmpty,
            urls.allSatisfy({ $0.hasPrefix("https://") && HostPort(String($0.dropFirst(8))) != nil })
        else { return nil }
    }

    /// `name=URL URL …`
    public var description: String { "\(name)=\(urls.joined(separator: " "))" }
}

/// The region that leads a shard in good times: `a=r1`.
public struct ShardHome: Sendable, Hashable, CustomStringConvertible {
    /// The shard's name.
    public var shard: String
    /// The region's name.
    public var region: String

    /// Reads `shard=region`.
    public init?(_ text: String) {
        let parts = text.split(separator: "=", omittingEmptySubsequences: false).map { trimmed($0) }
        guard parts.count == 2, parts.allSatisfy({ HostPort.isHostName($0) }) else { return nil }
        (shard, region) = (parts[0], parts[1])
    }

    /// `shard=region`
    public var description: String { "\(shard)=\(region)" }
}

/// A region's etcd, for clients.
public struct EtcdVoter: Sendable, Hashable, CustomStringConvertible {
    /// The region's name.
    public var region: String
    /// `https://address:port`
    public var url: String

    /// Reads `region=https://address:port`.
    public init?(_ text: String) {
        let parts = text.split(separator: "=", maxSplits: 1).map { trimmed($0) }
        guard parts.count == 2, HostPort.isHostName(parts[0]), parts[1].hasPrefix("https://") else {
            return nil
        }
        (region, url) = (parts[0], parts[1])
    }

    /// `region=https://address:port`
    public var description: String { "\(region)=\(url)" }
}
