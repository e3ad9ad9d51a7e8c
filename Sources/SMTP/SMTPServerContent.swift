import NIOCore

/// DATA (RFC 5321 §4.1.1.4) and BDAT (RFC 3030): from the command to the decision on the whole transaction.
extension SMTPServerMachine {
    mutating func data() -> Action {
        guard let transaction else { return refuse(SMTPReply(503, .init(5, 5, 1), "Send MAIL first")) }
        switch chunking {
        case .none: break
        case .receiving, .failed:
            // RFC 3030 §2: never both in one transaction.
            return refuse(SMTPReply(503, .init(5, 5, 1), "DATA cannot follow BDAT"))
        }
        guard !transaction.recipients.isEmpty else { return refuse(noRecipients) }
        phase = .awaiting(.dataOpening)
        return .openContent(transaction)
    }

    mutating func chunk(octets: Int, isLast: Bool) -> Action {
        // Refused or not, the announced octets are content and never commands.
        guard octets <= 2 * options.maximumSize else {
            return close(SMTPReply(552, .init(5, 3, 4), "Chunk is far larger than what is taken here"))
        }
        guard let transaction else {
            return skip(octets, SMTPReply(503, .init(5, 5, 1), "Send MAIL first"))
        }
        guard !transaction.recipients.isEmpty else {
            chunking = .failed
            if isLast { resetTransaction() }
            return skip(octets, noRecipients)
        }
        switch chunking {
        case .failed:
            if isLast { resetTransaction() }
            return skip(octets, SMTPReply(503, .init(5, 5, 1), "An earlier chunk failed"))
        case .receiving(var receiver):
            receiver.beginChunk(octets: octets)
            phase = .chunk(receiver, isLast: isLast)
            return next()
        case .none:
            phase = .awaiting(.chunkOpening(octets: octets, isLast: isLast))
            return .openContent(transaction)
        }
    }

    /// Whether content can be taken now was decided.
    ///
    /// - Parameter refusal: `nil` when it can.
    public mutating func contentDecided(_ refusal: SMTPReply?) {
        switch phase {
        case .awaiting(.dataOpening):
            if let refusal {
                resetTransaction()
                if inbound.readableBytes > 0 {
                    // Content sent without waiting for 354 must not be read as commands (RFC 2920 §3.1).
                    _ = close(nil)
                    pending = [.close(refusal)]
                } else {
                    phase = .command
                    pending.append(.reply(refusal))
                }
                return
            }
            contentIsOpen = true
            phase = .data(
                .data(maximumSize: options.maximumSize, maximumLineLength: options.maximumLineLength))
            pending.append(.reply(SMTPReply(354, nil, "End data with <CR><LF>.<CR><LF>")))
        case .awaiting(.chunkOpening(let octets, let isLast)):
            if let refusal {
                chunking = .failed
                if isLast { resetTransaction() }
                phase = .skippingChunk(remaining: octets, then: refusal)
                return
            }
            contentIsOpen = true
            var receiver = ContentReceiver.chunks(
                maximumSize: options.maximumSize, maximumLineLength: options.maximumLineLength)
            receiver.beginChunk(octets: octets)
            phase = .chunk(receiver, isLast: isLast)
        default: return
        }
    }

    /// The whole transaction was decided on.
    ///
    /// - Parameter reply: What the client is told: 250 only when the message is safe (RFC 5321 §6.1).
    public mutating func transactionDecided(_ reply: SMTPReply) {
        guard case .awaiting(.commit) = phase else { return }
        phase = .command
        resetTransaction()
        if reply.isPositiveCompletion { errors = 0 }
        pending.append(.reply(reply))
    }

    mutating func dataStep(_ receiver: ContentReceiver) -> Action? {
        var receiver = receiver
        let event = receiver.next(&inbound)
        phase = .data(receiver)
        switch event {
        case .content(let slice): return .content(slice)
        case .needInput:
            if receiver.octetCount > 2 * options.maximumSize {
                return close(SMTPReply(552, .init(5, 3, 4), "Content is far larger than what is taken here"))
            }
            guard let fault = receiver.fault, contentIsOpen else { return .needInput }
            discardOpenContent(fault)
            return nil
        case .end:
            guard let fault = receiver.fault else { return commit(receiver) }
            phase = .command
            discardOpenContent(fault)
            if receiver.hasBareLineEnd {
                let told = pending
                _ = close(nil)
                pending = told + [.close(reply(to: fault))]
            } else {
                resetTransaction()
                queue(refusal: reply(to: fault))
            }
            return nil
        }
    }

    mutating func chunkStep(_ receiver: ContentReceiver, isLast: Bool) -> Action? {
        var receiver = receiver
        let event = receiver.next(&inbound)
        phase = .chunk(receiver, isLast: isLast)
        switch event {
        case .content(let slice): return .content(slice)
        case .needInput:
            guard let fault = receiver.fault, contentIsOpen else { return .needInput }
            discardOpenContent(fault)
            return nil
        case .end:
            if isLast { receiver.endOfChunks() }
            phase = .command
            if let fault = receiver.fault {
                chunking = .failed
                discardOpenContent(fault)
                if isLast { resetTransaction() }
                queue(refusal: reply(to: fault))
                return nil
            }
            if isLast { return commit(receiver) }
            chunking = .receiving(receiver)
            return .reply(SMTPReply(250, .init(2, 0, 0), "\(receiver.octetCount) octets so far"))
        }
    }

    private mutating func commit(_ receiver: ContentReceiver) -> Action {
        phase = .awaiting(.commit)
        contentIsOpen = false
        return .commitContent(hasEightBit: receiver.hasEightBit)
    }

    private mutating func skip(_ octets: Int, _ reply: SMTPReply) -> Action {
        phase = .skippingChunk(remaining: octets, then: reply)
        return next()
    }

    private var noRecipients: SMTPReply {
        refusedRecipients > 0
            ? SMTPReply(554, .init(5, 5, 1), "No valid recipients")
            : SMTPReply(503, .init(5, 5, 1), "Send RCPT first")
    }

    private func reply(to fault: ContentFault) -> SMTPReply {
        switch fault {
        case .bareCarriageReturn, .bareLineFeed:
            SMTPReply(
                550, .init(5, 6, 0), "Content has a CR or LF alone; lines end in CR LF (RFC 5321 2.3.8)")
        case .lineTooLong:
            SMTPReply(
                550, .init(5, 6, 0),
                "Content has a line longer than \(options.maximumLineLength) octets (RFC 5321 4.5.3.1.6)")
        case .tooLarge:
            SMTPReply(552, .init(5, 3, 4), "Larger than the \(options.maximumSize) octets taken here")
        }
    }
}
