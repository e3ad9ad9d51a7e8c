// A domain name in one canonical form: lower-case A-labels, no trailing dot, so that equal names are equal
// values. Text that people wrote comes in through `init(_:)` (U-labels become A-labels); names out of DNS
// messages come in through `init(wire:)`, which keeps odd bytes as `\DDD` instead of losing them.
import Foundation

/// A fully qualified domain name of at most 253 characters of text, each label at most 63 (RFC 1035 §2.3.4).
public struct DomainName: Sendable, Hashable, Comparable, CustomStringConvertible, Codable {
    /// Lower-case presentation form without the trailing dot; the root is `.`.
    public let text: String

    /// The root of the name space, which RFC 7505 uses as the target of a null MX.
    public static let root = DomainName(canonical: ".")

    private init(canonical: String) {
        self.text = canonical
    }

    /// Reads a name as people write it.
    ///
    /// - Parameter text: ASCII (letters, digits, `-`, `_`) or U-labels, with or without one trailing dot.
    /// - Throws: `DomainNameError` when it is no name: empty labels, lengths, other characters.
    public init(_ text: String) throws(DomainNameError) {
        if text == "." {
            self = .root
            return
        }
        let ascii = try DomainName.toASCII(text).lowercased()
        let trimmed = ascii.hasSuffix(".") ? String(ascii.dropLast()) : ascii
        guard !trimmed.isEmpty else { throw DomainNameError(reason: "the name is empty") }
        guard trimmed.utf8.count <= 253 else { throw DomainNameError(reason: "longer than 253 characters") }
        for label in trimmed.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false) {
            guard !label.isEmpty else { throw DomainNameError(reason: "an empty label") }
            guard label.count <= 63 else {
                throw DomainNameError(reason: "a label longer than 63 characters")
            }
            guard label.allSatisfy(DomainName.isNameByte) else {
                throw DomainNameError(reason: "a character that no host name has")
            }
        }
        self.init(canonical: trimmed)
    }

    /// Reads a name as `text` shows it (RFC 1035 §5.1): any octet may stand in it, some of them as `\.` or `\DDD`.
    ///
    /// - Throws: `DomainNameError` when it is no name: empty labels, lengths, escapes of nothing.
    init(presentation text: String) throws(DomainNameError) {
        var wire: [UInt8] = []
        var label: [UInt8] = []
        var rest = text.utf8[...]
        func ended() throws(DomainNameError) {
            guard (1...63).contains(label.count) else {
                throw DomainNameError(reason: "a label that is empty or longer than 63 octets")
            }
            wire.append(UInt8(label.count))
            wire += label
            label = []
        }
        while text != ".", let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "."): try ended()
            case UInt8(ascii: "\\"): label.append(try DomainName.escaped(&rest))
            default: label.append(byte)
            }
        }
        if !label.isEmpty { try ended() }
        var position = 0
        try self.init(wire: wire + [0], at: &position)
    }

    /// What stands behind a backslash.
    private static func escaped(_ rest: inout Substring.UTF8View) throws(DomainNameError) -> UInt8 {
        let digits = rest.prefix(3)
        if digits.count == 3, digits.allSatisfy({ (48...57).contains($0) }) {
            rest.removeFirst(3)
            if let octet = UInt8(String(digits) ?? "") { return octet }
        } else if let next = rest.popFirst(), !(48...57).contains(next) {
            return next
        }
        throw DomainNameError(reason: "an escape of nothing")
    }

    /// Reads an uncompressed name from DNS data (RFC 1035 §3.1) and moves `position` behind it.
    init(wire bytes: [UInt8], at position: inout Int) throws(DomainNameError) {
        var text = ""
        var length = 0
        while true {
            guard position < bytes.count else { throw DomainNameError(reason: "the data ends inside a name") }
            let count = Int(bytes[position])
            position += 1
            length += count + 1
            if count == 0 { break }
            guard count <= 63 else { throw DomainNameError(reason: "a label longer than 63 octets") }
            guard length <= 255 else { throw DomainNameError(reason: "longer than 255 octets") }
            guard position + count <= bytes.count else {
                throw DomainNameError(reason: "the data ends inside a label")
            }
            if !text.isEmpty { text += "." }
            for byte in bytes[position..<position + count] { text += DomainName.presentation(of: byte) }
            position += count
        }
        self.init(canonical: text.isEmpty ? "." : text)
    }

    /// The labels from left to right; none for the root. Escaped dots do not end a label.
    public var labels: [Substring] {
        text == "." ? [] : text.split(separator: ".", omittingEmptySubsequences: false)
    }

    /// The name with further labels in front, such as `_25._tcp`; nil where it would be longer than a name can be.
    ///
    /// - Parameter prefix: labels of letters, digits, `-` and `_`, joined with dots.
    public func below(_ prefix: String) -> DomainName? {
        // Each octet counts once, also where the text writes it as `\DDD`.
        var octets = 0
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\"), let next = rest.first {
                rest.removeFirst((48...57).contains(next) ? 3 : 1)
            }
            octets += 1
        }
        guard let front = try? DomainName(prefix), front.text.utf8.count + octets + 1 <= 253 else {
            return nil
        }
        return self == .root ? front : DomainName(canonical: "\(front.text).\(text)")
    }

    /// Whether a connection can be made to this name, and mail can be sent to it: letters, digits and `-` (and `_`, which exists in
    /// names of hosts), no label begins or ends with `-` (RFC 952, RFC 5321 §4.1.2), and its last label is not all digits, which
    /// would make it an address literal (RFC 1123 §2.1).
    ///
    /// Names of records, such as `_25._tcp`, are no host names, though they may be shaped like one; nothing asks it of them.
    public var isHostName: Bool {
        guard let last = labels.last, !last.utf8.allSatisfy({ (48...57).contains($0) }) else { return false }
        return labels.allSatisfy { label in
            label.first != "-" && label.last != "-" && label.utf8.allSatisfy(DomainName.isNameByte)
        }
    }

    /// The same as `text`.
    public var description: String { text }

    /// Orders by text.
    public static func < (left: DomainName, right: DomainName) -> Bool { left.text < right.text }

    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        try self.init(presentation: try decoder.singleValueContainer().decode(String.self))
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"):
            true
        default: false
        }
    }

    private static func presentation(of byte: UInt8) -> String {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): return String(UnicodeScalar(byte + 32))
        case UInt8(ascii: "."), UInt8(ascii: "\\"): return "\\" + String(UnicodeScalar(byte))
        case 0x21...0x7e: return String(UnicodeScalar(byte))
        default:
            let digits = String(byte)
            return "\\" + String(repeating: "0", count: 3 - digits.count) + digits
        }
    }

    /// U-labels to A-labels by UTS 46; the ASCII part must already be a name, so that no URL syntax slips in.
    private static func toASCII(_ text: String) throws(DomainNameError) -> String {
        if text.utf8.allSatisfy({ $0 < 0x80 }) { return text }
        guard text.utf8.count <= 1000 else { throw DomainNameError(reason: "longer than 253 characters") }
        let allowed = text.utf8.allSatisfy {
            $0 >= 0x80 || $0 == UInt8(ascii: ".") || isNameByte($0) || (65...90).contains($0)
        }
        guard allowed else { throw DomainNameError(reason: "a character that no host name has") }
        var components = URLComponents()
        components.scheme = "https"
        components.host = text
        guard let encoded = components.encodedHost, encoded.utf8.allSatisfy({ $0 < 0x80 && $0 != 0x25 })
        else {
            throw DomainNameError(reason: "no valid internationalised name")
        }
        return encoded
    }
}

/// Why a text or some bytes are no domain name. Names no data, so that it may be logged.
public struct DomainNameError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong with it, in a few words.
    public let reason: String

    /// What is wrong with it.
    public var description: String { "no domain name: \(reason)" }
}
