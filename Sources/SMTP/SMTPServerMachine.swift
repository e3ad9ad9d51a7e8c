import Foundation
import NIOCore

/// The server's side of one SMTP connection as a value: RFC 5321 with STARTTLS, AUTH, PIPELINING, SIZE, 8BITMIME, SMTPUTF8,
/// CHUNKING, DSN, ENHANCEDSTATUSCODES and REQUIRETLS.
///
/// It has no socket, no clock and no knowledge of who may send what. Whoever drives it hands in what the client sent
/// (``receive(_:)``), then takes actions from ``next()`` and carries each out until it is told to read (`needInput`) or to answer a
/// question first (`wait`). Each question has one method that answers it. What the client sent ahead stays in the machine's
/// buffer, so whoever stops reading bounds it.
///
/// Decisions that the standards leave open:
/// - A CR or LF alone in a command line gets 500 5.5.2 and ends the connection; in content it gets 550 5.6.0 after the true
///   end of the content, and after DATA the connection ends too: what such a client holds for the end of a message nobody knows.
/// - Octets behind STARTTLS, and octets behind a DATA that is refused, end the connection.
/// - After a failed BDAT the octets of each chunk are read and every chunk is refused until RSET.
public struct SMTPServerMachine: ~Copyable {
    /// What is to be done next.
    public enum Action: Sendable {
        /// Flush what was written, then read.
        case needInput
        /// A question is open: read nothing, and come back with its answer.
        case wait
        /// Write a reply; flushing can wait.
        case reply(SMTPReply)
        /// Write and flush the reply, then put TLS under the connection and call ``tlsEstablished()``.
        case startTLS(SMTPReply)
        /// Check credentials, then call ``authenticationDecided(_:)``.
        case authenticate(AuthenticationAttempt)
        /// May this sender send? Then ``senderDecided(_:)``.
        case checkSender(MailTransaction)
        /// May mail go to this recipient? Then ``recipientDecided(_:)``.
        case checkRecipient(EnvelopeRecipient)
        /// Make ready for content, then ``contentDecided(_:)``.
        case openContent(MailTransaction)
        /// A piece of content.
        case content(ByteBuffer)
        /// Forget the content so far: it is refused for this fault, or the client began anew.
        case discardContent(ContentFault?)
        /// The content is complete: keep it, then ``transactionDecided(_:)``.
        case commitContent(hasEightBit: Bool)
        /// Forget any content, write and flush the reply, if any, and close.
        case close(SMTPReply?)
    }

    /// What the machine waits for, which decides how long (RFC 5321 §4.5.3.2).
    public enum Patience: Sendable {
        /// A command: five minutes.
        case command
        /// Content: three minutes.
        case content
        /// Whoever drives it: the client is not to blame.
        case answer
    }

    enum Phase {
        case command
        case startingTLS
        case authenticating(AuthenticationExchange)
        case awaiting(Question)
        case data(ContentReceiver)
        case chunk(ContentReceiver, isLast: Bool)
        /// The octets of a chunk that was refused before it began.
        case skippingChunk(remaining: Int, then: SMTPReply)
        /// The rest of a command line that is too long.
        case skippingLine(CommandError)
        case closed
    }

    enum Question {
        case authentication
        case sender(MailTransaction)
        case recipient(EnvelopeRecipient)
        case dataOpening
        case chunkOpening(octets: Int, isLast: Bool)
        case commit
    }

    enum Chunking {
        case none
        case receiving(ContentReceiver)
        case failed
    }

    /// What the connection is offered.
    public let options: SMTPServerOptions
    /// The name that the client gave in EHLO or HELO.
    public internal(set) var clientName: String?
    /// Whether the client said EHLO.
    public internal(set) var isExtended = false
    /// Whether the connection is encrypted.
    public internal(set) var isEncrypted: Bool
    /// Whether the client gave credentials.
    public internal(set) var isAuthenticated = false

    var isKnownNetwork: Bool
    var isDraining = false
    var phase = Phase.command
    var transaction: MailTransaction?
    var recipientKeys: Set<MailAddress> = []
    var refusedRecipients = 0
    var chunking = Chunking.none
    var errors = 0
    var authenticationFailures = 0
    var inbound = ByteBuffer()
    /// Where the search for a line end goes on.
    var scanned = 0
    var pending: [Action] = []
    /// Content was opened and neither committed nor discarded.
    var contentIsOpen = false

