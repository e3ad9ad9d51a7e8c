// Read your writes: what a client has seen or was answered 250 for is never missing from the next answer, whichever member gives it.
import Foundation
import Lab
import Ledger
import Postgres
import Sealing
import Testing

@testable import API

@Suite("Position token") struct PositionTextTests {
    private static func some(_ shards: Int) -> ReadPosition {
        var position = ReadPosition()
        for n in 0..<shards {
            position.see(
                "shard-\(n)", ShardPosition(incarnation: UUID(), lsn: UInt64.random(in: 0 ... .max)))
        }
        return position
    }

    @Test(
        "a position reads as it was written, in letters that a header takes as they are",
        arguments: [0, 1, 3, 40])
    func roundTrip(shards: Int) throws {
        let position = Self.some(shards)
        #expect(try ReadPosition(position.text) == position)
        #expect(position.text.wholeMatch(of: /[A-Za-z0-9_-]+/) != nil)
    }

    @Test("every cut of a position is refused, and so is one with a letter changed")
    func altered() {
        let text = Array(Self.some(2).text)
        for length in 1..<text.count {
            #expect(throws: ReadPosition.Malformed.self) { try ReadPosition(String(text.prefix(length))) }
        }
        for place in text.indices.dropLast() {
            var other = text
            other[place] = other[place] == "A" ? "B" : "A"
            #expect(throws: ReadPosition.Malformed.self) { try ReadPosition(String(other)) }
        }
    }

    @Test("what is no position is refused: other text, a feed cursor, one without bound")
    func strange() {
        let place = FeedPosition(incarnation: UUID(), arrived: 1, id: UUID())
        for text in [
            "x", "AAAA", "%41", "é", FeedCursor(["a": place]).text, String(repeating: "A", count: 20_000),
        ] {
            #expect(throws: ReadPosition.Malformed.self, "\(text.prefix(40))") { try ReadPosition(text) }
        }
    }

    @Test("an id counts as new for ten minutes, made on a clock a little ahead too; one without a time never")
    func newness() {
        let now = Date()
        for (seconds, isNew) in [(0.0, true), (-599, true), (-601, false), (300, true), (1000, false)] {
            #expect(MessageFinder.isNew(UUIDv7.make(at: now + seconds), now: now) == isNew, "\(seconds) s")
        }
        #expect(!MessageFinder.isNew(UUID(), now: now))
    }
}

@Suite("Read your writes", .serialized, .timeLimit(.minutes(3)))
struct ReadYourWritesTests {
    /// A shard with a follower, and an API beside the follower.
    private struct Site {
        let leader: TemporaryPostgres
        let follower: TemporaryPostgres
        let fixture: APIFixture
        let key: APIKeyText
        let members: [PostgresPool]

        static func make() async throws -> Site {
            let leader = try await TemporaryPostgres.start()
            let fixture = try await APIFixture.make(on: leader)
            let key = try await fixture.apiKey(tenant: "demo")
            _ = try await fixture.intake.currentIncarnation()
            let follower = try await leader.follower()
            let members = [leader, follower].map {
                PostgresPool(
                    configuration: PostgresConfiguration(
                        $0.dsn(database: fixture.database, user: "zegel_api")), limit: 4,
                    waitLimit: .seconds(2))
            }
            return Site(leader: leader, follower: follower, fixture: fixture, key: key, members: members)
        }

        func close() async {
            for pool in members { await pool.close() }
            for server in [follower, leader] where server.isRunning { try? await server.killImmediate() }
        }
    }

