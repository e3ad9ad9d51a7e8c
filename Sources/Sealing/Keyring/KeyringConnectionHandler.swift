// One connection to the keyring, on its event loop: asks the kernel who it is, cuts frames, hands unwraps to the pool and
// writes the answers.

import CLinux
import Foundation
import NIOCore

/// The server's end of one connection.
final class KeyringConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let server: KeyringServer
    private let socket: KeyringServer.Socket
    private let desk: KeyringDesk
    private var peer: KeyringPeer?
    private var accumulator = FrameAccumulator()
    private var waiting = 0
    private var partialDeadline: Scheduled<Void>?

    init(server: KeyringServer, socket: KeyringServer.Socket, desk: KeyringDesk) {
        self.server = server
        self.socket = socket
        self.desk = desk
    }

    func channelActive(context: ChannelHandlerContext) {
        var raw = zegel_peer()
        let isKnown = try? context.pipeline.syncOperations.withUnsafeTransportIfAvailable(
            of: NIOBSDSocket.Handle.self
        ) { zegel_peer_credentials($0, &raw) == 0 }
        let peer = KeyringPeer(processID: raw.pid, userID: raw.uid, socket: socket.name)
        guard isKnown == true, socket.userIDs.contains(raw.uid) else {
            desk.recordRefusedPeer(peer)
            context.close(promise: nil)
            return
        }
        guard server.admit(context.channel, socket: socket) else {
            context.close(promise: nil)
            return
        }
        self.peer = peer
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        partialDeadline?.cancel()
        server.dismiss(context.channel, socket: socket)
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let peer else { return }
        var buffer = unwrapInboundIn(data)
        accumulator.append(&buffer)
        do {
            while let frame = try accumulator.next() {
                let (kind, request, body) = try KeyringProtocol.open(frame)
                guard kind == .unwrap else { throw KeyringProtocol.Violation() }
                unwrap(context: context, request: request, body: body, peer: peer)
            }
        } catch {
            context.close(promise: nil)
            return
        }
        watchPartialRequest(context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    private func watchPartialRequest(_ context: ChannelHandlerContext) {
        guard accumulator.isPartial else {
            partialDeadline?.cancel()
            partialDeadline = nil
            return
        }
        if partialDeadline == nil {
            let channel = context.channel
            partialDeadline = context.eventLoop.scheduleTask(in: TimeAmount(server.limits.partialRequest)) {
                channel.close(promise: nil)
            }
        }
    }

    private func unwrap(context: ChannelHandlerContext, request: UUID, body: [UInt8], peer: KeyringPeer) {
        let channel = context.channel
        guard let asked = try? UnwrapRequest(decoding: body) else {
            Self.answer(channel, request, .failure(.malformed))
            return
        }
        let desk = self.desk
        guard waiting < server.limits.requestsPerConnection,
            let result = server.run(
                on: context.eventLoop,
                { desk.open(asked.wrapped, of: asked.batch, request: request, peer: peer) })
        else {
            Self.answer(channel, request, .failure(.unavailable("too many requests are waiting")))
            return
        }
        waiting += 1
        result.assumeIsolated().whenComplete { result in
            self.waiting -= 1
            switch result {
            case .success(let opened): Self.answer(channel, request, opened)
            case .failure: Self.answer(channel, request, .failure(.unavailable("shutting down")))
            }
        }
    }

    private static func answer(
        _ channel: any Channel, _ request: UUID, _ result: Result<SecretBytes, KeyServiceError>
    ) {
        var frame: [UInt8]
        switch result {
        case .success(let key):
            var body = key.withUnsafeBytes { [UInt8]($0) }
            frame = KeyringProtocol.frame(.opened, request, body: body)
            Erasure.erase(&body)
        case .failure(let error):
            frame = KeyringProtocol.frame(.failed, request, body: error.encoded)
        }
        let buffer = channel.allocator.buffer(bytes: frame)
        Erasure.erase(&frame)
        // By the time the write is done NIO has let go of the buffer, and it is overwritten in place.
        channel.writeAndFlush(buffer).whenComplete { _ in
            var written = buffer
            written.withUnsafeMutableReadableBytes { Erasure.erase($0) }
        }
    }
}
