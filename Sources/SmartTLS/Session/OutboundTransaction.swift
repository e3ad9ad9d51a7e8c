// One message on its way to one host, and what became of it there.

import SMTP

/// The content of a message: what is put in front (trace headers), then the message as it was accepted, all with CRLF
/// line ends.
public struct OutboundContent: Sendable {
    /// Where the message itself comes from.
    public enum Body: Sendable {
        /// Pieces in memory, in order.
        case memory([[UInt8]])
        /// Pieces as they can be had; each is asked for only when the host has room for it.
        case stream(any AsyncSequence<[UInt8], any Error> & Sendable)
    }

    /// Header lines that go in front, with their CRLF.
    public var prefix: [UInt8]
    /// The message itself.
    public var body: Body

    /// A content of `prefix` and then `body`.
    public init(prefix: [UInt8] = [], body: Body) {
        self.prefix = prefix
        self.body = body
    }
}

/// One mail transaction to make on a session.
public struct OutboundTransaction: Sendable {
    /// Sender, recipients and parameters.
    public var envelope: ClientTransaction
    /// What follows DATA.
    public var content: OutboundContent

    /// A transaction of `envelope` and `content`.
    public init(envelope: ClientTransaction, content: OutboundContent) {
        self.envelope = envelope
        self.content = content
    }
}

/// What became of one transaction.
public struct TransactionResult: Sendable {
    /// What became of one recipient, all told.
    public enum Fate: Sendable, Equatable {
        /// The host answered the final dot with this 2yz reply.
        case delivered(SMTPReply)
        /// Refused with this reply, at whatever step.
        case rejected(SMTPReply, isTransient: Bool)
        /// The final dot went out and no answer came back: nobody knows.
        case inDoubt
        /// Nothing was concluded, and the host has not taken the message for this recipient.
        case notAttempted
    }

    /// The answer to each RCPT, in the order of the envelope.
    public var recipients: [ClientRecipientOutcome]
    /// Whether the final dot was handed to the connection. True without a `finalReply`: in doubt.
    public var dotSent: Bool
    /// The answer to the final dot.
    public var finalReply: SMTPReply?
    /// Why the session ended, if it did.
    public var failure: SessionFailure?
    /// Why this host cannot take the message at all, found before anything was sent; `recipients` then have its reply.
    public var problem: CapabilityProblem?

    /// What became of the recipient at `index`.
    public func fate(of index: Int) -> Fate {
        switch recipients[index] {
        case .rejected(let reply, let isTransient): .rejected(reply, isTransient: isTransient)
        case .notAttempted: .notAttempted
        case .accepted:
            if let finalReply {
                finalReply.isPositiveCompletion
                    ? .delivered(finalReply)
                    : .rejected(finalReply, isTransient: !finalReply.isPermanentNegative)
            } else {
                dotSent ? .inDoubt : .notAttempted
            }
        }
    }
}
