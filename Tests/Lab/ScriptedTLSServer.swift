// A TLS server that does what no honest one does, octet by octet: whatever stands in its script, on every connection.

import NIOCore
import NIOPosix
import Synchronization
import TLS

/// One step of a scripted TLS server.
public enum TLSScriptStep: Sendable {
    /// Waits until this many requests have come in whole, HTTP/1.1 or HTTP/2.
    case awaitRequest(Int)
    /// Sends octets.
    case send([UInt8])
    /// Sends octets again and again, as fast as they are taken, until the connection ends.
    case flood([UInt8])
    /// Sends octets one by one, this often, for ever.
    case drip([UInt8], every: TimeAmount)
    /// Ends the connection in order.
    case close
    /// Ends the connection without a word, as a machine that loses power.
    case cut
}

/// A scripted TLS server on a loopback port. After its last step it says nothing and waits.
public final class ScriptedTLSServer: Sendable {
    /// What the server has seen, over all connections.
    public struct Transcript: Sendable {
        /// Connections made.
        public var connections = 0
        /// Connections open now.
        public var open = 0
        /// Handshakes completed.
        public var handshakes = 0
        /// Decrypted octets received.
        public var received: [UInt8] = []
    }

    private let shared: Shared
    private let listener: any Channel

    /// Starts a server.
    /// - tls: its certificate and ALPN.
    /// - script: what it does on every connection.
    /// - address: of loopback.
    /// - port: 0: any that is free.
    public static func start(
        _ tls: TLSContext, _ script: [TLSScriptStep], on address: String = "127.0.0.1", port: Int = 0
    ) async throws -> ScriptedTLSServer {
        let shared = Shared(script)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandlers([
                        TLSHandler(server: tls, closeTimeout: .seconds(1)), Connection(shared),
                    ])
                }
            }
            .bind(host: address, port: port).get()
        return ScriptedTLSServer(shared, listener)
    }

    private init(_ shared: Shared, _ listener: any Channel) {
        self.shared = shared
        self.listener = listener
    }

    /// Where it listens.
    public var port: Int { listener.localAddress?.port ?? 0 }
    /// What it has seen so far.
    public var transcript: Transcript { shared.transcript.withLock { $0 } }
    /// Stops listening; open connections live on.
    public func stop() async throws { try await listener.close() }

    final class Shared: Sendable {
        let script: [TLSScriptStep]
        let transcript = Mutex(Transcript())

        init(_ script: [TLSScriptStep]) { self.script = script }
    }

    final class Connection: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let shared: Shared
        private var steps: ArraySlice<TLSScriptStep>
        private var received: [UInt8] = []
        private var isSecure = false
        /// Its next turn is on its way: there is never more than one.
        private var isScheduled = false

        init(_ shared: Shared) {
            self.shared = shared
            steps = shared.script[...]
        }

        func channelActive(context: ChannelHandlerContext) {
            shared.transcript.withLock {
                $0.connections += 1
                $0.open += 1
            }
            context.fireChannelActive()
        }

        func channelInactive(context: ChannelHandlerContext) {
            steps = []
            shared.transcript.withLock { $0.open -= 1 }
            context.fireChannelInactive()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard event is TLSHandshakeCompleted else { return }
            shared.transcript.withLock { $0.handshakes += 1 }
            isSecure = true
            advance(context)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = Array(unwrapInboundIn(data).readableBytesView)
            received += bytes
            shared.transcript.withLock { $0.received += bytes }
            advance(context)
        }

        func channelWritabilityChanged(context: ChannelHandlerContext) { advance(context) }

        private func advance(_ context: ChannelHandlerContext) {
            while isSecure, !isScheduled, context.channel.isActive, let step = steps.first {
                switch step {
                case .awaitRequest(let number):
                    guard requests(in: received) >= number else { return }
                case .send(let bytes): send(context, bytes)
                case .flood(let bytes):
                    // One piece a turn, so that the loop serves others too.
                    guard context.channel.isWritable else { return }
                    later(context, .nanoseconds(0))
                    // In full records: the flood is to tax its receiver, not this server.
                    let times = max(1, (16 << 10) / max(1, bytes.count))
                    return send(context, Array(repeatElement(bytes, count: times).joined()))
                case .drip(let bytes, let every):
                    steps[steps.startIndex] = .drip(
                        Array(bytes.dropFirst()) + bytes.prefix(1), every: every)
                    later(context, every)
                    return send(context, Array(bytes.prefix(1)))
                case .close: context.close(promise: nil)
                case .cut:
                    let tls = try? context.pipeline.syncOperations.context(handlerType: TLSHandler.self)
                    tls?.close(mode: .all, promise: nil)
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

        private func send(_ context: ChannelHandlerContext, _ bytes: [UInt8]) {
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
        }
    }
}

@available(*, unavailable)
extension ScriptedTLSServer.Connection: Sendable {}

/// How many requests (without bodies) have come in whole: HEADERS frames behind HTTP/2's preface, or empty lines.
private func requests(in bytes: [UInt8]) -> Int {
    let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    guard bytes.starts(with: preface) else {
        return String(decoding: bytes, as: UTF8.self).components(of: "\r\n\r\n")
    }
    var position = preface.count
    var found = 0
    while position + 9 <= bytes.count {
        let length = bytes[position..<position + 3].reduce(0) { $0 << 8 | Int($1) }
        guard position + 9 + length <= bytes.count else { break }
        if bytes[position + 3] == 1 { found += 1 }
        position += 9 + length
    }
    return found
}

extension String {
    /// How often `text` stands in this one.
    fileprivate func components(of text: String) -> Int {
        var found = 0
        var rest = self[...]
        while let range = rest.firstRange(of: text) {
            found += 1
            rest = rest[range.upperBound...]
        }
        return found
    }
}
