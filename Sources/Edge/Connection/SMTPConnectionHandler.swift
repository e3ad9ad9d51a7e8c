// One client: carries out what the SMTP machine asks, on the connection's event loop, without a task of its own.
//
// Reading goes on by itself while what comes is used up at once (asking for each read costs two system calls), and stops as soon as
// octets wait for an answer that is outstanding, or replies for a client that does not read them: so the memory of a connection is
// bounded by one read, the channel's high-water mark and the frames of its message that are not committed yet.

import Foundation
import Ledger
import Logging
import NIOCore
import SMTP
import Sealing
import TLS

final class SMTPConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let edge: EdgeContext
    let pool: FrameBufferPool
    let clientAddress: String
    private let networkIdentity: Identity?
    private let startsWithTLS: Bool
    private let onClose: (SMTPConnectionHandler) -> Void

    var machine: SMTPServerMachine
    private(set) var identity: Identity?
    private(set) var tlsDescription: String?
    private(set) var context: ChannelHandlerContext?
    var assembly: MessageAssembly?
    /// The shard of the message at hand.
    var committer: Committer
    /// What the client hears at the end of content that was given up on the way.
    var refusal: SMTPReply?
    /// What was answered 250 and not acknowledged yet.
    var acknowledgement = Acknowledgement<Committer>()
    /// A question to somebody else is open: the machine rests.
    var isOutstanding = false
    private var isTurning = false
    private var isPaused = false
    private var isClosing = false
    private var isEnded = false
    private var deadline = NIODeadline.distantFuture
    private var timer: Scheduled<Void>?
    private var timerFiresAt = NIODeadline.distantFuture

    /// - Parameters:
    ///   - networkIdentity: The tenant that the client's address stands for.
    ///   - onClose: Called once, when the connection is gone.
    init(
        edge: EdgeContext, pool: FrameBufferPool, clientAddress: String, networkIdentity: Identity?,
        startsWithTLS: Bool, onClose: @escaping (SMTPConnectionHandler) -> Void
    ) {
        self.edge = edge
        committer = edge.committers.choose()
        self.pool = pool
        self.clientAddress = clientAddress
        self.networkIdentity = networkIdentity
        self.identity = networkIdentity
        self.startsWithTLS = startsWithTLS
        self.onClose = onClose
        self.machine = SMTPServerMachine(
            options: edge.smtp, isEncrypted: startsWithTLS, isKnownNetwork: networkIdentity != nil)
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        end()
        self.context = nil
    }

    func channelActive(context: ChannelHandlerContext) {
        // The end of the handshake greets a client that begins with one.
        if !startsWithTLS { greet(context) }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        for (tag, committer) in acknowledgement.received() { committer.acknowledge(tag) }
        machine.receive(unwrapInboundIn(data))
        if isOutstanding { pause(context, true) }
    }

    private func pause(_ context: ChannelHandlerContext, _ paused: Bool) {
        guard isPaused != paused else { return }
        isPaused = paused
        try? context.channel.syncOptions?.setOption(.autoRead, value: !paused)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        acknowledgement.readEnded { context.channel.hasUnreadOctets }
        turn()
        context.fireChannelReadComplete()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { turn() }
        context.fireChannelWritabilityChanged()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let completed = event as? TLSHandshakeCompleted {
            tlsDescription = "\(completed.evidence.version) \(completed.evidence.cipherSuite)"
            if startsWithTLS {
                greet(context)
            } else {
                machine.tlsEstablished()
                identity = networkIdentity
                isOutstanding = false
                turn()
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if let error = error as? TLSError {
            edge.metrics.tlsFailures.increment()
            edge.logger.debug("TLS failed", metadata: ["error": "\(error)"])
        }
        context.close(promise: nil)
    }

    private func greet(_ context: ChannelHandlerContext) {
        write(machine.greeting)
        context.flush()
        turn()
    }

    private func end() {
        timer?.cancel()
        timer = nil
        discard()
        isClosing = true
        context = nil
        guard !isEnded else { return }
        isEnded = true
        onClose(self)
    }

    /// From now on nothing new is begun here; an idle client hears 421.
    func drain() {
        machine.drain()
        if machine.isIdle, !isOutstanding { turn() }
    }

    /// The time to finish is over.
    func cutOff() { close(SMTPReply(421, .init(4, 3, 2), "\(edge.smtp.hostName) Service shutting down")) }

    // MARK: The machine

    func turn() {
        guard !isTurning, !isOutstanding, !isClosing, context != nil else { return }
        isTurning = true
        defer { isTurning = false }
        while !isOutstanding, !isClosing {
            guard repliesGoOut() else { return }
            switch machine.next() {
            case .needInput:
                context?.flush()
                expect()
                return
            case .wait:
                context?.flush()
                return
            case .reply(let reply): write(reply)
            case .startTLS(let reply): startTLS(reply)
            case .authenticate(let attempt): authenticate(attempt)
            case .checkSender(let transaction): checkSender(transaction)
            case .checkRecipient(let recipient): checkRecipient(recipient)
            case .openContent(let transaction): open(transaction)
            case .content(let slice): take(slice)
            case .discardContent(let fault):
                if let fault { reject(RejectionReason(fault)) }
                discard()
            case .commitContent(let hasEightBit): commit(hasEightBit: hasEightBit)
            case .close(let reply): close(reply)
            }
        }
        context?.flush()
    }

    /// Whether the client takes its replies. One that does not is not read either, and has as long to begin as for a command: else
    /// a stream of EHLO from anybody would fill the memory with answers.
    private func repliesGoOut() -> Bool {
        guard let context else { return false }
        if context.channel.isWritable { return true }
        context.flush()
        if context.channel.isWritable { return true }
        pause(context, true)
        deadline = context.eventLoop.now + edge.patience.command
        watch(context)
        return false
    }

    /// The client's turn.
    private func expect() {
        guard let context else { return }
        let patience: TimeAmount
        switch machine.patience {
        case .command: patience = edge.patience.command
        case .content: patience = edge.patience.content
        case .answer: patience = .hours(24)
        }
        deadline = context.eventLoop.now + patience
        watch(context)
        pause(context, false)
    }

    /// One timer a connection: it looks whether the deadline of now has passed, and else sleeps on. It is set anew only where it would
    /// come too late: content is waited for less long than a command.
    private func watch(_ context: ChannelHandlerContext) {
        if let timer {
            guard deadline < timerFiresAt else { return }
            timer.cancel()
        }
        timerFiresAt = deadline
        timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { self.timerFired() }
    }

    private func timerFired() {
        timer = nil
        guard let context, !isClosing else { return }
        let now = context.eventLoop.now
        if isOutstanding { deadline = now + .minutes(1) }
        guard deadline <= now else { return watch(context) }
        if case .close(let reply) = machine.timedOut() { close(reply) }
    }

    private func write(_ reply: SMTPReply) {
        guard let context else { return }
        if reply.code >= 400 { edge.metrics.refused(reply.code) }
        context.write(wrapOutboundOut(context.channel.allocator.buffer(bytes: reply.encoded())), promise: nil)
    }

    private func close(_ reply: SMTPReply?) {
        guard let context, !isClosing else { return }
        discard()
        if let reply { write(reply) }
        isClosing = true
        timer?.cancel()
        timer = nil
        context.flush()
        context.close(promise: nil)
    }

    private func startTLS(_ reply: SMTPReply) {
        guard let context, let tls = edge.tls else { return }
        write(reply)
        context.flush()
        isOutstanding = true
        do {
            try context.pipeline.syncOperations.addHandler(TLSHandler(server: tls), position: .first)
        } catch {
            close(nil)
        }
    }

    // MARK: Who

    private func authenticate(_ attempt: AuthenticationAttempt) {
        guard let context else { return }
        guard let snapshot = edge.control.current(now: Date()) else {
            return machine.authenticationDecided(
                SMTPReply(454, .init(4, 7, 0), "Temporary authentication failure"))
        }
        isOutstanding = true
        let loop = context.eventLoop
        edge.authenticator.check(user: attempt.user, password: attempt.password, in: snapshot, on: loop)
            .assumeIsolated().whenComplete { result in
                self.isOutstanding = false
                switch result {
                case .success(.accepted(let identity)):
                    self.identity = identity
                    self.edge.metrics.authenticated.increment()
                    self.machine.authenticationDecided(nil)
                case .success(.refused):
                    self.edge.metrics.authenticationsFailed.increment()
                    self.edge.logger.info(
                        "authentication failed", metadata: ["client": "\(self.clientAddress)"])
                    self.machine.authenticationDecided(SMTPReply(535, .init(5, 7, 8), "Refused"))
                case .success(.busy), .failure:
                    self.machine.authenticationDecided(
                        SMTPReply(454, .init(4, 7, 0), "Temporary authentication failure"))
                }
                self.turn()
            }
    }

    private func checkSender(_ transaction: MailTransaction) {
        guard let snapshot = edge.control.current(now: Date()) else {
            return machine.senderDecided(EdgeReply.controlTooOld)
        }
        guard let identity else {
            return machine.senderDecided(SMTPReply(530, .init(5, 7, 0), "Authentication is needed"))
        }
        let refusal = EdgePolicy.refusal(of: transaction.reversePath, from: identity, in: snapshot)
        if refusal != nil { reject(.senderNotAllowed) }
        machine.senderDecided(refusal)
    }

    private func checkRecipient(_ recipient: EnvelopeRecipient) {
        machine.recipientDecided(EdgePolicy.refusal(of: recipient))
    }
}
