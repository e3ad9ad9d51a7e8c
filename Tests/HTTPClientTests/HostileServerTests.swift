// Servers that mean harm, or are broken: whatever they do ends in a typed error, within bounds of time and memory.

import HTTPClient
import Lab
import NIOCore
import TLS
import Testing

/// One after the other: floods at once would tax this machine, which is not what they are to show.
@Suite(.serialized) struct HostileServerTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let alpn: String
        let script: [TLSScriptStep]
        let codes: Set<HTTPClientError.Code>
        var deadline = Duration.seconds(20)

        init(
            _ name: String, _ alpn: String, _ codes: Set<HTTPClientError.Code>,
            deadline: Duration = .seconds(20),
            _ script: [TLSScriptStep]
        ) {
            testDescription = name
            self.alpn = alpn
            self.codes = codes
            self.script = script
            self.deadline = deadline
        }
    }

    private static func text(_ text: String) -> [UInt8] { Array(text.utf8) }
    private static let padding = String(repeating: "x", count: 1000)
    private static let opening: [TLSScriptStep] = [.send(HTTP2Frame.settings), .awaitRequest(1)]

    static let overHTTP1: [Case] = [
        Case("silence", "http/1.1", [.deadline], deadline: .milliseconds(300), [.awaitRequest(1)]),
        Case(
            "one octet at a time", "http/1.1", [.deadline], deadline: .milliseconds(300),
            [
                .awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nX: ")),
                .drip([0x61], every: .milliseconds(20)),
            ]),
        Case(
            "body one octet at a time", "http/1.1", [.deadline], deadline: .milliseconds(300),
            [
                .awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")),
                .drip([0x61], every: .milliseconds(20)),
            ]),
        Case(
            "endless fields", "http/1.1", [.tooLarge],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\n")), .flood(text("X: \(padding)\r\n"))]),
        Case(
            "endless short fields", "http/1.1", [.tooLarge],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\n")), .flood(text("X: 1\r\nY: 2\r\n"))]),
        Case(
            "one endless field", "http/1.1", [.tooLarge],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nX: ")), .flood(text(padding))]),
        Case(
            "endless status line", "http/1.1", [.flooded, .protocolError],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 ")), .flood(text(padding))]),
        Case(
            "endless body until the end", "http/1.1", [.tooLarge],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\n\r\n")), .flood(text(padding))]),
        Case(
            "endless chunks", "http/1.1", [.tooLarge],
            [
                .awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")),
                .flood(text("3e8\r\n\(padding)\r\n")),
            ]),
        Case(
            "endless chunk extension", "http/1.1", [.flooded, .protocolError],
            [
                .awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=")),
                .flood(text(padding)),
            ]),
        Case(
            "endless trailers", "http/1.1", [.tooLarge],
            [
                .awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")),
                .flood(text("X: \(padding)\r\n")),
            ]),
        Case(
            "endless interim answers", "http/1.1", [.flooded, .tooLarge],
            [.awaitRequest(1), .flood(text("HTTP/1.1 100 Continue\r\n\r\n"))]),
        Case(
            "a length far too large", "http/1.1", [.tooLarge],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"))]),
        Case(
            "a length that is none", "http/1.1", [.protocolError],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"))]),
        Case(
            "two lengths", "http/1.1", [.protocolError],
            [
                .awaitRequest(1),
                .send(text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc")),
            ]),
        Case(
            "a body shorter than its length", "http/1.1", [.connectionClosed],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")), .close]),
        Case(
            "a body without length that is cut", "http/1.1", [.connectionClosed],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\n\r\nabc")), .cut]),
        Case("closed at once", "http/1.1", [.connectionClosed], [.close]),
        Case("closed after the request", "http/1.1", [.connectionClosed], [.awaitRequest(1), .close]),
        Case(
            "cut inside the header", "http/1.1", [.connectionClosed],
            [.awaitRequest(1), .send(text("HTTP/1.1 200 OK\r\nX")), .cut]),
        Case(
            "no HTTP", "http/1.1", [.protocolError],
            [.awaitRequest(1), .send(text("220 peer.test ESMTP\r\n"))]),
        Case("HTTP/2 unasked", "http/1.1", [.protocolError], [.awaitRequest(1), .send(HTTP2Frame.settings)]),
        Case(
            "another protocol", "http/1.1", [.protocolError],
            [.awaitRequest(1), .send(text("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))]),
    ]

    static let overHTTP2: [Case] = [
        Case("silence", "h2", [.deadline], deadline: .milliseconds(300), []),
        Case("silence after the settings", "h2", [.deadline], deadline: .milliseconds(300), opening),
        Case(
            "body one octet at a time", "h2", [.deadline], deadline: .milliseconds(300),
            opening + [
                .send(HTTP2Frame.headers("200")), .drip(HTTP2Frame.data([0x61]), every: .milliseconds(5)),
            ]),
        Case(
            "endless fields", "h2", [.tooLarge],
            opening + [
                .send(HTTP2Frame.headers("200", whole: false)),
                .flood(HTTP2Frame.continuation((0..<15).map { ("x-\($0)", padding) })),
            ]),
        Case(
            "endless continuations without a field", "h2", [.flooded, .protocolError],
            opening + [.send(HTTP2Frame.headers("200", whole: false)), .flood(HTTP2Frame.continuation([]))]),
        Case(
            "endless interim answers", "h2", [.flooded, .tooLarge],
            opening + [.flood(HTTP2Frame.headers("103"))]),
        Case(
            "endless body", "h2", [.tooLarge],
            opening + [
                .send(HTTP2Frame.headers("200")),
                .flood(HTTP2Frame.data([UInt8](repeating: 65, count: 16_000))),
            ]),
        Case(
            "endless empty frames", "h2", [.flooded],
            opening + [.send(HTTP2Frame.headers("200")), .flood(HTTP2Frame.data([]))]),
        Case("endless settings", "h2", [.flooded, .protocolError], opening + [.flood(HTTP2Frame.settings)]),
        Case(
            "endless settings before the request", "h2", [.flooded, .protocolError, .connectionClosed],
            [.flood(HTTP2Frame.settings)]),
        Case("endless pings", "h2", [.flooded, .protocolError], opening + [.flood(HTTP2Frame.ping)]),
        Case(
            "endless pings in one piece", "h2", [.flooded, .protocolError],
            opening + [.flood(Array((0..<4000).map { _ in HTTP2Frame.ping }.joined()))]),
        Case(
            "endless resets", "h2", [.flooded, .protocolError],
            opening + [.flood(HTTP2Frame.reset(8, stream: 3))]),
        Case(
            "endless window updates", "h2", [.flooded, .protocolError],
            opening + [.flood(HTTP2Frame.windowUpdate(1))]),
        Case(
            "endless unknown frames", "h2", [.flooded],
            opening + [.flood(HTTP2Frame.frame(200, 0, 0, [1, 2, 3]))]),
        Case(
            "a frame larger than agreed", "h2", [.protocolError],
            opening + [.send(HTTP2Frame.frame(0, 0, 1, [UInt8](repeating: 0, count: 20_000)))]),
        Case(
            "a window past its end", "h2", [.protocolError],
            opening + [.send(HTTP2Frame.windowUpdate(0x7FFF_FFFF))]),
        Case(
            "a pushed answer", "h2", [.protocolError],
            opening + [
                .send(HTTP2Frame.frame(4, 1)),
                .send(HTTP2Frame.frame(5, 4, 1, [0, 0, 0, 2, 0x82, 0x84, 0x86])),
            ]),
        Case(
            "a field block that is none", "h2", [.protocolError],
            opening + [.send(HTTP2Frame.frame(1, 5, 1, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]))]),
        Case(
            "no status", "h2", [.protocolError],
            opening + [.send(HTTP2Frame.frame(1, 5, 1, [0, 1, 0x61, 1, 0x62]))]),
        Case(
            "body before the header", "h2", [.protocolError],
            opening + [.send(HTTP2Frame.data([1], ends: true))]),
        Case(
            "a body longer than its length", "h2", [.protocolError],
            opening + [
                .send(HTTP2Frame.headers("200", [("content-length", "1")])),
                .send(HTTP2Frame.data([1, 2, 3], ends: true)),
            ]),
        Case(
            "a body shorter than its length", "h2", [.protocolError],
            opening + [
                .send(HTTP2Frame.headers("200", [("content-length", "9")])),
                .send(HTTP2Frame.data([1, 2, 3], ends: true)),
            ]),
        Case(
            "a length far too large", "h2", [.tooLarge],
            opening + [.send(HTTP2Frame.headers("200", [("content-length", "999999999999")]))]),
        Case("the stream is reset", "h2", [.protocolError], opening + [.send(HTTP2Frame.reset(2))]),
        Case(
            "the stream is reset inside the body", "h2", [.connectionClosed],
            opening + [
                .send(HTTP2Frame.headers("200")), .send(HTTP2Frame.data([1])), .send(HTTP2Frame.reset(0)),
            ]),
        Case("the stream is refused", "h2", [.requestRefused], opening + [.send(HTTP2Frame.reset(7))]),
        Case(
            "farewell at once", "h2", [.requestRefused, .connectionClosed],
            [.send(HTTP2Frame.settings), .send(HTTP2Frame.goAway(last: 0))]),
        Case(
            "farewell that excludes the request", "h2", [.requestRefused],
            opening + [.send(HTTP2Frame.goAway(last: 0))]),
        Case(
            "farewell and end", "h2", [.connectionClosed],
            opening + [.send(HTTP2Frame.goAway(last: 1, 11)), .close]),
        Case("closed at once", "h2", [.connectionClosed], [.close]),
        Case(
            "cut inside the body", "h2", [.connectionClosed],
            opening + [.send(HTTP2Frame.headers("200")), .send(HTTP2Frame.data([1])), .cut]),
        Case(
            "HTTP/1.1 unasked", "h2", [.protocolError, .connectionClosed],
            [.send(text("HTTP/1.1 400 Bad Request\r\n\r\n"))]),
    ]

    @Test(arguments: overHTTP1 + overHTTP2)
    func `what a hostile server does ends in a typed error, and its connection ends too`(hostile: Case)
        async throws
    {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: [hostile.alpn]), hostile.script)
        let client = try fixture.client()
        let error = try #require(
            await client.failure("https://\(ClientFixture.host):\(server.port)/", deadline: hostile.deadline))
        #expect(hostile.codes.contains(error.code), "\(error)")
        #expect(!error.reason.isEmpty)
        try await eventually("the connection ends") { server.transcript.open == 0 }
        // At most one more attempt, and that only where the server had not looked at the request.
        #expect(server.transcript.connections <= 2)
        client.shutDown()
        try await server.stop()
    }

    @Test(arguments: ["h2", "http/1.1"])
    func `an answer that is whole counts, whatever comes behind it`(alpn: String) async throws {
        let fixture = try ClientFixture()
        let answer: [TLSScriptStep] =
            alpn == "h2"
            ? Self.opening + [
                .send(HTTP2Frame.headers("200", [("content-encoding", "gzip")])),
                .send(HTTP2Frame.data([1, 2, 3], ends: true)), .flood(HTTP2Frame.ping),
            ]
            : [
                .awaitRequest(1),
                .send(
                    Self.text("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n") + [
                        1, 2, 3,
                    ]),
                .flood(Self.text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
            ]
        let server = try await ScriptedTLSServer.start(try fixture.server(alpn: [alpn]), answer)
        let client = try fixture.client()
        let response = try await client.get("https://\(ClientFixture.host):\(server.port)/")
        #expect(response.status == 200)
        // Packed bodies come as they are.
        #expect(response.body == [1, 2, 3])
        #expect(response.fields["content-encoding"] == "gzip")
        // A kept connection that talks on is given up.
        try await eventually("the connection ends") { server.transcript.open == 0 }
        client.shutDown()
        try await server.stop()
    }

    @Test func `an interim answer is passed over`() async throws {
        let fixture = try ClientFixture()
        let server = try await ScriptedTLSServer.start(
            try fixture.server(alpn: ["h2"]),
            Self.opening + [
                .send(HTTP2Frame.headers("103", [("link", "</x>")])),
                .send(HTTP2Frame.headers("204", ends: true)),
            ])
        let client = try fixture.client()
        let response = try await client.get("https://\(ClientFixture.host):\(server.port)/")
        #expect(response.status == 204)
        #expect(response.fields == [:])
        client.shutDown()
        try await server.stop()
    }
}