    /// A machine for a new connection.
    ///
    /// - Parameters:
    ///   - isEncrypted: The connection began with TLS (RFC 8314).
    ///   - isKnownNetwork: The client's address alone says whose mail this is: no AUTH is needed.
    public init(options: SMTPServerOptions, isEncrypted: Bool = false, isKnownNetwork: Bool = false) {
        self.options = options
        self.isEncrypted = isEncrypted
        self.isKnownNetwork = isKnownNetwork
    }

    /// The greeting, to be written and flushed before anything is read (RFC 5321 §4.3.1).
    public var greeting: SMTPReply { SMTPReply(220, nil, "\(options.hostName) ESMTP Zegel") }

    /// How long the client may be silent now.
    public var patience: Patience {
        switch phase {
        case .command, .startingTLS, .authenticating, .skippingLine, .closed: .command
        case .awaiting: .answer
        case .data, .chunk, .skippingChunk: .content
        }
    }

    /// Whether no transaction is under way and nothing waits.
    public var isIdle: Bool {
        guard case .command = phase else { return false }
        return transaction == nil
    }

    /// Takes in what the client sent.
    public mutating func receive(_ buffer: ByteBuffer) {
        if case .closed = phase { return }
        if inbound.readableBytes == 0 {
            inbound = buffer
            scanned = 0
        } else {
            var buffer = buffer
            inbound.writeBuffer(&buffer)
        }
    }

    /// From now on no new transaction begins: the connection ends with 421 when the one under way has (RFC 5321 §3.8).
    public mutating func drain() { isDraining = true }

    /// The client was silent for too long (RFC 5321 §4.5.3.2).
    public mutating func timedOut() -> Action {
        close(SMTPReply(421, .init(4, 4, 2), "\(options.hostName) Timeout, closing connection"))
    }

    /// The next thing to do.
    public mutating func next() -> Action {
        let action = step()
        switch action {
        case .needInput, .wait: forgetRead()
        default: break
        }
        return action
    }

    /// Lets go of what has been read: mail does not stay in a buffer while the client rests (design law 4).
    private mutating func forgetRead() {
        guard inbound.readerIndex > 0 else { return }
        inbound = inbound.readableBytes == 0 ? ByteBuffer() : ByteBuffer(buffer: inbound)
    }

    private mutating func step() -> Action {
        while true {
            if !pending.isEmpty { return pending.removeFirst() }
            switch phase {
            case .closed: return .close(nil)
            case .awaiting, .startingTLS: return .wait
            case .command:
                if isDraining, transaction == nil {
                    return close(SMTPReply(421, .init(4, 3, 2), "\(options.hostName) Service shutting down"))
                }
                switch nextLine(limit: nil) {
                case .line(let line): return command(line)
                case .tooLong:
                    phase = .skippingLine(SMTPCommand.tooLong(Array(inbound.readableBytesView.prefix(4))))
                case .bareLineEnd: return close(CommandError(.bareLineEnd).reply)
                case .incomplete: return .needInput
                }
            case .authenticating(let exchange):
                switch nextLine(limit: SMTPCommand.authenticationLineLength) {
                case .line(let line) where line.count <= SMTPCommand.authenticationLineLength - 2:
                    return authenticationStep(exchange, line)
                case .line, .tooLong:
                    return close(SMTPReply(500, .init(5, 5, 6), "Authentication exchange line is too long"))
                case .bareLineEnd: return close(CommandError(.bareLineEnd).reply)
                case .incomplete: return .needInput
                }
            case .skippingLine(let error):
                switch skipLine() {
                case .line: return refuse(error.reply)
                case .bareLineEnd: return close(CommandError(.bareLineEnd).reply)
                case .incomplete, .tooLong: return .needInput
                }
            case .data(let receiver): if let action = dataStep(receiver) { return action }
            case .chunk(let receiver, let isLast):
                if let action = chunkStep(receiver, isLast: isLast) { return action }
            case .skippingChunk(let remaining, let reply):
                let count = min(remaining, inbound.readableBytes)
                inbound.moveReaderIndex(forwardBy: count)
                if count < remaining {
                    phase = .skippingChunk(remaining: remaining - count, then: reply)
                    return .needInput
                }
                phase = .command
                return refuse(reply)
            }
        }
    }

