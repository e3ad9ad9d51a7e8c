import Foundation
import NIOCore

/// Why a content is refused, found while it streams in.
public enum ContentFault: Error, Sendable, Hashable {
    /// A CR that is not followed by LF (RFC 5321 §2.3.8).
    case bareCarriageReturn
    /// An LF that does not follow a CR (RFC 5321 §2.3.8).
    case bareLineFeed
    /// A line longer than the limit, CRLF included (RFC 5321 §4.5.3.1.6).
    case lineTooLong
    /// More octets than the limit (RFC 1870 §6).
    case tooLarge
}

/// Takes the content out of what follows DATA or BDAT, in pieces of any size, and checks it on the way.
///
/// After DATA it removes the dots that the client doubled and knows one end only: CRLF, dot, CRLF (RFC 5321 §4.1.1.4,
/// §4.5.2). After BDAT it counts octets (RFC 3030). In both, CR and LF stand only together: whatever another server
/// might take for a line end is a fault here, so that no two servers can disagree on where a message ends. A fault is kept, the
/// content after it is read and dropped.
///
/// Octets are searched by `memchr`, a line at a time; content comes out as slices of what came in.
public struct ContentReceiver: Sendable {
    /// What one step found.
    public enum Event: Sendable {
        /// A piece of content.
        case content(ByteBuffer)
        /// All input is used up and the end is not there yet.
        case needInput
        /// The end of the content (DATA) or of the announced octets (BDAT).
        case end
    }

    private enum Position {
        case lineStart
        case afterDot
        case afterDotCR
        case inLine
        case afterCR
    }

    private enum Framing {
        case dotTerminated
        case counted(remaining: Int)
    }

    /// The first fault; nothing is handed out after it.
    public private(set) var fault: ContentFault?
    /// Octets of content so far, dropped ones included.
    public private(set) var octetCount = 0
    /// Whether an octet above 127 was seen.
    public private(set) var hasEightBit = false

    private let maximumSize: Int
    private let maximumLineLength: Int
    private var framing: Framing
    private var position = Position.lineStart
    private var lineLength = 0

    /// A receiver for what follows the 354 to DATA.
    ///
    /// - Parameters:
    ///   - maximumSize: The limit of the content, in octets.
    ///   - maximumLineLength: The limit of a line, in octets, CRLF included.
    public static func data(maximumSize: Int, maximumLineLength: Int = 1000) -> ContentReceiver {
        ContentReceiver(
            framing: .dotTerminated, maximumSize: maximumSize, maximumLineLength: maximumLineLength)
    }

    /// A receiver for BDAT; each chunk begins with ``beginChunk(octets:)``.
    ///
    /// - Parameters:
    ///   - maximumSize: The limit of the content, in octets.
    ///   - maximumLineLength: The limit of a line, in octets, CRLF included.
    public static func chunks(maximumSize: Int, maximumLineLength: Int = 1000) -> ContentReceiver {
        ContentReceiver(
            framing: .counted(remaining: 0), maximumSize: maximumSize, maximumLineLength: maximumLineLength)
    }

    private init(framing: Framing, maximumSize: Int, maximumLineLength: Int) {
        self.framing = framing
        self.maximumSize = maximumSize
        self.maximumLineLength = maximumLineLength
    }

    /// Whether the fault is a CR or LF alone: the client and we may not agree on where lines end.
    public var hasBareLineEnd: Bool { fault == .bareCarriageReturn || fault == .bareLineFeed }

    /// Begins a chunk of announced length.
    public mutating func beginChunk(octets: Int) {
        framing = .counted(remaining: octets)
        if octetCount + octets > maximumSize { note(.tooLarge) }
    }

    /// Ends the content after its last chunk: a CR at the very end stands alone.
    public mutating func endOfChunks() {
        if position == .afterCR { note(.bareCarriageReturn) }
    }

    /// Takes the next step over `input`, moving its reader index.
    public mutating func next(_ input: inout ByteBuffer) -> Event {
        switch framing {
        case .dotTerminated: return nextOfData(&input)
        case .counted(let remaining): return nextOfChunk(&input, remaining: remaining)
        }
    }

    private mutating func nextOfChunk(_ input: inout ByteBuffer, remaining: Int) -> Event {
        guard remaining > 0 else { return .end }
        guard let slice = input.readSlice(length: min(remaining, input.readableBytes)),
            slice.readableBytes > 0
        else { return .needInput }
        framing = .counted(remaining: remaining - slice.readableBytes)
        octetCount += slice.readableBytes
        if fault == nil {
            slice.withUnsafeReadableBytes { bytes in
                scan(bytes)
                noteEightBit(bytes)
            }
        }
        return fault == nil ? .content(slice) : next(&input)
    }

