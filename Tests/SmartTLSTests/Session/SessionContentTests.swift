// Content of any size, from memory and from a stream: byte for byte, bounded, and never ended by accident.

import Lab
import NIOCore
import SMTP
import SmartTLS
import Synchronization
import TLS
import Testing

/// Pieces made one by one, so that a test sees how many were asked for.
struct CountedPieces: AsyncSequence, Sendable {
    final class Counter: Sendable {
        private let value = Mutex(0)
        var count: Int { value.withLock { $0 } }
        func next() -> Int {
            value.withLock {
                $0 += 1; return $0
            }
        }
    }
    struct Broken: Error {}

    let piece: [UInt8]
    let limit: Int
    var failsAt: Int?
    let counter = Counter()

    struct AsyncIterator: AsyncIteratorProtocol {
        let pieces: CountedPieces
        mutating func next() async throws -> [UInt8]? {
            let number = pieces.counter.next()
            if number == pieces.failsAt { throw Broken() }
            return number > pieces.limit ? nil : pieces.piece
        }
    }
    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(pieces: self) }
}

@Suite(.timeLimit(.minutes(2))) struct SessionContentTests {
    func streamed(_ pieces: CountedPieces) -> OutboundTransaction {
        var transaction = SessionBench.transaction()
        transaction.content = OutboundContent(prefix: Array("X: y\r\n".utf8), body: .stream(pieces))
        return transaction
    }

    @Test func anyContentArrivesByteForByte() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        var random = SplitMix(seed)
        var script = SMTPScript()
        script.tls = try SessionBench.server()
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server, .required(SessionBench.client()))
        for round in 0..<30 {
            var content: [UInt8] = []
            for _ in 0..<Int.random(in: 0...(round % 10 == 9 ? 5_000 : 60), using: &random) {
                content.append(contentsOf: repeatElement(0x2E, count: Int.random(in: 0...2, using: &random)))
                for _ in 0..<Int.random(in: 0...120, using: &random) {
                    let octet = UInt8.random(in: 0...255, using: &random)
                    content.append(octet == 0x0D || octet == 0x0A ? 0x2E : octet)
                }
                content.append(contentsOf: [0x0D, 0x0A])
            }
            // Cut anywhere, also between CR and LF.
            var pieces: [[UInt8]] = []
            var rest = content[...]
            while !rest.isEmpty {
                let size = Int.random(in: 1...max(1, min(rest.count, 100_000)), using: &random)
                pieces.append(Array(rest.prefix(size)))
                rest = rest.dropFirst(size)
            }
            var transaction = SessionBench.transaction()
            transaction.content = OutboundContent(body: .memory(pieces))
            if Bool.random(using: &random) {
                let handed = pieces
                transaction.content.body = .stream(
                    AsyncThrowingStream<[UInt8], any Error> { continuation in
                        for piece in handed { continuation.yield(piece) }
                        continuation.finish()
                    })
            }
            let result = await session.send(transaction)
            #expect(result.finalReply?.code == 250)
            #expect(server.transcript.mails.last?.content == content, "round \(round)")
        }
        await session.quit()
        try await server.stop()
    }

    @Test func aStreamIsReadNoFasterThanTheHostTakesIt() async throws {
        var script = SMTPScript()
        script.stallsContentAfter = 200_000
        script.keepsContent = false
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server, timeouts: SessionBench.impatient(\.contentBlock))
        let line = Array((String(repeating: "x", count: 998) + "\r\n").utf8)
        let pieces = CountedPieces(piece: Array(repeatElement(line, count: 64).joined()), limit: 10_000)
        let result = await session.send(streamed(pieces))
        #expect(result.failure?.code == .timeout)
        #expect(result.failure?.step == "content")
        #expect(result.fate(of: 0) == .notAttempted)
        #expect(!result.dotSent)
        // What the kernel buffers on loopback, far from the 640 MB there are.
        #expect(pieces.counter.count < 500)
        try await server.stop()
    }

    @Test func aBigStreamArrivesWhole() async throws {
        var script = SMTPScript()
        script.keepsContent = false
        script.tls = try SessionBench.server()
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server, .required(SessionBench.client()))
        let line = Array((String(repeating: "x", count: 998) + "\r\n").utf8)
        let pieces = CountedPieces(piece: Array(repeatElement(line, count: 64).joined()), limit: 100)
        let result = await session.send(streamed(pieces))
        #expect(result.finalReply?.code == 250)
        #expect(server.transcript.contentBytes == 6 + 64_000 * 100)
        await session.quit()
        try await server.stop()
    }

    @Test func aStreamThatBreaksSendsNoDot() async throws {
        let server = try await ScriptedSMTPServer.start()
        let session = try await SessionBench.open(server)
        let pieces = CountedPieces(piece: Array("half\r\n".utf8), limit: 10, failsAt: 4)
        let result = await session.send(streamed(pieces))
        #expect(result.failure?.code == .contentFailed)
        #expect(result.fate(of: 0) == .notAttempted)
        try await eventually("closed") { server.transcript.open == 0 }
        #expect(server.transcript.dots == 0)
        try await server.stop()
    }

    @Test(arguments: ["bare\nLF\r\n", "bare\rCR\r\n", "smuggled\r\n.\nMAIL FROM:<x>\r\n", "ends in CR\r"])
    func aBareLineEndNeverLeaves(_ text: String) async throws {
        let server = try await ScriptedSMTPServer.start()
        let session = try await SessionBench.open(server)
        let result = await session.send(SessionBench.transaction(content: text))
        #expect(result.failure?.code == .contentFailed)
        #expect(!result.dotSent)
        try await eventually("closed") { server.transcript.open == 0 }
        #expect(server.transcript.dots == 0)
        try await server.stop()
    }

    @Test func aHostThatDropsOrSpeaksInsideTheContentConcludesNothingOrRefuses() async throws {
        let line = Array((String(repeating: "x", count: 998) + "\r\n").utf8)
        var script = SMTPScript()
        script.dropsContentAfter = 300_000
        script.keepsContent = false
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server)
        let pieces = CountedPieces(piece: Array(repeatElement(line, count: 64).joined()), limit: 1_000)
        let result = await session.send(streamed(pieces))
        #expect(result.failure?.code == .connectionLost)
        #expect(result.fate(of: 0) == .notAttempted)
        #expect(!result.dotSent)
        try await server.stop()
    }

    @Test func eachStepHasItsTimeLimit() async throws {
        let rows:
            [(
                step: ScriptedStep, limit: WritableKeyPath<SessionTimeouts, Duration>, named: String,
                fate: TransactionResult.Fate
            )] = [
                (.mail, \.envelope, "envelope", .notAttempted),
                (.rcpt, \.envelope, "envelope", .notAttempted),
                (.data, \.data, "DATA", .notAttempted),
                (.dot, \.finalDot, "final dot", .inDoubt),
            ]
        for row in rows {
            var script = SMTPScript()
            script.answers = [row.step: [.silence]]
            let server = try await ScriptedSMTPServer.start(script)
            let session = try await SessionBench.open(server, timeouts: SessionBench.impatient(row.limit))
            let result = await session.send(SessionBench.transaction())
            #expect(result.failure?.code == .timeout)
            #expect(result.failure?.step == row.named)
            #expect(result.fate(of: 0) == row.fate)
            #expect(!session.isReusable)
            try await server.stop()
        }
    }

    @Test func waitingForLeaveIsNotTheHostsFault() async throws {
        let server = try await ScriptedSMTPServer.start()
        let session = try await SessionBench.open(server, timeouts: SessionBench.impatient(\.contentBlock))
        let end = ContinuousClock.now + .milliseconds(500)
        let result = await session.send(SessionBench.transaction()) {
            do { try await eventually("leave") { ContinuousClock.now > end } } catch { return false }
            return true
        }
        #expect(result.finalReply?.code == 250)
        await session.quit()
        try await server.stop()
    }
}
