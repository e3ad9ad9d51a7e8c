/// A reading position in a short run of octets, such as a command line.
///
/// Parsers of this target move it forward and never look behind; running out of octets is an ordinary answer (`nil`),
/// never a trap. Meant for command lines, whose length is bounded; message content is never read through it.
struct ByteCursor {
    private let bytes: [UInt8]
    private(set) var position: Int
    private let end: Int

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        self.position = 0
        self.end = bytes.count
    }

    init(_ bytes: ArraySlice<UInt8>) {
        self.init(Array(bytes))
    }

    var isAtEnd: Bool { position >= end }

    var remaining: ArraySlice<UInt8> { bytes[position..<end] }

    var next: UInt8? { position < end ? bytes[position] : nil }

    mutating func take() -> UInt8? {
        guard position < end else { return nil }
        defer { position += 1 }
        return bytes[position]
    }

    /// Moves past `octet` if it comes next.
    mutating func skip(_ octet: UInt8) -> Bool {
        guard next == octet else { return false }
        position += 1
        return true
    }

    /// Moves past `text`, compared without regard to ASCII case, if it comes next.
    mutating func skip(ignoringCase text: StaticString) -> Bool {
        let length = text.utf8CodeUnitCount
        guard end - position >= length else { return false }
        for offset in 0..<length
        where ASCII.lowercased(bytes[position + offset]) != ASCII.lowercased(text.utf8Start[offset]) {
            return false
        }
        position += length
        return true
    }

    /// The octets from here up to the first that does not satisfy `condition`; may be empty.
    mutating func take(while condition: (UInt8) -> Bool) -> ArraySlice<UInt8> {
        let start = position
        while position < end, condition(bytes[position]) { position += 1 }
        return bytes[start..<position]
    }

    /// The octets between an earlier position of this cursor and where it is now.
    func taken(since start: Int) -> ArraySlice<UInt8> { bytes[start..<position] }
}

/// Octets that the grammar of mail names, and the character classes of RFC 5321 §4.1.2.
enum ASCII {
    static let cr: UInt8 = 0x0D
    static let lf: UInt8 = 0x0A
    static let space: UInt8 = 0x20
    static let tab: UInt8 = 0x09
    static let dot: UInt8 = 0x2E
    static let colon: UInt8 = 0x3A
    static let comma: UInt8 = 0x2C
    static let at: UInt8 = 0x40
    static let less: UInt8 = 0x3C
    static let greater: UInt8 = 0x3E
    static let quote: UInt8 = 0x22
    static let backslash: UInt8 = 0x5C
    static let hyphen: UInt8 = 0x2D
    static let plus: UInt8 = 0x2B
    static let equals: UInt8 = 0x3D
    static let semicolon: UInt8 = 0x3B
    static let openBracket: UInt8 = 0x5B
    static let closeBracket: UInt8 = 0x5D

    static func lowercased(_ octet: UInt8) -> UInt8 {
        octet >= 0x41 && octet <= 0x5A ? octet | 0x20 : octet
    }

    static func isDigit(_ octet: UInt8) -> Bool { octet >= 0x30 && octet <= 0x39 }

    static func isLetter(_ octet: UInt8) -> Bool {
        let lower = octet | 0x20
        return lower >= 0x61 && lower <= 0x7A
    }

    static func isAlphanumeric(_ octet: UInt8) -> Bool { isDigit(octet) || isLetter(octet) }

    /// `atext` of RFC 5322 §3.2.3, with `UTF8-non-ascii` of RFC 6531 §3.3.
    static func isAtomText(_ octet: UInt8) -> Bool {
        if octet >= 0x80 || isAlphanumeric(octet) { return true }
        switch octet {
        case 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2F, 0x3D, 0x3F, 0x5E...0x60, 0x7B...0x7E: return true
        default: return false
        }
    }
}
