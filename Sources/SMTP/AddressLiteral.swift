import Foundation

/// Address literals in brackets (RFC 5321 §4.1.3): `[192.0.2.1]`, `[IPv6:2001:db8::1]`.
enum AddressLiteral {
    /// The one spelling of a valid literal: lower case, IPv6 in the form of RFC 5952. General literals, of which
    /// none was ever registered, are not accepted.
    static func normalized(_ text: String) -> String? {
        let inner = text.dropFirst().dropLast()
        if let address = presentation(String(inner), family: AF_INET) { return "[\(address)]" }
        guard inner.utf8.count > 5, inner.prefix(5).lowercased() == "ipv6:",
            let address = presentation(String(inner.dropFirst(5)), family: AF_INET6)
        else { return nil }
        return "[ipv6:\(address)]"
    }

    private static func presentation(_ text: String, family: Int32) -> String? {
        var address = in6_addr()
        guard inet_pton(family, text, &address) == 1 else { return nil }
        var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN) + 1)
        guard inet_ntop(family, &address, &buffer, socklen_t(buffer.count)) != nil else { return nil }
        let length = buffer.firstIndex(of: 0) ?? buffer.count
        return String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
