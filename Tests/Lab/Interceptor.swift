// Somebody in the middle, between a client and its mail host: passes on what both say, forges at one step what a test tells it to,
// and keeps every octet that the client said, so that a test can look for what must not have left.

import NIOCore
import NIOPosix
import Synchronization

/// What somebody in the middle does.
public enum Interception: Sendable {
    /// Where octets in clear are put around the host's 220 to STARTTLS.
    public enum Place: Sendable {
        /// In the same segment, behind it.
        case sameSegment
        /// In a segment of their own, right behind it.
        case nextSegment
        /// In front of the host's first flight of TLS, once the client has said its hello.
        case beforeServerHello
    }

    /// Passes everything on.
    case none
    /// Takes STARTTLS out of the answers to EHLO.
    case stripsSTARTTLS
    /// Puts these octets behind the greeting, as an answer to what was not asked yet.
    case answersAhead(String)
    /// Answers STARTTLS by itself, and the host never hears of it.
    case answersSTARTTLS(String)
    /// Puts octets in clear around the 220 to STARTTLS.
    case injects(String, Place)
    /// Passes an altered ClientHello on, of the same length.
    case altersClientHello(@Sendable ([UInt8]) -> [UInt8])
    /// Answers the ClientHello by itself; with nothing: by closing.
    case answersClientHello([UInt8])
    /// Puts octets behind the host's first record of TLS.
    case injectsBehindServerHello([UInt8])
    /// Leads to another host.
    case redirects(SocketAddress)
}

/// A listener in front of a mail host.
public final class Interceptor: Sendable {
    /// What clients said, over all connections.
    public struct Transcript: Sendable {
        /// Connections made.
        public var connections = 0
        /// Every octet that came from a client, of TLS records too.
        public var octets: [UInt8] = []
        /// The lines that came before TLS.
        public var inClear: [String] = []
        /// The records of the ClientHellos.
        public var hellos: [[UInt8]] = []

        /// Whether a text was among the octets, which it is only in clear.
        public func saw(_ text: String) -> Bool { octets.firstRange(of: Array(text.utf8)) != nil }
    }

    private let shared: Shared
    private let listener: any Channel