    /// Checks counted octets: lines have no dots to undo and no end to look for.
    private mutating func scan(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < bytes.count {
            if position == .lineStart {
                lineLength = 0
                position = .inLine
            }
            advance(&index, bytes)
        }
    }

    private mutating func nextOfData(_ input: inout ByteBuffer) -> Event {
        while input.readableBytes > 0 {
            let step = input.withUnsafeReadableBytes { bytes in dataStep(bytes) }
            var run: ByteBuffer?
            if step.runEnd > step.runStart, fault == nil {
                run = input.getSlice(
                    at: input.readerIndex + step.runStart, length: step.runEnd - step.runStart)
            }
            input.moveReaderIndex(forwardBy: step.consumed)
            if let run {
                // Its end, if it was found already, is found again: a run never swallows the final dot.
                return .content(run)
            }
            if step.isEnd { return .end }
        }
        return .needInput
    }

    private struct DataStep {
        var runStart = 0
        var runEnd = 0
        var consumed = 0
        var isEnd = false
    }

    /// Scans up to the first dot at a line start behind the run, or to the end of what is there.
    private mutating func dataStep(_ bytes: UnsafeRawBufferPointer) -> DataStep {
        var step = DataStep()
        var index = 0
        scanning: while index < bytes.count {
            switch position {
            case .lineStart:
                if bytes[index] == ASCII.dot {
                    if index > step.runStart { break scanning }
                    index += 1
                    step.runStart = index
                    position = .afterDot
                } else {
                    lineLength = 0
                    position = .inLine
                }
            case .afterDot:
                if bytes[index] == ASCII.cr {
                    index += 1
                    step.runStart = index
                    position = .afterDotCR
                } else {
                    lineLength = 0
                    position = .inLine
                }
            case .afterDotCR:
                if bytes[index] == ASCII.lf {
                    step.isEnd = true
                    step.consumed = index + 1
                    return step
                }
                note(.bareCarriageReturn)
                position = .inLine
            case .inLine, .afterCR:
                advance(&index, bytes)
            }
        }
        step.runEnd = index
        step.consumed = index
        let length = step.runEnd - step.runStart
        if length > 0 {
            octetCount += length
            if octetCount > maximumSize { note(.tooLarge) }
            if fault == nil {
                noteEightBit(UnsafeRawBufferPointer(rebasing: bytes[step.runStart..<step.runEnd]))
            }
        }
        return step
    }

    /// Moves over the rest of one line, from inside it or from behind its CR.
    private mutating func advance(_ index: inout Int, _ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        if position == .afterCR {
            if bytes[index] == ASCII.lf {
                index += 1
                lineLength += 1
                if lineLength > maximumLineLength { note(.lineTooLong) }
                position = .lineStart
                return
            }
            note(.bareCarriageReturn)
            position = .inLine
        }
        let rest = bytes.count - index
        guard let feed = memchr(base + index, Int32(ASCII.lf), rest) else {
            let hasCR = memchr(base + index, Int32(ASCII.cr), rest - 1) != nil
            if hasCR { note(.bareCarriageReturn) }
            if bytes[bytes.count - 1] == ASCII.cr { position = .afterCR }
            lineLength += rest
            if lineLength > maximumLineLength { note(.lineTooLong) }
            index = bytes.count
            return
        }
        let end = UnsafeRawPointer(feed) - base
        if end == index || bytes[end - 1] != ASCII.cr {
            note(.bareLineFeed)
            lineLength += end + 1 - index
            index = end + 1
            return
        }
        if memchr(base + index, Int32(ASCII.cr), end - 1 - index) != nil { note(.bareCarriageReturn) }
        lineLength += end + 1 - index
        if lineLength > maximumLineLength { note(.lineTooLong) }
        index = end + 1
        position = .lineStart
    }

    private mutating func note(_ found: ContentFault) {
        // A line end that is none decides over any other fault: it also closes the connection.
        if fault == nil || (found != .lineTooLong && found != .tooLarge && !hasBareLineEnd) { fault = found }
    }

    private mutating func noteEightBit(_ bytes: UnsafeRawBufferPointer) {
        guard !hasEightBit else { return }
        var index = 0
        var seen: UInt64 = 0
        while index + 8 <= bytes.count {
            seen |= bytes.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            index += 8
        }
        while index < bytes.count {
            seen |= UInt64(bytes[index])
            index += 1
        }
        hasEightBit = seen & 0x8080_8080_8080_8080 != 0
    }
}
