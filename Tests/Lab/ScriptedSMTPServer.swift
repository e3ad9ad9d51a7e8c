// A recipient host that does as a test tells it: any answer at any step, connections dropped anywhere, TLS with any
// certificate; and that keeps what it was told, command by command and byte by byte.

import NIOCore
import NIOPosix
import Synchronization
import TLS

/// What the scripted host does at one step.
public enum ScriptedAnswer: Sendable, Equatable {
    /// Answers with this line (CRLF is added); several lines are separated by `\r\n`.
    case reply(String)
    /// Answers, then closes the connection.
    case replyThenClose(String)
    /// Closes without an answer.
    case close
    /// Says nothing, ever.
    case silence
    /// Sends these bytes as they are.
    case raw(String)
    /// Answers with this line once `resume()` is called; until then it reads nothing more of that connection.
    case replyOnResume(String)
}

/// The steps of a session that a script can change.
public enum ScriptedStep: String, Sendable, Hashable {
    /// The connection was made: the greeting.
    case connect = "CONNECT"
    /// EHLO.
    case ehlo = "EHLO"
    /// HELO.
    case helo = "HELO"
    /// STARTTLS.
    case startTLS = "STARTTLS"
    /// MAIL.
    case mail = "MAIL"
    /// RCPT.
    case rcpt = "RCPT"
    /// DATA.
    case data = "DATA"
    /// The final dot.
    case dot = "."
    /// RSET.
    case rset = "RSET"
    /// QUIT.
    case quit = "QUIT"
    /// NOOP.
    case noop = "NOOP"
}

/// What a scripted host does.
public struct SMTPScript: Sendable {
    /// What it offers after EHLO, one keyword line each; `STARTTLS` is added where `tls` is given.
    public var extensions = ["PIPELINING", "SIZE 104857600", "8BITMIME", "ENHANCEDSTATUSCODES"]
    /// Its certificate; nil: no STARTTLS.
    public var tls: TLSContext?
    /// Answers by step, used in order over all connections; when they are used up, the ordinary answer.
    public var answers: [ScriptedStep: [ScriptedAnswer]] = [:]
    /// Closes the connection after so many bytes of content.
    public var dropsContentAfter: Int?
    /// Stops reading after so many bytes of content.
    public var stallsContentAfter: Int?
    /// Whether content is kept.
    public var keepsContent = true

    /// A host that accepts everything.
    public init() {}

    /// The same with this certificate; nil: without STARTTLS.
    public init(_ identity: TestIdentity?) throws {
        tls = try identity.map { identity in
            try .server(certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM)
        }
    }
}

/// One transaction that ended with a final dot.
public struct ScriptedMail: Sendable {
    /// The MAIL line.
    public var mail: String
    /// The RCPT lines that were accepted.
    public var recipients: [String]
    /// The content, dots unstuffed.
    public var content: [UInt8]
    /// Whether it came over TLS.
    public var isSecure: Bool
}

/// A scripted recipient host on a loopback port.
public final class ScriptedSMTPServer: Sendable {
    /// What the host has seen.
    public struct Transcript: Sendable {
        /// Every command line, in the order of arrival, over all connections.
        public var commands: [String] = []
        /// Those of them that came in clear.
        public var inClear: [String] = []
        /// What ended with a final dot and was accepted.
        public var mails: [ScriptedMail] = []
        /// Bytes of content seen, whatever became of them.
        public var contentBytes = 0
        /// Final dots seen.
        public var dots = 0
        /// Connections made.
        public var connections = 0
        /// Connections open now.
        public var open = 0
        /// Connections whose TLS handshake was completed.
        public var handshakes = 0
        /// The names that clients asked for by SNI, one for each handshake; empty where none was sent.
        public var serverNames: [String] = []
        /// Answers that wait for `resume()`.
        public var waiting = 0
    }

    private let shared: Shared
    private let listener: any Channel

