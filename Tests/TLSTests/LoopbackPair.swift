// Two ends of a loopback connection with a TLS handler, or nothing, on each.

import Lab
import NIOCore
import NIOPosix
import Synchronization
import TLS

/// One server socket and one client connected to it.
struct LoopbackPair {
    let listener: any Channel
    let client: any Channel
    let server: any Channel
    let clientRecord: ChannelRecord
    let serverRecord: ChannelRecord

    typealias Setup = @Sendable (any Channel) throws -> Void

    /// Connects; `server` and `client` add their first handlers.
    static func open(
        keepsBytes: Bool = true, autoRead: Bool = true, server: @escaping Setup, client: @escaping Setup
    ) async throws -> LoopbackPair {
        let group = MultiThreadedEventLoopGroup.singleton
        let serverRecord = ChannelRecord(keepsBytes: keepsBytes)
        let clientRecord = ChannelRecord(keepsBytes: keepsBytes)
        let accepted = Mutex<(any Channel)?>(nil)
        let listener = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    accepted.withLock { $0 = channel }
                    try server(channel)
                    try channel.pipeline.syncOperations.addHandler(serverRecord.handler())
                }
            }
            .childChannelOption(.autoRead, value: autoRead)
            .bind(host: "127.0.0.1", port: 0).get()
        let port = listener.localAddress?.port ?? 0
        let channel = try await ClientBootstrap(group: group)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try client(channel)
                    try channel.pipeline.syncOperations.addHandler(clientRecord.handler())
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        try await eventually("accept") { accepted.withLock { $0 } != nil }
        guard let other = accepted.withLock({ $0 }) else { throw WaitExpired(description: "accept") }
        return LoopbackPair(
            listener: listener, client: channel, server: other, clientRecord: clientRecord,
            serverRecord: serverRecord)
    }

    /// TLS on both ends.
    static func tls(
        server: TLSContext, client: TLSContext, serverName: String? = "mx.test",
        verification: TLSVerification = .record(name: "mx.test"), keepsBytes: Bool = true,
        autoRead: Bool = true
    ) async throws -> LoopbackPair {
        try await open(
            keepsBytes: keepsBytes, autoRead: autoRead,
            server: { try $0.pipeline.syncOperations.addHandler(TLSHandler(server: server)) },
            client: {
                try $0.pipeline.syncOperations.addHandler(
                    TLSHandler(client: client, serverName: serverName, verification: verification))
            })
    }

    /// The evidence of both ends, when both handshakes are complete.
    func evidence() async throws -> (client: PeerEvidence, server: PeerEvidence) {
        try await eventually("handshake; client \(clientRecord.contents.errors)") {
            clientRecord.contents.evidence != nil && serverRecord.contents.evidence != nil
        }
        guard let client = clientRecord.contents.evidence, let server = serverRecord.contents.evidence else {
            throw WaitExpired(description: "handshake")
        }
        return (client, server)
    }

    func close() async throws {
        try? await client.close()
        try? await server.close()
        try await listener.close()
    }
}

extension Channel {
    func send(_ text: String) async throws { try await writeAndFlush(ByteBuffer(string: text)) }
}
