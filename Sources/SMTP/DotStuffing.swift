// Turns message content into what follows DATA (RFC 5321 §4.5.2): a dot at the start of a line is doubled, and the content
// ends in CRLF. A streaming value: feed it pieces of any size. It is the last gate before the wire against SMTP smuggling:
// a bare CR or LF never leaves, whatever came in.

import Foundation
import NIOCore

/// Dot-stuffing of a content in pieces.
public struct DotStuffing: ~Copyable {
    /// Content with a bare CR or LF: it was not accepted by a strict edge, so it is not sent either.
    public struct BareLineEnd: Error, Sendable, Hashable {}

    private enum Position {
        case lineStart
        case inLine
        case afterCR
    }

    private var position = Position.lineStart

    /// At the start of a content.
    public init() {}

    /// Appends the stuffed form of `bytes` to `output`.
    /// - Throws: ``BareLineEnd`` when a CR or LF stands alone; nothing of `bytes` from the offending line end on was appended,
    ///   and the transaction must be given up without a final dot.
    public mutating func append(_ bytes: UnsafeRawBufferPointer, to output: inout ByteBuffer)
        throws(BareLineEnd)
    {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return }
        output.reserveCapacity(minimumWritableBytes: bytes.count + 64)
        let end = base + bytes.count
        var next = base
        switch position {
        case .lineStart: break
        case .inLine: break
        case .afterCR:
            guard next.load(as: UInt8.self) == 0x0A else { throw BareLineEnd() }
            output.writeStaticString("\r\n")
            next += 1
            position = .lineStart
        }
        // `start` is the first byte that was not appended yet: whole runs of lines go out in one copy.
        var start = next
        func flush(_ upTo: UnsafeRawPointer) {
            if upTo > start { output.writeBytes(UnsafeRawBufferPointer(start: start, count: upTo - start)) }
            start = upTo
        }
        while next < end {
            if position == .lineStart {
                if next.load(as: UInt8.self) == UInt8(ascii: ".") {
                    flush(next)
                    output.writeInteger(UInt8(ascii: "."))
                }
                position = .inLine
            }
            guard let lineFeed = memchr(next, 0x0A, end - next).map({ UnsafeRawPointer($0) }) else {
                // No line end left: only a last CR may stand here, and its LF is still to come.
                if let carriageReturn = memchr(next, 0x0D, end - next).map({ UnsafeRawPointer($0) }) {
                    flush(carriageReturn)
                    guard carriageReturn + 1 == end else { throw BareLineEnd() }
                    position = .afterCR
                } else {
                    flush(end)
                }
                return
            }
            let lineEnd = lineFeed - 1
            guard lineFeed > next, lineEnd.load(as: UInt8.self) == 0x0D else {
                flush(lineFeed)
                throw BareLineEnd()
            }
            if let carriageReturn = memchr(next, 0x0D, lineEnd - next).map({ UnsafeRawPointer($0) }) {
                flush(carriageReturn)
                throw BareLineEnd()
            }
            next = lineFeed + 1
            position = .lineStart
        }
        flush(end)
    }

    /// Appends the stuffed form of `bytes` to `output`; see ``append(_:to:)-swift.method``.
    public mutating func append(_ bytes: [UInt8], to output: inout ByteBuffer) throws(BareLineEnd) {
        var failure: BareLineEnd?
        bytes.withUnsafeBytes { raw in
            do throws(BareLineEnd) {
                try append(raw, to: &output)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// Ends the content: appends a CRLF when the last line has none. The final dot is not written here.
    public mutating func finish(_ output: inout ByteBuffer) throws(BareLineEnd) {
        switch position {
        case .lineStart: break
        case .inLine:
            output.writeStaticString("\r\n")
            position = .lineStart
        case .afterCR: throw BareLineEnd()
        }
    }
}
