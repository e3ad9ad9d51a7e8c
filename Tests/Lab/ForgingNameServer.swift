// Somebody between a resolver and its name server, over UDP: passes questions and answers on, and forges those that a test names.

import DNS
import Foundation
import NIOCore
import NIOPosix
import Synchronization
import TLS

/// What becomes of the answer to one question.
public enum DNSForgery: Sendable {
    /// It never comes.
    case dropped
    /// It comes after so long.
    case delayed(TimeAmount)
    /// A response code and nothing else (RFC 1035 §4.1.1): 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    case code(UInt8)
    /// These data of the type that was asked for, not signed; none: the name is there and the type is not.
    case unsigned([[UInt8]])
    /// The true one, with its signatures altered.
    case badlySigned
}

/// A name server that lies.
public final class ForgingNameServer: Sendable {
    fileprivate struct Asked {
        let resolver: SocketAddress
        let id: [UInt8]
        let forgery: DNSForgery?
    }

    /// Where it listens, on 127.0.0.1, UDP only.
    public let port: UInt16
    private let shared: Shared
    private let channels: [any Channel]

    /// Starts one that passes everything on to a port of 127.0.0.1.
    public static func start(to truth: UInt16) async throws -> ForgingNameServer {
        let shared = Shared()
        let bootstrap = DatagramBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        let upstream = try await bootstrap.channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(Answers(shared))
            }
        }.bind(host: "127.0.0.1", port: 0).get()
        let target = try SocketAddress(ipAddress: "127.0.0.1", port: Int(truth))
        let front = try await bootstrap.channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(Questions(shared, upstream, target))
            }
        }.bind(host: "127.0.0.1", port: 0).get()
        shared.front.withLock { $0 = front }
        return ForgingNameServer(
            UInt16(front.localAddress?.port ?? 0), shared, [front, upstream])
    }

    private init(_ port: UInt16, _ shared: Shared, _ channels: [any Channel]) {
        (self.port, self.shared, self.channels) = (port, shared, channels)
    }

    /// Forges the answer to a question from now on, such as `mx.good.test` and `TLSA`'s number.
    public func forge(_ name: String, _ type: DNSRecordType, _ forgery: DNSForgery) {
        shared.forgeries.withLock { $0["\(name.lowercased()) \(type.rawValue)"] = forgery }
    }

    /// How often forged questions were asked, by `name type-number`.
    public var asked: [String: Int] { shared.asked.withLock { $0 } }

    /// Stops.
    public func stop() async { for channel in channels { try? await channel.close() } }

    final class Shared: Sendable {
        let forgeries = Mutex<[String: DNSForgery]>([:])
        let asked = Mutex<[String: Int]>([:])
        let front = Mutex<(any Channel)?>(nil)
        private let underWay = Mutex<(next: UInt16, questions: [UInt16: Asked])>((0, [:]))

        /// Keeps a question; returns the id under which its answer will come.
        fileprivate func keep(_ question: Asked) -> UInt16 {
            underWay.withLock {
                $0.next &+= 1
                $0.questions[$0.next] = question
                return $0.next
            }
        }
        fileprivate func take(_ id: UInt16) -> Asked? {
            underWay.withLock { $0.questions.removeValue(forKey: id) }
        }

        func answer(_ bytes: [UInt8], to resolver: SocketAddress, after delay: TimeAmount = .zero) {
            guard let front = front.withLock({ $0 }) else { return }
            let envelope = AddressedEnvelope(remoteAddress: resolver, data: ByteBuffer(bytes: bytes))
            front.eventLoop.scheduleTask(in: delay) { front.writeAndFlush(envelope, promise: nil) }
        }
    }

    final class Questions: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let shared: Shared
        private let upstream: any Channel
        private let target: SocketAddress

        init(_ shared: Shared, _ upstream: any Channel, _ target: SocketAddress) {
            (self.shared, self.upstream, self.target) = (shared, upstream, target)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let envelope = unwrapInboundIn(data)
            var bytes = Array(envelope.data.readableBytesView)
            guard bytes.count > 12, let (name, end) = labels(bytes, at: 12), end + 4 <= bytes.count else {
                return
            }
            let question = "\(name.lowercased()) \(UInt16(bytes[end]) << 8 | UInt16(bytes[end + 1]))"
            let forgery = shared.forgeries.withLock { $0[question] }
            if forgery != nil { shared.asked.withLock { $0[question, default: 0] += 1 } }
            switch forgery {
            case .dropped: return
            case .code(let code): return reply(bytes, end + 4, code: code, [], envelope.remoteAddress)
            case .unsigned(let data): return reply(bytes, end + 4, code: 0, data, envelope.remoteAddress)
            case .delayed, .badlySigned, nil: break
            }
            let id = shared.keep(
                Asked(resolver: envelope.remoteAddress, id: Array(bytes[..<2]), forgery: forgery))
            bytes.replaceSubrange(..<2, with: [UInt8(id >> 8), UInt8(id & 0xff)])
            upstream.writeAndFlush(
                AddressedEnvelope(remoteAddress: target, data: ByteBuffer(bytes: bytes)), promise: nil)
        }

        private func reply(
            _ question: [UInt8], _ end: Int, code: UInt8, _ data: [[UInt8]], _ resolver: SocketAddress
        ) {
            var message = Array(question[..<2]) + [0x85, 0x80 | code, 0, 1, 0, UInt8(data.count), 0, 0, 0, 0]
            message += question[12..<end]
            for octets in data {
                message += [0xc0, 0x0c] + question[(end - 4)..<end] + [0, 0, 1, 44]
                message += [UInt8(octets.count >> 8), UInt8(octets.count & 0xff)] + octets
            }
            shared.answer(message, to: resolver)
        }
    }

    final class Answers: ChannelInboundHandler {
        typealias InboundIn = AddressedEnvelope<ByteBuffer>
        private let shared: Shared

        init(_ shared: Shared) { self.shared = shared }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = Array(unwrapInboundIn(data).data.readableBytesView)
            guard bytes.count > 12, let asked = shared.take(UInt16(bytes[0]) << 8 | UInt16(bytes[1])) else {
                return
            }
            bytes.replaceSubrange(..<2, with: asked.id)
            var delay = TimeAmount.zero
            switch asked.forgery {
            case .delayed(let time): delay = time
            case .badlySigned: alterSignatures(&bytes)
            default: break
            }
            shared.answer(bytes, to: asked.resolver, after: delay)
        }

        /// Turns the last octet of each RRSIG (type 46) of the answer around.
        private func alterSignatures(_ bytes: inout [UInt8]) {
            guard var position = labels(bytes, at: 12)?.end else { return }
            position += 4
            for _ in 0..<(Int(bytes[6]) << 8 | Int(bytes[7])) {
                guard let (_, end) = labels(bytes, at: position), end + 10 <= bytes.count else { return }
                position = end + 10 + (Int(bytes[end + 8]) << 8 | Int(bytes[end + 9]))
                guard position <= bytes.count else { return }
                if bytes[end] == 0, bytes[end + 1] == 46 { bytes[position - 1] ^= 0xff }
            }
        }
    }
}

