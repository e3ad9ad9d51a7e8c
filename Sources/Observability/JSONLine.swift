// One JSON object on one line, written straight into bytes: what logs are made of.

/// Appends the members of a JSON object.
struct JSONLine {
    private(set) var bytes: [UInt8] = [UInt8(ascii: "{")]

    init() { bytes.reserveCapacity(256) }

    mutating func member(_ name: String, _ value: String) {
        key(name)
        quote(value)
    }

    /// Starts a member; the caller appends its value.
    mutating func key(_ name: String) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        quote(name)
        bytes.append(UInt8(ascii: ":"))
    }

    mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

    /// A JSON string (RFC 8259 §7); text over 8 KB is cut.
    mutating func quote(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        var left = 8192
        for byte in text.utf8 {
            // Cut only between characters: never before a continuation byte.
            if left <= 0, byte & 0xC0 != 0x80 {
                bytes.append(contentsOf: "…".utf8)
                break
            }
            left -= 1
            switch byte {
            case UInt8(ascii: "\""): bytes.append(contentsOf: #"\""#.utf8)
            case UInt8(ascii: "\\"): bytes.append(contentsOf: #"\\"#.utf8)
            case 0x0A: bytes.append(contentsOf: #"\n"#.utf8)
            case 0x0D: bytes.append(contentsOf: #"\r"#.utf8)
            case 0x09: bytes.append(contentsOf: #"\t"#.utf8)
            case 0x00..<0x20, 0x7F:
                let digits = Array("0123456789abcdef".utf8)
                bytes.append(contentsOf: #"\u00"#.utf8)
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    /// The finished line with its line feed.
    func finished() -> [UInt8] { bytes + [UInt8(ascii: "}"), UInt8(ascii: "\n")] }
}
