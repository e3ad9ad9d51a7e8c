// Content over TLS: order, size, back-pressure, and the ways a connection ends or is disturbed.

import Lab
import NIOCore
import NIOEmbedded
import NIOPosix
import Synchronization
import TLS
import Testing

@Suite(.timeLimit(.minutes(2))) struct TransferTests {
    let server: TLSContext
    let client: TLSContext

    init() throws {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"])
        server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
            minimumVersion: .tls12)
        client = try TLSContext.client(trust: .pem(root.rootPEM))
    }

    @Test func writesOfAnySizeArriveInOrderBothWays() async throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        var random = SplitMix(seed)
        let pair = try await LoopbackPair.tls(server: server, client: client)
        var sent: [UInt8] = []
        // The first writes come before the handshake is complete.
        for round in 0..<60 {
            let size =
                [0, 1, 2, 100, 1_000, 16_383, 16_384, 16_385, 70_000, 200_000].randomElement(using: &random)
                ?? 0
            let bytes = (0..<(round < 10 ? min(size, 50_000) : size)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            sent.append(contentsOf: bytes)
            if Bool.random(using: &random) {
                pair.client.write(ByteBuffer(bytes: bytes), promise: nil)
            } else {
                try await pair.client.writeAndFlush(ByteBuffer(bytes: bytes))
            }
        }
        try await pair.client.writeAndFlush(ByteBuffer())
        let expected = sent
        try await eventually("all bytes") { pair.serverRecord.contents.count == expected.count }
        #expect(pair.serverRecord.contents.bytes == expected)
        try await pair.server.writeAndFlush(ByteBuffer(bytes: expected))
        try await eventually("all bytes back") { pair.clientRecord.contents.count == expected.count }
        #expect(pair.clientRecord.contents.bytes == expected)
        try await pair.close()
    }

    @Test func aReaderThatDoesNotReadHoldsTheWriterBack() async throws {
        let pair = try await LoopbackPair.tls(
            server: server, client: client, keepsBytes: false, autoRead: false)
        _ = try await pair.evidence()
        let piece = ByteBuffer(repeating: 7, count: 1 << 16)
        var written = 0
        while pair.client.isWritable, written < 1 << 28 {
            pair.client.write(piece, promise: nil)
            written += piece.readableBytes
            try await pair.client.eventLoop.submit { pair.client.flush() }.get()
        }
        #expect(!pair.client.isWritable)
        // Kernel buffers and NIO's high-water mark, not hundreds of megabytes.
        #expect(written < 32 << 20)
        #expect(pair.serverRecord.contents.count == 0)
        // One read gets one burst; then the rest.
        pair.server.read()
        try await eventually("first burst") { pair.serverRecord.contents.count > 0 }
        let total = written
        try await pair.server.setOption(.autoRead, value: true).get()
        try await eventually("all") { pair.serverRecord.contents.count == total }
        try await eventually("writable again") { pair.client.isWritable }
        try await pair.close()
    }

    @Test func aReadThatFindsOnlyPartOfARecordGoesOn() async throws {
        let pair = try await LoopbackPair.tls(server: server, client: client, autoRead: false)
        _ = try await pair.evidence()
        pair.server.read()
        let text = String(repeating: "x", count: 16_000)
        try await pair.client.send(text)
        try await eventually("record") { pair.serverRecord.contents.count == text.utf8.count }
        try await pair.server.setOption(.autoRead, value: true).get()
        try await pair.close()
    }

    @Test func closeIsTheSameFromEitherEndAndIsNoError() async throws {
        for clientCloses in [true, false] {
            let pair = try await LoopbackPair.tls(server: server, client: client)
            _ = try await pair.evidence()
            let (closing, other) =
                clientCloses ? (pair.client, pair.serverRecord) : (pair.server, pair.clientRecord)
            try await closing.send("last words")
            try await closing.close()
            try await eventually("end") {
                pair.serverRecord.contents.ended && pair.clientRecord.contents.ended
            }
            #expect(other.text == "last words")
            #expect(pair.serverRecord.contents.errors.isEmpty)
            #expect(pair.clientRecord.contents.errors.isEmpty)
            try await pair.listener.close()
        }
    }

    @Test func flushedBytesAreOutBeforeCloseNotify() async throws {
        let pair = try await LoopbackPair.tls(server: server, client: client, keepsBytes: false)
        _ = try await pair.evidence()
        let big = ByteBuffer(repeating: 1, count: 8 << 20)
        pair.client.writeAndFlush(big, promise: nil)
        pair.client.close(promise: nil)
        try await eventually("all") { pair.serverRecord.contents.count == big.readableBytes }
        try await eventually("end") { pair.serverRecord.contents.ended }
        #expect(pair.serverRecord.contents.errors.isEmpty)
        try await pair.listener.close()
    }

    @Test func anEndWithoutCloseNotifyIsAnError() async throws {
        let pair = try await LoopbackPair.tls(server: server, client: client)
        _ = try await pair.evidence()
        try await pair.client.send("cut")
        try await eventually("bytes") { pair.serverRecord.text == "cut" }
        // Past the TLS handler, as a cable is cut.
        try await pair.client.eventLoop.submit {
            let handler = try pair.client.pipeline.syncOperations.context(handlerType: TLSHandler.self)
            handler.close(mode: .all, promise: nil)
        }.get()
        try await eventually("end") { pair.serverRecord.contents.ended }
        #expect(pair.serverRecord.tlsErrors.map(\.code) == [.truncated])
        try await pair.listener.close()
    }

    @Test func writesAfterCloseFail() async throws {
        let pair = try await LoopbackPair.tls(server: server, client: client)
        _ = try await pair.evidence()
        let closed = pair.client.eventLoop.makePromise(of: Void.self)
        pair.client.close(promise: closed)
        await #expect(throws: ChannelError.self) { try await pair.client.send("too late") }
        try await closed.futureResult.get()
        try await pair.listener.close()
    }

    @Test(arguments: [
        "EHLO client.test\r\n", "GET / HTTP/1.1\r\n\r\n", "\u{16}\u{3}\u{1}\u{0}\u{4}junk", "\u{0}",
    ])
    func whatIsNotTLSFailsTheServerInBounds(_ text: String) async throws {
        let pair = try await LoopbackPair.open(
            server: { [server] in
                try $0.pipeline.syncOperations.addHandler(
                    TLSHandler(server: server, handshakeTimeout: .milliseconds(300)))
            }, client: { _ in })
        // On a busy machine the limit may be over before the first byte.
        try? await pair.client.send(text)
        try await eventually("end") { pair.serverRecord.contents.ended }
        #expect(pair.serverRecord.tlsErrors.count == 1)
        #expect(pair.serverRecord.contents.count == 0)
        try await pair.close()
    }

    @Test func aServerThatSpeaksNoTLSIsTold() async throws {
        let pair = try await LoopbackPair.open(
            server: { _ in },
            client: { [client] in
                try $0.pipeline.syncOperations.addHandler(
                    TLSHandler(client: client, serverName: "mx.test", verification: .record(name: nil)))
            })
        try await pair.server.send("220 mx.test ESMTP\r\n")
        try await eventually("end") { pair.clientRecord.contents.ended }
        #expect(pair.clientRecord.tlsErrors.map(\.code) == [.notTLS])
        try await pair.close()
    }

    @Test func aSilentPeerAndOneThatHangsUpFailTheHandshake() async throws {
        let silent = try await LoopbackPair.open(
            server: { [server] in
                try $0.pipeline.syncOperations.addHandler(
                    TLSHandler(server: server, handshakeTimeout: .milliseconds(100)))
            }, client: { _ in })
        try await eventually("timeout") { silent.serverRecord.contents.ended }
        #expect(silent.serverRecord.tlsErrors.map(\.code) == [.handshakeTimeout])
        try await silent.close()

        let hangingUp = try await LoopbackPair.open(
            server: { [server] in try $0.pipeline.syncOperations.addHandler(TLSHandler(server: server)) },
            client: { _ in })
        try await hangingUp.client.close()
        try await eventually("end") { hangingUp.serverRecord.contents.ended }
        #expect(hangingUp.serverRecord.tlsErrors.map(\.code) == [.closedInHandshake])
        try await hangingUp.close()
    }

    @Test func tooMuchBeforeTheHandshakeFailsTheConnection() async throws {
        let pair = try await LoopbackPair.open(
            server: { _ in },
            client: { [client] in
                try $0.pipeline.syncOperations.addHandler(
                    TLSHandler(client: client, serverName: nil, verification: .record(name: nil)))
            })
        let piece = ByteBuffer(repeating: 0, count: TLSHandler.handshakeBufferLimit)
        pair.client.write(piece, promise: nil)
        let second = pair.client.eventLoop.makePromise(of: Void.self)
        pair.client.write(piece, promise: second)
        await #expect(throws: TLSError.self) { try await second.futureResult.get() }
        try await eventually("end") { pair.clientRecord.contents.ended }
        #expect(pair.clientRecord.tlsErrors.map(\.code) == [.bufferLimit])
        // What the peer got is the hello of the handshake, none of the content.
        #expect(pair.serverRecord.contents.count < 2_000)
        try await pair.close()
    }
}
