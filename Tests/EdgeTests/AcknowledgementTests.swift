// Which octets show that a client has its 250 (design §7), as a value and through a whole edge.

import Foundation
import Lab
import Testing

@testable import Edge

@Suite("Acknowledgement", .serialized) struct AcknowledgementTests {
    /// What happens on a connection, in order.
    enum Happening {
        /// A 250 was written for this tag; whether octets lay unread in the kernel.
        case answered(UInt8, hasUnread: Bool)
        /// A read, and what it acknowledges; whether octets are left in the kernel then.
        case read([UInt8], hasUnread: Bool)
    }

    static let courses: [(String, [Happening])] = [
        ("the next octets acknowledge", [.answered(1, hasUnread: false), .read([1], hasUnread: false)]),
        (
            "once",
            [.answered(1, hasUnread: false), .read([1], hasUnread: false), .read([], hasUnread: false)]
        ),
        ("nothing is acknowledged before it is answered", [.read([], hasUnread: false)]),
        (
            "octets that lay in the kernel do not, those after them do",
            [.answered(1, hasUnread: true), .read([], hasUnread: false), .read([1], hasUnread: false)]
        ),
        (
            "as long as the kernel has some nobody can tell them apart",
            [
                .answered(1, hasUnread: true), .read([], hasUnread: true), .read([], hasUnread: false),
                .read([1], hasUnread: false),
            ]
        ),
        (
            "several answers wait together",
            [
                .answered(1, hasUnread: false), .answered(2, hasUnread: false),
                .read([1, 2], hasUnread: false),
            ]
        ),
        (
            "a later answer makes the earlier ones wait too",
            [
                .answered(1, hasUnread: false), .answered(2, hasUnread: true), .read([], hasUnread: false),
                .read([1, 2], hasUnread: false),
            ]
        ),
    ]

    @Test("Octets acknowledge only what was answered before they arrived", arguments: courses)
    func course(_ name: String, _ happenings: [Happening]) {
        var acknowledgement = Acknowledgement<String>()
        for happening in happenings {
            switch happening {
            case .answered(let tag, let hasUnread):
                acknowledgement.answered([tag], keptBy: "a", hasUnread: hasUnread)
            case .read(let expected, let hasUnread):
                #expect(acknowledgement.received().map(\.tag) == expected.map { [$0] }, "\(name)")
                acknowledgement.readEnded { hasUnread }
            }
        }
    }

    @Test("Law 9: the answers that wait on one connection are bounded")
    func bounded() {
        var acknowledgement = Acknowledgement<String>()
        for tag in 0..<200 { acknowledgement.answered([UInt8(tag)], keptBy: "a", hasUnread: false) }
        let taken = acknowledgement.received()
        #expect(taken.count == Acknowledgement<String>.maximumTags)
        #expect(taken.last?.tag == [199])
    }

    /// A transaction whose commit waits for `body`: locks out the edge's writes meanwhile.
    private func holdingCommits(_ fixture: EdgeFixture, _ body: @Sendable () async throws -> Void)
        async throws
    {
        let connection = try await fixture.connection()
        _ = try await connection.perform { try $0.execute("BEGIN; LOCK TABLE ledger.message IN SHARE MODE") }
        try await body()
        _ = try await connection.perform { try $0.execute("ROLLBACK") }
        await connection.close()
    }

    @Test(
        "What a client sent ahead of its 250 shows nothing, read or still in the kernel: the same bytes again get the first id"
    )
    func sentAhead() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let content = EdgeTests.lines(3000, seed: 7)
        let client = try await edge.client()
        for line in ["MAIL FROM:<a@demo.test>", "RCPT TO:<b@bar.test>", "DATA"] {
            _ = try await client.ask(line)
        }
        try await holdingCommits(fixture) {
            // The first makes the edge stop reading while its answer is outstanding; the second stays where it is.
            try await client.send(content + Array(".\r\nNOOP\r\n".utf8))
            try await eventually("the commit waits") {
                try await fixture.count(
                    """
                    SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                    WHERE NOT l.granted AND d.datname = current_database()
                    """) > 0
            }
            try await client.send("NOOP\r\n")
            try await client.send("NOOP\r\n")
        }
        let id = try queuedID(try await client.reply())
        for _ in 0..<3 { #expect(try await client.reply().hasPrefix("250 2.0.0")) }
        try await client.close()
        // Tags go with the next commit, so another message shows whether any went.
        let second = try await edge.client()
        _ = try queuedID(try await second.mail(EdgeTests.lines(100, seed: 8)))
        #expect(try queuedID(try await second.mail(content)) == id, "it had not seen its 250")
        try await edge.stop()
    }

    @Test("A client that sends ahead acknowledges with what it sends after its 250")
    func sentAfter() async throws {
        let fixture = try await EdgeFixture.make()
        defer { fixture.remove() }
        let edge = try await fixture.start()
        let content = EdgeTests.lines(3000, seed: 9)
        let client = try await edge.client()
        for line in ["MAIL FROM:<a@demo.test>", "RCPT TO:<b@bar.test>", "DATA"] {
            _ = try await client.ask(line)
        }
        try await client.send(content + Array(".\r\nNOOP\r\n".utf8))
        let id = try queuedID(try await client.reply())
        #expect(try await client.reply().hasPrefix("250 2.0.0"))
        #expect(try await client.ask("NOOP").hasPrefix("250 2.0.0"))
        #expect(try queuedID(try await client.mail(content)) != id, "acknowledged, so it is a new message")
        try await edge.stop()
    }
}
