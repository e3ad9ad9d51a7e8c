// One connection of a probe: greeting, EHLO, STARTTLS, a ClientHello as it was written, and the server's first flight. Then
// it closes. A handshake is never finished, so that nothing could be sent under it.

import NIOCore
import SMTP

/// What came of one connection of a probe.
enum ProbedConnection: Sendable {
    /// The server was asked.
    case answered(ProbePlan.Answer)
    /// It came to no ClientHello, or what followed it was no answer.
    case failed(SessionFailure)
}

/// Drives one connection of a probe.
final class ProbeHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Octets in clear that a host may spend before TLS.
    static let maximumClearOctets = 64 << 10

    private var machine: SMTPClientMachine
    private let hello: [UInt8]
    private let stepLimit: TimeAmount
    private let deadline: NIODeadline
    private var result: EventLoopPromise<ProbedConnection>?
    private var timer: Scheduled<Void>?
    private var input = ByteBuffer()
    private var clearOctets = 0
    /// Set once the ClientHello is out.
    private var reader: ServerHelloReader?
    /// What came in clear behind the ClientHello.
    private var clear: [UInt8] = []

    /// - Parameters:
    ///   - hello: the record to send after STARTTLS.
    ///   - stepLimit: for each reply, and for the flight as a whole.
    ///   - deadline: of the connection.
    init(
        heloName: String, hello: [UInt8], stepLimit: TimeAmount, deadline: NIODeadline,
        result: EventLoopPromise<ProbedConnection>
    ) {
        machine = SMTPClientMachine(heloName: heloName, startTLS: .required)
        self.hello = hello
        self.stepLimit = stepLimit
        self.deadline = deadline
        self.result = result
    }

    func channelActive(context: ChannelHandlerContext) {
        startTimer(context)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard result != nil else { return }
        var bytes = unwrapInboundIn(data)
        guard reader == nil else { return readFlight(context, bytes) }
        clearOctets += bytes.readableBytes
        guard clearOctets <= Self.maximumClearOctets else {
            return end(
                context, .failed(SessionFailure(.protocolViolation, step: step, detail: "too many octets")))
        }
        input.writeBuffer(&bytes)
        readReplies(context)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { closed(context) }

    func channelInactive(context: ChannelHandlerContext) {
        closed(context)
        context.fireChannelInactive()
    }

    private var step: String { reader == nil ? machine.awaiting.step : "TLS" }

    /// The end of a connection is a server's way to refuse, once it was asked.
    private func closed(_ context: ChannelHandlerContext) {
        if !clear.isEmpty { return end(context, .failed(noTLS)) }
        end(
            context, reader == nil ? .failed(SessionFailure(.connectionLost, step: step)) : .answered(.closed)
        )
    }

    private func readReplies(_ context: ChannelHandlerContext) {
        while result != nil {
            var output = ByteBuffer()
            let step = step
            let action = machine.receive(&input, &output)
            if output.readableBytes > 0 {
                context.writeAndFlush(wrapOutboundOut(output), promise: nil)
                startTimer(context)
            }
            switch action {
            case .wait: return
            case .startTLS:
                reader = ServerHelloReader()
                context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: hello)), promise: nil)
                return startTimer(context)
            case .failed(let failure):
                return end(context, .failed(SessionFailure(machine: failure, step: step)))
            case .ready, .sendContent, .transactionEnded, .close:
                return end(context, .failed(SessionFailure(.protocolViolation, step: step)))
            }
        }
    }

    private func readFlight(_ context: ChannelHandlerContext, _ bytes: ByteBuffer) {
        let isClear = bytes.readableBytesView.first.map { !(20...24).contains($0) } ?? false
        if !clear.isEmpty || (isClear && reader?.isAtStart == true) { return readClear(context, bytes) }
        switch reader?.consume(bytes.readableBytesView) {
        case .flight(let flight): end(context, .answered(.flight(flight)))
        case .alert(let alert): end(context, .answered(.alert(alert)))
        case .failure(let error):
            end(
                context, .failed(SessionFailure(.protocolViolation, step: "TLS", detail: error.rawValue)))
        case .needMore, nil: break
        }
    }

    /// Octets in clear where TLS should begin: an injection where a record of a handshake comes behind them, else no TLS at all.
    private func readClear(_ context: ChannelHandlerContext, _ bytes: ByteBuffer) {
        clear += bytes.readableBytesView
        if clear.firstRange(of: [22, 3]) != nil {
            return end(context, .failed(SessionFailure(.startTLSInjection, step: "TLS")))
        }
        if clear.count > Self.maximumClearOctets { end(context, .failed(noTLS)) }
    }

    private var noTLS: SessionFailure {
        SessionFailure(.protocolViolation, step: "TLS", detail: ServerFlightError.notTLS.rawValue)
    }

    private func startTimer(_ context: ChannelHandlerContext) {
        timer?.cancel()
        let bound = NIOLoopBound((handler: self, context: context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(deadline: min(.now() + stepLimit, deadline)) {
            let (handler, context) = bound.value
            let failure =
                handler.clear.isEmpty ? SessionFailure(.timeout, step: handler.step) : handler.noTLS
            handler.end(context, .failed(failure))
        }
    }

    private func end(_ context: ChannelHandlerContext, _ outcome: ProbedConnection) {
        guard let result else { return }
        self.result = nil
        timer?.cancel()
        timer = nil
        result.succeed(outcome)
        context.close(promise: nil)
    }
}

@available(*, unavailable)
extension ProbeHandler: Sendable {}
