// One SMTP connection to one recipient host, for tasks: open it, look at its evidence, send messages, quit.

import NIOCore
import NIOPosix
import SMTP
import Synchronization
import TLS

/// A session with a recipient host that has greeted us and, where asked for, has TLS. It carries one transaction at a time.
///
/// The certificate is never judged here: whoever opens a session holds `evidence` against the ruleset before `send`.
public final class OutboundSession: Sendable {
    /// Where the session goes.
    public let target: SessionTarget
    /// What the host offers: as told inside TLS, where there is TLS.
    public let extensions: EHLOExtensions
    /// What the handshake proved; nil: the connection is in clear.
    public let evidence: PeerEvidence?
    /// The address at the other end.
    public var remoteAddress: SocketAddress { target.address }
    /// Our own address; nil once the connection has ended.
    public var localAddress: SocketAddress? { channel.localAddress }

    private let channel: any Channel
    private let handler: NIOLoopBound<SessionHandler>
    private let status: SessionStatus

    private init(
        target: SessionTarget, channel: any Channel, handler: NIOLoopBound<SessionHandler>,
        status: SessionStatus
    ) {
        self.target = target
        self.channel = channel
        self.handler = handler
        self.status = status
        extensions = status.extensions
        evidence = status.evidence
    }

    /// Connects, hears the greeting, says EHLO, starts TLS as `target.tls` says and says EHLO again.
    /// - group: whose event loop carries the connection.
    /// - Throws: why there is no session; nothing of any message has been sent.
    public static func open(
        _ target: SessionTarget, on group: any EventLoopGroup, timeouts: SessionTimeouts = SessionTimeouts()
    ) async throws(SessionFailure) -> OutboundSession {
        if Task.isCancelled { throw SessionFailure(.cancelled, step: "connect") }
        let status = SessionStatus()
        let loop = group.next()
        let opened = loop.makePromise(of: Void.self)
        let bound = loop.makePromise(of: NIOLoopBound<SessionHandler>.self)
        var bootstrap = ClientBootstrap(group: loop)
            .connectTimeout(TimeAmount(timeouts.connect))
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = SessionHandler(
                        target: target, timeouts: timeouts, status: status, opened: opened)
                    try channel.pipeline.syncOperations.addHandler(handler)
                    status.attach(channel)
                    bound.succeed(NIOLoopBound(handler, eventLoop: channel.eventLoop))
                }
            }
        do {
            if let source = target.sourceAddress {
                bootstrap = bootstrap.bind(to: try SocketAddress(ipAddress: source, port: 0))
            }
        } catch {
            opened.fail(error)
            bound.fail(error)
            throw SessionFailure(
                .unreachable, step: "connect", detail: "source address \(target.sourceAddress ?? "")")
        }
        do {
            return try await withTaskCancellationHandler {
                let channel: any Channel
                do {
                    channel = try await bootstrap.connect(to: target.address).get()
                } catch {
                    // Settled already where the handler was added; a second word is ignored.
                    bound.fail(error)
                    opened.fail(error)
                    throw error
                }
                do {
                    try await opened.futureResult.get()
                } catch {
                    channel.close(promise: nil)
                    throw error
                }
                let handler = try await bound.futureResult.get()
                return OutboundSession(target: target, channel: channel, handler: handler, status: status)
            } onCancel: {
                loop.execute { status.cancel() }
            }
        } catch {
            if Task.isCancelled { throw SessionFailure(.cancelled, step: "open") }
            throw SessionFailure(connecting: error)
        }
    }

    /// Whether the session is idle and takes another transaction. A host may hang up at any moment: `send` then says
    /// `connectionLost` with nothing attempted.
    public var isReusable: Bool { status.isReusable }

    /// Sends one message. MAIL, RCPT and DATA go together where the host offers PIPELINING; the content follows as fast as
    /// the host takes it.
    ///
    /// - transaction: the envelope and the content.
    /// - mayEndContent: asked when everything but the end of the content is written. False: the connection ends without
    ///   the final dot, and the host discards what it has.
    ///
    /// Cancelling the task before the final dot ends the connection; after it, the answer is awaited all the same.
    public func send(
        _ transaction: OutboundTransaction, mayEndContent: @escaping @Sendable () async -> Bool
    ) async -> TransactionResult {
        await withTaskCancellationHandler {
            await sendHere(transaction, mayEndContent)
        } onCancel: {
            let handler = handler
            channel.eventLoop.execute { handler.value.cancel() }
        }
    }

    private func sendHere(
        _ transaction: OutboundTransaction, _ mayEndContent: @Sendable () async -> Bool
    ) async -> TransactionResult {
        var step = await ask { $0.begin(transaction, $1) }
        if case .more = step, case .stream(let pieces) = transaction.content.body {
            do {
                let prefix = transaction.content.prefix
                if !prefix.isEmpty { step = await ask { $0.append(prefix, $1) } }
                var iterator = pieces.makeAsyncIterator()
                while case .more = step, let piece = try await iterator.next() {
                    step = await ask { $0.append(piece, $1) }
                }
                if case .more = step { step = await ask { $0.complete($1) } }
            } catch {
                let failure = SessionFailure(.contentFailed, step: "content", detail: "\(type(of: error))")
                step = await ask { $0.abandon(failure, $1) }
            }
        }
        if case .readyToEnd = step {
            if await mayEndContent() {
                step = await ask { $0.sendDot($1) }
            } else {
                step = await ask { $0.abandon(SessionFailure(.stopped, step: "final dot"), $1) }
            }
        }
        guard case .ended(let result) = step else {
            // Every path above ends so; a session out of step is not to be used again.
            channel.close(promise: nil)
            return TransactionResult(
                recipients: transaction.envelope.recipients.map { _ in .notAttempted }, dotSent: false,
                failure: SessionFailure(.protocolViolation, step: "send"))
        }
        return result
    }

    private func ask(
        _ request:
            @escaping @Sendable (SessionHandler, CheckedContinuation<SessionHandler.Step, Never>) -> Void
    ) async -> SessionHandler.Step {
        await withCheckedContinuation { waiter in
            let handler = handler
            // A task whose executor is the event loop itself needs no detour.
            if channel.eventLoop.inEventLoop { return request(handler.value, waiter) }
            channel.eventLoop.execute { request(handler.value, waiter) }
        }
    }

    /// Says QUIT if the session is idle, and closes the connection; waits for the answer no longer than its limit.
    public func quit() async {
        let handler = handler
        let done = channel.eventLoop.makePromise(of: Void.self)
        channel.eventLoop.execute { handler.value.quit(done) }
        try? await done.futureResult.get()
    }

    /// Closes the connection without a word.
    public func close() { channel.close(promise: nil) }

    deinit { channel.close(promise: nil) }
}

