// A TLS handler added to a live pipeline, as STARTTLS does, on both sides.

import Lab
import NIOCore
import TLS
import Testing

@Suite(.timeLimit(.minutes(1))) struct StartTLSTests {
    @Test func upgradeInALivePipeline() async throws {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"])
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM)
        let client = try TLSContext.client(trust: .pem(root.rootPEM))
        let pair = try await LoopbackPair.open(server: { _ in }, client: { _ in })
        try await pair.client.send("STARTTLS\r\n")
        try await eventually("command") { pair.serverRecord.text == "STARTTLS\r\n" }
        // The server answers in clear and adds its handler in the same turn of its loop.
        try await pair.server.eventLoop.submit {
            pair.server.writeAndFlush(ByteBuffer(string: "220 go\r\n"), promise: nil)
            try pair.server.pipeline.syncOperations.addHandler(TLSHandler(server: server), position: .first)
        }.get()
        try await eventually("answer") { pair.clientRecord.text == "220 go\r\n" }
        try await pair.client.eventLoop.submit {
            try pair.client.pipeline.syncOperations.addHandler(
                TLSHandler(client: client, serverName: "mx.test", verification: .record(name: "mx.test")),
                position: .first)
            pair.client.writeAndFlush(ByteBuffer(string: "EHLO again\r\n"), promise: nil)
        }.get()
        let (seen, _) = try await pair.evidence()
        #expect(seen.verification == .valid)
        #expect(seen.nameMatched == true)
        try await eventually("EHLO") { pair.serverRecord.text == "STARTTLS\r\nEHLO again\r\n" }
        try await pair.close()
    }
}
