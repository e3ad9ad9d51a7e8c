// A mail host that does what no honest one does, in clear or within TLS: octets without end, octets one by one, silence.

import NIOCore
import NIOPosix
import Synchronization
import TLS

/// One step of a hostile host, on every connection.
public enum HostileStep: Sendable {
    /// Sends text.
    case say(String)
    /// Waits for a line of the client's.
    case hear
    /// Starts TLS, and goes on when the handshake is complete.
    case startTLS(TLSContext)
    /// Sends octets again and again, as fast as they are taken, until the connection ends.
    case flood(String)
    /// Sends octets one by one, this often, over and over.
    case drip(String, every: TimeAmount)

    /// Up to STARTTLS in clear, and a first EHLO within TLS.
    public static func secured(_ tls: TLSContext) -> [HostileStep] {
        [
            .say("220 hostile.test ESMTP\r\n"), .hear, .say("250-hostile.test\r\n250 STARTTLS\r\n"), .hear,
            .say("220 go\r\n"), .startTLS(tls), .hear,
        ]
    }
}

/// A hostile host on loopback. After its last step it says nothing and waits.
public final class HostileMailHost: Sendable {
    /// What it has seen, over all connections.
    public struct Transcript: Sendable {
        /// Connections made.
        public var connections = 0
        /// Connections open now.
        public var open = 0
        /// Octets of floods and drips that the system took from it.
        public var sent = 0
        /// Lines of clients.
        public var lines: [String] = []
    }

    private let shared: Shared
    private let listener: any Channel

    /// Starts a host.
    public static func start(_ script: [HostileStep], on address: String, port: Int) async throws
        -> HostileMailHost
    {
        let shared = Shared(script)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            // What the kernel holds for a client that has stopped reading would else be counted in megabytes.
            .childChannelOption(.socketOption(.so_sndbuf), value: 64 << 10)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Connection(shared))
                }
            }
            .bind(host: address, port: port).get()
        return HostileMailHost(shared, listener)
    }

    private init(_ shared: Shared, _ listener: any Channel) {
        (self.shared, self.listener) = (shared, listener)
    }

    /// What it has seen so far.
    public var transcript: Transcript { shared.transcript.withLock { $0 } }
    /// Stops listening.
    public func stop() async throws { try await listener.close() }

    final class Shared: Sendable {
        let script: [HostileStep]
        let transcript = Mutex(Transcript())
        init(_ script: [HostileStep]) { self.script = script }
        func note(_ change: (inout Transcript) -> Void) { transcript.withLock { change(&$0) } }
    }

    final class Connection: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let shared: Shared
        private var steps: ArraySlice<HostileStep>
        private var line: [UInt8] = []
        private var heard = 0
        private var isShaking = false
        private var isScheduled = false

        init(_ shared: Shared) {
            self.shared = shared
            steps = shared.script[...]
        }

        func channelActive(context: ChannelHandlerContext) {
            shared.note {
                $0.connections += 1
                $0.open += 1
            }
            advance(context)
        }

        func channelInactive(context: ChannelHandlerContext) {
            steps = []
            shared.note { $0.open -= 1 }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard event is TLSHandshakeCompleted else { return }
            isShaking = false
            advance(context)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            for octet in unwrapInboundIn(data).readableBytesView {
                line.append(octet)
                guard octet == 0x0A else { continue }
                let text = String(decoding: line.dropLast(2), as: UTF8.self)
                shared.note { if $0.lines.count < 1_000 { $0.lines.append(text) } }
                line = []
                heard += 1
            }
            advance(context)
        }

        func channelWritabilityChanged(context: ChannelHandlerContext) { advance(context) }

        private func advance(_ context: ChannelHandlerContext) {
            while !isShaking, !isScheduled, context.channel.isActive, let step = steps.first {
                switch step {
                case .say(let text): send(context, Array(text.utf8), counts: false)
                case .hear:
                    guard heard > 0 else { return }
                    heard -= 1
                case .startTLS(let tls):
                    isShaking = true
                    let handler = TLSHandler(server: tls, closeTimeout: .seconds(1))
                    try? context.pipeline.syncOperations.addHandler(handler, position: .first)
                case .flood(let text):
                    guard context.channel.isWritable else { return }
                    // No faster than this, so that tests beside it have their share.
                    later(context, .milliseconds(1))
                    let times = max(1, (16 << 10) / max(1, text.utf8.count))
                    return send(context, Array(String(repeating: text, count: times).utf8), counts: true)
                case .drip(let text, let every):
                    steps[steps.startIndex] = .drip(String(text.dropFirst()) + text.prefix(1), every: every)
                    later(context, every)
                    return send(context, Array(text.prefix(1).utf8), counts: true)
                }
                steps = steps.dropFirst()
            }
        }

        private func later(_ context: ChannelHandlerContext, _ delay: TimeAmount) {
            isScheduled = true
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: delay) {
                let (connection, context) = bound.value
                connection.isScheduled = false
                connection.advance(context)
            }
        }

        private func send(_ context: ChannelHandlerContext, _ bytes: [UInt8], counts: Bool) {
            let written = context.eventLoop.makePromise(of: Void.self)
            if counts {
                written.futureResult.whenSuccess { [shared] in shared.note { $0.sent += bytes.count } }
            }
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: written)
        }
    }
}

@available(*, unavailable)
extension HostileMailHost.Connection: Sendable {}
