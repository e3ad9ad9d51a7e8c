// An id as RFC 9562 §4 writes it, in lower case. `uuidString` goes through `snprintf` and gives upper case; several ids are
// written for every message.

import Foundation

extension UUID {
    /// 36 characters, hexadecimal digits in lower case.
    public var lowercasedText: String {
        String(unsafeUninitializedCapacity: 36) { text in
            withUnsafeBytes(of: uuid) { octets in
                var at = 0
                for (index, octet) in octets.enumerated() {
                    if index == 4 || index == 6 || index == 8 || index == 10 {
                        text[at] = UInt8(ascii: "-")
                        at += 1
                    }
                    text[at] = Self.digit(octet >> 4)
                    text[at + 1] = Self.digit(octet & 15)
                    at += 2
                }
                return at
            }
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }
}
