// HTTP/1.1 (RFC 9112) over NIOHTTP1's codec, for servers that pick no HTTP/2.

import NIOCore
import NIOHTTP1

/// HTTP/1.1 as a client. Takes one `Exchange` at a time, after the last one's outcome.
final class HTTP1Handler: ChannelDuplexHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundIn = Exchange
    typealias OutboundOut = HTTPClientRequestPart

    private let budget: WireBudget
    private var promise: EventLoopPromise<ExchangeOutcome>?
    private var assembly: ResponseAssembly?
    private var hasAnswer = false
    private var isKeptAlive = false
    /// The whole request has gone out. A server may answer before that, and then what is left of the request would stand in
    /// the way of the next one.
    private var isSent = false

    init(_ budget: WireBudget) { self.budget = budget }

    /// Adds the codec and a handler behind it.
    static func add(to pipeline: ChannelPipeline.SynchronousOperations, _ budget: WireBudget) throws {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = HTTPLimits.maximumHeaderBytes
        limits.maxHeaderListSize = HTTPLimits.maximumHeaderBytes
        limits.maxHeaderFieldCount = HTTPLimits.maximumHeaderFields
        try pipeline.addHandlers([
            HTTPRequestEncoder(),
            ByteToMessageHandler(HTTPResponseDecoder(limitConfiguration: limits)),
            HTTP1Handler(budget),
        ])
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        fail(HTTPClientError(.connectionClosed, "the connection is closed"))
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let exchange = unwrapOutboundIn(data)
        let request = exchange.request
        self.promise = exchange.promise
        assembly = ResponseAssembly(request.method, exchange.limits)
        hasAnswer = false
        isKeptAlive = false
        isSent = false
        budget.renew(exchange.limits.wireBytes)
        var headers = HTTPHeaders([("host", request.url.authority)])
        for field in request.wireFields.all { headers.add(name: field.name, value: field.value) }
        let head = HTTPRequestHead(
            version: .http1_1, method: HTTPMethod(rawValue: request.method.rawValue), uri: request.url.target,
            headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if !request.body.isEmpty {
            let body = context.channel.allocator.buffer(bytes: request.body)
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        let sent = context.eventLoop.makePromise(of: Void.self)
        sent.futureResult.assumeIsolated().whenSuccess { self.isSent = true }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: sent)
        promise?.succeed(())
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        // What comes after a failure interests nobody.
        guard var assembly else { return }
        self.assembly = nil
        hasAnswer = true
        do throws(HTTPClientError) {
            switch unwrapInboundIn(data) {
            case .head(let head):
                isKeptAlive = head.isKeepAlive
                try assembly.receive(status: Int(head.status.code))
                for (name, value) in head.headers { try assembly.receive(field: name, value) }
                try assembly.receiveHeaderEnd()
            case .body(let bytes):
                try assembly.receive(body: bytes.readableBytesView)
            case .end(let trailers):
                for (name, value) in trailers ?? [:] { try assembly.receive(field: name, value) }
                let message = try assembly.end()
                settle(ExchangeOutcome(answer: .success(message), isReusable: isKeptAlive && isSent))
                return
            }
            self.assembly = assembly
        } catch {
            fail(error)
            ConnectionEnd.cut(context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(HTTP1Handler.reason(error))
        ConnectionEnd.cut(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(
            HTTPClientError(.connectionClosed, "the server ended the connection before its answer was whole"))
        context.fireChannelInactive()
    }

    private static func reason(_ error: any Error) -> HTTPClientError {
        switch error {
        case HTTPParserError.headerOverflow:
            HTTPClientError(
                .tooLarge,
                "the header has more than \(HTTPLimits.maximumHeaderBytes) octets or \(HTTPLimits.maximumHeaderFields) fields"
            )
        case HTTPParserError.invalidEOFState:
            HTTPClientError(
                .connectionClosed, "the server ended the connection before its answer was whole")
        case let error as HTTPParserError: HTTPClientError(.protocolError, "HTTP/1.1: \(error)")
        default: HTTPClientError(pipeline: error, .protocolError)
        }
    }

    private func fail(_ error: HTTPClientError) {
        assembly = nil
        settle(
            ExchangeOutcome(answer: .failure(error), repetition: hasAnswer ? .no : .idempotent))
    }

    private func settle(_ outcome: ExchangeOutcome) {
        budget.renew(WireBudget.idle)
        let waiting = promise
        promise = nil
        waiting?.succeed(outcome)
    }
}

@available(*, unavailable)
extension HTTP1Handler: Sendable {}
