// A block of addresses as operators and registries write it.

import DNS

/// An address prefix (RFC 4632 §3.1, RFC 4291 §2.3): IPv4 and IPv6 never mix.
public struct CIDR: Sendable, Hashable, CustomStringConvertible {
    /// The lowest address of the block; every bit behind the prefix is 0.
    public let base: IPAddress
    /// Bits that an address must share with `base`: 0 … 32 or 0 … 128.
    public let prefixLength: Int

    /// Reads `address/length`; an address alone is a block of one. nil: no block, or bits set behind the prefix.
    public init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count <= 2, let base = IPAddress(String(parts[0])) else { return nil }
        let bits = base.octets.count * 8
        var length = bits
        if parts.count == 2 {
            guard parts[1].allSatisfy({ $0.isASCII && $0.isNumber }), let number = Int(parts[1]),
                (0...bits).contains(number)
            else { return nil }
            length = number
        }
        guard CIDR.masked(base.octets, length) == base.octets else { return nil }
        self.base = base
        self.prefixLength = length
    }

    /// Whether the address is of this block.
    public func contains(_ address: IPAddress) -> Bool {
        address.octets.count == base.octets.count
            && CIDR.masked(address.octets, prefixLength) == base.octets
    }

    /// `address/length`.
    public var description: String { "\(base)/\(prefixLength)" }

    private static func masked(_ octets: [UInt8], _ length: Int) -> [UInt8] {
        octets.enumerated().map { index, octet in
            let kept = min(8, max(0, length - index * 8))
            return octet & ~UInt8(truncatingIfNeeded: 0xFF >> kept)
        }
    }
}
