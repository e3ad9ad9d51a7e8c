// TLS as one NIO handler, either side, at the head of a pipeline from its start or added to a live one (STARTTLS).
//
// Promises: no plaintext passes in either direction before the handshake is complete; writes keep their order over
// it; close_notify goes out before the connection ends in order, and its absence from the peer is an error
// (`truncated`) before `channelInactive`. Memory is bounded: at most `handshakeBufferLimit` bytes wait for the
// handshake, after it ciphertext goes on at once, so that the channel's own writability holds back writers; what
// arrives is decrypted and handed on at once, so that reads are held back by not reading.

import NIOCore

/// TLS over a NIO channel. Fires `TLSHandshakeCompleted` when its handshake is complete; on failure it fires a
/// `TLSError` and closes the channel.
public final class TLSHandler: ChannelDuplexHandler {
    /// Ciphertext from the channel.
    public typealias InboundIn = ByteBuffer
    /// Plaintext to the handlers above.
    public typealias InboundOut = ByteBuffer
    /// Plaintext from the handlers above.
    public typealias OutboundIn = ByteBuffer
    /// Ciphertext to the channel.
    public typealias OutboundOut = ByteBuffer

    /// Most plaintext that waits for the handshake, in bytes; more fails the connection.
    public static let handshakeBufferLimit = 1 << 20
    /// Largest plaintext of one record (RFC 8446 §5.1).
    private static let recordSize = 1 << 14
    /// Most ciphertext that OpenSSL may send by itself while no plaintext arrives, in bytes: a peer that asks again and again for new keys
    /// (RFC 8446 §4.6.3) or a new handshake (RFC 5246 §7.4.1.1), and reads no answer, would else fill the memory.
    static let unaskedLimit = 1 << 14
    /// Most plaintext encrypted or handed on in one piece, in bytes.
    private static let pieceSize = 1 << 16

    private enum State {
        /// Not yet on an active channel.
        case idle
        case handshaking
        case active
        /// Our close_notify is sent; waits for the peer's, or its time limit.
        case closing
        /// Nothing passes any more.
        case closed
    }

    private let context: TLSContext
    private let serverName: String?
    private let verification: TLSVerification
    private let handshakeTimeout: TimeAmount
    private let closeTimeout: TimeAmount

    private var state = State.idle
    private var connection: TLSConnection?
    private var timer: Scheduled<Void>?
    private var closePromise: EventLoopPromise<Void>?
    /// Plaintext not yet encrypted.
    private var waiting = CircularBuffer<(bytes: ByteBuffer, promise: EventLoopPromise<Void>?)>(
        initialCapacity: 2)
    private var waitingBytes = 0
    /// A write from within a write waits its turn.
    private var isEncrypting = false
    private var flushIsOwed = false
    /// Somebody above asked for bytes and got none yet.
    private var readIsOwed = false
    /// Ciphertext that OpenSSL sent by itself since the last plaintext arrived: answers to requests for new keys or a new handshake.
    private var unasked = 0
    /// Another handshake was asked for and is under way.
    private var isRenegotiating = false

    /// The server's side.
    /// - server: certificate, versions, suites.
    /// - handshakeTimeout: from the start of the connection to the end of the handshake.
    /// - closeTimeout: how long the peer's close_notify is awaited after ours.
    public init(
        server: TLSContext, handshakeTimeout: TimeAmount = .seconds(60),
        closeTimeout: TimeAmount = .seconds(5)
    ) {
        context = server
        serverName = nil
        verification = .record(name: nil)
        self.handshakeTimeout = handshakeTimeout
        self.closeTimeout = closeTimeout
    }

    /// The client's side.
    /// - client: trusted roots, versions, suites.
    /// - serverName: the name to ask for (RFC 6066 §3); nil: none. IP addresses are not sent.
    /// - verification: what is checked of the certificate and whether that may fail the handshake.
    /// - handshakeTimeout: from the first byte sent to the end of the handshake.
    /// - closeTimeout: how long the peer's close_notify is awaited after ours.
    public init(
        client: TLSContext, serverName: String?, verification: TLSVerification,
        handshakeTimeout: TimeAmount = .seconds(60), closeTimeout: TimeAmount = .seconds(5)
    ) {
        context = client
        self.serverName = serverName
        self.verification = verification
        self.handshakeTimeout = handshakeTimeout
        self.closeTimeout = closeTimeout
    }

    // MARK: Start

