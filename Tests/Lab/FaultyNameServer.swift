// A DNS server before another one: it passes questions on, over UDP and TCP, and does what no honest server does with those that
// a test names. So one lookup of a recipient can fail while all others are answered.

import NIOCore
import NIOPosix
import Synchronization

/// A name server with faults on order.
public final class FaultyNameServer: Sendable {
    /// What becomes of a question.
    public enum Fault: String, Sendable, CaseIterable {
        /// RCODE 2.
        case servfail
        /// RCODE 5.
        case refused
        /// No answer, ever.
        case silence
        /// TC over UDP, and over TCP the connection ends.
        case truncated
        /// "There is no such record", without any proof.
        case denied
    }

    /// A question that has a fault.
    public struct Question: Sendable, Hashable {
        let name: String
        let type: UInt16
        /// - name: without the last dot.
        /// - type: its number.
        public init(_ name: String, _ type: UInt16) { (self.name, self.type) = (name.lowercased(), type) }
    }

    /// Where it listens, on 127.0.0.1, UDP and TCP.
    public let port: UInt16
    private let channels: [any Channel]

    /// Starts a server.
    /// - original: the port of 127.0.0.1 where questions are answered.
    public static func start(
        before original: UInt16, _ faults: [Question: Fault]
    ) async throws -> FaultyNameServer {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let server = try SocketAddress(ipAddress: "127.0.0.1", port: Int(original))
        for _ in 0..<8 {
            let port = try freePort()
            let pending = Pending()
            let behind = try await DatagramBootstrap(group: loop)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(Behind(pending))
                    }
                }
                .bind(host: "127.0.0.1", port: 0).get()
            let front = try? await DatagramBootstrap(group: loop)
                .channelInitializer { channel in
                    pending.front.withLock { $0 = channel }
                    return channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            Front(faults, pending, behind, server))
                    }
                }
                .bind(host: "127.0.0.1", port: Int(port)).get()
            let stream = try? await ServerBootstrap(group: loop)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    ClientBootstrap(group: channel.eventLoop)
                        .channelInitializer { further in
                            further.eventLoop.makeCompletedFuture {
                                try further.pipeline.syncOperations.addHandler(StartTLSFront.Pipe(channel))
                            }
                        }
                        .connect(to: server)
                        .flatMapThrowing { further in
                            try channel.pipeline.syncOperations.addHandler(Stream(faults, further))
                        }
                }
                .bind(host: "127.0.0.1", port: Int(port)).get()
            if let front, let stream {
                return FaultyNameServer(port: port, channels: [behind, front, stream])
            }
            for channel in [behind, front, stream].compactMap({ $0 }) { try? await channel.close() }
        }
        throw LabError("no port for a name server")
    }

    private init(port: UInt16, channels: [any Channel]) {
        (self.port, self.channels) = (port, channels)
    }

    /// Stops answering.
    public func stop() async {
        for channel in channels { try? await channel.close() }
    }

    /// Whom answers of the server behind go to.
    final class Pending: Sendable {
        let front = Mutex<(any Channel)?>(nil)
        private let state = Mutex((next: UInt16(0), clients: [UInt16: (SocketAddress, UInt16)]()))

        func note(_ client: SocketAddress, _ identifier: UInt16) -> UInt16 {
            state.withLock {
                $0.next &+= 1
                $0.clients[$0.next] = (client, identifier)
                return $0.next
            }
        }
        func take(_ identifier: UInt16) -> (client: SocketAddress, identifier: UInt16)? {
            state.withLock { $0.clients.removeValue(forKey: identifier) }
        }
    }

    final class Front: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        typealias OutboundOut = AddressedEnvelope<ByteBuffer>
        private let faults: [Question: Fault]
        private let pending: Pending
        private let behind: any Channel
        private let server: SocketAddress

        init(
            _ faults: [Question: Fault], _ pending: Pending, _ behind: any Channel, _ server: SocketAddress
        ) {
            (self.faults, self.pending, self.behind, self.server) = (faults, pending, behind, server)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let envelope = unwrapInboundIn(data)
            guard let message = DNSQuestionMessage(Array(envelope.data.readableBytesView)) else { return }
            if let fault = faults[message.question] {
                guard let answer = message.answer(fault) else { return }
                context.writeAndFlush(
                    wrapOutboundOut(
                        AddressedEnvelope(
                            remoteAddress: envelope.remoteAddress, data: ByteBuffer(bytes: answer))),
                    promise: nil)
                return
            }
            let passed = message.with(pending.note(envelope.remoteAddress, message.identifier))
            behind.writeAndFlush(
                AddressedEnvelope(remoteAddress: server, data: ByteBuffer(bytes: passed)), promise: nil)
        }
    }

    final class Behind: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let pending: Pending
        init(_ pending: Pending) { self.pending = pending }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var answer = unwrapInboundIn(data).data
            guard let number = answer.getInteger(at: answer.readerIndex, as: UInt16.self),
                let (client, identifier) = pending.take(number)
            else { return }
            answer.setInteger(identifier, at: answer.readerIndex)
            pending.front.withLock { $0 }?
                .writeAndFlush(AddressedEnvelope(remoteAddress: client, data: answer), promise: nil)
        }
    }

    final class Stream: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        private let faults: [Question: Fault]
        private let further: any Channel
        private var input = ByteBuffer()

        init(_ faults: [Question: Fault], _ further: any Channel) {
            (self.faults, self.further) = (faults, further)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            input.writeBuffer(&bytes)
            while let length = input.getInteger(at: input.readerIndex, as: UInt16.self),
                let octets = input.getBytes(at: input.readerIndex + 2, length: Int(length)),
                let whole = input.readSlice(length: Int(length) + 2)
            {
                guard let message = DNSQuestionMessage(octets), let fault = faults[message.question] else {
                    further.writeAndFlush(whole, promise: nil)
                    continue
                }
                if fault == .truncated { return context.close(promise: nil) }
                guard let answer = message.answer(fault) else { continue }
                var framed = ByteBuffer(integer: UInt16(answer.count))
                framed.writeBytes(answer)
                context.writeAndFlush(wrapOutboundOut(framed), promise: nil)
            }
        }

        func channelInactive(context: ChannelHandlerContext) { further.close(promise: nil) }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }
}

