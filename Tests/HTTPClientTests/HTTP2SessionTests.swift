// HTTP/2 in memory: however an answer is cut into pieces it is the same, and no octets at all bring the session down.

import Lab
import NIOCore
import Testing

@testable import HTTPClient

@Suite struct HTTP2SessionTests {
    private let limits = HTTPLimits(maximumBodyBytes: 1000, deadline: .seconds(1))
    private let answer: [UInt8] =
        HTTP2Frame.settings + HTTP2Frame.headers("103", [("link", "</x>")])
        + HTTP2Frame.headers("200", [("content-type", "text/plain"), ("content-length", "6")])
        + HTTP2Frame.data([1, 2, 3]) + HTTP2Frame.ping + HTTP2Frame.data([4, 5, 6], ends: true)

    /// A session with a request under way.
    private func session(_ body: [UInt8] = []) throws -> HTTP2Session {
        let session = try HTTP2Session()
        session.begin(
            HTTPRequest(body.isEmpty ? .get : .post, try HTTPSURL("https://peer.test/"), body: body), limits)
        _ = session.takeOutput(ByteBufferAllocator())
        return session
    }

    /// Feeds octets in pieces of this size until there is an outcome.
    private func fed(_ session: HTTP2Session, _ bytes: [UInt8], pieces: Int) -> ExchangeOutcome? {
        var rest = bytes[...]
        while !rest.isEmpty {
            session.feed(ByteBuffer(bytes: rest.prefix(pieces)))
            rest = rest.dropFirst(pieces)
            _ = session.takeOutput(ByteBufferAllocator())
            if let outcome = session.takeOutcome() { return outcome }
        }
        return nil
    }

    @Test(arguments: [1, 2, 3, 7, 9, 64, 10_000])
    func `an answer is the same in pieces of any size`(pieces: Int) throws {
        let outcome = try #require(fed(try session(), answer, pieces: pieces))
        let message = try outcome.answer.get()
        #expect(message.status == 200)
        #expect(message.body == [1, 2, 3, 4, 5, 6])
        #expect(message.fields == ["content-type": "text/plain", "content-length": "6"])
        #expect(outcome.isReusable)
    }

    @Test func `one session carries many exchanges, one after the other`() throws {
        let session = try session()
        #expect(fed(session, answer, pieces: 100) != nil)
        for stream in stride(from: UInt32(3), through: 99, by: 2) {
            session.begin(HTTPRequest(.get, try HTTPSURL("https://peer.test/")), limits)
            _ = session.takeOutput(ByteBufferAllocator())
            let next =
                HTTP2Frame.frame(1, 4, stream, [0x88]) + HTTP2Frame.data([7], ends: true, stream: stream)
            let message = try #require(fed(session, next, pieces: 100)).answer.get()
            #expect(message.body == [7])
        }
    }

    @Test func `an answer before the request is out ends the connection's use`() throws {
        // More than the first window of a server that has not said otherwise.
        let session = try session([UInt8](repeating: 1, count: 200_000))
        let outcome = try #require(
            fed(session, HTTP2Frame.settings + HTTP2Frame.headers("413", ends: true), pieces: 1000))
        #expect(try outcome.answer.get().status == 413)
        #expect(!outcome.isReusable)
    }

    @Test func `whatever octets come, there is an answer, an error, or more to wait for`() throws {
        let seed = UInt64.random(in: .min ... .max)
        var random = SplitMix(seed)
        var ends: [String: Int] = [:]
        for _ in 0..<3000 {
            var bytes = answer
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = UInt8.random(in: .min ... .max, using: &random)
                case 1: bytes.remove(at: at)
                default: bytes.insert(UInt8.random(in: .min ... .max, using: &random), at: at)
                }
            }
            let outcome = fed(try session(), bytes, pieces: Int.random(in: 1...200, using: &random))
            switch outcome?.answer {
            case .success(let message):
                ends["answer", default: 0] += 1
                #expect(message.body.count <= limits.maximumBodyBytes, "seed \(seed)")
            case .failure(let error): ends[error.code.description, default: 0] += 1
            case nil: ends["more", default: 0] += 1
            }
        }
        // Every kind of end has been there: the changes reach all of the session.
        #expect(Set(ends.keys).isSuperset(of: ["answer", "protocol error", "more"]), "seed \(seed): \(ends)")
    }
}
