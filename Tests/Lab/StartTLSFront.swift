// SMTP up to STARTTLS in front of anything: a TLS server that speaks no SMTP, or octets that are no TLS at all.

import NIOCore
import NIOPosix
import Synchronization

/// What follows the 220 to STARTTLS.
public enum StartTLSBackend: Sendable {
    /// Everything goes to this port of 127.0.0.1 and back.
    case port(Int)
    /// These octets, once the client has spoken, and then silence.
    case octets([UInt8])
    /// These octets, one every few milliseconds, over and over.
    case trickle([UInt8])
}

/// A host that greets, offers STARTTLS, and leaves the rest to its backend.
public final class StartTLSFront: Sendable {
    private let listener: any Channel
    private let counts: Counts

    /// Starts a host.
    /// - address: of loopback.
    /// - port: 0: any that is free.
    public static func start(
        _ backend: StartTLSBackend, on address: String = "127.0.0.1", port: Int = 0
    ) async throws -> StartTLSFront {
        let counts = Counts()
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: false)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Connection(backend, counts))
                }
            }
            .bind(host: address, port: port).get()
        return StartTLSFront(listener, counts)
    }

    private init(_ listener: any Channel, _ counts: Counts) {
        (self.listener, self.counts) = (listener, counts)
    }

    /// Where it listens.
    public var address: SocketAddress {
        get throws {
            try SocketAddress(
                ipAddress: listener.localAddress?.ipAddress ?? "127.0.0.1",
                port: listener.localAddress?.port ?? 0)
        }
    }
    /// Connections so far.
    public var connections: Int { counts.state.withLock { $0.all } }
    /// The most that were open at once.
    public var mostAtOnce: Int { counts.state.withLock { $0.most } }
    /// Octets that clients sent behind STARTTLS.
    public var octetsOfClients: Int { counts.state.withLock { $0.octets } }
    /// Stops listening.
    public func stop() async throws { try await listener.close() }

    final class Counts: Sendable {
        let state = Mutex((all: 0, open: 0, most: 0, octets: 0))
        func heard(_ octets: Int) { state.withLock { $0.octets += octets } }
        func opened() {
            state.withLock {
                $0.all += 1
                $0.open += 1
                $0.most = max($0.most, $0.open)
            }
        }
        func closed() { state.withLock { $0.open -= 1 } }
    }

    /// Hands everything that one channel reads to another.
    final class Pipe: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let other: any Channel
        init(_ other: any Channel) { self.other = other }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            other.writeAndFlush(unwrapInboundIn(data), promise: nil)
        }
        func channelInactive(context: ChannelHandlerContext) { other.close(promise: nil) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    final class Connection: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        private let backend: StartTLSBackend
        private let counts: Counts
        private var line = ""
        private var isBeyond = false
        private var further: (any Channel)?
        private var trickled = 0

        init(_ backend: StartTLSBackend, _ counts: Counts) { (self.backend, self.counts) = (backend, counts) }

        func channelActive(context: ChannelHandlerContext) {
            counts.opened()
            say(context, "220 front.test ESMTP\r\n")
        }

        func channelInactive(context: ChannelHandlerContext) {
            counts.closed()
            further?.close(promise: nil)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            if isBeyond { return beyond(context, bytes) }
            line += String(buffer: bytes)
            guard line.hasSuffix("\r\n") else { return }
            let command = line.prefix { $0 != " " && $0 != "\r\n" }.uppercased()
            line = ""
            switch command {
            case "EHLO": say(context, "250-front.test\r\n250 STARTTLS\r\n")
            case "STARTTLS":
                isBeyond = true
                connect(context)
            case "QUIT":
                say(context, "221 bye\r\n")
                context.close(promise: nil)
            default: say(context, "502 no\r\n")
            }
        }

        private func connect(_ context: ChannelHandlerContext) {
            guard case .port(let port) = backend else { return say(context, "220 go\r\n") }
            let channel = context.channel
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            ClientBootstrap(group: context.eventLoop)
                .channelInitializer { inner in
                    inner.eventLoop.makeCompletedFuture {
                        try inner.pipeline.syncOperations.addHandler(Pipe(channel))
                    }
                }
                .connect(host: "127.0.0.1", port: port)
                .whenComplete { result in
                    let (connection, context) = bound.value
                    switch result {
                    case .success(let inner):
                        connection.further = inner
                        connection.say(context, "220 go\r\n")
                    case .failure: context.close(promise: nil)
                    }
                }
        }

        private func beyond(_ context: ChannelHandlerContext, _ bytes: ByteBuffer) {
            counts.heard(bytes.readableBytes)
            switch backend {
            case .port: further?.writeAndFlush(bytes, promise: nil)
            case .octets(let octets):
                context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: octets)), promise: nil)
            case .trickle(let octets):
                let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
                context.eventLoop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(5)) { task in
                    let (connection, context) = bound.value
                    guard context.channel.isActive else { return task.cancel() }
                    context.writeAndFlush(
                        connection.wrapOutboundOut(
                            ByteBuffer(bytes: [octets[connection.trickled % octets.count]])),
                        promise: nil)
                    connection.trickled += 1
                }
            }
        }

        private func say(_ context: ChannelHandlerContext, _ text: String) {
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
        }
    }
}

@available(*, unavailable)
extension StartTLSFront.Connection: Sendable {}
@available(*, unavailable)
extension StartTLSFront.Pipe: Sendable {}
