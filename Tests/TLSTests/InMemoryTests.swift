// Both ends without sockets, so that every byte between them is the test's to cut, alter and repeat.

import Lab
import NIOCore
import NIOEmbedded
import TLS
import Testing

@Suite struct InMemoryTests {
    final class Ends {
        let client = EmbeddedChannel()
        let server = EmbeddedChannel()
        let clientRecord = ChannelRecord()
        let serverRecord = ChannelRecord()

        init(maximum: TLSVersion = .tls13) throws {
            let root = try TestAuthority()
            let identity = try root.issue(["mx.test"])
            let ours = try TLSContext.server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
                maximumVersion: maximum)
            try server.pipeline.syncOperations.addHandler(TLSHandler(server: ours))
            try server.pipeline.syncOperations.addHandler(serverRecord.handler())
            try client.pipeline.syncOperations.addHandler(
                TLSHandler(
                    client: .client(trust: .pem(root.rootPEM)), serverName: "mx.test",
                    verification: .record(name: "mx.test")))
            try client.pipeline.syncOperations.addHandler(clientRecord.handler())
            try server.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
            try client.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 2)).wait()
        }

        /// Moves bytes both ways until neither has any, `step` bytes at a time.
        func exchange(step: Int = Int.max) throws {
            var moved = true
            while moved {
                moved = false
                while var bytes = try client.readOutbound(as: ByteBuffer.self) {
                    moved = true
                    while let piece = bytes.readSlice(length: min(step, bytes.readableBytes)),
                        piece.readableBytes > 0
                    {
                        if server.isActive { try server.writeInbound(piece) }
                    }
                }
                while var bytes = try server.readOutbound(as: ByteBuffer.self) {
                    moved = true
                    while let piece = bytes.readSlice(length: min(step, bytes.readableBytes)),
                        piece.readableBytes > 0
                    {
                        if client.isActive { try client.writeInbound(piece) }
                    }
                }
            }
        }

        func finish() {
            // An orderly end waits for the other side's close_notify: time moves only by hand here.
            client.close(promise: nil)
            server.close(promise: nil)
            client.embeddedEventLoop.advanceTime(by: .seconds(10))
            server.embeddedEventLoop.advanceTime(by: .seconds(10))
            _ = try? client.finish(acceptAlreadyClosed: true)
            _ = try? server.finish(acceptAlreadyClosed: true)
        }
    }

    @Test(arguments: [1, 3, 100, 5_000], [TLSVersion.tls12, .tls13])
    func bytesMayArriveInPiecesOfAnySize(step: Int, version: TLSVersion) throws {
        let ends = try Ends(maximum: version)
        defer { ends.finish() }
        try ends.exchange(step: step)
        #expect(ends.clientRecord.contents.evidence?.version == version)
        try ends.client.writeOutbound(ByteBuffer(repeating: 9, count: 40_000))
        try ends.exchange(step: step)
        #expect(ends.serverRecord.contents.bytes == [UInt8](repeating: 9, count: 40_000))
    }

    @Test(arguments: [TLSVersion.tls12, .tls13]) func anyAlteredBitOfARecordEndsTheConnection(
        version: TLSVersion
    ) throws {
        for at in [0, 1, 3, 5, 9, 20] {
            let ends = try Ends(maximum: version)
            defer { ends.finish() }
            try ends.exchange()
            try ends.client.writeOutbound(ByteBuffer(string: "some content"))
            var record = try #require(try ends.client.readOutbound(as: ByteBuffer.self))
            let octet = try #require(record.getInteger(at: at, as: UInt8.self))
            record.setInteger(octet ^ 1, at: at)
            _ = try? ends.server.writeInbound(record)
            // A longer length waits for bytes that never come; every other alteration is found at once.
            if at == 3 || at == 4 { _ = try? ends.server.writeInbound(ByteBuffer(repeating: 0, count: 300)) }
            #expect(ends.serverRecord.tlsErrors.count == 1, "octet \(at)")
            #expect(ends.serverRecord.contents.count == 0)
            #expect(!ends.server.isActive)
        }
    }

    @Test func aRepeatedRecordEndsTheConnection() throws {
        let ends = try Ends()
        defer { ends.finish() }
        try ends.exchange()
        try ends.client.writeOutbound(ByteBuffer(string: "once"))
        let record = try #require(try ends.client.readOutbound(as: ByteBuffer.self))
        try ends.server.writeInbound(record)
        _ = try? ends.server.writeInbound(record)
        #expect(ends.serverRecord.text == "once")
        #expect(ends.serverRecord.tlsErrors.map(\.code) == [.badRecord])
    }

    @Test func smallWritesShareARecord() throws {
        let ends = try Ends()
        defer { ends.finish() }
        try ends.exchange()
        for _ in 0..<100 { ends.client.write(ByteBuffer(string: "0123456789"), promise: nil) }
        let last = ends.client.write(ByteBuffer(string: "!"))
        ends.client.flush()
        let record = try #require(try ends.client.readOutbound(as: ByteBuffer.self))
        #expect(record.readableBytes < 1_001 + 100)
        #expect(try ends.client.readOutbound(as: ByteBuffer.self) == nil)
        try last.wait()
        try ends.server.writeInbound(record)
        #expect(ends.serverRecord.contents.count == 1_001)
    }

    @Test func plaintextNeverLeavesBeforeTheHandshake() throws {
        let ends = try Ends()
        defer { ends.finish() }
        let written = ends.client.writeAndFlush(ByteBuffer(string: "secret"))
        var hello = try #require(try ends.client.readOutbound(as: ByteBuffer.self))
        #expect(!hello.readableBytesView.contains("secret".utf8))
        #expect(try ends.client.readOutbound(as: ByteBuffer.self) == nil)
        try ends.server.writeInbound(hello.readSlice(length: hello.readableBytes) ?? hello)
        try ends.exchange()
        try written.wait()
        #expect(ends.serverRecord.text == "secret")
    }

    @Test func aClientCannotRenegotiate() throws {
        let ends = try Ends(maximum: .tls12)
        defer { ends.finish() }
        try ends.exchange()
        // A second ClientHello in clear inside an established connection is no record of it.
        _ = try? ends.server.writeInbound(ByteBuffer(bytes: [22, 3, 1, 0, 4, 1, 0, 0, 0]))
        #expect(ends.serverRecord.tlsErrors.count == 1)
    }
}
