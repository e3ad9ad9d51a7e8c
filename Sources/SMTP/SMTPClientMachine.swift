// The client's side of an SMTP session as a value without I/O: what arrives goes in, what is to be written comes out in a
// buffer of the caller, and one action says what to do next. The caller owns the connection, the clock and the content.
//
// Order of a session:   receive (220) → receive (EHLO) → [startTLS → tlsEstablished → receive (EHLO)] → .ready
// Order of a transaction:  begin → receive … → .sendContent → the caller streams the dot-stuffed content → its own go
// → finalDot → receive → .transactionEnded.  The final dot is a step of its own: nothing here ever sends it unasked,
// except the lone dot that closes an empty content when no recipient was accepted (RFC 2920 §3.1).

import NIOCore

/// A client session (RFC 5321, with RFC 1870, 2920, 3207, 3461, 6152, 6531, 8689 and 9422 as a client).
public struct SMTPClientMachine: ~Copyable {
    /// What to do about STARTTLS.
    public enum StartTLS: Sendable, Hashable {
        /// Never ask for it: the connection stays as it is.
        case never
        /// Use it where offered; go on in clear where not offered or refused. Whether clear will do is the ruleset's to judge.
        case whereOffered
        /// The session fails without it.
        case required
    }

    /// Why a session cannot go on.
    public enum Failure: Error, Sendable, Hashable {
        /// The greeting was not 220.
        case greetingRefused(SMTPReply)
        /// Neither EHLO nor HELO was accepted.
        case helloRefused(SMTPReply)
        /// `required`, and the server does not offer STARTTLS.
        case startTLSNotOffered
        /// `required`, and the server refused the command.
        case startTLSRefused(SMTPReply)
        /// Bytes came in clear behind the answer to STARTTLS: an injection (RFC 3207 §5), or a server that is broken.
        case bytesBehindStartTLS
        /// What came is not a reply.
        case malformedReply(SMTPReplyError)
        /// A reply that nothing asked for (other than 421, which is ``closing``).
        case unexpectedReply(SMTPReply)
        /// The server announced that it closes (421) outside a transaction.
        case closing(SMTPReply)
        /// The connection ended.
        case closed
    }

    /// What the caller does next. Whatever a call appended to its output buffer is written and flushed first.
    public enum Action: Sendable, Hashable {
        /// Nothing, until more bytes arrive.
        case wait
        /// Start the TLS handshake at the head of the connection, then call ``tlsEstablished(_:)``.
        case startTLS
        /// The session is open: ``begin(_:_:)``, ``quit(_:)``.
        case ready
        /// DATA was answered 354 and at least one recipient was accepted: stream the content, then ``finalDot(_:)``.
        case sendContent
        /// The transaction is over; see ``isReusable``.
        case transactionEnded(ClientTransactionOutcome)
        /// The server answered QUIT, or the session ended in good order: close.
        case close
        /// The session failed: close. A transaction that was under way ended before, with its own action or by ``connectionClosed()``.
        case failed(Failure)
    }

    /// What the server is being waited for: picks the timeout of RFC 5321 §4.5.3.2.
    public enum Awaiting: Sendable, Hashable {
        /// Nothing: the session is idle, or the caller is busy with TLS.
        case nothing
        /// The greeting (5 minutes).
        case greeting
        /// The answer to EHLO, HELO, STARTTLS or RSET.
        case hello
        /// The answer to MAIL or RCPT (5 minutes).
        case envelope
        /// The answer to DATA (2 minutes).
        case data
        /// Room to write content (3 minutes a block).
        case content
        /// The answer to the final dot (10 minutes).
        case finalDot
        /// The answer to QUIT.
        case quit
    }

    private enum State: Equatable {
        case greeting
        case ehlo
        case helo
        case startTLS
        case handshake
        case idle
        case commands
        case content
        case loneDot
        case finalDot
        case quit
        case ended
    }

    private enum Step: Hashable {
        case reset
        case mail
        case recipient(Int)
        case data
    }

    private let heloName: String
    private let startTLSUse: StartTLS
    private var state = State.greeting
    private var parser = SMTPReplyParser()
    private var isProtected = false
    private var startTLSWasRefused = false

    private var transaction = ClientTransaction(reversePath: "", recipients: [])
    private var outcomes: [ClientRecipientOutcome] = []
    private var attempted = 0
    private var acceptedCount = 0
    private var steps: [Step] = []
    private var written = 0
    private var answered = 0
    private var mailRefusal: SMTPReply?
    private var needsReset = false
    private var isClosing = false
    private var transactionCount = 0

