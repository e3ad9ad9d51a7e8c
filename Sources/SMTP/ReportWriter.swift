// Writes the lines of a report: fields folded, text wrapped and quoted-printable where it must be, addresses in the form
// that RFC 6533 asks for. Everything ends in CRLF and no line passes 998 bytes (RFC 5322 §2.1.1).

import Foundation

/// The bytes of a delivery status notification in the making.
struct ReportWriter {
    private(set) var bytes: [UInt8] = []
    let allowsUTF8: Bool

    private static let foldColumn = 76
    private static let hardColumn = 900

    init(allowsUTF8: Bool) {
        self.allowsUTF8 = allowsUTF8
        bytes.reserveCapacity(4096)
    }

    /// A line as it is.
    mutating func line(_ text: String) {
        bytes.append(contentsOf: text.utf8)
        bytes.append(0x0D)
        bytes.append(0x0A)
    }

    /// A header field, folded before words that pass the column; control characters and what may not be here become `?`.
    mutating func field(_ name: String, _ value: String) {
        var column = name.utf8.count + 1
        bytes.append(contentsOf: name.utf8)
        bytes.append(UInt8(ascii: ":"))
        for word in value.utf8.split(separator: 0x20) {
            var rest = word[...]
            repeat {
                let piece = rest.prefix(Self.hardColumn)
                rest = rest.dropFirst(piece.count)
                if column + piece.count + 1 > Self.foldColumn, column > 1 {
                    bytes.append(0x0D)
                    bytes.append(0x0A)
                    column = 0
                }
                bytes.append(0x20)
                for byte in piece {
                    bytes.append(byte < 0x20 || byte == 0x7F || (byte >= 0x80 && !allowsUTF8) ? 0x3F : byte)
                }
                column += piece.count + 1
            } while !rest.isEmpty
        }
        bytes.append(0x0D)
        bytes.append(0x0A)
    }

    /// An address with its type: `rfc822`, or `utf-8` (RFC 6533 §3), in the ASCII form `\x{…}` where the report is ASCII.
    func typedAddress(_ address: String) -> String {
        if address.utf8.allSatisfy({ $0 < 0x80 }) { return "rfc822; \(address)" }
        if allowsUTF8 { return "utf-8; \(address)" }
        var encoded = ""
        for scalar in address.unicodeScalars {
            if scalar.value > 0x20, scalar.value < 0x7F, scalar != "\\", scalar != "+", scalar != "=" {
                encoded.unicodeScalars.append(scalar)
            } else {
                encoded += "\\x{\(String(scalar.value, radix: 16, uppercase: true))}"
            }
        }
        return "utf-8; \(encoded)"
    }

    /// The part for people: wrapped, as it is when ASCII or when UTF-8 may be sent, else quoted-printable.
    mutating func text(_ paragraphs: [String]) {
        let wrapped = paragraphs.flatMap(Self.wrap)
        let isASCII = wrapped.allSatisfy { $0.utf8.allSatisfy { $0 < 0x80 } }
        field("Content-Type", "text/plain; charset=utf-8")
        if isASCII {
            field("Content-Transfer-Encoding", "7bit")
        } else {
            field("Content-Transfer-Encoding", allowsUTF8 ? "8bit" : "quoted-printable")
        }
        line("")
        for text in wrapped {
            if isASCII || allowsUTF8 {
                line(text)
            } else {
                quotedPrintable(text)
            }
        }
        line("")
    }

    /// The header of the original message, without its body; base64 where its bytes may not go as they are.
    mutating func header(_ original: [UInt8]) {
        let lines = Self.headerLines(original)
        let isASCII = lines.allSatisfy { $0.allSatisfy { $0 < 0x80 && $0 != 0 } && $0.count <= 998 }
        var isUTF8 = false
        if !isASCII {
            isUTF8 = lines.allSatisfy { String(validating: $0, as: UTF8.self) != nil }
        }
        field("Content-Type", isUTF8 ? "message/global-headers" : "text/rfc822-headers")
        if isASCII || (isUTF8 && allowsUTF8 && lines.allSatisfy { $0.count <= 998 }) {
            if !isASCII { field("Content-Transfer-Encoding", "8bit") }
            line("")
            for text in lines {
                bytes.append(contentsOf: text)
                bytes.append(0x0D)
                bytes.append(0x0A)
            }
        } else {
            field("Content-Transfer-Encoding", "base64")
            line("")
            var whole: [UInt8] = []
            for text in lines {
                whole.append(contentsOf: text)
                whole.append(0x0D)
                whole.append(0x0A)
            }
            base64(whole)
        }
        line("")
    }

    /// The lines of the header, up to the empty line that ends it or the limit.
    private static func headerLines(_ original: [UInt8]) -> [ArraySlice<UInt8>] {
        var lines: [ArraySlice<UInt8>] = []
        var index = 0
        let limit = min(original.count, DeliveryStatusNotification.maximumHeaderBytes)
        while index < limit {
            let end = original[index..<limit].firstIndex(of: 0x0A) ?? limit
            var text = original[index..<end]
            if text.last == 0x0D { text = text.dropLast() }
            // A line that the limit cut in two is not returned in part.
            if text.isEmpty || (end == limit && limit < original.count) { break }
            lines.append(text.contains(0x0D) ? ArraySlice(text.filter { $0 != 0x0D }) : text)
            index = end + 1
        }
        return lines
    }

    private static func wrap(_ paragraph: String) -> [String] {
        var lines: [String] = []
        var current = ""
        for word in paragraph.split(separator: " ") {
            var rest = word
            while rest.utf8.count > 200 {
                let piece = rest.prefix(64)
                if !current.isEmpty { lines.append(current) }
                current = ""
                lines.append(String(piece))
                rest = rest.dropFirst(piece.count)
            }
            if !current.isEmpty, current.count + rest.count + 1 > 72 {
                lines.append(current)
                current = ""
            }
            current += current.isEmpty ? String(rest) : " \(rest)"
        }
        lines.append(current)
        return lines
    }

    /// One line of quoted-printable (RFC 2045 §6.7).
    private mutating func quotedPrintable(_ text: String) {
        let hex = Array("0123456789ABCDEF".utf8)
        var column = 0
        let source = Array(text.utf8)
        for (index, byte) in source.enumerated() {
            let isLastSpace = byte == 0x20 && index == source.count - 1
            let isPlain = byte >= 0x20 && byte < 0x7F && byte != UInt8(ascii: "=") && !isLastSpace
            if column + (isPlain ? 1 : 3) > 75 {
                bytes.append(contentsOf: "=\r\n".utf8)
                column = 0
            }
            if isPlain {
                bytes.append(byte)
                column += 1
            } else {
                bytes.append(UInt8(ascii: "="))
                bytes.append(hex[Int(byte >> 4)])
                bytes.append(hex[Int(byte & 15)])
                column += 3
            }
        }
        bytes.append(0x0D)
        bytes.append(0x0A)
    }

    private mutating func base64(_ data: [UInt8]) {
        var index = 0
        while index < data.count {
            let end = min(index + 57, data.count)
            line(Data(data[index..<end]).base64EncodedString())
            index = end
        }
    }
}
