// An address of either family as a value: what A and AAAA records hold and what a connection is made to.
import CLibUnbound
import Foundation

/// An IPv4 or IPv6 address, compared by its octets.
public struct IPAddress: Sendable, Hashable, CustomStringConvertible, Codable {
    /// The octets in network order: 4 for IPv4, 16 for IPv6.
    public let octets: [UInt8]

    /// Takes 4 or 16 octets; any other count is no address.
    public init?(octets: [UInt8]) {
        guard octets.count == 4 || octets.count == 16 else { return nil }
        self.octets = octets
    }

    /// Reads dotted IPv4 or IPv6 text (RFC 4291 §2.2), without brackets and without a zone.
    public init?(_ text: String) {
        var four = in_addr()
        if inet_pton(AF_INET, text, &four) == 1 {
            self.octets = withUnsafeBytes(of: &four) { Array($0) }
            return
        }
        var six = in6_addr()
        guard inet_pton(AF_INET6, text, &six) == 1 else { return nil }
        self.octets = withUnsafeBytes(of: &six) { Array($0) }
    }

    /// Whether this is an IPv6 address.
    public var isIPv6: Bool { octets.count == 16 }

    /// Whether this is of the loopback network (127/8, ::1).
    public var isLoopback: Bool {
        isIPv6 ? octets == Array(repeating: 0, count: 15) + [1] : octets.first == 127
    }

    /// The usual text: dotted, or compressed as in RFC 5952.
    public var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = isIPv6 ? AF_INET6 : AF_INET
        guard inet_ntop(family, octets, &text, socklen_t(text.count)) != nil else { return "?" }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let address = IPAddress(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "no IP address")
        }
        self = address
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
