// One connection of a probe that finishes its handshake, for what shows only then: whether the server takes data before the end of
// a handshake (RFC 8446 §2.3), and whether a client may start another one (RFC 5746). It says EHLO and no more; no mail ever follows.

import NIOCore
import SMTP
import TLS

/// What a finished handshake is asked.
enum FinishedQuestion: Sendable, Hashable {
    /// How much early data the tickets of TLS 1.3 allow.
    case earlyData
    /// How often the client may renegotiate under TLS 1.2.
    case renegotiation

    /// One more than the guidelines call limited.
    static let mostRenegotiations = 11
}

/// Drives the connection; the result is a number of octets or of renegotiations.
final class FinishedProbe: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let question: FinishedQuestion
    private let tls: TLSContext
    private let serverName: String?
    private let stepLimit: TimeAmount
    private let deadline: NIODeadline
    private var machine: SMTPClientMachine
    private var result: EventLoopPromise<Int?>?
    private var timer: Scheduled<Void>?
    private var input = ByteBuffer()
    private var octets = 0
    private var handler: TLSHandler?
    /// Set once the question can be asked.
    private var renegotiations: Int?

    /// - Parameters:
    ///   - stepLimit: for each answer.
    ///   - deadline: of the connection.
    ///   - result: nil: the question could not be asked.
    init(
        _ question: FinishedQuestion, heloName: String, tls: TLSContext, serverName: String?,
        stepLimit: TimeAmount, deadline: NIODeadline, result: EventLoopPromise<Int?>
    ) {
        self.question = question
        self.tls = tls
        self.serverName = serverName
        self.stepLimit = stepLimit
        self.deadline = deadline
        self.result = result
        machine = SMTPClientMachine(heloName: heloName, startTLS: .required)
    }

    func channelActive(context: ChannelHandlerContext) { startTimer(context) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard result != nil else { return }
        var bytes = unwrapInboundIn(data)
        octets += bytes.readableBytes
        guard octets <= ProbeHandler.maximumClearOctets else { return end(context, renegotiations) }
        // Nothing more is asked of the server's SMTP.
        guard renegotiations == nil else { return }
        input.writeBuffer(&bytes)
        while result != nil {
            var output = ByteBuffer()
            let action = machine.receive(&input, &output)
            write(context, output)
            switch action {
            case .wait: return
            case .startTLS: return startTLS(context)
            case .ready: return ask(context)
            case .failed, .sendContent, .transactionEnded, .close: return end(context, nil)
            }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case is TLSHandshakeCompleted:
            var output = ByteBuffer()
            _ = machine.tlsEstablished(&output)
            write(context, output)
        case is TLSRenegotiated:
            let count = (renegotiations ?? 0) + 1
            renegotiations = count
            if count < FinishedQuestion.mostRenegotiations {
                renegotiate(context)
            } else {
                end(context, count)
            }
        default: break
        }
    }

    /// A refusal by alert or by hanging up.
    func errorCaught(context: ChannelHandlerContext, error: any Error) { end(context, renegotiations) }

    func channelInactive(context: ChannelHandlerContext) { end(context, renegotiations) }

    private func startTLS(_ context: ChannelHandlerContext) {
        let handler = TLSHandler(
            client: tls, serverName: serverName, verification: .record(name: nil),
            handshakeTimeout: stepLimit, closeTimeout: .milliseconds(500))
        self.handler = handler
        do {
            try context.pipeline.syncOperations.addHandler(handler, position: .first)
            startTimer(context)
        } catch {
            end(context, nil)
        }
    }

    /// The tickets of TLS 1.3 come before any answer within TLS.
    private func ask(_ context: ChannelHandlerContext) {
        switch question {
        case .earlyData: end(context, handler?.maximumEarlyData)
        case .renegotiation:
            renegotiations = 0
            renegotiate(context)
        }
    }

    private func renegotiate(_ context: ChannelHandlerContext) {
        startTimer(context)
        context.triggerUserOutboundEvent(TLSRenegotiationRequest(), promise: nil)
    }

    private func write(_ context: ChannelHandlerContext, _ output: ByteBuffer) {
        guard output.readableBytes > 0 else { return }
        context.writeAndFlush(wrapOutboundOut(output), promise: nil)
        startTimer(context)
    }

    private func startTimer(_ context: ChannelHandlerContext) {
        timer?.cancel()
        let bound = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(deadline: min(.now() + stepLimit, deadline)) {
            let (handler, context) = bound.value
            // A server that says nothing to a new handshake does not allow it.
            handler.end(context, handler.renegotiations)
        }
    }

    private func end(_ context: ChannelHandlerContext, _ outcome: Int?) {
        guard let result else { return }
        self.result = nil
        timer?.cancel()
        timer = nil
        result.succeed(outcome)
        context.close(promise: nil)
    }
}

@available(*, unavailable)
extension FinishedProbe: Sendable {}
