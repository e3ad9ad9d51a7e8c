// Where a request goes, read strictly: what is odd in a URL is refused here rather than understood in two ways later.

import DNS

/// An `https` URL (RFC 9110 §4.2.2) without user information and without a fragment.
public struct HTTPSURL: Sendable, Hashable, CustomStringConvertible {
    /// Whom the URL names.
    public enum Host: Sendable, Hashable {
        /// A host by its name, which is resolved and which the certificate must carry.
        case name(DomainName)
        /// An address as such, which the certificate must carry.
        case address(IPAddress)

        /// Name or address as a certificate has it, without brackets.
        public var text: String {
            switch self {
            case .name(let name): name.text
            case .address(let address): address.description
            }
        }
    }

    /// The host.
    public let host: Host
    /// The port: 1 … 65535, 443 unless given.
    public let port: Int
    /// Path and query as they are sent, at least `/`.
    public let target: String

    /// Most octets of `target`.
    public static let targetLimit = 8192

    /// Takes the parts.
    /// - Throws: `invalidRequest` when the name is no host name, or the port or the target is not what it may be.
    public init(host: Host, port: Int = 443, target: String = "/") throws(HTTPClientError) {
        if case .name(let name) = host, !name.isHostName {
            throw HTTPClientError(.invalidRequest, "the URL names no host")
        }
        guard (1...65535).contains(port) else {
            throw HTTPClientError(.invalidRequest, "a port is 1 to 65535")
        }
        guard target.hasPrefix("/"), target.utf8.count <= Self.targetLimit, Self.isTarget(target) else {
            throw HTTPClientError(.invalidRequest, "the path of the URL has characters that no URL has")
        }
        self.host = host
        self.port = port
        self.target = target
    }

    /// Reads a whole URL.
    /// - Throws: `invalidRequest`: another scheme, user information, a fragment, no host, characters that no URL has.
    public init(_ text: String) throws(HTTPClientError) {
        let scheme = "https://"
        guard text.prefix(scheme.count).lowercased() == scheme else {
            throw HTTPClientError(.invalidRequest, "only https is spoken")
        }
        let rest = text.dropFirst(scheme.count)
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var target = String(rest[authority.endIndex...])
        if !target.hasPrefix("/") { target = "/" + target }
        var port = 443
        var hostText = authority
        // The last colon that is not inside the brackets of an IPv6 address.
        let bracket = authority.lastIndex(of: "]") ?? authority.startIndex
        if let colon = authority[bracket...].lastIndex(of: ":") {
            let digits = authority[authority.index(after: colon)...]
            hostText = authority[..<colon]
            guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }),
                let number = Int(digits)
            else { throw HTTPClientError(.invalidRequest, "the port of the URL is no number") }
            port = number
        }
        try self.init(host: Self.host(hostText), port: port, target: target)
    }

    private static func host(_ text: Substring) throws(HTTPClientError) -> Host {
        if text.hasPrefix("["), text.hasSuffix("]") {
            guard let address = IPAddress(String(text.dropFirst().dropLast())), address.isIPv6 else {
                throw HTTPClientError(.invalidRequest, "no IPv6 address stands between the brackets")
            }
            return .address(address)
        }
        if let address = IPAddress(String(text)), !address.isIPv6 { return .address(address) }
        guard let name = try? DomainName(String(text)) else {
            throw HTTPClientError(.invalidRequest, "the URL names no host")
        }
        return .name(name)
    }

    /// Host, and port where it is not 443, as `Host` and `:authority` have it (RFC 9110 §7.2).
    public var authority: String {
        let literal = if case .address(let address) = host { address.isIPv6 } else { false }
        let name = literal ? "[\(host.text)]" : host.text
        return port == 443 ? name : "\(name):\(port)"
    }

    /// The whole URL.
    public var description: String { "https://\(authority)\(target)" }

    /// Path and query of RFC 3986 §3.3 and §3.4, percent signs only before two hexadecimal digits.
    private static func isTarget(_ text: String) -> Bool {
        var expected = 0
        for byte in text.utf8 {
            if expected > 0 {
                guard isHexDigit(byte) else { return false }
                expected -= 1
                continue
            }
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"):
                break
            case UInt8(ascii: "%"): expected = 2
            default:
                guard "-._~!$&'()*+,;=:@/?".utf8.contains(byte) else { return false }
            }
        }
        return expected == 0
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}
