// A reply of an SMTP server (RFC 5321 §4.2), the same value whether we read it or write it.

/// One complete SMTP reply, of one line or several.
public struct SMTPReply: Sendable, Hashable {
    /// The three-digit code, 200 to 599.
    public var code: Int
    /// The enhanced status (RFC 2034), where the server gave one whose class agrees with the code.
    public var enhanced: EnhancedStatusCode?
    /// The text of each line, without code and enhanced status; never empty, never with control characters when it was parsed.
    public var lines: [String]

    /// A reply of several lines.
    public init(_ code: Int, _ enhanced: EnhancedStatusCode? = nil, lines: [String]) {
        self.code = code
        self.enhanced = enhanced
        self.lines = lines.isEmpty ? [""] : lines
    }

    /// A reply of one line.
    public init(_ code: Int, _ enhanced: EnhancedStatusCode? = nil, _ text: String) {
        self.init(code, enhanced, lines: [text])
    }

    /// 2yz: done.
    public var isPositiveCompletion: Bool { code / 100 == 2 }
    /// 3yz: go on.
    public var isPositiveIntermediate: Bool { code / 100 == 3 }
    /// 4yz: not now.
    public var isTransientNegative: Bool { code / 100 == 4 }
    /// 5yz: never.
    public var isPermanentNegative: Bool { code / 100 == 5 }

    /// The reply on one line, as people read it: `550 5.1.1 no such user`. Lines are joined by a space.
    public var text: String {
        var result = String(code)
        if let enhanced { result += " \(enhanced)" }
        for line in lines where !line.isEmpty { result += " " + line }
        return result
    }

    /// The bytes of the reply, each line with its CRLF (RFC 5321 §4.2.1), the enhanced status repeated on each (RFC 2034 §4).
    /// CR and LF in the text become spaces: no text ends a line of its own.
    public func encoded() -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(lines.reduce(0) { $0 + $1.utf8.count + 16 })
        for (index, line) in lines.enumerated() {
            bytes.append(contentsOf: String(code).utf8)
            bytes.append(index == lines.count - 1 ? 0x20 : 0x2D)
            if let enhanced {
                bytes.append(contentsOf: enhanced.description.utf8)
                bytes.append(0x20)
            }
            for octet in line.utf8 { bytes.append(octet == 0x0D || octet == 0x0A ? 0x20 : octet) }
            bytes.append(0x0D)
            bytes.append(0x0A)
        }
        return bytes
    }
}

extension SMTPReply: CustomStringConvertible {
    /// The reply on one line. A remote server's text may name a mailbox: not for logs.
    public var description: String { text }
}