    /// What the server offered last; empty after HELO and between STARTTLS and the second EHLO.
    public private(set) var extensions = EHLOExtensions()
    /// How many replies have come: each that is awaited has a limit of its own.
    public private(set) var replyCount = 0
    /// The reply to the greeting or to EHLO, last seen; for evidence.
    public private(set) var serverGreeting: SMTPReply?

    /// A session on a connection that was just made.
    /// - Parameters:
    ///   - heloName: our own name for EHLO: a fully qualified domain, or an address literal.
    ///   - startTLS: what to do about STARTTLS.
    ///   - isProtected: true when the connection has TLS already (then STARTTLS is never asked for).
    public init(heloName: String, startTLS: StartTLS, isProtected: Bool = false) {
        self.heloName = heloName
        self.startTLSUse = startTLS
        self.isProtected = isProtected
    }

    /// What the server is being waited for.
    public var awaiting: Awaiting {
        switch state {
        case .greeting: .greeting
        case .ehlo, .helo, .startTLS: .hello
        case .handshake, .idle, .ended: .nothing
        case .commands:
            answered < steps.count && steps[answered] == .data ? .data : .envelope
        case .content: .content
        case .loneDot, .finalDot: .finalDot
        case .quit: .quit
        }
    }

    /// True when the session is idle and takes another transaction.
    public var isReusable: Bool {
        state == .idle && !isClosing && transactionCount < extensions.limits.mailMax ?? Int.max
    }

    // MARK: What arrives

    /// Takes the next reply off `input`. Call again until it answers ``Action/wait`` (and after each other action that leaves the
    /// session open, since `input` may hold more).
    public mutating func receive(_ input: inout ByteBuffer, _ output: inout ByteBuffer) -> Action {
        while true {
            switch state {
            case .handshake, .ended: return .wait
            default: break
            }
            let reply: SMTPReply
            do throws(SMTPReplyError) {
                guard let next = try parser.next(&input) else { return .wait }
                reply = next
                replyCount += 1
            } catch {
                return fail(.malformedReply(error))
            }
            switch take(reply, input.readableBytes, &output) {
            case .wait: continue
            case let action: return action
            }
        }
    }

    private mutating func take(_ reply: SMTPReply, _ behind: Int, _ output: inout ByteBuffer) -> Action {
        switch state {
        case .greeting:
            guard reply.code == 220 else { return fail(.greetingRefused(reply)) }
            serverGreeting = reply
            return hello("EHLO", .ehlo, &output)
        case .ehlo:
            if reply.isPositiveCompletion { return greeted(EHLOExtensions(reply), &output) }
            // RFC 5321 §3.2: a server that knows no EHLO is asked with HELO.
            guard reply.isPermanentNegative else { return fail(.helloRefused(reply)) }
            return hello("HELO", .helo, &output)
        case .helo:
            guard reply.isPositiveCompletion else { return fail(.helloRefused(reply)) }
            return greeted(EHLOExtensions(), &output)
        case .startTLS:
            if reply.code == 220 {
                // RFC 3207 §5, response injection: nothing may be buffered when the handshake starts.
                guard behind == 0 else { return fail(.bytesBehindStartTLS) }
                state = .handshake
                extensions = EHLOExtensions()
                return .startTLS
            }
            if reply.code == 421 { return fail(.closing(reply)) }
            guard startTLSUse != .required else { return fail(.startTLSRefused(reply)) }
            startTLSWasRefused = true
            state = .idle
            return .ready
        case .commands: return answer(reply, &output)
        case .content:
            // The server speaks before the dot: whatever it says, the content is not taken.
            isClosing = true
            return endTransaction(refusal: reply)
        case .loneDot:
            // RFC 2920 §3.1: an empty content for no recipient; the reply has no meaning to us.
            isClosing = isClosing || reply.code == 421
            needsReset = !reply.isPositiveCompletion
            return endTransaction()
        case .finalDot:
            isClosing = isClosing || reply.code == 421
            needsReset = false
            return endTransaction(finalReply: reply)
        case .quit:
            state = .ended
            return .close
        case .idle:
            return fail(reply.code == 421 ? .closing(reply) : .unexpectedReply(reply))
        case .handshake, .ended:
            return .wait
        }
    }

    /// The handshake is done: forget what was learned in clear and greet again (RFC 3207 §4.2).
    public mutating func tlsEstablished(_ output: inout ByteBuffer) -> Action {
        precondition(state == .handshake, "TLS was not started")
        isProtected = true
        parser = SMTPReplyParser()
        return hello("EHLO", .ehlo, &output)
    }

