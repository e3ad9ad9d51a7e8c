// A bound on what a connection may bring, below everything that understands it: whatever a server floods with (settings,
// pings, resets, empty frames, interim answers, chunk extensions), it ends here.

import NIOCore

/// Counts decrypted octets, and ends the connection with `flooded` past the budget.
final class WireBudget: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// For a connection that nobody waits for: the greeting of HTTP/2, a ping now and then, a farewell.
    static let idle = 64 << 10

    private var left = WireBudget.idle

    /// A new exchange begins, or the last one has ended.
    func renew(_ octets: Int) { left = octets }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data).readableBytes
        guard left >= bytes else {
            left = 0
            context.fireErrorCaught(
                HTTPClientError(.flooded, "the server sends far more than an answer needs"))
            return
        }
        left -= bytes
        context.fireChannelRead(data)
    }
}

@available(*, unavailable)
extension WireBudget: Sendable {}
