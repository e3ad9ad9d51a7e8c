/// `xtext` of RFC 3461 §4: any octets in a parameter of MAIL and RCPT, `+` and two upper-case hexadecimal digits for
/// those that a parameter cannot hold.
public enum XText {
    /// The octets that an `xtext` stands for; `nil` when it is not one.
    public static func decode(_ text: some Collection<UInt8>) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var iterator = text.makeIterator()
        while let octet = iterator.next() {
            if octet == ASCII.plus {
                guard let high = iterator.next().flatMap(hexValue),
                    let low = iterator.next().flatMap(hexValue)
                else { return nil }
                result.append(high << 4 | low)
            } else {
                guard octet >= 0x21, octet <= 0x7E, octet != ASCII.equals else { return nil }
                result.append(octet)
            }
        }
        return result
    }

    /// The `xtext` of any octets.
    public static func encode(_ octets: some Sequence<UInt8>) -> String {
        var result: [UInt8] = []
        for octet in octets {
            if octet >= 0x21, octet <= 0x7E, octet != ASCII.plus, octet != ASCII.equals {
                result.append(octet)
            } else {
                result += [ASCII.plus, hexDigit(octet >> 4), hexDigit(octet & 0x0F)]
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    private static func hexValue(_ octet: UInt8) -> UInt8? {
        switch octet {
        case 0x30...0x39: octet - 0x30
        case 0x41...0x46: octet - 0x41 + 10
        case 0x61...0x66: octet - 0x61 + 10
        default: nil
        }
    }

    private static func hexDigit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x41 + value - 10 }
}