    private static func field(_ answer: Curl.Answer) throws -> String {
        "\(ReadPosition.header): " + (try #require(answer.headers["zegel-position"]))
    }

    @Test(
        "a message is found right after its 250, though no follower has it; its position then holds every read to that"
    )
    func rightAfter() async throws {
        let lab = try await Site.make()
        try await lab.fixture.serving(members: lab.members) { api in
            let curl = try Curl(api)
            try await lab.follower.administer("SELECT pg_wal_replay_pause()")
            let id = try await lab.fixture.accept().uuidString.lowercased()
            let found = try await curl.get("/v1/messages/\(id)", key: lab.key.text)
            #expect(found.status == 200)
            let position = try Self.field(found)
            // The feed comes from members that follow, and none has come so far.
            let late = try await curl.get("/v1/events", key: lab.key.text, [position])
            #expect(
                late.status == 503 && late.headers["retry-after"] == "2" && late.body.contains("come so far"))
            // Without the position the feed shows what there is.
            let plain = try await curl.get("/v1/events", key: lab.key.text)
            #expect(plain.status == 200 && !plain.body.contains(id))
            try await lab.follower.administer("SELECT pg_wal_replay_resume()")
            let page = try await curl.get("/v1/events", key: lab.key.text, [position])
            #expect(page.status == 200 && page.body.contains(id))
            // What it answers with is as far, and is taken again.
            let again = try await curl.get("/v1/messages/\(id)", key: lab.key.text, [try Self.field(page)])
            #expect(again.status == 200)
        }
        await lab.close()
    }

    @Test("while a shard has no leader an id that may be of a new message is answered 503, an old one 404")
    func withoutLeader() async throws {
        let lab = try await Site.make()
        try await lab.fixture.serving(members: lab.members) { api in
            let curl = try Curl(api)
            let known = try await lab.fixture.accept().uuidString.lowercased()
            try await eventually("the follower has it", within: .seconds(30)) {
                try await curl.get("/v1/events", key: lab.key.text).body.contains(known)
            }
            try await lab.leader.killImmediate()
            #expect(try await curl.get("/v1/messages/\(known)", key: lab.key.text).status == 200)
            let new = try await curl.get("/v1/messages/\(UUIDv7.make(at: Date()))", key: lab.key.text)
            #expect(new.status == 503 && new.headers["retry-after"] != nil && new.body.contains("shard a"))
            let old = try await curl.get(
                "/v1/messages/\(UUIDv7.make(at: Date() - 3600))", key: lab.key.text)
            #expect(old.status == 404)
        }
        await lab.close()
    }

    @Test("a position that is none is refused in words, and so is one of another cluster")
    func refused() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let id = try await fixture.accept()
        var strange = ReadPosition()
        strange.see("b", ShardPosition(incarnation: UUID(), lsn: 1))
        var foreign = ReadPosition()
        foreign.see("a", ShardPosition(incarnation: UUID(), lsn: 1))
        let texts = [
            ("garbage", "no position"), (strange.text, "another cluster"), (foreign.text, "another cluster"),
        ]
        try await fixture.serving { api in
            let curl = try Curl(api)
            for (text, words) in texts {
                for path in ["/v1/events", "/v1/messages/\(id)", "/v1/messages/\(id)/evidence"] {
                    let answer = try await curl.get(path, key: key.text, ["\(ReadPosition.header): \(text)"])
                    #expect(
                        answer.status == 400 && answer.body.contains(words),
                        "\(path) \(words): \(answer.body)")
                }
            }
        }
    }

    @Test("a shard that nobody answers for does not hold up the others' events, and is named")
    func oneShardAway() async throws {
        let fixture = try await APIFixture.make()
        for _ in 0..<3 { _ = try await fixture.accept() }
        // Nobody listens on the reserved port 1.
        let dead = (0..<2).map { _ in
            PostgresPool(
                configuration: PostgresConfiguration("host=127.0.0.1 port=1 dbname=x user=x"), limit: 1,
                waitLimit: .milliseconds(200))
        }
        let feed = EventFeed([
            EventLedger(shard: "a", pool: fixture.pool("zegel_api")), EventLedger(shard: "b", members: dead),
        ])
        var page = try await feed.page(after: FeedCursor(), tenant: nil, limit: 10, wait: .zero)
        try await eventually("three events are there", within: .seconds(30)) {
            page = try await feed.page(after: FeedCursor(), tenant: nil, limit: 10, wait: .zero)
            return page.items.count == 3
        }
        #expect(page.items.count == 3 && page.unread == ["b"])
        #expect(Set(page.next.positions.keys) == ["a"])
        // None at all is no empty page.
        await #expect(throws: ShardUnreadable.self) {
            _ = try await EventFeed([EventLedger(shard: "b", members: dead)])
                .page(after: FeedCursor(), tenant: nil, limit: 10, wait: .zero)
        }
    }
}
