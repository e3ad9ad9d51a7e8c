import Foundation
import Lab
import Postgres
import SMTP
import Testing

/// A whole edge: what a client hears, and what the ledger holds then.
@Suite("Edge", .serialized) struct EdgeTests {
    static func lines(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SplitMix(seed)
        var content = Array("Subject: test\r\nX-Seed: \(seed)\r\n\r\n".utf8)
        while content.count < count {
            content += (0..<Int.random(in: 0..<900, using: &random)).map { _ in
                UInt8.random(in: 32...255, using: &random)
            }
            content += [13, 10]
        }
        // No line begins with a dot: the client here does not stuff.
        for index in content.indices where content[index] == 0x2E && index > 0 && content[index - 1] == 10 {
            content[index] = 0x2D
        }
        return content
    }

    @Test("STARTTLS, AUTH, MAIL, RCPT, DATA: one commit, and what a worker opens is what was sent")
    func accepts() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let client = try await SMTPTestClient.connect(edge.plainPort)
        #expect(try await client.reply().hasPrefix("220 edge.test ESMTP"))
        #expect(try await client.ask("EHLO c.test").contains("STARTTLS"))
        #expect(try await client.ask("MAIL FROM:<a@demo.test>").hasPrefix("530 5.7.0"))
        #expect(try await client.ask("STARTTLS").hasPrefix("220 2.0.0"))
        try await client.startTLS(edge.trust)
        #expect(try await client.ask("EHLO c.test").contains("AUTH PLAIN LOGIN"))
        #expect(try await client.ask("MAIL FROM:<a@demo.test>").hasPrefix("530 5.7.0"))
        #expect(try await client.ask("AUTH LOGIN").hasPrefix("334"))
        #expect(try await client.ask("dXNlcg==").hasPrefix("334"))
        #expect(try await client.ask("c2VjcmV0").hasPrefix("235 2.7.0"))
        let content = Self.lines(10_000, seed: 1)
        let reply = try await client.mail(to: ["b@bar.test", "c@foo.test", "d@BAR.test"], content)
        let id = try queuedID(reply)
        let stored = try await fixture.open(id)
        #expect(stored.content == content)
        #expect(stored.envelope.reversePath.description == "<a@demo.test>")
        #expect(stored.envelope.body == .eightBitMIME, "8-bit content is known as such")
        #expect(stored.envelope.subject == "test")
        let received = String(decoding: stored.envelope.receivedLine, as: UTF8.self)
        #expect(received.contains("by edge.test with ESMTPSA id \(id.uuidString.lowercased());"))
        #expect(received.hasPrefix("Received: from c.test ([127.0.0.1])"))
        #expect(stored.recipients.map(\.address.description) == ["b@bar.test", "c@foo.test", "d@BAR.test"])
        #expect(try await fixture.count("SELECT count(*) FROM ledger.delivery") == 2, "one for each domain")
        #expect(try await fixture.count("SELECT count(*) FROM ledger.event WHERE kind = 'accepted'") == 3)
        #expect(try await client.ask("QUIT").hasPrefix("221"))
        try await edge.stop()
    }

    @Test("Never an open relay: password, sender domain, address literals, revocation")
    func refusals() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        await #expect(throws: LabError.self) { _ = try await edge.client(password: "wrong") }
        let client = try await edge.client()
        #expect(try await client.ask("MAIL FROM:<a@other.test>").hasPrefix("550 5.7.1"))
        #expect(try await client.ask("MAIL FROM:<>").hasPrefix("250"), "the null path of a proven tenant")
        #expect(try await client.ask("RCPT TO:<b@[192.0.2.1]>").hasPrefix("550 5.1.2"))
        #expect(try await client.ask("RSET").hasPrefix("250"))
        _ = try await fixture.admin.withConnection { connection in
            try await connection.perform {
                try $0.execute("UPDATE control.credential SET revoked_at = now()")
            }
        }
        try await eventually("the revocation is known") {
            let reply = try await client.ask("MAIL FROM:<a@demo.test>")
            if reply.hasPrefix("250") { _ = try await client.ask("RSET") }
            return reply.hasPrefix("530 5.7.0")
        }
        try await eventually("the refusal is an event") {
            try await fixture.count(
                "SELECT count(*) FROM ledger.event WHERE kind = 'rejected' AND reason_code = 'sender-not-allowed'"
            ) > 0
        }
        try await edge.stop()
    }

    @Test("Smuggled ends of content are refused, and nothing of them is kept")
    func smuggling() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        for form in ["\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r"] {
            let client = try await edge.client()
            let attack =
                "A: b\r\n\r\nx\(form)MAIL FROM:<a@demo.test>\r\nRCPT TO:<v@v.test>\r\nDATA\r\nevil\r\n"
            #expect(try await client.mail(Array(attack.utf8)).hasPrefix("550 5.6.0"))
            try await client.waitForClose()
        }
        #expect(try await fixture.count("SELECT count(*) FROM ledger.message") == 0)
        try await edge.stop()
    }

    @Test("The same bytes again get the first id, until the client shows that it has its 250")
    func replay() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let content = Self.lines(3000, seed: 2)
        let first = try await edge.client()
        let id = try queuedID(try await first.mail(content))
        try await first.close()
        let second = try await edge.client()
        #expect(try queuedID(try await second.mail(content)) == id)
        #expect(try queuedID(try await second.mail(to: ["z@bar.test"], content)) != id, "another envelope")
        #expect(try await fixture.count("SELECT count(*) FROM ledger.message") == 2)
        let third = try await edge.client()
        let other = Self.lines(3000, seed: 3)
        let before = try queuedID(try await third.mail(other))
        #expect(try await third.ask("NOOP").hasPrefix("250"))
        #expect(try queuedID(try await third.mail(other)) != before, "acknowledged, so it is a new message")
        try await edge.stop()
    }

    @Test(
        "Large content is committed ahead in frames; what is broken off leaves nothing",
        arguments: [false, true])
    func large(isChunked: Bool) async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let content = Self.lines(3_000_000, seed: 4)
        let client = try await edge.client()
        let id: UUID
        if isChunked {
            _ = try await client.ask("MAIL FROM:<a@demo.test> BODY=8BITMIME SIZE=\(content.count)")
            _ = try await client.ask("RCPT TO:<b@bar.test>")
            var rest = content[...]
            var last = ""
            while !rest.isEmpty {
                let chunk = rest.prefix(700_001)
                rest = rest.dropFirst(chunk.count)
                try await client.send(
                    Array("BDAT \(chunk.count)\(rest.isEmpty ? " LAST" : "")\r\n".utf8) + chunk)
                last = try await client.reply(within: .seconds(60))
                #expect(last.hasPrefix("250"))
            }
            id = try queuedID(last)
        } else {
            id = try queuedID(try await client.mail(content))
        }
        #expect(try await fixture.open(id).content == content)
        let uploads = try await fixture.count("SELECT count(DISTINCT xmin::text) FROM ledger.content")
        #expect(uploads > 5, "its frames came in transactions of their own")
        #expect(try await fixture.count("SELECT count(*) FROM ledger.upload") == 0)
        let broken = try await edge.client()
        _ = try await broken.ask("MAIL FROM:<a@demo.test>")
        _ = try await broken.ask("RCPT TO:<b@bar.test>")
        _ = try await broken.ask("DATA")
        try await broken.send(content)
        try await eventually("frames are committed ahead") {
            try await fixture.count("SELECT count(*) FROM ledger.upload") == 1
        }
        try await broken.close()
        try await eventually("they are gone with their client") {
            try await fixture.count("SELECT count(*) FROM ledger.upload") == 0
        }
        #expect(try await fixture.count("SELECT count(DISTINCT message_id) FROM ledger.content") == 1)
        try await edge.stop()
    }

    @Test(
        "Empty content, and content just around the size of a frame and of what is held",
        arguments: [0, 65_535, 65_536, 65_537, 327_680, 327_681, 393_216, 393_217])
    func edges(size: Int) async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        var content = Array(repeating: Array("0123456789abcd\r\n".utf8), count: size / 16 + 1).flatMap { $0 }
        content = Array(content.prefix(max(0, size - 2)))
        if content.last == 13 { content[content.count - 1] = 0x2B }
        if size > 0 { content += [13, 10] }
        let client = try await edge.client()
        let id = try queuedID(try await client.mail(content))
        #expect(try await fixture.open(id).content == content)
        try await edge.stop()
    }

    @Test("Law 9: connections beyond the limit hear 421 4.3.2; a message beyond it 552")
    func limits() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start(["edge.max_connections=2", "edge.max_message_size=65536"])
        let one = try await edge.client()
        let two = try await SMTPTestClient.connect(edge.plainPort)
        _ = try await two.reply()
        let three = try await SMTPTestClient.connect(edge.plainPort)
        #expect(try await three.reply().hasPrefix("421 4.3.2"))
        try await three.waitForClose()
        #expect(try await one.mail(Self.lines(70_000, seed: 5)).hasPrefix("552 5.3.4"))
        #expect(try await one.ask("NOOP").hasPrefix("250"))
        try await two.close()
        try await eventually("a place is free") {
            let next = try await SMTPTestClient.connect(edge.plainPort)
            defer { Task { try await next.close() } }
            return try await next.reply().hasPrefix("220")
        }
        try await edge.stop()
    }

    @Test("RFC 5321 §6.3: a message with a hundred Received headers is looping")
    func loop() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let client = try await edge.client()
        let hops = String(repeating: "Received: from a by b; Tue, 24 Nov 2026 22:15:09 +0000\r\n", count: 100)
        #expect(try await client.mail(Array((hops + "\r\nx\r\n").utf8)).hasPrefix("554 5.4.6"))
        #expect(try await client.mail(Array((hops.dropFirst(56) + "\r\nx\r\n").utf8)).hasPrefix("250"))
        try await edge.stop()
    }

    @Test("SIGTERM: nothing new begins, what is under way is finished, idle clients hear 421")
    func drains() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let idle = try await edge.client()
        let busy = try await edge.client()
        _ = try await busy.ask("MAIL FROM:<a@demo.test>")
        _ = try await busy.ask("RCPT TO:<b@bar.test>")
        _ = try await busy.ask("DATA")
        try await busy.send("half\r\n")
        await edge.group.triggerGracefulShutdown()
        #expect(try await idle.reply().hasPrefix("421 4.3.2"))
        try await busy.send("other half\r\n.\r\n")
        let id = try queuedID(try await busy.reply())
        #expect(try await busy.reply().hasPrefix("421 4.3.2"))
        try await edge.task.value
        #expect(try await fixture.open(id).content == Array("half\r\nother half\r\n".utf8))
        await #expect(throws: (any Error).self) { _ = try await SMTPTestClient.connect(edge.plainPort) }
    }

    @Test("Law 3: the edge's role reads back no content, key or address")
    func cannotReadBack() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        _ = try queuedID(try await edge.client().mail(Self.lines(1000, seed: 6)))
        let own = PostgresPool(
            configuration: PostgresConfiguration(
                fixture.postgres.dsn(database: fixture.database, user: "zegel_edge")),
            limit: 1, waitLimit: .seconds(10))
        for table in [
            "message", "content", "recipient", "batch_key", "delivery", "event", "replay", "upload",
        ] {
            await #expect(throws: PostgresError.self, "\(table)") {
                try await own.withConnection { connection in
                    _ = try await connection.perform { try $0.query("SELECT * FROM ledger.\(table)").count }
                }
            }
        }
        await own.close()
        try await edge.stop()
    }
}
