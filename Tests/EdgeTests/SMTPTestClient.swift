// A client that a test scripts line by line.

import Foundation
import Lab
import NIOCore
import NIOPosix
import Synchronization
import TLS

final class SMTPTestClient: Sendable {
    private let channel: any Channel
    private let record: ChannelRecord
    private let taken = Mutex(0)

    private init(_ channel: any Channel, _ record: ChannelRecord) {
        self.channel = channel
        self.record = record
    }

    /// - Parameter tls: Speaks TLS from the start.
    static func connect(_ port: Int, tls: TLSContext? = nil) async throws -> SMTPTestClient {
        let record = ChannelRecord()
        let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls { try channel.pipeline.syncOperations.addHandler(Self.handler(tls)) }
                    try channel.pipeline.syncOperations.addHandler(record.handler())
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        return SMTPTestClient(channel, record)
    }

    private static func handler(_ tls: TLSContext) -> TLSHandler {
        TLSHandler(client: tls, serverName: "edge.test", verification: .require(name: "edge.test"))
    }

    func startTLS(_ tls: TLSContext) async throws {
        let channel = self.channel
        try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.addHandler(Self.handler(tls), position: .first)
        }.get()
        try await eventually("the handshake") { self.record.contents.evidence != nil }
    }

    func send(_ text: String) async throws { try await send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) async throws { try await channel.writeAndFlush(ByteBuffer(bytes: bytes)) }

    /// The next reply, all its lines.
    func reply(within limit: Duration = .seconds(20)) async throws -> String {
        var found: String?
        do {
            try await eventually("a reply", within: limit) {
                found = self.taken.withLock { taken in
                    let bytes = self.record.contents.bytes
                    var start = taken
                    while let end = bytes[start...].firstIndex(of: 0x0A) {
                        let line = bytes[start...end]
                        start = end + 1
                        guard line.count > 3, line[line.startIndex + 3] == 0x20 else { continue }
                        defer { taken = start }
                        return String(decoding: bytes[taken..<start], as: UTF8.self)
                    }
                    return nil
                }
                return found != nil
            }
        } catch {
            throw LabError("no reply; so far: \(record.text.suffix(400))")
        }
        return found ?? ""
    }

    /// Sends a line and answers its reply.
    func ask(_ line: String) async throws -> String {
        try await send(line + "\r\n")
        return try await reply()
    }

    /// One whole transaction; answers the last reply.
    func mail(
        from sender: String = "a@demo.test", to recipients: [String] = ["b@bar.test"], _ content: [UInt8],
        within limit: Duration = .seconds(60)
    ) async throws -> String {
        var last = try await ask("MAIL FROM:<\(sender)>")
        guard last.hasPrefix("250") else { return last }
        for recipient in recipients { last = try await ask("RCPT TO:<\(recipient)>") }
        last = try await ask("DATA")
        guard last.hasPrefix("354") else { return last }
        try await send(content + Array(".\r\n".utf8))
        return try await reply(within: limit)
    }

    func waitForClose() async throws {
        try await eventually("the connection is closed", within: .seconds(20)) { self.record.contents.ended }
    }

    var isClosed: Bool { record.contents.ended }

    func close() async throws { try? await channel.close() }
}

/// The id in `250 2.6.0 <id> queued`, where `<id>` stands for the id itself.
func queuedID(_ reply: String) throws -> UUID {
    let words = reply.split(whereSeparator: \.isWhitespace)
    guard words.count == 4, words[..<2] == ["250", "2.6.0"], words[3] == "queued",
        let id = UUID(uuidString: String(words[2]))
    else { throw LabError("not queued: \(reply)") }
    return id
}
