// How long a client may be silent (RFC 5321 §4.5.3.2), on an event loop whose time the test moves.

import Foundation
import Ledger
import Logging
import NIOCore
import NIOEmbedded
import NIOPosix
import Postgres
import SMTP
import Sealing
import Testing

@testable import Edge

@Suite("Patience", .serialized) struct PatienceTests {
    /// What every connection works with, but for a committer that runs: nothing is committed here.
    private func context(_ fixture: EdgeFixture) async throws -> EdgeContext {
        let pool = PostgresPool(
            configuration: PostgresConfiguration(
                fixture.postgres.dsn(database: fixture.database, user: "zegel_edge")),
            limit: 1, waitLimit: .seconds(20))
        let control = ControlLedger(pool: pool)
        let snapshot = try await control.snapshot(credentials: true)
        let view = ControlView()
        view.take(snapshot, now: Date())
        let keys = try EdgeKeys(
            root: Array(fixture.root.publicKey.rawRepresentation), limits: Sealer.Limits())
        try keys.take(try #require(snapshot.signedKeySet), now: Date())
        let replayKeys = ReplayKeys(ledger: control)
        _ = try await replayKeys.fetch(tenant: "demo", now: Date())
        let ledger = IntakeLedger(shard: "a", pool: pool)
        let logger = Logger(label: "edge") { _ in SwiftLogNoOpLogHandler() }
        let metrics = EdgeMetrics()
        return EdgeContext(
            smtp: SMTPServerOptions(hostName: "edge.test", requiresTLS: false), tls: nil, networks: [],
            control: view,
            keys: keys, replayKeys: replayKeys, authenticator: Authenticator(threads: .singleton),
            committers: ShardCommitters(
                [
                    Committer(
                        ledger: ledger, keys: keys, limits: .init(),
                        ready: ReadyNotifier(ledger: ledger, logger: logger),
                        metrics: metrics, logger: logger)
                ], metrics: metrics, logger: logger), metrics: metrics, logger: logger)
    }

    /// One client of a known network.
    private struct Conversation {
        let channel: EmbeddedChannel

        init(_ edge: EdgeContext) throws {
            let handler = SMTPConnectionHandler(
                edge: edge, pool: FrameBufferPool(), clientAddress: "192.0.2.1",
                networkIdentity: Identity(tenant: "demo", credential: nil), startsWithTLS: false
            ) { _ in }
            channel = EmbeddedChannel(handler: handler)
            channel.connect(to: try SocketAddress(ipAddress: "192.0.2.1", port: 25), promise: nil)
        }

        func say(_ text: String) throws { try channel.writeInbound(ByteBuffer(string: text)) }

        func pass(_ time: TimeAmount) { channel.embeddedEventLoop.advanceTime(by: time) }

        /// What was answered since the last look.
        func heard() throws -> String {
            var text = ""
            while let buffer = try channel.readOutbound(as: ByteBuffer.self) {
                text += String(buffer: buffer)
            }
            return text
        }

        /// The client hears 421 4.4.2, and the connection ends.
        func expectTimeout(_ rule: String) throws {
            #expect(try heard() == "421 4.4.2 edge.test Timeout, closing connection\r\n", "\(rule)")
            #expect(!channel.isActive, "\(rule)")
        }
    }

    static let opening = "EHLO c.test\r\nMAIL FROM:<a@demo.test>\r\nRCPT TO:<b@bar.test>\r\nDATA\r\n"

    /// Where a client falls silent, and how long it may be.
    static let silences: [(rule: String, said: String, patience: TimeAmount)] = [
        ("after the greeting", "", .minutes(5)),
        ("between commands", "EHLO c.test\r\n", .minutes(5)),
        ("within a command", "EHLO c.test\r\nMAIL FR", .minutes(5)),
        ("within a transaction", "EHLO c.test\r\nMAIL FROM:<a@demo.test>\r\n", .minutes(5)),
        ("before the content", opening, .minutes(3)),
        ("within the content", opening + "Subject: x\r\n\r\nhalf a li", .minutes(3)),
        (
            "within a chunk",
            "EHLO c.test\r\nMAIL FROM:<a@demo.test>\r\nRCPT TO:<b@bar.test>\r\nBDAT 100 LAST\r\nSubject",
            .minutes(3)
        ),
    ]

    @Test(
        "A silent client hears 421 4.4.2 when its time is over, not before, and nothing of its message is kept"
    )
    func silent() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await context(fixture)
        try Self.run {
            for (rule, said, patience) in Self.silences {
                let client = try Conversation(edge)
                if !said.isEmpty { try client.say(said) }
                let answer = try client.heard()
                #expect(answer.contains("354 ") == (said == Self.opening || said.contains("half")), "\(rule)")
                client.pass(patience - .nanoseconds(1))
                #expect(try client.heard().isEmpty && client.channel.isActive, "\(rule)")
                client.pass(.nanoseconds(1))
                try client.expectTimeout(rule)
            }
        }
        #expect(try await fixture.count("SELECT count(*) FROM ledger.message") == 0)
    }

    @Test("Each sign of life begins the time anew")
    func alive() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await context(fixture)
        try Self.run {
            let idle = try Conversation(edge)
            let slow = try Conversation(edge)
            try slow.say(Self.opening)
            for _ in 0..<20 {
                idle.pass(.minutes(4))
                slow.pass(.minutes(2))
                try idle.say("NOOP\r\n")
                try slow.say("x")
            }
            #expect(idle.channel.isActive && slow.channel.isActive)
            _ = (try idle.heard(), try slow.heard())
            idle.pass(.minutes(5))
            slow.pass(.minutes(3))
            try idle.expectTimeout("commands")
            try slow.expectTimeout("content")
        }
    }

    @Test("While we owe the answer nobody's time runs out")
    func ourTurn() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await context(fixture)
        try Self.run {
            let client = try Conversation(edge)
            try client.say(Self.opening + "Subject: x\r\n\r\nx\r\n.\r\n")
            _ = try client.heard()
            client.pass(.hours(1))
            #expect(try client.heard().isEmpty && client.channel.isActive)
        }
    }

    @Test(
        "A client that does not read its replies is not answered further, goes on where it was, and is not waited for forever"
    )
    func unreadReplies() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await context(fixture)
        try Self.run {
            let client = try Conversation(edge)
            _ = try client.heard()
            client.channel.isWritable = false
            try client.say(String(repeating: "NOOP\r\n", count: 1000))
            #expect(try client.heard().isEmpty)
            client.channel.isWritable = true
            client.channel.pipeline.fireChannelWritabilityChanged()
            #expect(try client.heard() == String(repeating: "250 2.0.0 OK\r\n", count: 1000))
            client.channel.isWritable = false
            try client.say("NOOP\r\n")
            client.pass(.minutes(5))
            try client.expectTimeout("unread replies")
        }
    }

    /// An embedded channel belongs to one thread: nothing in `body` waits for another.
    private static func run(_ body: () throws -> Void) throws { try body() }
}
