// The letters of which policy records are made (RFC 5234 appendix B.1, RFC 8461 §3). All of it works on octets: what
// comes out of DNS or a web server is not text until a grammar has said so.

/// Classes of octets in the grammars of the record parsers.
enum RecordText {
    /// `ALPHA / DIGIT`.
    static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        default: isDigit(byte)
        }
    }

    /// `DIGIT`.
    static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    /// `WSP`.
    static func isSpace(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    /// Without the `WSP` at both ends.
    static func trimmed(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard let first = text.firstIndex(where: { !isSpace($0) }),
            let last = text.lastIndex(where: { !isSpace($0) })
        else { return [] }
        return text[first...last]
    }

    /// `(ALPHA / DIGIT) *31(ALPHA / DIGIT / "_" / "-" / ".")`, the name of a field that a later standard may add.
    static func isExtensionName(_ name: ArraySlice<UInt8>) -> Bool {
        guard let first = name.first, isAlphanumeric(first), name.count <= 32 else { return false }
        return name.allSatisfy { isAlphanumeric($0) || "_-.".utf8.contains($0) }
    }

    /// The number that these digits are; nil for no digits, other octets, or more than ten digits.
    static func number(_ digits: ArraySlice<UInt8>) -> Int? {
        guard (1...10).contains(digits.count), digits.allSatisfy(isDigit) else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }
}
