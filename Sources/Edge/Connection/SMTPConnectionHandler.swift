// One client: carries out what the SMTP machine asks, on the connection's event loop, without a task of its own.
//
// Reading goes on by itself while what comes is used up at once (asking for each read costs two system calls), and stops as soon as
// octets wait for an answer that is outstanding: so the memory of a connection is bounded by one read and the frames of its message that
// are not committed yet.

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

    private let edge: EdgeContext
    private let pool: FrameBufferPool
    private let clientAddress: String
    private let networkIdentity: Identity?
    private let startsWithTLS: Bool
    private let onClose: (SMTPConnectionHandler) -> Void

    private var machine: SMTPServerMachine
    private var identity: Identity?
    private var tlsDescription: String?
    private var context: ChannelHandlerContext?
    private var assembly: MessageAssembly?
    /// What the client hears at the end of content that was given up on the way.
    private var refusal: SMTPReply?
    /// The tag of the last message that was answered 250, until the client shows that it got the answer.
    private var unacknowledged: [UInt8]?
    private var isOutstanding = false
    private var isTurning = false
    private var isPaused = false
    private var isClosing = false
    private var isEnded = false
    private var deadline = NIODeadline.distantFuture
    private var timer: Scheduled<Void>?

    /// - Parameters:
    ///   - networkIdentity: The tenant that the client's address stands for.
    ///   - onClose: Called once, when the connection is gone.
    init(
        edge: EdgeContext, pool: FrameBufferPool, clientAddress: String, networkIdentity: Identity?,
        startsWithTLS: Bool, onClose: @escaping (SMTPConnectionHandler) -> Void
    ) {
        self.edge = edge
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
        if let tag = unacknowledged {
            unacknowledged = nil
            edge.committer.acknowledge(tag)
        }
        machine.receive(unwrapInboundIn(data))
        if isOutstanding { pause(context, true) }
    }

    private func pause(_ context: ChannelHandlerContext, _ paused: Bool) {
        guard isPaused != paused else { return }
        isPaused = paused
        try? context.channel.syncOptions?.setOption(.autoRead, value: !paused)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        turn()
        context.fireChannelReadComplete()
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

    private func turn() {
        guard !isTurning, !isOutstanding, !isClosing, context != nil else { return }
        isTurning = true
        defer { isTurning = false }
        while !isOutstanding, !isClosing {
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
            case .discardContent: discard()
            case .commitContent(let hasEightBit): commit(hasEightBit: hasEightBit)
            case .close(let reply): close(reply)
            }
        }
        context?.flush()
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
        deadline = .now() + patience
        watch(context)
        pause(context, false)
    }

    /// One timer a connection: it looks whether the deadline of now has passed, and else sleeps on.
    private func watch(_ context: ChannelHandlerContext) {
        guard timer == nil else { return }
        timer = context.eventLoop.assumeIsolated().scheduleTask(deadline: deadline) { self.timerFired() }
    }

    private func timerFired() {
        timer = nil
        guard let context, !isClosing else { return }
        if isOutstanding { deadline = .now() + .minutes(1) }
        guard deadline <= .now() else { return watch(context) }
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

    // MARK: Content

    private func open(_ transaction: MailTransaction) {
        guard let context, let identity,
            let tenant = edge.control.current(now: Date())?.tenants[identity.tenant]
        else {
            return machine.contentDecided(EdgeReply.controlTooOld)
        }
        guard let sealer = edge.keys.sealer else { return machine.contentDecided(EdgeReply.noKeys) }
        guard !edge.committer.isFull else {
            edge.metrics.overloads.increment()
            return machine.contentDecided(EdgeReply.overloaded)
        }
        let now = Date()
        if let keys = edge.replayKeys.cached(tenant: tenant.id, now: now) {
            return begin(transaction, tenant: tenant, keys: keys, sealer: sealer)
        }
        isOutstanding = true
        let replayKeys = edge.replayKeys
        context.eventLoop.makeFutureWithTask { try await replayKeys.fetch(tenant: tenant.id, now: now) }
            .assumeIsolated().whenComplete { result in
                self.isOutstanding = false
                switch result {
                case .success(let keys):
                    self.begin(transaction, tenant: tenant, keys: keys, sealer: sealer)
                case .failure(let error):
                    self.edge.logger.warning("no replay keys", metadata: ["error": "\(error)"])
                    self.machine.contentDecided(EdgeReply.notKept)
                }
                self.turn()
            }
    }

    private func begin(
        _ transaction: MailTransaction, tenant: TenantRow, keys: ReplayTagKeys, sealer: Sealer
    ) {
        let received = ReceivedHeader(
            clientName: machine.clientName ?? "unknown", clientAddress: clientAddress,
            hostName: edge.smtp.hostName, isExtended: machine.isExtended, isEncrypted: machine.isEncrypted,
            isAuthenticated: machine.isAuthenticated, smtpUTF8: transaction.smtpUTF8,
            tlsDescription: tlsDescription)
        assembly = MessageAssembly(
            transaction,
            origin: .init(received: received, tenant: tenant.id, ruleset: tenant.defaultRuleset),
            replayKeys: keys, sealer: sealer, pool: pool)
        refusal = nil
        machine.contentDecided(nil)
    }

    private func take(_ slice: ByteBuffer) {
        guard let assembly else { return }
        do throws(MessageAssembly.Refusal) {
            guard let upload = try assembly.append(slice) else { return }
            // Nothing is read and nothing more taken in until these frames are committed.
            submit(.upload(upload)) { answer in
                guard answer != .durable else { return }
                self.refusal = self.reply(to: answer, id: upload.messageID)
                self.discard()
            }
        } catch {
            give(up: error)
        }
    }

    private func give(up error: MessageAssembly.Refusal) {
        switch error {
        case .looping:
            refusal = EdgeReply.looping
            reject(.mailLoop)
        case .unsealable(let error):
            refusal = EdgeReply.noKeys
            edge.logger.error("a message could not be sealed", metadata: ["error": "\(error)"])
        }
        discard()
    }

    private func commit(hasEightBit: Bool) {
        guard let assembly else { return machine.transactionDecided(refusal ?? EdgeReply.notKept) }
        do throws(MessageAssembly.Refusal) {
            guard let last = try assembly.seal() else { return finish(assembly, hasEightBit: hasEightBit) }
            submit(.upload(last)) { answer in
                if answer == .durable { return self.finish(assembly, hasEightBit: hasEightBit) }
                self.discard()
                self.machine.transactionDecided(self.reply(to: answer, id: last.messageID))
            }
        } catch {
            give(up: error)
            machine.transactionDecided(refusal ?? EdgeReply.notKept)
        }
    }

    private func finish(_ assembly: MessageAssembly, hasEightBit: Bool) {
        let row: MessageRow
        let previousTag: [UInt8]?
        do throws(MessageAssembly.Refusal) {
            (row, previousTag) = try assembly.finish(hasEightBit: hasEightBit)
        } catch {
            give(up: error)
            machine.transactionDecided(refusal ?? EdgeReply.notKept)
            return
        }
        // From here on the message is the committer's: a client that leaves now takes nothing back.
        self.assembly = nil
        submit(.message(row, previousTag: previousTag)) { answer in
            switch answer {
            case .durable:
                self.edge.metrics.accepted.increment()
                self.edge.metrics.acceptedOctets.increment(by: row.size)
                // What came before the answer shows nothing.
                self.unacknowledged = self.machine.bufferedOctets == 0 ? row.replayTag : nil
            case .replayed: self.edge.metrics.replayed.increment()
            case .unavailable, .storageFull, .overloaded, .unsettled, .atFault:
                if row.isUploaded { self.edge.committer.abandon(row.id) }
            }
            self.machine.transactionDecided(self.reply(to: answer, id: row.id))
        }
    }

    private func submit(_ work: IntakeWork, then next: @escaping (IntakeAnswer) -> Void) {
        guard let context else { return }
        let loop = context.eventLoop
        let bound = NIOLoopBound((handler: self, next: next), eventLoop: loop)
        isOutstanding = true
        let ticket = IntakeTicket(loop: loop) { answer in
            let (handler, next) = bound.value
            handler.isOutstanding = false
            next(answer)
            handler.turn()
        }
        guard edge.committer.submit(work, ticket: ticket) else {
            isOutstanding = false
            return next(.overloaded)
        }
    }

    private func reply(to answer: IntakeAnswer, id: UUID) -> SMTPReply {
        switch answer {
        case .durable: EdgeReply.queued(id.uuidString.lowercased())
        case .replayed(let first): EdgeReply.queued(first.uuidString.lowercased())
        case .overloaded: EdgeReply.overloaded
        case .storageFull: EdgeReply.storageFull
        case .unavailable, .unsettled, .atFault: EdgeReply.notKept
        }
    }

    /// Forgets the message at hand, and what was uploaded of it.
    private func discard() {
        guard let assembly else { return }
        self.assembly = nil
        if let id = assembly.uploadedID { edge.committer.abandon(id) }
    }

    private func reject(_ reason: RejectionReason) {
        guard let identity else { return }
        let now = Date()
        _ = edge.committer.submit(
            .rejection(
                RejectionRow(
                    id: UUIDv7.make(at: now), tenant: identity.tenant, at: now, reasonCode: reason.rawValue)),
            ticket: nil)
    }
}

/// Why an edge refused a message, in events.
enum RejectionReason: String {
    case senderNotAllowed = "sender-not-allowed"
    case mailLoop = "mail-loop"
}
