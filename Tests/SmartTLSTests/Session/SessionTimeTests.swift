// How long a host may take over its replies (RFC 5321 §4.5.3.2), on an event loop whose time the test moves.

import NIOCore
import NIOEmbedded
import SMTP
import Testing

@testable import SmartTLS

@Suite struct SessionTimeTests {
    /// A connection to a host that says what the test says.
    private struct Conversation {
        let channel: EmbeddedChannel
        let handler: SessionHandler
        let opened: EventLoopFuture<Void>

        init(_ tls: SessionTLS = .never, _ timeouts: SessionTimeouts = SessionTimeouts()) throws {
            let loop = EmbeddedEventLoop()
            let opening = loop.makePromise(of: Void.self)
            let address = try SocketAddress(ipAddress: "192.0.2.1", port: 25)
            handler = SessionHandler(
                target: SessionTarget(
                    hostName: "peer.test", address: address, heloName: "zegel.test", tls: tls,
                    serverName: "peer.test"),
                timeouts: timeouts, status: SessionStatus(), opened: opening)
            opened = opening.futureResult
            channel = EmbeddedChannel(handler: handler, loop: loop)
            channel.connect(to: address, promise: nil)
        }

        func pass(_ time: TimeAmount) { channel.embeddedEventLoop.advanceTime(by: time) }

        /// The host's next reply, so long after the one before.
        func reply(_ text: String, after time: TimeAmount) throws {
            pass(time)
            try channel.writeInbound(ByteBuffer(string: text + "\r\n"))
        }

        /// The last line that was sent to the host.
        func sent() throws -> String? {
            var last: String?
            while let buffer = try channel.readOutbound(as: ByteBuffer.self) { last = String(buffer: buffer) }
            return last?.split(separator: "\r\n").last.map(String.init)
        }
    }

    private static func open(_ extensions: String = "250 peer.test") throws -> Conversation {
        let host = try Conversation()
        try host.reply("220 peer.test", after: .zero)
        try host.reply(extensions, after: .zero)
        return host
    }

    /// What a transaction with these recipients has come to when `course` is over; nil: it goes on.
    private static func transact(
        _ host: Conversation, _ recipients: Int, _ course: (Conversation) throws -> Void
    ) async throws -> TransactionResult? {
        var problem: (any Error)?
        let step = await withCheckedContinuation { waiter in
            let names = (0..<recipients).map { "r\($0)@peer.test" }
            host.handler.begin(SessionBench.transaction(names), waiter)
            do { try course(host) } catch { problem = error }
            // Whoever waits is told in any case.
            host.channel.close(promise: nil)
            host.channel.embeddedEventLoop.run()
        }
        if let problem { throw problem }
        guard case .ended(let result) = step, result.failure?.code != .connectionLost else { return nil }
        return result
    }

    @Test func `the answers to EHLO and to STARTTLS have five minutes each`() async throws {
        let host = try Conversation(.required(try SessionBench.client()))
        try host.reply("220 peer.test", after: .seconds(10))
        try host.reply("250-peer.test\r\n250 STARTTLS", after: .minutes(4))
        host.pass(.minutes(4))
        #expect(try host.channel.isActive && host.sent() == "STARTTLS")
        host.pass(.minutes(2))
        #expect(throws: SessionFailure.self) { try host.opened.wait() }
        #expect(!host.channel.isActive)
    }

    @Test(arguments: ["250 peer.test", "250-peer.test\r\n250 PIPELINING"])
    func `each answer to MAIL and RCPT has five minutes of its own`(_ extensions: String) async throws {
        let result = try await Self.transact(Self.open(extensions), 2) { host in
            for _ in 0..<3 { try host.reply("250 ok", after: .minutes(3)) }
            #expect(try host.channel.isActive && host.sent() == "DATA")
        }
        #expect(result == nil, "\(String(describing: result))")
    }

    @Test func `opening takes ten minutes at most, however quick each reply is`() async throws {
        let host = try Conversation(.required(try SessionBench.client()))
        try host.reply("220 peer.test", after: .minutes(4))
        try host.reply("250-peer.test\r\n250 STARTTLS", after: .minutes(4))
        host.pass(.seconds(100))
        #expect(host.channel.isActive)
        host.pass(.seconds(40))
        #expect(!host.channel.isActive)
        #expect(throws: SessionFailure.self) { try host.opened.wait() }
    }

    @Test(
        "MAIL, all RCPTs and DATA take ten minutes at most; who was refused by then is, and nobody else is anything",
        arguments: ["250 peer.test", "250-peer.test\r\n250 PIPELINING"])
    func wholeEnvelope(_ extensions: String) async throws {
        let opened = try Self.open(extensions)
        opened.pass(.hours(1))
        let result = try await Self.transact(opened, 400) { host in
            try host.reply("250 ok", after: .seconds(2))
            try host.reply("550 5.1.1 nobody", after: .seconds(2))
            for _ in 0..<290 { try host.reply("250 ok", after: .seconds(2)) }
            #expect(host.channel.isActive)
            host.pass(.seconds(40))
            #expect(!host.channel.isActive)
        }
        let ended = try #require(result)
        #expect(ended.failure?.code == .timeout && ended.failure?.step == "envelope")
        let nobody = SMTPReply(550, EnhancedStatusCode(5, 1, 1), "nobody")
        #expect(ended.fate(of: 0) == .rejected(nobody, isTransient: false))
        #expect((1..<400).allSatisfy { ended.fate(of: $0) == .notAttempted } && !ended.dotSent)
    }

    @Test func `content and its answer are not bounded by what came before`() async throws {
        let result = try await Self.transact(Self.open(), 1) { host in
            for _ in 0..<2 { try host.reply("250 ok", after: .minutes(4)) }
            try host.reply("354 go", after: .minutes(1))
            host.pass(.minutes(9))
            #expect(host.channel.isActive)
        }
        #expect(result == nil)
    }

    @Test func `an answer that takes longer, or comes line by line, ends the connection`() async throws {
        for lines in [[], ["250-slow", "250-slow"]] {
            let result = try await Self.transact(Self.open(), 2) { host in
                try host.reply("250 ok", after: .minutes(4))
                for line in lines { try host.reply(line, after: .minutes(2)) }
                host.pass(.minutes(lines.isEmpty ? 6 : 2))
                #expect(!host.channel.isActive)
            }
            #expect(result?.failure?.code == .timeout && result?.failure?.step == "envelope")
        }
    }
}