    // MARK: Lines

    enum Line {
        case line([UInt8])
        case tooLong
        case bareLineEnd
        case incomplete
    }

    /// The next complete line, without its CRLF. A CR or LF alone is found as soon as it is there.
    private mutating func nextLine(limit: Int?) -> Line {
        let readable = inbound.readableBytes
        let known = scanned
        let found: (line: [UInt8]?, isBare: Bool) = inbound.withUnsafeReadableBytes { bytes in
            guard let base = bytes.baseAddress, known < bytes.count else { return (nil, false) }
            if let feed = memchr(base + known, Int32(ASCII.lf), bytes.count - known) {
                let end = UnsafeRawPointer(feed) - base
                guard end > 0, bytes[end - 1] == ASCII.cr, memchr(base, Int32(ASCII.cr), end - 1) == nil
                else {
                    return (nil, true)
                }
                return (Array(bytes[0..<(end - 1)]), false)
            }
            // The last octet may be a CR whose LF is still under way.
            let isBare =
                memchr(base + max(known - 1, 0), Int32(ASCII.cr), bytes.count - 1 - max(known - 1, 0)) != nil
            return (nil, isBare)
        }
        if found.isBare { return .bareLineEnd }
        if let line = found.line {
            inbound.moveReaderIndex(forwardBy: line.count + 2)
            scanned = 0
            return .line(line)
        }
        scanned = readable
        let bound = limit ?? SMTPCommand.maximumLength(Array(inbound.readableBytesView.prefix(4)))
        return readable > bound ? .tooLong : .incomplete
    }

    /// Drops octets up to and with the next CRLF.
    private mutating func skipLine() -> Line {
        let step: (consumed: Int, result: Line) = inbound.withUnsafeReadableBytes { bytes in
            guard let base = bytes.baseAddress, !bytes.isEmpty else { return (0, .incomplete) }
            guard let feed = memchr(base, Int32(ASCII.lf), bytes.count) else {
                let isBare = memchr(base, Int32(ASCII.cr), bytes.count - 1) != nil
                let keepsLast = bytes[bytes.count - 1] == ASCII.cr
                return (keepsLast ? bytes.count - 1 : bytes.count, isBare ? .bareLineEnd : .incomplete)
            }
            let end = UnsafeRawPointer(feed) - base
            guard end > 0, bytes[end - 1] == ASCII.cr, memchr(base, Int32(ASCII.cr), end - 1) == nil else {
                return (0, .bareLineEnd)
            }
            return (end + 1, .line([]))
        }
        inbound.moveReaderIndex(forwardBy: step.consumed)
        scanned = 0
        if case .line = step.result { phase = .command }
        return step.result
    }

    // MARK: Ends

    mutating func resetTransaction() {
        discardOpenContent()
        transaction = nil
        recipientKeys = []
        refusedRecipients = 0
        chunking = .none
    }

    mutating func discardOpenContent(_ fault: ContentFault? = nil) {
        guard contentIsOpen else { return }
        contentIsOpen = false
        pending.append(.discardContent(fault))
    }

    mutating func close(_ reply: SMTPReply?) -> Action {
        phase = .closed
        inbound = ByteBuffer()
        resetTransaction()
        pending = []
        return .close(reply)
    }

    /// A reply that counts as an error of the client; too many end the connection (RFC 5321 §4.3.2 allows 421 at any time).
    mutating func refuse(_ reply: SMTPReply) -> Action {
        errors += 1
        if errors >= options.maximumErrors {
            let action = Action.reply(reply)
            _ = close(nil)
            pending = [.close(SMTPReply(421, .init(4, 7, 0), "\(options.hostName) Too many errors"))]
            return action
        }
        return .reply(reply)
    }

    /// The same from a method that answers a question: 4yz is no error of the client.
    mutating func queue(refusal: SMTPReply) {
        let action = refusal.isPermanentNegative ? refuse(refusal) : .reply(refusal)
        pending.insert(action, at: 0)
    }
}
