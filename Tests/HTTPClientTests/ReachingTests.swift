// From a name to an address that may be connected to, and the ways in which there is none.

import DNS
import HTTPClient
import Lab
import NIOPosix
import TLS
import Testing

@Suite struct ReachingTests {
    private let answer = TLSScriptStep.send(Array("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".utf8))

    @Test(arguments: [
        ["127.0.0.1"], ["10.0.0.1", "192.168.1.1"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::127.0.0.1"],
        ["169.254.169.254"],
    ])
    func `a name that leads inside is refused, and nothing is connected to`(addresses: [String]) async throws
    {
        let fixture = try ClientFixture([ClientFixture.host: addresses])
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer])
        let error = try #require(
            await fixture.client(allowed: []).failure("https://\(ClientFixture.host):\(server.port)/"))
        #expect(error.code == .addressRefused)
        #expect(error.address != nil)
        #expect(server.transcript.connections == 0)
        try await server.stop()
    }

    @Test(arguments: ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "169.254.169.254", "[fe80::1]"])
    func `an address in the URL is judged like any other`(host: String) async throws {
        let fixture = try ClientFixture()
        #expect(await (try fixture.client(allowed: [])).failure("https://\(host)/")?.code == .addressRefused)
    }

    @Test func `an address that is refused is left out where another is permitted`() async throws {
        let fixture = try ClientFixture([ClientFixture.host: ["10.0.0.1", "127.0.0.1"]])
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer])
        let client = try fixture.client(allowed: ["127.0.0.1"])
        let response = try await client.get("https://\(ClientFixture.host):\(server.port)/")
        #expect(response.address.description == "127.0.0.1")
        client.shutDown()
        try await server.stop()
    }

    @Test func `a name that changes its mind is judged anew, and no kept connection answers for it`()
        async throws
    {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer, .awaitRequest(2), answer])
        let url = "https://\(ClientFixture.host):\(server.port)/"
        let client = try fixture.client()
        #expect(try await client.get(url).status == 200)
        fixture.resolver.set(ClientFixture.host, ["10.0.0.1"])
        #expect(await client.failure(url)?.code == .addressRefused)
        fixture.resolver.set(ClientFixture.host, [])
        #expect(await client.failure(url)?.code == .noAddress)
        fixture.resolver.set(ClientFixture.host, ["127.0.0.1"])
        #expect(try await client.get(url).status == 200)
        #expect(server.transcript.connections == 1)
        client.shutDown()
        try await server.stop()
    }

    @Test func `where IPv6 does not answer, IPv4 is tried`() async throws {
        let fixture = try ClientFixture([ClientFixture.host: ["127.0.0.1", "::1"]])
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer])
        let client = try fixture.client()
        let response = try await client.get("https://\(ClientFixture.host):\(server.port)/")
        #expect(response.address.description == "127.0.0.1")
        client.shutDown()
        try await server.stop()
    }

    @Test func `a failed lookup is no absence, and one family that answers is enough`() async throws {
        let fixture = try ClientFixture()
        let port = try freePort()
        let url = "https://\(ClientFixture.host):\(port)/"
        let table = [ClientFixture.host: ["127.0.0.1"]]
        let both = try fixture.client(resolver: NameTable(table, failing: [.a, .aaaa]))
        #expect(await both.failure(url)?.code == .dnsFailure)
        let four = try fixture.client(resolver: NameTable(table, failing: [.a]))
        #expect(await four.failure(url)?.code == .dnsFailure)
        let six = try fixture.client(resolver: NameTable(table, failing: [.aaaa]))
        #expect(await six.failure(url)?.code == .connectRefused)
        #expect(await (try fixture.client()).failure("https://nobody.test/")?.code == .noAddress)
    }

    @Test
    func `a host that accepts and says nothing costs a handshake's time, or the deadline if that is shorter`()
        async throws
    {
        let fixture = try ClientFixture()
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).get()
        let url = "https://\(ClientFixture.host):\(try #require(listener.localAddress?.port))/"
        let hasty = try fixture.client { $0.connectTimeout = .milliseconds(100) }
        #expect(await hasty.failure(url)?.code == .tlsFailure)
        let late = try #require(await fixture.client().failure(url, deadline: .milliseconds(100)))
        #expect(late.code == .deadline)
        #expect(late.reason.contains("connecting"))
        try await listener.close()
    }

    @Test func `past the bound of those who wait, the next is turned away`() async throws {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(try fixture.server(alpn: []), [.awaitRequest(1)])
        let url = "https://\(ClientFixture.host):\(server.port)/"
        let client = try fixture.client {
            $0.maximumConnections = 1
            $0.maximumWaiting = 1
        }
        let first = Task { await client.failure(url) }
        try await eventually("a request is there") { !server.transcript.received.isEmpty }
        // It waits in the line until its time is over; the line is full meanwhile.
        let second = Task {
            while true {
                let error = await client.failure(url)
                // One that only looks may stand in its place for a moment.
                if error?.code != .tooManyWaiting { return error }
            }
        }
        try await eventually("the line is full") {
            await client.failure(url, deadline: .milliseconds(50))?.code == .tooManyWaiting
        }
        second.cancel()
        #expect(await second.value?.code == .cancelled)
        let waited = try #require(await client.failure(url, deadline: .milliseconds(50)))
        #expect(waited.code == .deadline)
        #expect(waited.reason.contains("waiting for a free connection"))
        first.cancel()
        #expect(await first.value?.code == .cancelled)
        // What was given up is closed, and its place is free.
        try await eventually("the connection ends") { server.transcript.open == 0 }
        #expect(server.transcript.connections == 1)
        client.shutDown()
        #expect(await client.failure(url)?.code == .shutDown)
        try await server.stop()
    }

    @Test func `a connection is kept for the next request, and ends when it was idle long enough`()
        async throws
    {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer, .awaitRequest(2), answer])
        let url = "https://\(ClientFixture.host):\(server.port)/"
        let keeping = try fixture.client()
        for _ in 0..<2 { #expect(try await keeping.get(url).body == Array("ok".utf8)) }
        #expect(server.transcript.connections == 1)
        #expect(server.transcript.open == 1)
        keeping.shutDown()
        try await eventually("shutting down ends it") { server.transcript.open == 0 }
        let hasty = try fixture.client { $0.idleTimeout = .milliseconds(1) }
        for number in 2...3 {
            #expect(try await hasty.get(url).body == Array("ok".utf8))
            try await eventually("the idle connection ends") { server.transcript.open == 0 }
            #expect(server.transcript.connections == number)
        }
        hasty.shutDown()
        // What was checked long ago is checked anew.
        let strict = try fixture.client { $0.connectionLifetime = .zero }
        for number in 4...5 {
            #expect(try await strict.get(url).body == Array("ok".utf8))
            #expect(server.transcript.connections == number)
        }
        strict.shutDown()
        try await server.stop()
    }

    @Test func `a kept connection that proves dead costs a second attempt only where that does no harm`()
        async throws
    {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: []), [.awaitRequest(1), answer, .awaitRequest(2), .cut])
        let url = try HTTPSURL("https://\(ClientFixture.host):\(server.port)/")
        let limits = HTTPLimits(maximumBodyBytes: 100, deadline: .seconds(20))
        let client = try fixture.client()
        #expect(try await client.send(HTTPRequest(.get, url), limits).status == 200)
        #expect(try await client.send(HTTPRequest(.get, url), limits).status == 200)
        #expect(server.transcript.connections == 2)
        do {
            _ = try await client.send(HTTPRequest(.post, url), limits)
            Issue.record("an answer came from nowhere")
        } catch {
            #expect(error.code == .connectionClosed)
        }
        #expect(server.transcript.connections == 2)
        client.shutDown()
        try await server.stop()
    }
}
