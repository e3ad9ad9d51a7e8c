// Asks a node of this machine whether it is ready: one plain HTTP request on its metrics listener.

import Foundation
import NIOCore
import NIOPosix

/// What a node says of itself on `/readyz`.
public struct ReadinessAnswer: Sendable, Equatable {
    /// Whether it does its work.
    public var isReady: Bool
    /// What it says, or why it says nothing.
    public var reason: String
}

/// A probe of `/readyz`.
public struct ReadinessProbe: Sendable {
    private let group: any EventLoopGroup

    /// A probe that runs on `group`.
    public init(group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton) { self.group = group }

    /// Asks the node whose metrics listen on that port; never longer than `limit`.
    public func ask(address: String, port: Int, limit: Duration = .seconds(2)) async -> ReadinessAnswer {
        let eventLoop = group.next()
        let answer = eventLoop.makePromise(of: [UInt8].self)
        let deadline = eventLoop.scheduleTask(in: TimeAmount(limit)) {
            answer.fail(ClusterError(.timeout, "no answer within \(limit)"))
        }
        do {
            let channel = try await ClientBootstrap(group: eventLoop).connectTimeout(TimeAmount(limit))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(CollectingHandler(answer: answer))
                    }
                }.connect(host: address, port: port).get()
            let request = "GET /readyz HTTP/1.1\r\nHost: \(address)\r\nConnection: close\r\n\r\n"
            channel.writeAndFlush(ByteBuffer(string: request), promise: nil)
            let bytes = try await answer.futureResult.get()
            deadline.cancel()
            channel.close(promise: nil)
            return Self.parse(String(decoding: bytes, as: UTF8.self))
        } catch {
            deadline.cancel()
            answer.fail(error)
            return ReadinessAnswer(isReady: false, reason: "does not answer on \(address):\(port)")
        }
    }

    static func parse(_ text: String) -> ReadinessAnswer {
        let status = text.prefix { $0 != "\r\n" && $0 != "\n" }.split(separator: " ")
        let isReady = status.count > 1 && status[1] == "200"
        let body = text.range(of: "\r\n\r\n").map { text[$0.upperBound...] } ?? ""
        let reason = body.trimmingCharacters(in: .whitespacesAndNewlines)
        return ReadinessAnswer(
            isReady: isReady, reason: reason.isEmpty ? status.dropFirst().joined(separator: " ") : reason)
    }
}

/// Gathers what comes until the peer closes, at most 64 KiB.
private final class CollectingHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private let answer: EventLoopPromise<[UInt8]>
    private var bytes: [UInt8] = []

    init(answer: EventLoopPromise<[UInt8]>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        bytes += unwrapInboundIn(data).readableBytesView
        if bytes.count > 65_536 { context.close(promise: nil) }
    }

    func channelInactive(context: ChannelHandlerContext) { answer.succeed(bytes) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        answer.fail(error)
        context.close(promise: nil)
    }
}
