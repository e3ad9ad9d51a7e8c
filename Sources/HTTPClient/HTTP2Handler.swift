// The thin shell around an HTTP/2 session: octets in and out of a channel.

import NIOCore

/// HTTP/2 as a client. Takes one `Exchange` at a time, after the last one's outcome.
final class HTTP2Handler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = Exchange
    typealias OutboundOut = ByteBuffer

    private let session: HTTP2Session
    private let budget: WireBudget
    private var promise: EventLoopPromise<ExchangeOutcome>?

    init(_ session: HTTP2Session, _ budget: WireBudget) {
        self.session = session
        self.budget = budget
    }

    func handlerAdded(context: ChannelHandlerContext) { advance(context) }

    func handlerRemoved(context: ChannelHandlerContext) {
        fail(HTTPClientError(.connectionClosed, "the connection is closed"))
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let exchange = unwrapOutboundIn(data)
        self.promise = exchange.promise
        budget.renew(exchange.limits.wireBytes)
        session.begin(exchange.request, exchange.limits)
        advance(context)
        promise?.succeed(())
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        session.feed(unwrapInboundIn(data))
        advance(context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(HTTPClientError(pipeline: error, .protocolError))
        ConnectionEnd.cut(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(
            HTTPClientError(.connectionClosed, "the server ended the connection before its answer was whole"))
        context.fireChannelInactive()
    }

    /// Sends what there is to send and tells what there is to tell.
    private func advance(_ context: ChannelHandlerContext) {
        if let output = session.takeOutput(context.channel.allocator) {
            context.writeAndFlush(wrapOutboundOut(output), promise: nil)
        }
        if let outcome = session.takeOutcome() { settle(outcome) }
        if promise == nil, session.isOver { ConnectionEnd.cut(context) }
    }

    private func fail(_ error: HTTPClientError) {
        session.fail(error)
        if let outcome = session.takeOutcome() { settle(outcome) }
    }

    private func settle(_ outcome: ExchangeOutcome) {
        budget.renew(WireBudget.idle)
        let waiting = promise
        promise = nil
        waiting?.succeed(outcome)
    }
}

@available(*, unavailable)
extension HTTP2Handler: Sendable {}
