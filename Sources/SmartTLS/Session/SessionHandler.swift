// The event-loop side of an outbound session: feeds SMTPClientMachine, does what it says, keeps the time, and streams
// the content. Everything here runs on the channel's event loop; `OutboundSession` is how others reach it.

import NIOCore
import SMTP
import TLS

/// Drives one connection to a recipient host.
final class SessionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What the task that sends is told next.
    enum Step: Sendable {
        /// 354 came: hand over the content, or the next piece of it.
        case more
        /// All but the end of the content is out: only `mayEndContent` is missing.
        case readyToEnd
        /// It is over.
        case ended(TransactionResult)
    }

    /// Content is written in pieces of this many bytes; the last stays here until the dot goes with it.
    static let pieceSize = 1 << 16

    private var machine: SMTPClientMachine
    private let target: SessionTarget
    private let timeouts: SessionTimeouts
    private let status: SessionStatus

    private var context: ChannelHandlerContext?
    private var input = ByteBuffer()
    /// The host has said 220 to STARTTLS and the handshake is not done: whatever ends the connection now, the handshake failed.
    private var isHandshaking = false
    private var hasClosed = false
    private var lastError: (any Error)?

    private var opening: EventLoopPromise<Void>?
    private var quitting: EventLoopPromise<Void>?

    /// The transaction that is under way.
    private var isSending = false
    private var waiter: CheckedContinuation<Step, Never>?
    private var result: TransactionResult?
    private var failure: SessionFailure?
    private var stuffing = DotStuffing()
    /// Stuffed content that is not written yet.
    private var held = ByteBuffer()
    /// Content in memory that is not stuffed yet; nil: it is streamed.
    private var memory: [ArraySlice<UInt8>]?
    private var nextPiece = 0

    private var deadline = NIODeadline.distantFuture
    private var waitingFor = SMTPClientMachine.Awaiting.nothing
    /// The replies that had come when the clock was started.
    private var repliesBefore = 0
    /// When the session must be open, or the content of the transaction begun.
    private var longest = NIODeadline.distantFuture
    private var timer: Scheduled<Void>?

    init(
        target: SessionTarget, timeouts: SessionTimeouts, status: SessionStatus,
        opened: EventLoopPromise<Void>
    ) {
        self.target = target
        self.timeouts = timeouts
        self.status = status
        opening = opened
        let startTLS: SMTPClientMachine.StartTLS =
            switch target.tls {
            case .never: .never
            case .opportunistic: .whereOffered
            case .required: .required
            }
        machine = SMTPClientMachine(heloName: target.heloName, startTLS: startTLS)
    }

    // MARK: The channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        end(SessionFailure(.connectionLost, step: machine.awaiting.step))
    }

    func channelActive(context: ChannelHandlerContext) {
        longest = context.eventLoop.now + TimeAmount(timeouts.beforeContent)
        keepTime()
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !hasClosed else { return }
        var bytes = unwrapInboundIn(data)
        if input.readableBytes == 0 { input = bytes } else { input.writeBuffer(&bytes) }
        proceed(context)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let completed = event as? TLSHandshakeCompleted, !hasClosed {
            isHandshaking = false
            status.secured(completed.evidence)
            var output = context.channel.allocator.buffer(capacity: 64)
            perform(context, machine.tlsEstablished(&output), output)
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // A missing close_notify is an end like any other: SMTP has replies to tell what was said to the end.
        if (error as? TLSError)?.code != .truncated { lastError = lastError ?? error }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(lost())
        context.fireChannelInactive()
    }

    private func lost() -> SessionFailure {
        let step = machine.awaiting.step
        if isHandshaking, !(lastError is TLSError) {
            return SessionFailure(.handshakeFailed, step: "TLS", detail: "the connection ended")
        }
        guard let lastError else { return SessionFailure(.connectionLost, step: step) }
        guard let tls = lastError as? TLSError else {
            return SessionFailure(.connectionLost, step: step, detail: "\(lastError)")
        }
        if status.evidence == nil { return SessionFailure(.handshakeFailed, step: "TLS", tls: tls) }
        return SessionFailure(.connectionLost, step: step, tls: tls)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable, !hasClosed { writeMore(context) }
        context.fireChannelWritabilityChanged()
    }

    // MARK: The machine

    private func proceed(_ context: ChannelHandlerContext) {
        while !hasClosed {
            var output = ByteBuffer()
            let action = machine.receive(&input, &output)
            perform(context, action, output)
            if action == .wait || action == .startTLS { break }
        }
        if input.readableBytes == 0 { input = ByteBuffer() }
    }

    private func perform(
        _ context: ChannelHandlerContext, _ action: SMTPClientMachine.Action, _ output: ByteBuffer
    ) {
        if output.readableBytes > 0 { context.writeAndFlush(wrapOutboundOut(output), promise: nil) }
        switch action {
        case .wait: break
        case .startTLS: startTLS(context)
        case .ready:
            status.opened(machine.extensions, reusable: machine.isReusable)
            let opened = opening
            opening = nil
            opened?.succeed(())
        case .sendContent:
            if memory != nil { writeMore(context) } else { tell(.more) }
        case .transactionEnded(let outcome):
            if failure == nil, !machine.isReusable, outcome.finalReply == nil,
                outcome.dotSent || outcome.recipients.contains(.notAttempted)
            {
                failure = SessionFailure(.protocolViolation, step: waitingFor.step)
            }
            finish(outcome)
            if !machine.isReusable { close(context) }
        case .close:
            close(context)
        case .failed(let failure):
            end(SessionFailure(machine: failure, step: waitingFor.step))
            close(context)
        }
        keepTime()
    }

    private func startTLS(_ context: ChannelHandlerContext) {
        let tls: TLSContext
        switch target.tls {
        case .never: return
        case .opportunistic(let given), .required(let given): tls = given
        }
        isHandshaking = true
        let handler = TLSHandler(
            client: tls, serverName: target.serverName,
            verification: .record(name: target.serverName, dane: target.dane),
            handshakeTimeout: TimeAmount(timeouts.handshake))
        do {
            try context.pipeline.syncOperations.addHandler(handler, position: .first)
        } catch {
            end(SessionFailure(.handshakeFailed, step: "TLS", detail: "\(error)"))
            close(context)
        }
    }

    // MARK: One transaction

    /// Starts a transaction; `waiter` hears of its first step.
    func begin(_ transaction: OutboundTransaction, _ waiter: CheckedContinuation<Step, Never>) {
        let count = transaction.envelope.recipients.count
        guard let context, !hasClosed, !isSending, machine.isReusable, count > 0 else {
            let failure = failure ?? SessionFailure(.connectionLost, step: "idle")
            return waiter.resume(returning: .ended(untouched(count, failure)))
        }
        var output = context.channel.allocator.buffer(capacity: 256)
        let action: SMTPClientMachine.Action
        do throws(CapabilityProblem) {
            action = try machine.begin(transaction.envelope, &output)
        } catch {
            let refusal = ClientRecipientOutcome.rejected(error.reply, isTransient: false)
            let result = TransactionResult(
                recipients: Array(repeating: refusal, count: count), dotSent: false, problem: error)
            return waiter.resume(returning: .ended(result))
        }
        isSending = true
        longest = context.eventLoop.now + TimeAmount(timeouts.beforeContent)
        status.busy()
        self.waiter = waiter
        result = nil
        stuffing = DotStuffing()
        held = ByteBuffer()
        nextPiece = 0
        switch transaction.content.body {
        case .memory(let pieces): memory = ([transaction.content.prefix] + pieces).map { $0[...] }
        case .stream: memory = nil
        }
        perform(context, action, output)
    }

    private func untouched(_ count: Int, _ failure: SessionFailure) -> TransactionResult {
        TransactionResult(
            recipients: Array(repeating: .notAttempted, count: count), dotSent: false, failure: failure)
    }

    /// Takes a piece of a streamed content; `waiter` hears when there is room for another.
    func append(_ piece: [UInt8], _ waiter: CheckedContinuation<Step, Never>) {
        guard let context = claim(waiter) else { return }
        guard stuff(piece[...]) else { return close(context) }
        if held.readableBytes >= SessionHandler.pieceSize { writeHeld(context) }
        if context.channel.isWritable { tell(.more) }
        keepTime()
    }

    /// The streamed content is complete.
    func complete(_ waiter: CheckedContinuation<Step, Never>) {
        guard let context = claim(waiter) else { return }
        finishContent(context)
    }

    /// Writes the final dot behind what is held; `waiter` hears the end.
    func sendDot(_ waiter: CheckedContinuation<Step, Never>) {
        guard let context = claim(waiter) else { return }
        var output = held
        held = ByteBuffer()
        // False: the server has ended the transaction, and the waiter was told.
        if machine.finalDot(&output) { context.writeAndFlush(wrapOutboundOut(output), promise: nil) }
        keepTime()
    }

    /// Ends the connection without a final dot; `waiter` hears the end.
    func abandon(_ failure: SessionFailure, _ waiter: CheckedContinuation<Step, Never>) {
        guard let context = claim(waiter) else { return }
        end(failure)
        close(context)
    }

    /// Ends the connection if the final dot is not out yet.
    func cancel() {
        guard isSending, machine.awaiting != .finalDot, let context else { return }
        end(SessionFailure(.cancelled, step: machine.awaiting.step))
        close(context)
    }

    /// Makes `waiter` the one who is told next; nil: the transaction is over, and it was told so.
    private func claim(_ waiter: CheckedContinuation<Step, Never>) -> ChannelHandlerContext? {
        if let result {
            waiter.resume(returning: .ended(result))
            return nil
        }
        guard let context, isSending else {
            waiter.resume(returning: .ended(untouched(0, failure ?? SessionFailure(.connectionLost))))
            return nil
        }
        self.waiter = waiter
        return context
    }

    private func tell(_ step: Step) {
        guard let waiter else { return }
        self.waiter = nil
        waiter.resume(returning: step)
    }

    private func finish(_ outcome: ClientTransactionOutcome) {
        guard isSending else { return }
        isSending = false
        memory = nil
        held = ByteBuffer()
        let ended = TransactionResult(
            recipients: outcome.recipients, dotSent: outcome.dotSent, finalReply: outcome.finalReply,
            failure: failure)
        status.idle(reusable: machine.isReusable && !hasClosed)
        if waiter == nil { result = ended } else { tell(.ended(ended)) }
    }

    // MARK: Content

    /// Writes pieces in memory while the channel takes them.
    private func writeMore(_ context: ChannelHandlerContext) {
        guard isSending, machine.awaiting == .content else { return }
        // A stream's next piece was waiting for room.
        guard memory != nil else { return tell(.more) }
        while let piece = memory?[safe: nextPiece] {
            guard context.channel.isWritable else { return keepTime() }
            let part = piece.prefix(SessionHandler.pieceSize)
            if part.count == piece.count {
                nextPiece += 1
            } else {
                memory?[nextPiece] = piece.dropFirst(part.count)
            }
            guard stuff(part) else { return close(context) }
            if held.readableBytes >= SessionHandler.pieceSize { writeHeld(context) }
        }
        // Nil: the host ended the transaction while the last piece was written.
        if memory != nil { finishContent(context) }
    }

    private func finishContent(_ context: ChannelHandlerContext) {
        guard isSending, machine.awaiting == .content else { return }
        do throws(DotStuffing.BareLineEnd) {
            try stuffing.finish(&held)
        } catch {
            end(SessionFailure(.contentFailed, step: "content", detail: "bare CR or LF"))
            return close(context)
        }
        // What is held goes out together with the dot: one record, one packet.
        tell(.readyToEnd)
        keepTime()
    }

    /// Adds to what is held; false: the content cannot be sent, and the session has ended.
    private func stuff(_ piece: ArraySlice<UInt8>) -> Bool {
        let isClean = piece.withUnsafeBytes { bytes in
            do throws(DotStuffing.BareLineEnd) {
                try stuffing.append(bytes, to: &held)
                return true
            } catch {
                return false
            }
        }
        if !isClean { end(SessionFailure(.contentFailed, step: "content", detail: "bare CR or LF")) }
        return isClean
    }

    private func writeHeld(_ context: ChannelHandlerContext) {
        let piece = held
        held = ByteBuffer()
        context.writeAndFlush(wrapOutboundOut(piece), promise: nil)
        waitingFor = .nothing
        keepTime()
    }

    // MARK: Time

    /// Starts the clock of the reply, or of the room for content, that is being waited for, if it is another than before.
    private func keepTime() {
        guard !hasClosed, let context else { return }
        var awaiting = machine.awaiting
        // While the sender has the word, the host is not to blame for the time that passes.
        if awaiting == .content, waiter == nil { awaiting = .nothing }
        if awaiting != waitingFor || machine.replyCount != repliesBefore {
            (waitingFor, repliesBefore) = (awaiting, machine.replyCount)
            func within(_ limit: Duration) -> NIODeadline { context.eventLoop.now + TimeAmount(limit) }
            deadline =
                switch awaiting {
                case .nothing: .distantFuture
                case .greeting: min(within(timeouts.greeting), longest)
                case .hello: min(within(timeouts.hello), longest)
                case .envelope: min(within(timeouts.envelope), longest)
                case .data: min(within(timeouts.data), longest)
                case .content: within(timeouts.contentBlock)
                case .finalDot: within(timeouts.finalDot)
                case .quit: within(timeouts.quit)
                }
        }
        if timer == nil, deadline != .distantFuture { arm(context) }
    }

    /// One coarse timer per session: a timer per command would cost more than the command.
    private func arm(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: TimeAmount(timeouts.tick)) { bound.value.tick() }
    }

    private func tick() {
        timer = nil
        guard !hasClosed, let context, deadline != .distantFuture else { return }
        guard context.eventLoop.now >= deadline else { return arm(context) }
        end(SessionFailure(.timeout, step: waitingFor.step))
        close(context)
    }

    // MARK: The end

    /// Says QUIT if the session is idle, and closes; `done` succeeds when the connection is closed.
    func quit(_ done: EventLoopPromise<Void>) {
        guard let context, !hasClosed, !isSending else {
            self.context?.close(promise: nil)
            return done.succeed(())
        }
        quitting = done
        var output = ByteBuffer()
        perform(context, machine.quit(&output), output)
    }

    /// Nothing more is expected of the connection: everyone who waits is told why.
    private func end(_ cause: SessionFailure) {
        guard !hasClosed else { return }
        hasClosed = true
        failure = cause
        timer?.cancel()
        timer = nil
        status.ended()
        if isSending {
            let action = machine.connectionClosed()
            if case .transactionEnded(let outcome) = action { finish(outcome) }
        }
        let opened = opening
        opening = nil
        opened?.fail(cause)
        let quit = quitting
        quitting = nil
        quit?.succeed(())
    }

    private func close(_ context: ChannelHandlerContext) {
        end(failure ?? SessionFailure(.connectionLost, step: machine.awaiting.step))
        context.close(promise: nil)
    }
}

extension Array {
    fileprivate subscript(safe index: Int) -> Element? { index < count ? self[index] : nil }
}

@available(*, unavailable)
extension SessionHandler: Sendable {}