    /// Starts a listener that passes everything on.
    ///
    /// - host: where the honest host is.
    /// - address, port: where clients find it.
    public static func start(
        to host: SocketAddress, on address: String = "127.0.0.1", port: Int = 0
    ) async throws -> Interceptor {
        let shared = Shared(host)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(ClientSide(shared))
                }
            }
            .bind(host: address, port: port).get()
        return Interceptor(shared, listener)
    }

    private init(_ shared: Shared, _ listener: any Channel) {
        (self.shared, self.listener) = (shared, listener)
    }

    /// What clients said so far.
    public var transcript: Transcript { shared.state.withLock { $0.transcript } }
    /// What it does with connections from now on.
    public func change(_ interception: Interception) { shared.state.withLock { $0.does = interception } }
    /// Forgets what was said so far.
    public func forget() { shared.state.withLock { $0.transcript = Transcript() } }
    /// Stops listening.
    public func stop() async throws { try await listener.close() }

    final class Shared: Sendable {
        let host: SocketAddress
        let state = Mutex((transcript: Transcript(), does: Interception.none))
        init(_ host: SocketAddress) { self.host = host }
        func note(_ change: (inout Transcript) -> Void) { state.withLock { change(&$0.transcript) } }
    }

    /// What both sides of one connection know.
    private enum Phase {
        case clear
        /// The client asked for TLS.
        case asked
        /// Up to the end of the ClientHello.
        case hello
        case tls
    }

    /// The side towards the client.
    final class ClientSide: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let shared: Shared
        private let does: Interception
        private var phase = Phase.clear
        private var context: ChannelHandlerContext?
        private var host: (any Channel)?
        private var fromClient: [UInt8] = []
        private var fromHost: [UInt8] = []
        private var hasGreeted = false
        private var hasInjected = false

        init(_ shared: Shared) {
            self.shared = shared
            does = shared.state.withLock { $0.does }
        }

        func channelActive(context: ChannelHandlerContext) {
            self.context = context
            shared.note { $0.connections += 1 }
            let target = if case .redirects(let other) = does { other } else { shared.host }
            let bound = NIOLoopBound(self, eventLoop: context.eventLoop)
            ClientBootstrap(group: context.eventLoop)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(HostSide(bound.value))
                    }
                }
                .connect(to: target)
                .whenComplete { result in
                    switch result {
                    case .success(let channel): bound.value.host = channel
                    case .failure: bound.value.context?.close(promise: nil)
                    }
                }
        }

        func channelInactive(context: ChannelHandlerContext) {
            self.context = nil
            host?.close(promise: nil)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        // MARK: From the client

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = Array(unwrapInboundIn(data).readableBytesView)
            shared.note { $0.octets += bytes }
            fromClient += bytes
            while phase == .clear, let end = fromClient.firstIndex(of: 0x0A) {
                let line = Array(fromClient[...end])
                fromClient.removeFirst(end + 1)
                take(String(decoding: line, as: UTF8.self).filter { $0 != "\r\n" }, line)
            }
            if phase == .hello { takeHello() }
            if phase == .tls { pass(&fromClient) }
        }

        private func take(_ text: String, _ line: [UInt8]) {
            shared.note { $0.inClear.append(text) }
            guard text.uppercased() == "STARTTLS" else { return toHost(line) }
            if case .answersSTARTTLS(let answer) = does { return toClient(Array(answer.utf8)) }
            phase = .asked
            toHost(line)
        }

        private func takeHello() {
            guard fromClient.count >= 5 else { return }
            let length = 5 + Int(fromClient[3]) << 8 + Int(fromClient[4])
            guard fromClient.count >= length else { return }
            let hello = Array(fromClient[..<length])
            fromClient.removeFirst(length)
            shared.note { $0.hellos.append(hello) }
            phase = .tls
            switch does {
            case .altersClientHello(let alter): toHost(alter(hello))
            case .answersClientHello(let answer):
                toClient(answer)
                if answer.isEmpty { context?.close(promise: nil) }
            case .injects(let text, .beforeServerHello):
                toClient(Array(text.utf8))
                toHost(hello)
            default: toHost(hello)
            }
        }

        private func pass(_ bytes: inout [UInt8]) {
            if case .answersClientHello = does { return bytes.removeAll() }
            toHost(bytes)
            bytes.removeAll()
        }

        // MARK: From the host

        func hear(_ bytes: [UInt8]) {
            guard phase == .clear || phase == .asked else { return hearTLS(bytes) }
            fromHost += bytes
            while let end = endOfReply() {
                let reply = Array(fromHost[..<end])
                fromHost.removeFirst(end)
                hearReply(String(decoding: reply, as: UTF8.self))
            }
        }

        private func hearReply(_ reply: String) {
            switch does {
            case .stripsSTARTTLS where reply.contains("STARTTLS"):
                var lines = reply.split(separator: "\r\n").filter { !$0.hasSuffix("STARTTLS") }.map(
                    String.init)
                if let last = lines.popLast() { lines.append(last.prefix(3) + " " + last.dropFirst(4)) }
                return toClient(Array((lines.joined(separator: "\r\n") + "\r\n").utf8))
            case .answersAhead(let more) where !hasGreeted:
                hasGreeted = true
                return toClient(Array((reply + more).utf8))
            default: break
            }
            guard phase == .asked, reply.hasPrefix("220") else { return toClient(Array(reply.utf8)) }
            phase = .hello
            switch does {
            case .injects(let text, .sameSegment): toClient(Array((reply + text).utf8))
            case .injects(let text, .nextSegment):
                toClient(Array(reply.utf8))
                toClient(Array(text.utf8))
            default: toClient(Array(reply.utf8))
            }
        }

        private func hearTLS(_ bytes: [UInt8]) {
            guard case .injectsBehindServerHello(let octets) = does, !hasInjected, bytes.count >= 5 else {
                return toClient(bytes)
            }
            hasInjected = true
            let hello = bytes.prefix(5 + Int(bytes[3]) << 8 + Int(bytes[4]))
            toClient(hello + octets + bytes.dropFirst(hello.count))
        }

        /// Behind the last line of the first reply, if it is there.
        private func endOfReply() -> Int? {
            var start = 0
            while let end = fromHost[start...].firstIndex(of: 0x0A) {
                if end - start < 4 || fromHost[start + 3] != 0x2D { return end + 1 }
                start = end + 1
            }
            return nil
        }

        func hostClosed() { context?.close(promise: nil) }

        private func toHost(_ bytes: [UInt8]) { host?.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }
        private func toClient(_ bytes: some Collection<UInt8>) {
            guard let context, !bytes.isEmpty else { return }
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
        }
    }

    /// The side towards the host, on the same event loop.
    final class HostSide: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let client: ClientSide
        init(_ client: ClientSide) { self.client = client }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            client.hear(Array(unwrapInboundIn(data).readableBytesView))
        }
        func channelInactive(context: ChannelHandlerContext) { client.hostClosed() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

@available(*, unavailable)
extension Interceptor.ClientSide: Sendable {}
@available(*, unavailable)
extension Interceptor.HostSide: Sendable {}