    /// Starts at once on a channel that is live already.
    public func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { start(context) }
    }

    /// Fails what waits.
    public func handlerRemoved(context: ChannelHandlerContext) {
        end()
        failWaiting(ChannelError.ioOnClosedChannel)
    }

    /// Starts the handshake; handlers above may write at once, and their bytes wait.
    public func channelActive(context: ChannelHandlerContext) {
        start(context)
        context.fireChannelActive()
    }

    private func start(_ context: ChannelHandlerContext) {
        guard case .idle = state else { return }
        do throws(TLSError) {
            connection = try TLSConnection(
                context: self.context, serverName: serverName, verification: verification)
        } catch {
            return fail(context, error)
        }
        state = .handshaking
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: handshakeTimeout) {
            let (handler, context) = bound.value
            handler.timeOut(context)
        }
        handshake(context)
        // Without automatic reads nobody above need ask before there is something to have.
        if case .handshaking = state { context.read() }
    }

    private func handshake(_ context: ChannelHandlerContext) {
        guard let connection else { return }
        switch connection.handshake() {
        case .incomplete:
            send(context)
        case .failed(let error):
            fail(context, error)
        case .complete:
            state = .active
            timer?.cancel()
            timer = nil
            send(context)
            context.fireUserInboundEventTriggered(TLSHandshakeCompleted(evidence: connection.evidence()))
            encryptWaiting(context)
            context.flush()
        }
    }

    private func timeOut(_ context: ChannelHandlerContext) {
        timer = nil
        switch state {
        case .handshaking:
            fail(context, TLSError(.handshakeTimeout, "no handshake in \(handshakeTimeout.seconds) s"))
        case .closing: closeNow(context)
        case .idle, .active, .closed: break
        }
    }

    // MARK: Reading

    /// Decrypts and hands on.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let connection else { return }
        switch state {
        case .idle, .closed: return
        case .handshaking, .active, .closing: break
        }
        guard connection.feed(unwrapInboundIn(data)) else {
            return fail(context, TLSError(.internal, "out of memory"))
        }
        if case .handshaking = state { handshake(context) }
        switch state {
        case .active, .closing: decrypt(context, connection)
        case .idle, .handshaking, .closed: break
        }
    }

    /// Reads on where what arrived was no plaintext yet.
    public func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        switch state {
        case .handshaking, .closing: context.read()
        case .active: if readIsOwed { context.read() }
        case .idle, .closed: break
        }
    }

    /// On a channel that allows half-closure the end of input comes as an event.
    public func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed {
            switch state {
            case .handshaking: fail(context, TLSError(.closedInHandshake, "the connection ended"))
            case .active: fail(context, TLSError(.truncated, ""))
            case .closing: closeNow(context)
            case .idle, .closed: break
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    private func decrypt(_ context: ChannelHandlerContext, _ connection: TLSConnection) {
        var plaintext: ByteBuffer?
        while true {
            switch state {
            case .active, .closing: break
            case .idle, .handshaking, .closed: return
            }
            var piece =
                plaintext
                ?? context.channel.allocator.buffer(
                    capacity: min(max(connection.expectedPlaintext, 64), TLSHandler.pieceSize))
            plaintext = nil
            switch connection.read(into: &piece) {
            case .bytes:
                if piece.writableBytes > 0 {
                    plaintext = piece
                } else {
                    deliver(context, piece)
                }
            case .incomplete:
                deliver(context, piece)
                return settle(context, connection)
            case .closed:
                deliver(context, piece)
                return peerClosed(context, connection)
            case .failed(let error):
                deliver(context, piece)
                return fail(context, error)
            }
        }
    }

    private func deliver(_ context: ChannelHandlerContext, _ plaintext: ByteBuffer) {
        // After our own close_notify nobody above listens.
        guard case .active = state, plaintext.readableBytes > 0 else { return }
        readIsOwed = false
        unasked = 0
        context.fireChannelRead(wrapInboundOut(plaintext))
    }

    /// Passes the wish for bytes down, and remembers it until there are some.
    public func read(context: ChannelHandlerContext) {
        readIsOwed = true
        context.read()
    }

    // MARK: Writing

    /// Keeps plaintext until the flush, or encrypts at once where a record is full.
    public func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let bytes = unwrapOutboundIn(data)
        switch state {
        case .closing, .closed:
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        case .idle, .handshaking:
            waiting.append((bytes, promise))
            waitingBytes += bytes.readableBytes
            if waitingBytes > TLSHandler.handshakeBufferLimit {
                fail(context, TLSError(.bufferLimit, "\(waitingBytes) bytes wait"))
            }
        case .active:
            waiting.append((bytes, promise))
            waitingBytes += bytes.readableBytes
            // Ciphertext counts towards the channel's writability, plaintext kept here would not.
            if waitingBytes >= TLSHandler.recordSize { encryptWaiting(context) }
        }
    }

    /// Encrypts what waits, and sends.
    public func flush(context: ChannelHandlerContext) {
        guard case .active = state else {
            // Before the handshake's end its completion flushes; there may be handshake bytes below.
            return context.flush()
        }
        if isEncrypting {
            flushIsOwed = true
            return
        }
        encryptWaiting(context)
        context.flush()
    }

    /// Encrypts all that waits into as few records as there can be and passes it down, without a flush of its own.
    private func encryptWaiting(_ context: ChannelHandlerContext) {
        // Passing ciphertext down can tell handlers above that the channel is full, and they may write or close then.
        guard case .active = state, !isEncrypting, let connection else { return }
        isEncrypting = true
        var promises: [EventLoopPromise<Void>] = []
        while case .active = state, let (bytes, promise) = waiting.popFirst() {
            if let promise { promises.append(promise) }
            waitingBytes -= bytes.readableBytes
            var record = bytes
            if !waiting.isEmpty, bytes.readableBytes < TLSHandler.recordSize {
                // Several small writes share a record.
                record = context.channel.allocator.buffer(
                    capacity: min(bytes.readableBytes + waitingBytes, TLSHandler.pieceSize))
                record.writeImmutableBuffer(bytes)
                while record.readableBytes < TLSHandler.recordSize, let (more, promise) = waiting.popFirst() {
                    if let promise { promises.append(promise) }
                    waitingBytes -= more.readableBytes
                    record.writeImmutableBuffer(more)
                }
            }
            encrypt(context, connection, record, &promises)
        }
        // What was written was nothing, or the connection has ended meanwhile.
        for promise in promises {
            if case .active = state {
                promise.succeed(())
            } else {
                promise.fail(ChannelError.ioOnClosedChannel)
            }
        }
        isEncrypting = false
        if flushIsOwed {
            flushIsOwed = false
            context.flush()
        }
    }

    /// Encrypts `plaintext` and passes it down; `promises` go with its last piece.
    private func encrypt(
        _ context: ChannelHandlerContext, _ connection: TLSConnection, _ plaintext: ByteBuffer,
        _ promises: inout [EventLoopPromise<Void>]
    ) {
        var rest = plaintext
        while case .active = state,
            let piece = rest.readSlice(length: min(rest.readableBytes, TLSHandler.pieceSize)),
            piece.readableBytes > 0
        {
            if let error = piece.withUnsafeReadableBytes({ connection.write($0) }) {
                return fail(context, error)
            }
            guard let ciphertext = connection.takeCiphertext(context.channel.allocator) else { continue }
            guard rest.readableBytes == 0, let first = promises.first else {
                context.write(wrapOutboundOut(ciphertext), promise: nil)
                continue
            }
            for other in promises.dropFirst() { first.futureResult.cascade(to: other) }
            promises.removeAll(keepingCapacity: true)
            context.write(wrapOutboundOut(ciphertext), promise: first)
        }
    }

    /// Sends what OpenSSL itself has to say: handshake, alerts, key updates.
    private func send(_ context: ChannelHandlerContext) {
        guard let ciphertext = connection?.takeCiphertext(context.channel.allocator) else { return }
        context.writeAndFlush(wrapOutboundOut(ciphertext), promise: nil)
    }

    // MARK: Another handshake

    /// Obeys `TLSRenegotiationRequest`; other events go on.
    public func triggerUserOutboundEvent(
        context: ChannelHandlerContext, event: Any, promise: EventLoopPromise<Void>?
    ) {
        guard event is TLSRenegotiationRequest, case .active = state, let connection else {
            return context.triggerUserOutboundEvent(event, promise: promise)
        }
        isRenegotiating = true
        if case .failed(let error) = connection.renegotiate() {
            promise?.fail(error)
            return fail(context, error)
        }
        send(context)
        promise?.succeed(())
    }

    /// How much early data the server's last ticket allows, in bytes; 0: none.
    public var maximumEarlyData: Int { connection?.maximumEarlyData ?? 0 }

    /// What arrived is taken in: answers go out, and a handshake that was asked for may be complete.
    private func settle(_ context: ChannelHandlerContext, _ connection: TLSConnection) {
        guard isRenegotiating else { return answer(context) }
        send(context)
        guard connection.isSettled else { return }
        isRenegotiating = false
        context.fireUserInboundEventTriggered(TLSRenegotiated())
    }

    /// Sends OpenSSL's answers to what arrived, as long as they have an end.
    private func answer(_ context: ChannelHandlerContext) {
        guard let ciphertext = connection?.takeCiphertext(context.channel.allocator) else { return }
        unasked += ciphertext.readableBytes
        guard unasked <= TLSHandler.unaskedLimit else {
            return fail(context, TLSError(.requestsWithoutEnd, "\(unasked) bytes of answers"))
        }
        context.writeAndFlush(wrapOutboundOut(ciphertext), promise: nil)
    }

    // MARK: End

    /// Closes in order: our close_notify, then the peer's or `closeTimeout`, then the channel. What was written but not
    /// flushed fails, as on any channel.
    public func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        switch (mode, state) {
        case (.input, _), (_, .idle), (_, .closed):
            context.close(mode: mode, promise: promise)
        case (_, .handshaking):
            end()
            failWaiting(ChannelError.ioOnClosedChannel)
            context.close(mode: .all, promise: promise)
        case (_, .closing):
            join(promise)
        case (_, .active):
            failWaiting(ChannelError.ioOnClosedChannel)
            state = .closing
            join(promise)
            connection?.sendCloseNotify()
            send(context)
            awaitEnd(context)
            // The peer's close_notify is read even where nobody above reads any more.
            context.read()
        }
    }

    private func join(_ promise: EventLoopPromise<Void>?) {
        guard let promise else { return }
        if let closePromise {
            closePromise.futureResult.cascade(to: promise)
        } else {
            closePromise = promise
        }
    }

    private func awaitEnd(_ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer?.cancel()
        timer = context.eventLoop.scheduleTask(in: closeTimeout) {
            let (handler, context) = bound.value
            handler.timeOut(context)
        }
    }

    /// The peer's close_notify has come: answer it where ours is not out yet, behind what waits in the channel.
    private func peerClosed(_ context: ChannelHandlerContext, _ connection: TLSConnection) {
        if case .closing = state { return closeNow(context) }
        guard case .active = state else { return }
        encryptWaiting(context)
        guard case .active = state else { return }
        state = .closing
        connection.sendCloseNotify()
        guard let notify = connection.takeCiphertext(context.channel.allocator) else {
            return closeNow(context)
        }
        awaitEnd(context)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in
            let (handler, context) = bound.value
            handler.closeNow(context)
        }
        context.writeAndFlush(wrapOutboundOut(notify), promise: written)
    }

    private func closeNow(_ context: ChannelHandlerContext) {
        if case .closed = state { return }
        end()
        let promise = closePromise
        closePromise = nil
        context.close(mode: .all, promise: promise)
    }

    /// A last alert, the error, the end.
    private func fail(_ context: ChannelHandlerContext, _ error: TLSError) {
        if case .closed = state { return }
        send(context)
        end()
        failWaiting(error)
        context.fireErrorCaught(error)
        let promise = closePromise
        closePromise = nil
        context.close(mode: .all, promise: promise)
    }

    private func end() {
        state = .closed
        timer?.cancel()
        timer = nil
    }

    private func failWaiting(_ error: any Error) {
        waitingBytes = 0
        while let (_, promise) = waiting.popFirst() { promise?.fail(error) }
    }

    /// Tells a connection that was cut from one that was closed.
    public func channelInactive(context: ChannelHandlerContext) {
        let error: TLSError?
        switch state {
        case .handshaking: error = TLSError(.closedInHandshake, "the connection ended")
        case .active: error = TLSError(.truncated, "")
        case .idle, .closing, .closed: error = nil
        }
        end()
        failWaiting(error ?? ChannelError.ioOnClosedChannel)
        if let error { context.fireErrorCaught(error) }
        closePromise?.succeed(())
        closePromise = nil
        context.fireChannelInactive()
    }
}

extension TimeAmount {
    fileprivate var seconds: Int64 { nanoseconds / 1_000_000_000 }
}

/// An event loop runs a handler's code; no other thread can reach it.
@available(*, unavailable)
extension TLSHandler: Sendable {}
