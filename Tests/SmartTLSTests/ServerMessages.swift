// Messages of a TLS server made by hand, for the tests of their reader.

@testable import SmartTLS

/// Octets on the wire of a server's first flight.
enum ServerMessages {
    static func number(_ value: Int, _ width: Int) -> [UInt8] {
        (0..<width).reversed().map { UInt8(value >> (8 * $0) & 0xff) }
    }

    static func vector(_ width: Int, _ content: [UInt8]) -> [UInt8] { number(content.count, width) + content }

    static func record(_ content: [UInt8], type: UInt8 = 22, version: Int = 0x0303) -> [UInt8] {
        [type] + number(version, 2) + vector(2, content)
    }

    static func message(_ type: UInt8, _ body: [UInt8]) -> [UInt8] { [type] + vector(3, body) }

    static func `extension`(_ type: Int, _ data: [UInt8] = []) -> [UInt8] {
        number(type, 2) + vector(2, data)
    }

    static func hello(
        version: Int = 0x0303, suite: Int = 0xc02f, compression: UInt8 = 0, isRetry: Bool = false,
        extensions: [UInt8]? = nil
    ) -> [UInt8] {
        let retry: [UInt8] = [
            0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
            0xc2,
            0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
        ]
        let random = isRetry ? retry : Array(repeating: 7, count: 32)
        let body = number(version, 2) + random + vector(1, [1, 2, 3]) + number(suite, 2) + [compression]
        return message(2, body + (extensions.map { vector(2, $0) } ?? []))
    }

    /// A HelloRetryRequest that picks a suite and a group.
    static func retry(suite: Int = 0x1301, group: Int) -> [UInt8] {
        hello(
            suite: suite, isRetry: true,
            extensions: `extension`(43, [3, 4]) + `extension`(51, number(group, 2)))
    }

    static func certificates(_ chain: [[UInt8]]) -> [UInt8] {
        message(11, vector(3, chain.flatMap { vector(3, $0) }))
    }

    /// ServerKeyExchange on a named curve, signed.
    static func curve(_ group: Int, signature: Int? = 0x0804) -> [UInt8] {
        let parameters = [3] + number(group, 2) + vector(1, Array(repeating: 4, count: 33))
        return message(12, parameters + (signature.map { number($0, 2) } ?? []) + vector(2, [9, 9]))
    }

    /// ServerKeyExchange with a prime.
    static func prime(_ prime: [UInt8], signature: Int? = 0x0401) -> [UInt8] {
        let parameters = vector(2, prime) + vector(2, [2]) + vector(2, prime)
        return message(12, parameters + (signature.map { number($0, 2) } ?? []) + vector(2, [9, 9]))
    }

    static let done = message(14, [])
}
