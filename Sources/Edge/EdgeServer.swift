// The listeners of an edge, the limit on its connections, and its end: stop accepting, finish what is under way, then close.

import Foundation
import Logging
import NIOCore
import NIOPosix
import Observability
import SMTP
import ServiceLifecycle
import Settings
import Synchronization
import TLS

/// Serves SMTP until shut down.
final class EdgeServer: Service, CustomStringConvertible {
    private let edge: EdgeContext
    private let listen: [HostPort]
    private let listenTLS: [HostPort]
    private let maximumConnections: Int
    private let group: MultiThreadedEventLoopGroup
    private let readiness: Readiness
    private let drainLimit: Duration
    private let registry = ConnectionRegistry()
    private let onBound: @Sendable ([SocketAddress]) -> Void

    /// - Parameters:
    ///   - drainLimit: How long transactions under way may take once the node shuts down.
    ///   - onBound: Told the addresses, plain listeners first.
    init(
        edge: EdgeContext, listen: [HostPort], listenTLS: [HostPort], maximumConnections: Int,
        group: MultiThreadedEventLoopGroup, readiness: Readiness, drainLimit: Duration,
        onBound: @escaping @Sendable ([SocketAddress]) -> Void = { _ in }
    ) {
        self.edge = edge
        self.listen = listen
        self.listenTLS = listenTLS
        self.maximumConnections = maximumConnections
        self.group = group
        self.readiness = readiness
        self.drainLimit = drainLimit
        self.onBound = onBound
    }

    var description: String { "smtp" }

    func run() async throws {
        var listeners: [any Channel] = []
        do {
            for address in listen { listeners.append(try await bind(address, startsWithTLS: false)) }
            for address in listenTLS { listeners.append(try await bind(address, startsWithTLS: true)) }
        } catch {
            for listener in listeners { try? await listener.close() }
            throw error
        }
        onBound(listeners.compactMap(\.localAddress))
        readiness.hold("listening")
        for listener in listeners {
            edge.logger.info(
                "listening", metadata: ["listener": "\(listener.localAddress?.description ?? "")"])
        }
        try? await gracefulShutdown()
        for listener in listeners { try? await listener.close() }
        await drain()
    }

    private func drain() async {
        for loop in group.makeIterator() {
            try? await loop.submit { self.registry.drain(on: loop) }.get()
        }
        let deadline = ContinuousClock.now + drainLimit
        while registry.count > 0, ContinuousClock.now < deadline, !Task.isCancelled {
            try? await Task.sleep(for: .milliseconds(20))
        }
        if registry.count > 0 {
            edge.logger.warning("connections cut off", metadata: ["count": "\(registry.count)"])
        }
        for loop in group.makeIterator() {
            try? await loop.submit { self.registry.closeAll(on: loop) }.get()
        }
    }

    private func bind(_ address: HostPort, startsWithTLS: Bool) async throws -> any Channel {
        let pools = ConnectionPools()
        return try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 1024, initial: 4096, maximum: FrameBuffer.capacity)
            )
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try self.setUp(channel, pools.pool(of: channel.eventLoop), startsWithTLS: startsWithTLS)
                }
            }
            .bind(host: address.host, port: address.port).get()
    }

    private func setUp(_ channel: any Channel, _ pool: FrameBufferPool, startsWithTLS: Bool) throws {
        let pipeline = channel.pipeline.syncOperations
        guard registry.enter(limit: maximumConnections) else {
            edge.metrics.refusedConnections.increment()
            try pipeline.addHandler(Turnaway(reply: startsWithTLS ? nil : EdgeReply.tooManyConnections))
            return
        }
        edge.metrics.connectionsOpened.increment()
        edge.metrics.openConnections.record(registry.count)
        if startsWithTLS, let tls = edge.tls { try pipeline.addHandler(TLSHandler(server: tls)) }
        let address = channel.remoteAddress?.ipAddress ?? "0.0.0.0"
        let network = edge.networks.first { $0.contains(address) }
        let metrics = edge.metrics
        let registry = self.registry
        let loop = channel.eventLoop
        let handler = SMTPConnectionHandler(
            edge: edge, pool: pool, clientAddress: address,
            networkIdentity: network.map { Identity(tenant: $0.tenant, credential: nil) },
            startsWithTLS: startsWithTLS
        ) { handler in
            registry.leave(handler, on: loop)
            metrics.openConnections.record(registry.count)
        }
        registry.add(handler, on: loop)
        try pipeline.addHandler(handler)
    }
}

/// Greets a connection beyond the limit with 421 and closes it.
private final class Turnaway: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let reply: SMTPReply?

    init(reply: SMTPReply?) { self.reply = reply }

    func channelActive(context: ChannelHandlerContext) {
        if let reply {
            context.writeAndFlush(
                wrapOutboundOut(context.channel.allocator.buffer(bytes: reply.encoded())), promise: nil)
        }
        context.close(promise: nil)
    }
}

/// The buffer pools of the event loops.
private final class ConnectionPools: Sendable {
    private let pools = Mutex<[ObjectIdentifier: NIOLoopBound<FrameBufferPool>]>([:])

    /// The pool of a loop; call it on that loop.
    func pool(of loop: any EventLoop) -> FrameBufferPool {
        pools.withLock { pools in
            if let bound = pools[ObjectIdentifier(loop)] { return bound }
            let bound = NIOLoopBound(FrameBufferPool(), eventLoop: loop)
            pools[ObjectIdentifier(loop)] = bound
            return bound
        }.value
    }
}

/// Who is connected: a count for all, and the handlers of each event loop, touched on that loop only.
private final class ConnectionRegistry: Sendable {
    private final class Handlers {
        var all: [ObjectIdentifier: SMTPConnectionHandler] = [:]
        var isDraining = false
    }

    private let total = Atomic<Int>(0)
    private let loops = Mutex<[ObjectIdentifier: NIOLoopBound<Handlers>]>([:])

    var count: Int { total.load(ordering: .relaxed) }

    /// Counts a connection in, unless there are enough.
    func enter(limit: Int) -> Bool {
        if total.add(1, ordering: .relaxed).newValue <= limit { return true }
        total.subtract(1, ordering: .relaxed)
        return false
    }

    private func handlers(of loop: any EventLoop) -> Handlers {
        loops.withLock { loops in
            if let bound = loops[ObjectIdentifier(loop)] { return bound }
            let bound = NIOLoopBound(Handlers(), eventLoop: loop)
            loops[ObjectIdentifier(loop)] = bound
            return bound
        }.value
    }

    func add(_ handler: SMTPConnectionHandler, on loop: any EventLoop) {
        let handlers = handlers(of: loop)
        handlers.all[ObjectIdentifier(handler)] = handler
        if handlers.isDraining { handler.drain() }
    }

    func leave(_ handler: SMTPConnectionHandler, on loop: any EventLoop) {
        if handlers(of: loop).all.removeValue(forKey: ObjectIdentifier(handler)) != nil {
            total.subtract(1, ordering: .relaxed)
        }
    }

    /// Call it on the loop.
    func drain(on loop: any EventLoop) {
        let handlers = handlers(of: loop)
        handlers.isDraining = true
        for handler in Array(handlers.all.values) { handler.drain() }
    }

    /// Call it on the loop.
    func closeAll(on loop: any EventLoop) {
        for handler in Array(handlers(of: loop).all.values) { handler.cutOff() }
    }
}