/// What both sides of a session know of it.
final class SessionStatus: Sendable {
    private struct Facts {
        var extensions = EHLOExtensions()
        var evidence: PeerEvidence?
        var isReusable = false
        var isCancelled = false
        var channel: (any Channel)?
    }
    private let facts = Mutex(Facts())

    var extensions: EHLOExtensions { facts.withLock { $0.extensions } }
    var evidence: PeerEvidence? { facts.withLock { $0.evidence } }
    var isReusable: Bool { facts.withLock { $0.isReusable } }

    /// The channel that is being opened; it is closed at once where opening was cancelled.
    func attach(_ channel: any Channel) {
        let isCancelled = facts.withLock {
            $0.channel = channel
            return $0.isCancelled
        }
        if isCancelled { channel.close(promise: nil) }
    }
    func cancel() {
        let channel = facts.withLock {
            $0.isCancelled = true
            return $0.channel
        }
        channel?.close(promise: nil)
    }
    func secured(_ evidence: PeerEvidence) { facts.withLock { $0.evidence = evidence } }
    func opened(_ extensions: EHLOExtensions, reusable: Bool) {
        facts.withLock {
            $0.extensions = extensions
            $0.isReusable = reusable
            $0.channel = nil
        }
    }
    func busy() { facts.withLock { $0.isReusable = false } }
    func idle(reusable: Bool) { facts.withLock { $0.isReusable = reusable } }
    func ended() { facts.withLock { $0.isReusable = false } }
}
