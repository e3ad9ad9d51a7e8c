// The bounds of an answer, whichever protocol brings it; and which requests can be sent at all.

import Testing

@testable import HTTPClient

@Suite struct ResponseAssemblyTests {
    private func assembly(_ method: HTTPRequest.Method = .get, _ most: Int = 10) -> ResponseAssembly {
        ResponseAssembly(method, HTTPLimits(maximumBodyBytes: most, deadline: .seconds(1)))
    }

    private func code(_ body: () throws(HTTPClientError) -> Void) -> HTTPClientError.Code? {
        do throws(HTTPClientError) {
            try body()
            return nil
        } catch {
            return error.code
        }
    }

    @Test func `interim answers are thrown away, trailers too`() throws {
        var answer = assembly()
        try answer.receive(status: 103)
        try answer.receive(field: "link", "</x>")
        try answer.receiveHeaderEnd()
        try answer.receive(status: 200)
        try answer.receive(field: "Content-Type", "text/plain; charset=utf-8")
        try answer.receiveHeaderEnd()
        try answer.receive(body: [1, 2])
        try answer.receive(body: [3])
        try answer.receive(field: "x-checksum", "1")
        let message = try answer.end()
        #expect(message.status == 200)
        #expect(message.body == [1, 2, 3])
        #expect(message.fields == ["content-type": "text/plain; charset=utf-8"])
    }

    @Test func `the last octet allowed is taken, one more is not`() throws {
        var answer = assembly()
        try answer.receive(status: 200)
        try answer.receiveHeaderEnd()
        try answer.receive(body: Array(repeating: 0, count: 10))
        #expect(code { () throws(HTTPClientError) in try answer.receive(body: [0]) } == .tooLarge)
    }

    @Test(arguments: [HTTPRequest.Method.get, .head])
    func `a length announced too large ends it at once, unless no body follows`(method: HTTPRequest.Method)
        throws
    {
        var answer = assembly(method)
        try answer.receive(status: 200)
        try answer.receive(field: "content-length", "11")
        #expect(
            code { () throws(HTTPClientError) in try answer.receiveHeaderEnd() }
                == (method == .head ? nil : .tooLarge))
    }

    @Test func `fields are bounded in number and in octets, interim answers included`() throws {
        var many = assembly()
        try many.receive(status: 200)
        for _ in 0..<200 { try many.receive(field: "a", "") }
        #expect(code { () throws(HTTPClientError) in try many.receive(field: "a", "") } == .tooLarge)
        var large = assembly()
        try large.receive(status: 200)
        let value = String(repeating: "x", count: 64 << 10)
        #expect(code { () throws(HTTPClientError) in try large.receive(field: "a", value) } == .tooLarge)
        var interim = assembly()
        #expect(
            code { () throws(HTTPClientError) in
                while true {
                    try interim.receive(status: 103)
                    try interim.receive(field: "a", "b")
                    try interim.receiveHeaderEnd()
                }
            } == .tooLarge)
    }

    @Test func `101 was not asked for, and a body before its header is none`() throws {
        var upgrade = assembly()
        try upgrade.receive(status: 101)
        #expect(code { () throws(HTTPClientError) in try upgrade.receiveHeaderEnd() } == .protocolError)
        var early = assembly()
        #expect(code { () throws(HTTPClientError) in try early.receive(body: [1]) } == .protocolError)
        var short = assembly()
        #expect(code { () throws(HTTPClientError) in _ = try short.end() } == .connectionClosed)
    }

    @Test(arguments: [
        ("text/plain", "text/plain"), ("Text/Plain ; charset=utf-8", "text/plain"), ("", ""),
    ])
    func `RFC 9110 §8.3.1: a media type is without case and parameters`(value: String, type: String) {
        let fields: HTTPFields = ["Content-Type": value]
        #expect(fields.mediaType == type)
    }

    @Test func `two media types are none`() {
        let fields: HTTPFields = ["content-type": "text/plain", "Content-Type": "text/html"]
        #expect(fields.mediaType == nil)
        #expect(HTTPFields().mediaType == nil)
    }

    @Test(arguments: [
        ("x y", "1"), ("", "1"), ("x:", "1"), ("x", "1\r\ny: 2"), ("x", "a\u{0}"), ("Host", "other.test"),
        ("Transfer-Encoding", "chunked"), ("content-length", "1"), ("accept-encoding", "gzip"),
    ])
    func `a field that would be two, or that is the client's own, is not sent`(name: String, value: String)
        throws
    {
        let request = HTTPRequest(.get, try HTTPSURL("https://peer.test/"), fields: [name: value])
        #expect(
            code { () throws(HTTPClientError) in try request.validate() } == .invalidRequest)
    }
}