@available(*, unavailable)
extension ForgingNameServer.Questions: Sendable {}
@available(*, unavailable)
extension ForgingNameServer.Answers: Sendable {}

extension DNSForgery {
    /// An MX record's data (RFC 1035 §3.3.9), preference 10.
    public static func mx(_ host: String) -> [UInt8] { [0, 10] + wire(host) }
    /// An A record's data.
    public static func a(_ address: String) -> [UInt8] { IPAddress(address)?.octets ?? [] }
    /// A TXT record's data, of one string.
    public static func txt(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }
    /// A CNAME record's data.
    public static func cname(_ name: String) -> [UInt8] { wire(name) }
    /// A TLSA record's data (RFC 6698 §2.1).
    public static func tlsa(_ record: TLSARecord) -> [UInt8] {
        [record.usage, record.selector, record.matchingType] + record.data
    }

    private static func wire(_ name: String) -> [UInt8] {
        name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } + [0]
    }
}

/// The name at a place in a message, and where it ends there; a pointer's labels are left out.
private func labels(_ bytes: [UInt8], at start: Int) -> (name: String, end: Int)? {
    var position = start
    var name: [String] = []
    while position < bytes.count {
        let length = Int(bytes[position])
        if length == 0 { return (name.joined(separator: "."), position + 1) }
        if length >= 0xc0 { return (name.joined(separator: "."), position + 2) }
        guard position + 1 + length <= bytes.count else { return nil }
        name.append(String(decoding: bytes[(position + 1)..<(position + 1 + length)], as: UTF8.self))
        position += 1 + length
    }
    return nil
}