@available(*, unavailable)
extension FaultyNameServer.Front: Sendable {}
@available(*, unavailable)
extension FaultyNameServer.Behind: Sendable {}
@available(*, unavailable)
extension FaultyNameServer.Stream: Sendable {}

/// A message with one question (RFC 1035 §4.1).
private struct DNSQuestionMessage {
    let question: FaultyNameServer.Question
    let identifier: UInt16
    private let octets: [UInt8]
    /// Behind the question.
    private let end: Int

    init?(_ octets: [UInt8]) {
        guard octets.count > 12 else { return nil }
        var position = 12
        var labels: [String] = []
        while position < octets.count, octets[position] != 0 {
            let length = Int(octets[position])
            guard length < 64, position + 1 + length < octets.count else { return nil }
            labels.append(String(decoding: octets[position + 1..<position + 1 + length], as: UTF8.self))
            position += 1 + length
        }
        guard position + 5 <= octets.count else { return nil }
        let type = UInt16(octets[position + 1]) << 8 | UInt16(octets[position + 2])
        question = FaultyNameServer.Question(labels.joined(separator: "."), type)
        identifier = UInt16(octets[0]) << 8 | UInt16(octets[1])
        end = position + 5
        self.octets = octets
    }

    /// The message under another number.
    func with(_ identifier: UInt16) -> [UInt8] {
        [UInt8(identifier >> 8), UInt8(truncatingIfNeeded: identifier)] + octets.dropFirst(2)
    }

    /// What a fault makes of it; nil: nothing.
    func answer(_ fault: FaultyNameServer.Fault) -> [UInt8]? {
        let code: UInt8
        switch fault {
        case .silence: return nil
        case .servfail: code = 2
        case .refused: code = 5
        case .truncated, .denied: code = 0
        }
        var answer = Array(octets[..<end])
        // QR and AA, with RD as it was asked.
        answer[2] = 0x84 | (octets[2] & 0x01) | (fault == .truncated ? 0x02 : 0)
        answer[3] = code
        answer.replaceSubrange(4..<12, with: [0, 1, 0, 0, 0, 0, 0, 1])
        // OPT with DO, so that nobody takes the server for one without EDNS (RFC 6891 §7).
        return answer + [0, 0, 41, 0x04, 0xD0, 0, 0, 0x80, 0, 0, 0]
    }
}
