// Reads the replies of a server off a buffer, one at a time. Bounded in the length of a line and the number of lines
// (law 9): a server that talks without end is a protocol violation, not a memory problem. The text is made harmless
// at once: invalid UTF-8 is repaired and control characters become `?`, since it ends in events and notifications.

import NIOCore

/// What is wrong with what a server said. The connection cannot be used any more.
public enum SMTPReplyError: Error, Sendable, Hashable {
    /// A line is longer than ``SMTPReplyParser/maximumLineLength``.
    case lineTooLong
    /// A reply has more lines than ``SMTPReplyParser/maximumLines``.
    case tooManyLines
    /// A line is not `ddd[ -]text`, or the lines of one reply have different codes (RFC 5321 §4.2.1).
    case malformed
}

/// An incremental parser of SMTP replies (RFC 5321 §4.2, RFC 2034).
public struct SMTPReplyParser: Sendable {
    /// Longest accepted line in bytes, its end included; RFC 5321 §4.5.3.1.5 says 512, the field sends more.
    public static let maximumLineLength = 2048
    /// Most lines in one reply.
    public static let maximumLines = 100

    private var code = 0
    private var enhanced: EnhancedStatusCode?
    private var lines: [String] = []

    /// A parser at the start of a reply.
    public init() {}

    /// True between the first and the last line of a reply.
    public var isInsideReply: Bool { !lines.isEmpty }

    /// Takes one complete reply off `buffer`; nil when more bytes are needed. A lone LF ends a line too: what the server
    /// says decides nothing about framing of what we send.
    public mutating func next(_ buffer: inout ByteBuffer) throws(SMTPReplyError) -> SMTPReply? {
        while true {
            let line = buffer.readableBytesView
            guard let end = line.firstIndex(of: 0x0A) else {
                if buffer.readableBytes > Self.maximumLineLength { throw .lineTooLong }
                return nil
            }
            let length = end - line.startIndex
            if length >= Self.maximumLineLength { throw .lineTooLong }
            var isLast = false
            var failure: SMTPReplyError?
            buffer.withUnsafeReadableBytes { bytes in
                var text = UnsafeRawBufferPointer(rebasing: bytes[..<length])
                if let last = text.last, last == 0x0D {
                    text = UnsafeRawBufferPointer(rebasing: text.dropLast())
                }
                do throws(SMTPReplyError) {
                    isLast = try take(text)
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
            buffer.moveReaderIndex(forwardBy: length + 1)
            if isLast {
                let reply = SMTPReply(code, enhanced, lines: lines)
                lines.removeAll(keepingCapacity: false)
                enhanced = nil
                return reply
            }
        }
    }

    /// Takes one line without its end; true when it is the last of its reply.
    private mutating func take(_ line: UnsafeRawBufferPointer) throws(SMTPReplyError) -> Bool {
        guard line.count >= 3, (0x32...0x35).contains(line[0]), line[1] &- 0x30 < 10, line[2] &- 0x30 < 10
        else { throw .malformed }
        let lineCode = Int(line[0] - 0x30) * 100 + Int(line[1] - 0x30) * 10 + Int(line[2] - 0x30)
        var isLast = true
        if line.count > 3 {
            switch line[3] {
            case 0x20: break
            case 0x2D: isLast = false
            default: throw .malformed
            }
        }
        var text = UnsafeRawBufferPointer(rebasing: line.dropFirst(4))
        if let (status, length) = EnhancedStatusCode.read(text), status.statusClass == lineCode / 100,
            length == text.count || text[length] == 0x20
        {
            if lines.isEmpty { enhanced = status }
            text = UnsafeRawBufferPointer(rebasing: text.dropFirst(min(text.count, length + 1)))
        }
        if lines.isEmpty {
            code = lineCode
        } else if code != lineCode {
            throw .malformed
        }
        if lines.count == Self.maximumLines { throw .tooManyLines }
        if text.contains(where: { $0 < 0x20 || $0 == 0x7F }) {
            let clean = text.map { $0 < 0x20 || $0 == 0x7F ? UInt8(ascii: "?") : $0 }
            lines.append(String(decoding: clean, as: UTF8.self))
        } else {
            lines.append(String(decoding: text, as: UTF8.self))
        }
        return isLast
    }
}
