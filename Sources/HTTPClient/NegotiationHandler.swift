// Between the TLS handshake and the first octet of HTTP: the certificate is judged, and the protocol that ALPN picked takes
// over. Nothing of a request exists on this connection before.

import DNS
import NIOCore
import TLS

/// Waits for the handshake, then makes a connection out of the channel or closes it.
final class NegotiationHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    /// What is offered by ALPN, by preference (RFC 7301; RFC 9113 §3.2).
    static let protocols = ["h2", "http/1.1"]

    private let origin: Origin
    private let address: IPAddress
    private let budget: WireBudget
    private var promise: EventLoopPromise<HTTPConnection>?

    init(
        _ origin: Origin, _ address: IPAddress, _ budget: WireBudget,
        _ promise: EventLoopPromise<HTTPConnection>
    ) {
        self.origin = origin
        self.address = address
        self.budget = budget
        self.promise = promise
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? TLSHandshakeCompleted, let promise {
            self.promise = nil
            do throws(HTTPClientError) {
                promise.succeed(try connection(context, event.evidence))
            } catch {
                promise.fail(error)
                ConnectionEnd.cut(context)
            }
        }
        context.fireUserInboundEventTriggered(event)
    }

    private func connection(
        _ context: ChannelHandlerContext, _ evidence: PeerEvidence
    ) throws(HTTPClientError) -> HTTPConnection {
        guard evidence.verification.isValid, evidence.nameMatched == true else {
            throw .certificateRejected(evidence)
        }
        let pipeline = context.pipeline.syncOperations
        let isHTTP2 = evidence.alpn == "h2"
        do {
            if isHTTP2 {
                try pipeline.addHandler(HTTP2Handler(HTTP2Session(), budget))
            } else {
                // Picked, or a server that knows no ALPN.
                try HTTP1Handler.add(to: pipeline, budget)
            }
        } catch {
            throw HTTPClientError(pipeline: error, .connectionClosed)
        }
        return HTTPConnection(
            channel: context.channel, origin: origin, address: address, evidence: evidence,
            version: isHTTP2 ? .http2 : .http1)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let promise else { return context.fireErrorCaught(error) }
        self.promise = nil
        promise.fail(HTTPClientError(pipeline: error, .tlsFailure))
        ConnectionEnd.cut(context)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        promise?.fail(HTTPClientError(.connectionClosed, "the connection ended in the TLS handshake"))
        promise = nil
    }
}

@available(*, unavailable)
extension NegotiationHandler: Sendable {}