    /// The connection ended. A transaction that was under way ends with what is known of it.
    public mutating func connectionClosed() -> Action {
        let was = state
        isClosing = true
        switch was {
        case .ended: return .wait
        case .quit:
            state = .ended
            return .close
        case .commands, .content, .loneDot, .finalDot:
            var ended = endTransaction()
            if case .transactionEnded(var outcome) = ended, was == .finalDot {
                outcome.dotSent = true
                ended = .transactionEnded(outcome)
            }
            state = .ended
            return ended
        default:
            return fail(.closed)
        }
    }

    // MARK: What is asked

    /// Starts a transaction. `output` gets the commands: all of them where the server offers PIPELINING, else the first.
    /// - Returns: ``Action/wait``.
    /// - Throws: ``CapabilityProblem`` when this server cannot take it; nothing was written and the session is as it was.
    public mutating func begin(
        _ transaction: consuming ClientTransaction, _ output: inout ByteBuffer
    ) throws(CapabilityProblem) -> Action {
        precondition(state == .idle && !isClosing, "the session takes no transaction now")
        precondition(!transaction.recipients.isEmpty, "a transaction has a recipient")
        try check(transaction)
        self.transaction = transaction
        outcomes = Array(repeating: .notAttempted, count: self.transaction.recipients.count)
        attempted = min(self.transaction.recipients.count, extensions.limits.rcptMax ?? Int.max)
        acceptedCount = 0
        mailRefusal = nil
        written = 0
        answered = 0
        steps.removeAll(keepingCapacity: true)
        if needsReset { steps.append(.reset) }
        steps.append(.mail)
        for index in 0..<attempted { steps.append(.recipient(index)) }
        steps.append(.data)
        transactionCount += 1
        state = .commands
        writeCommands(&output)
        return .wait
    }

    /// Hands out the final dot. The content must have been written before, dot-stuffed and ended by CRLF.
    /// - Returns: false when the server ended the transaction meanwhile; nothing is to be written then.
    public mutating func finalDot(_ output: inout ByteBuffer) -> Bool {
        guard state == .content else { return false }
        state = .finalDot
        output.writeStaticString(".\r\n")
        return true
    }

    /// Says QUIT. Only when idle; in any other state the connection is to be closed without a word.
    /// - Returns: ``Action/wait`` for the answer, or ``Action/close``.
    public mutating func quit(_ output: inout ByteBuffer) -> Action {
        guard state == .idle, !isClosing else {
            state = .ended
            return .close
        }
        state = .quit
        output.writeStaticString("QUIT\r\n")
        return .wait
    }

    // MARK: Inside

    private mutating func fail(_ failure: Failure) -> Action {
        let wasInTransaction =
            switch state {
            case .commands, .content, .loneDot, .finalDot: true
            default: false
            }
        isClosing = true
        if wasInTransaction {
            // The outcome is what counts; the connection is closed since the session is not reusable.
            return connectionClosed()
        }
        state = .ended
        return .failed(failure)
    }

    private mutating func hello(_ verb: StaticString, _ next: State, _ output: inout ByteBuffer) -> Action {
        state = next
        output.writeStaticString(verb)
        output.writeInteger(UInt8(ascii: " "))
        output.writeString(heloName)
        output.writeStaticString("\r\n")
        return .wait
    }

    private mutating func greeted(_ offered: EHLOExtensions, _ output: inout ByteBuffer) -> Action {
        extensions = offered
        if !isProtected, startTLSUse != .never, !startTLSWasRefused {
            if offered.startTLS {
                state = .startTLS
                output.writeStaticString("STARTTLS\r\n")
                return .wait
            }
            if startTLSUse == .required { return fail(.startTLSNotOffered) }
        }
        state = .idle
        return .ready
    }

