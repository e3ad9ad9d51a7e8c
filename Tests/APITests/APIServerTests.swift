// The API over TLS against a real PostgreSQL: feed, messages, access, what a key outage leaves.
import Foundation
import Lab
import Ledger
import Observability
import Sealing
import Testing

@testable import API

@Suite("API", .serialized, .timeLimit(.minutes(3)))
struct APIServerTests {
    @Test("events come once each, in pages, opened, with a cursor of their own")
    func feed() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let first = try await fixture.accept(to: ["b@bar.test", "c@bar.test"])
        try await fixture.event(
            "delivered", of: first, detail: #"{"host":"mx.bar.test","tls":{"version":"TLSv1.3"}}"#)
        try await fixture.event("delivered", of: first, recipient: 1, possibleDuplicate: true)
        let second = try await fixture.accept()
        try await fixture.event("refused", of: second, reason: "starttls-not-supported")
        try await fixture.serving { api in
            let client = try api.client(key)
            _ = try await client.events(atLeast: 6)
            var seen: [EventBody] = []
            var cursor = ""
            while true {
                let page = try await client.events(after: cursor, limit: 2)
                if page.events.isEmpty {
                    #expect(page.next == cursor)
                    break
                }
                #expect(page.events.count <= 2 && page.next == page.events.last?.cursor)
                seen += page.events
                cursor = page.next
            }
            #expect(
                seen.map(\.kind) == ["accepted", "accepted", "delivered", "delivered", "accepted", "refused"])
            #expect(Set(seen.map(\.id)).count == 6)
            #expect(Set(seen.prefix(2).map(\.recipient)) == ["b@bar.test", "c@bar.test"])
            #expect(seen.allSatisfy { $0.shard == "a" && $0.tenant == "demo" && $0.sealed == nil })
            #expect(seen[2].messageID == first.uuidString.lowercased())
            #expect(
                seen[2].detail
                    == .object([
                        "host": .string("mx.bar.test"), "tls": .object(["version": .string("TLSv1.3")]),
                    ]))
            #expect(seen[3].possibleDuplicate == true && seen[3].recipient == "c@bar.test")
            #expect(seen[5].reasonCode == "starttls-not-supported")
            #expect(seen.allSatisfy { $0.at.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/) != nil })
            // Each event's own cursor goes on behind that event.
            let behindThird = try await client.events(after: try #require(seen[2].cursor))
            #expect(behindThird.events.map(\.id) == seen.dropFirst(3).map(\.id))
        }
    }

    @Test("a key sees its tenant's events and messages, an operator's key all of them")
    func tenants() async throws {
        let fixture = try await APIFixture.make()
        let demo = try await fixture.apiKey(tenant: "demo")
        let other = try await fixture.apiKey(tenant: "other")
        let operators = try await fixture.apiKey(tenant: nil)
        let mine = try await fixture.accept()
        let theirs = try await fixture.accept(tenant: "other", from: "x@other.test")
        try await fixture.serving { api in
            let (mineID, theirsID) = (mine.uuidString.lowercased(), theirs.uuidString.lowercased())
            for (key, seen, hidden) in [
                (demo, [mineID], [theirsID]), (other, [theirsID], [mineID]),
                (operators, [mineID, theirsID], []),
            ] {
                let client = try api.client(key)
                let page = try await client.events(atLeast: seen.count)
                #expect(Set(page.events.map(\.messageID)) == Set(seen))
                for id in seen { #expect(try await client.message(id)?.id == id) }
                for id in hidden { #expect(try await client.message(id) == nil) }
            }
        }
    }

    @Test("a message shows envelope, recipients, what is open and its timeline")
    func message() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let id = try await fixture.accept(to: ["b@bar.test", "c@bar.test"])
        try await fixture.event(
            "deferred", of: id, reason: "connection-refused", detail: #"{"reply":"none"}"#)
        try await fixture.serving { api in
            let found = try await api.client(key).message(id.uuidString)
            let message = try #require(found)
            #expect(message.id == id.uuidString.lowercased())
            #expect(message.envelope?.returnPath == "a@demo.test" && message.envelope?.body == "8BITMIME")
            #expect(message.recipients.map(\.address) == ["b@bar.test", "c@bar.test"])
            #expect(message.recipients.map(\.state) == ["open", "open"])
            #expect(
                message.deliveries.map(\.domain) == ["bar.test"]
                    && message.deliveries.map(\.state) == ["ready"])
            #expect(message.events.map(\.kind) == ["accepted", "accepted", "deferred"])
            #expect(message.events.last?.detail == .object(["reply": .string("none")]))
            #expect(message.ruleset == "secure" && message.size == 5 && message.sealed == nil)
            #expect(TraceReport(message).text.contains("[connection-refused]"))
            #expect(try await api.client(key).message(UUID().uuidString) == nil)
        }
    }

    @Test("without the key service the feed goes on, sealed; a destroyed epoch too")
    func keyOutage() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let id = try await fixture.accept()
        for failure in [KeyServiceError.unavailable("test"), .denied, .destroyed] {
            fixture.keys.fail(failure)
            try await fixture.serving { api in
                let page = try await api.client(key).events(atLeast: 1)
                #expect(page.events.map(\.kind) == ["accepted"])
                #expect(page.events.map(\.recipient) == [nil] && page.events.map(\.sealed) == [true])
                let message = try await api.client(key).message(id.uuidString)
                #expect(message?.sealed == true && message?.envelope == nil)
                #expect(message?.recipients.map(\.address) == [nil])
            }
        }
        fixture.keys.fail(nil)
        try await fixture.serving { api in
            let page = try await api.client(key).events(atLeast: 1)
            #expect(page.events.map(\.recipient) == ["b@bar.test"])
        }
    }

    @Test("an altered sealed address is shown as sealed, and the feed goes on")
    func alteredField() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        _ = try await fixture.accept()
        _ = try await fixture.admin.withConnection { connection in
            try await connection.perform { session in
                try session.execute(
                    "UPDATE ledger.recipient SET sealed_address = set_byte(sealed_address, 20, 255 # get_byte(sealed_address, 20))"
                )
            }
        }
        try await fixture.serving { api in
            let page = try await api.client(key).events(atLeast: 1)
            #expect(page.events.map(\.recipient) == [nil] && page.events.map(\.sealed) == [true])
        }
    }

    @Test("an empty page comes at once; with wait= it comes with the event, or when the time is over")
    func longPoll() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        try await fixture.serving { api in
            let client = try api.client(key)
            var start = ContinuousClock.now
            let empty = try await client.events(after: "")
            #expect(empty.events.isEmpty && ContinuousClock.now - start < .seconds(2))
            start = .now
            #expect(try await client.events(after: empty.next, wait: 1).events.isEmpty)
            #expect(ContinuousClock.now - start >= .milliseconds(900))
            async let waiting = client.events(after: empty.next, wait: 25)
            start = .now
            _ = try await fixture.accept()
            #expect(try await waiting.events.map(\.kind) == ["accepted"])
            #expect(ContinuousClock.now - start < .seconds(10))
        }
    }

    @Test("a shutdown ends a long poll with an empty page and not with an error")
    func shutdownEndsLongPoll() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let start = ContinuousClock.now
        try await fixture.serving { api in
            let client = try api.client(key, deadline: .seconds(60))
            _ = try await client.events(after: "")
            async let waiting = client.events(after: "", wait: 30)
            // Long enough for the request to be waiting; too short would only prove less.
            try await Task.sleep(for: .seconds(1))
            await api.group.triggerGracefulShutdown()
            #expect(try await waiting.events.isEmpty)
        }
        #expect(ContinuousClock.now - start < .seconds(20))
    }

    @Test("a transaction that commits late is skipped by nobody")
    func lateCommit() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let late = fixture.pool("postgres")
        try await fixture.serving { api in
            let client = try api.client(key)
            try await late.withConnection { connection in
                _ = try await connection.perform { session in
                    try session.execute(
                        """
                        BEGIN; INSERT INTO ledger.event (id, tenant, kind, at)
                        VALUES (ledger.uuid_v7(), 'demo', 'rejected', now())
                        """)
                }
                _ = try await fixture.accept()
                let held = try await client.events(after: "")
                #expect(held.events.isEmpty)
                _ = try await connection.perform { session in try session.execute("COMMIT") }
                let page = try await client.events(after: held.next, atLeast: 2)
                #expect(page.events.map(\.kind) == ["rejected", "accepted"])
            }
        }
        await late.close()
    }

    @Test(
        "a place in a shard that was restored alone goes on here, and keeps the places in shards that are elsewhere"
    )
    func elsewhere() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        _ = try await fixture.accept()
        try await fixture.serving { api in
            let client = try api.client(key)
            let page = try await client.events(after: "", atLeast: 1)
            var cursor = try FeedCursor(page.next)
            let other = FeedPosition(incarnation: UUID(), arrived: 5, id: UUID())
            cursor.positions["zz"] = other
            _ = try await fixture.accept()
            let next = try await client.events(after: cursor.text, atLeast: 1)
            #expect(next.events.count == 1)
            #expect(try FeedCursor(next.next).positions["zz"] == other)
        }
    }

    @Test("broken requests get a problem that says what is wrong")
    func problems() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let narrow = try await fixture.apiKey(tenant: "demo", scopes: ["events:read"])
        _ = try await fixture.accept()
        let foreign = FeedCursor(["a": FeedPosition(incarnation: UUID(), arrived: 5, id: UUID())]).text
        let strange = FeedCursor(["zz": FeedPosition(incarnation: UUID(), arrived: 5, id: UUID())]).text
        try await fixture.serving { api in
            let curl = try Curl(api)
            func expect(_ path: String, _ key: APIKeyText?, _ status: Int, _ part: String) async throws {
                let answer = try await curl.get(path, key: key?.text)
                #expect(answer.status == status, "\(path): \(answer.body)")
                #expect(answer.headers["content-type"] == "application/problem+json", "\(path)")
                #expect(answer.body.contains(part), "\(path): \(answer.body)")
            }
            try await expect("/v1/events", nil, 401, "API key")
            try await expect(
                "/v1/events", APIKeyText(id: UUID(), secret: String(repeating: "a", count: 43)), 401,
                "unknown")
            try await expect("/v1/messages/\(UUID())", narrow, 403, "messages:read")
            try await expect("/v1/events?after=garbage", key, 400, "'after'")
            try await expect("/v1/events?after=\(foreign)", key, 400, "another cluster")
            try await expect("/v1/events?after=\(strange)", key, 400, "another cluster")
            try await expect("/v1/events?limit=0", key, 400, "'limit'")
            try await expect("/v1/events?afer=garbage", key, 400, "'afer' is no parameter")
            try await expect("/v1/events?limit=1&After=", key, 400, "'After' is no parameter")
            try await expect("/v1/events?limit=1001", key, 400, "'limit'")
            try await expect("/v1/events?limit=x", key, 400, "'limit'")
            try await expect("/v1/events?wait=31", key, 400, "'wait'")
            try await expect("/v1/messages/nonsense", key, 400, "UUID")
            try await expect("/v1/messages/\(UUID())", key, 404, "No message")
            try await expect("/v2/other", key, 404, "No such resource")
            #expect(
                try await curl.get("/v1/events", key: nil).headers["www-authenticate"]
                    == #"Bearer realm="zegel""#)
        }
    }

    @Test("answers carry the rate, a next link only when there is more, and forbid storing and sniffing")
    func headers() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        _ = try await fixture.accept(to: ["b@bar.test", "c@bar.test"])
        try await fixture.serving { api in
            let curl = try Curl(api)
            _ = try await api.client(key).events(atLeast: 2)
            let full = try await curl.get("/v1/events?limit=1", key: key.text)
            #expect(full.headers["link"]?.hasSuffix(#"&limit=1>; rel="next""#) == true)
            let last = try await curl.get("/v1/events?limit=3", key: key.text)
            #expect(last.status == 200 && last.headers["link"] == nil)
            #expect(last.headers["x-ratelimit-limit"] == "1000")
            #expect(last.headers["x-ratelimit-remaining"].flatMap { Int($0) } != nil)
            let reset = try #require(last.headers["x-ratelimit-reset"].flatMap { Double($0) })
            #expect(abs(reset - Date().timeIntervalSince1970) < 60)
            #expect(last.headers["cache-control"] == "no-store")
            #expect(last.headers["x-content-type-options"] == "nosniff")
        }
    }

    @Test("health and readiness need no key, and the OpenAPI document names every route")
    func open() async throws {
        let fixture = try await APIFixture.make()
        let readiness = Readiness()
        readiness.expect("database")
        try await fixture.serving(readiness: readiness) { api in
            let curl = try Curl(api)
            #expect(try await curl.get("/healthz", key: nil).status == 200)
            #expect(try await curl.get("/readyz", key: nil).status == 503)
            readiness.hold("database")
            #expect(try await curl.get("/readyz", key: nil).status == 200)
            let document = try await curl.get("/v1/openapi.json", key: nil)
            let object = try #require(
                try JSONSerialization.jsonObject(with: Data(document.body.utf8)) as? [String: Any])
            let paths = try #require(object["paths"] as? [String: Any])
            #expect(
                Set(paths.keys) == [
                    "/v1/events", "/v1/messages/{id}", "/v1/messages/{id}/evidence", "/v1/judge", "/healthz",
                    "/readyz",
                ])
        }
    }

    @Test("the client refuses a server that another authority vouches for")
    func foreignAuthority() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let other = Array(try TestAuthority().certificate.serializeAsPEM().pemString.utf8)
        try await fixture.serving { api in
            let client = try APIClient(
                url: "https://localhost:\(api.port)", key: key.text, authoritiesPEM: other)
            await #expect(throws: APIClientError.self) { try await client.events(after: "") }
        }
    }
}