    /// Starts a host.
    /// - address: of loopback.
    /// - port: 0: any that is free.
    public static func start(
        _ script: SMTPScript = SMTPScript(), on address: String = "127.0.0.1", port: Int = 0
    ) async throws -> ScriptedSMTPServer {
        let shared = Shared(script)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Connection(shared))
                }
            }
            .bind(host: address, port: port).get()
        return ScriptedSMTPServer(shared, listener)
    }

    /// Starts hosts that accept everything, each with its own certificate at its own address.
    /// - identities: nil: without STARTTLS.
    /// - addresses: of loopback, as many.
    public static func start(
        _ identities: [TestIdentity?], on addresses: [String], port: Int
    ) async throws -> [ScriptedSMTPServer] {
        var servers: [ScriptedSMTPServer] = []
        for (identity, address) in zip(identities, addresses) {
            servers.append(try await start(try SMTPScript(identity), on: address, port: port))
        }
        return servers
    }

    private init(_ shared: Shared, _ listener: any Channel) {
        self.shared = shared
        self.listener = listener
    }

    /// Where it listens.
    public var address: SocketAddress {
        get throws {
            try SocketAddress(
                ipAddress: listener.localAddress?.ipAddress ?? "127.0.0.1",
                port: listener.localAddress?.port ?? 0)
        }
    }
    /// What it has seen so far.
    public var transcript: Transcript { shared.state.withLock { $0.transcript } }
    /// Changes what it does from now on.
    public func change(_ body: (inout SMTPScript) -> Void) { shared.state.withLock { body(&$0.script) } }
    /// Lets go of every answer that waits.
    public func resume() { for answer in shared.takeWaiting() { answer() } }
    /// Stops listening; open connections live on.
    public func stop() async throws { try await listener.close() }

    final class Shared: Sendable {
        let state: Mutex<(transcript: Transcript, script: SMTPScript)>
        private let waiting = Mutex<[@Sendable () -> Void]>([])
        init(_ script: SMTPScript) { state = Mutex((Transcript(), script)) }

        func wait(_ answer: @escaping @Sendable () -> Void) {
            waiting.withLock { $0.append(answer) }
            note { $0.waiting += 1 }
        }
        func takeWaiting() -> [@Sendable () -> Void] {
            let taken = waiting.withLock { waiting in
                defer { waiting = [] }
                return waiting
            }
            note { $0.waiting -= taken.count }
            return taken
        }

        func note(_ change: (inout Transcript) -> Void) { state.withLock { change(&$0.transcript) } }
        var script: SMTPScript { state.withLock { $0.script } }
        /// The next scripted answer for `step`; nil: the ordinary one.
        func answer(_ step: ScriptedStep) -> ScriptedAnswer? {
            state.withLock {
                guard var left = $0.script.answers[step], !left.isEmpty else { return nil }
                let next = left.removeFirst()
                $0.script.answers[step] = left
                return next
            }
        }
    }

    /// One connection to the host.
    final class Connection: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let shared: Shared
        private var input = ByteBuffer()
        private var isSecure = false
        private var isSilent = false
        private var inContent = false
        private var contentSeen = 0
        private var lineStart = true
        private var content: [UInt8] = []
        private var mail = ""
        private var recipients: [String] = []

        init(_ shared: Shared) { self.shared = shared }

        func channelActive(context: ChannelHandlerContext) {
            shared.note {
                $0.connections += 1
                $0.open += 1
            }
            act(context, .connect, "220 peer.test ESMTP")
            context.fireChannelActive()
        }

        func channelInactive(context: ChannelHandlerContext) {
            shared.note { $0.open -= 1 }
            context.fireChannelInactive()
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if let completed = event as? TLSHandshakeCompleted {
                isSecure = true
                shared.note {
                    $0.handshakes += 1
                    $0.serverNames.append(completed.evidence.serverName ?? "")
                }
            }
            context.fireUserInboundEventTriggered(event)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            input.writeBuffer(&bytes)
            proceed(context)
        }

        private func proceed(_ context: ChannelHandlerContext) {
            while !isSilent, context.channel.isActive, let line = nextLine() {
                if inContent { take(context, line) } else { command(context, line) }
            }
        }

        /// A line without its CRLF.
        private func nextLine() -> ByteBuffer? {
            guard let end = input.readableBytesView.firstIndex(of: 0x0A) else { return nil }
            var line = input.readSlice(length: end - input.readerIndex + 1) ?? ByteBuffer()
            line = line.getSlice(at: line.readerIndex, length: line.readableBytes - 2) ?? line
            return line
        }

        private func take(_ context: ChannelHandlerContext, _ line: ByteBuffer) {
            let script = shared.script
            if line.readableBytes == 1, line.getInteger(at: line.readerIndex, as: UInt8.self) == 0x2E {
                inContent = false
                let ended = ScriptedMail(
                    mail: mail, recipients: recipients, content: content, isSecure: isSecure)
                let isMail = !recipients.isEmpty
                // On record before the answer: a client that has heard it may look.
                act(context, .dot, "250 2.0.0 taken") { [shared] accepted in
                    shared.note {
                        $0.dots += 1
                        if accepted, isMail { $0.mails.append(ended) }
                    }
                }
                content = []
                recipients = []
                return
            }
            let view = line.readableBytesView
            contentSeen += view.count + 2
            let count = view.count + 2
            shared.note { $0.contentBytes += count }
            if script.keepsContent {
                content.append(contentsOf: view.first == 0x2E ? view.dropFirst() : view)
                content.append(contentsOf: [0x0D, 0x0A])
            }
            if let limit = script.dropsContentAfter, contentSeen >= limit { cut(context) }
            if let limit = script.stallsContentAfter, contentSeen >= limit {
                isSilent = true
                _ = context.channel.setOption(.autoRead, value: false)
            }
        }

        private func command(_ context: ChannelHandlerContext, _ line: ByteBuffer) {
            let text = String(buffer: line)
            let secure = isSecure
            shared.note {
                $0.commands.append(text)
                if !secure { $0.inClear.append(text) }
            }
            let script = shared.script
            switch ScriptedStep(rawValue: text.prefix { $0 != " " }.uppercased()) {
            case .ehlo:
                let offered =
                    ["peer.test"] + script.extensions + (script.tls != nil && !isSecure ? ["STARTTLS"] : [])
                let reply = offered.enumerated().map { index, line in
                    "250\(index == offered.count - 1 ? " " : "-")\(line)"
                }
                act(context, .ehlo, reply.joined(separator: "\r\n"))
            case .helo: act(context, .helo, "250 peer.test")
            case .startTLS:
                guard let tls = script.tls else { return say(context, "502 5.5.1 no") }
                if act(context, .startTLS, "220 2.0.0 go") {
                    _ = try? context.pipeline.syncOperations.addHandler(
                        TLSHandler(server: tls), position: .first)
                }
            case .mail:
                mail = text
                recipients = []
                act(context, .mail, "250 2.1.0 ok")
            case .rcpt: if act(context, .rcpt, "250 2.1.5 ok") { recipients.append(text) }
            case .data:
                let ordinary = recipients.isEmpty ? "554 5.5.1 no valid recipients" : "354 go on"
                if act(context, .data, ordinary) {
                    inContent = true
                    contentSeen = 0
                    content = []
                }
            case .rset: act(context, .rset, "250 2.0.0 ok")
            case .noop: act(context, .noop, "250 2.0.0 ok")
            case .quit: if act(context, .quit, "221 2.0.0 bye") { context.close(promise: nil) }
            case .connect, .dot, nil: say(context, "500 5.5.2 what?")
            }
        }

        /// Does what the script says for `step`, or answers `ordinary`. True: the answer was 2yz or 3yz; `before` hears it
        /// before the client does.
        @discardableResult private func act(
            _ context: ChannelHandlerContext, _ step: ScriptedStep, _ ordinary: String,
            before: (Bool) -> Void = { _ in }
        ) -> Bool {
            let answer = shared.answer(step) ?? .reply(ordinary)
            let isPositive =
                switch answer {
                case .reply(let text), .raw(let text), .replyThenClose(let text), .replyOnResume(let text):
                    text.first == "2" || text.first == "3"
                case .close, .silence: false
                }
            before(isPositive)
            switch answer {
            case .reply(let text): say(context, text)
            case .replyThenClose(let text):
                say(context, text)
                context.close(promise: nil)
            case .close: cut(context)
            case .silence: isSilent = true
            case .raw(let text):
                context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
            case .replyOnResume(let text):
                isSilent = true
                let bound = NIOLoopBound((connection: self, context: context), eventLoop: context.eventLoop)
                shared.wait {
                    bound.eventLoop.execute {
                        let (connection, context) = bound.value
                        connection.isSilent = false
                        connection.say(context, text)
                        connection.proceed(context)
                    }
                }
            }
            return isPositive && context.channel.isActive
        }

        private func say(_ context: ChannelHandlerContext, _ text: String) {
            context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text + "\r\n")), promise: nil)
        }

        /// As a machine that loses power: no close_notify.
        private func cut(_ context: ChannelHandlerContext) {
            isSilent = true
            if let tls = try? context.pipeline.syncOperations.context(handlerType: TLSHandler.self) {
                tls.close(mode: .all, promise: nil)
            } else {
                context.close(promise: nil)
            }
        }
    }
}

@available(*, unavailable)
extension ScriptedSMTPServer.Connection: Sendable {}