    private func check(_ transaction: borrowing ClientTransaction) throws(CapabilityProblem) {
        if transaction.requiresTLS && !extensions.requireTLS { throw .noRequireTLS }
        if transaction.needsSMTPUTF8 && !extensions.smtpUTF8 { throw .noSMTPUTF8 }
        if transaction.isEightBit && !extensions.eightBitMIME { throw .noEightBitMIME }
        if let size = transaction.size, let limit = extensions.maximumSize, size > limit {
            throw .tooLarge(limit: limit)
        }
        func isSafePath(_ text: String) -> Bool {
            text.utf8.allSatisfy {
                $0 >= 0x20 && $0 != 0x7F && $0 != UInt8(ascii: "<") && $0 != UInt8(ascii: ">")
            }
        }
        func isSafeValue(_ text: String?) -> Bool {
            text?.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F } ?? true
        }
        guard isSafePath(transaction.reversePath), isSafeValue(transaction.envelopeID),
            isSafeValue(transaction.returnContent),
            transaction.recipients.allSatisfy({
                !$0.address.isEmpty && isSafePath($0.address) && isSafeValue($0.notify)
                    && isSafeValue($0.originalRecipient)
            })
        else { throw .unsafeArgument }
    }

    /// Writes the commands that may be sent now: one, or with PIPELINING all up to and including DATA (RFC 2920 §3.1).
    private mutating func writeCommands(_ output: inout ByteBuffer) {
        repeat {
            write(steps[written], &output)
            written += 1
        } while extensions.pipelining && written < steps.count
    }

    private func write(_ step: Step, _ output: inout ByteBuffer) {
        switch step {
        case .reset: output.writeStaticString("RSET\r\n")
        case .data: output.writeStaticString("DATA\r\n")
        case .mail:
            output.writeStaticString("MAIL FROM:<")
            output.writeString(transaction.reversePath)
            output.writeStaticString(">")
            if extensions.size, let size = transaction.size { output.writeString(" SIZE=\(size)") }
            if extensions.eightBitMIME, transaction.isEightBit { output.writeStaticString(" BODY=8BITMIME") }
            if transaction.needsSMTPUTF8 { output.writeStaticString(" SMTPUTF8") }
            if transaction.requiresTLS { output.writeStaticString(" REQUIRETLS") }
            if extensions.dsn {
                if let content = transaction.returnContent { output.writeString(" RET=\(content)") }
                if let identifier = transaction.envelopeID { output.writeString(" ENVID=\(identifier)") }
            }
            output.writeStaticString("\r\n")
        case .recipient(let index):
            let recipient = transaction.recipients[index]
            output.writeStaticString("RCPT TO:<")
            output.writeString(recipient.address)
            output.writeStaticString(">")
            if extensions.dsn {
                if let notify = recipient.notify { output.writeString(" NOTIFY=\(notify)") }
                if let original = recipient.originalRecipient { output.writeString(" ORCPT=\(original)") }
            }
            output.writeStaticString("\r\n")
        }
    }

    /// One reply to the group of commands that is under way.
    private mutating func answer(_ reply: SMTPReply, _ output: inout ByteBuffer) -> Action {
        let step = steps[answered]
        if reply.code == 421 {
            // The server closes: what is not answered will not be (RFC 5321 §3.8).
            isClosing = true
            return endTransaction(refusal: mailRefusal ?? reply)
        }
        answered += 1
        switch step {
        case .reset:
            guard reply.isPositiveCompletion else {
                isClosing = true
                return endTransaction(refusal: reply)
            }
            needsReset = false
        case .mail:
            if reply.isPositiveCompletion {
                needsReset = true
            } else {
                mailRefusal = reply
                if written == answered { return endTransaction(refusal: reply) }
            }
        case .recipient(let index):
            if mailRefusal != nil { break }
            if reply.isPositiveCompletion {
                outcomes[index] = .accepted
                acceptedCount += 1
            } else {
                outcomes[index] = .rejected(reply, isTransient: reply.isTransientForRecipient)
            }
            if written == answered, acceptedCount == 0, steps[written] == .data { return endTransaction() }
        case .data:
            if reply.code == 354 {
                if acceptedCount > 0 && mailRefusal == nil {
                    state = .content
                    return .sendContent
                }
                state = .loneDot
                output.writeStaticString(".\r\n")
                return .wait
            }
            if reply.isPositiveCompletion || reply.isPositiveIntermediate {
                // Neither 354 nor a refusal: nobody knows what the server waits for.
                isClosing = true
                return endTransaction()
            }
            return endTransaction(refusal: mailRefusal ?? (acceptedCount > 0 ? reply : nil))
        }
        if written < steps.count { writeCommands(&output) }
        return .wait
    }

    /// Ends the transaction. `refusal` is the answer for every recipient that has none of its own or was only accepted.
    private mutating func endTransaction(refusal: SMTPReply? = nil, finalReply: SMTPReply? = nil) -> Action {
        if let refusal = mailRefusal ?? refusal {
            for index in 0..<attempted {
                switch outcomes[index] {
                case .rejected: break
                case .accepted, .notAttempted:
                    outcomes[index] = .rejected(refusal, isTransient: !refusal.isPermanentNegative)
                }
            }
        } else if finalReply == nil && state != .finalDot {
            for index in 0..<attempted where outcomes[index] == .accepted { outcomes[index] = .notAttempted }
        }
        let outcome = ClientTransactionOutcome(
            recipients: outcomes, dotSent: finalReply != nil, finalReply: finalReply)
        outcomes = []
        transaction = ClientTransaction(reversePath: "", recipients: [])
        state = isClosing ? .ended : .idle
        return .transactionEnded(outcome)
    }
}
