// What came out of the top of a pipeline, kept where a test can look while the event loop goes on; and the two ends
// of a loopback connection.

import NIOCore
import NIOPosix
import Synchronization
import TLS

/// A wait of a test ran out.
public struct WaitExpired: Error, CustomStringConvertible {
    /// What was awaited.
    public let description: String
    /// - description: what was awaited.
    public init(description: String) { self.description = description }
}

/// Polls until `condition` holds; throws `WaitExpired` after `limit`.
public func eventually(
    _ what: String, within limit: Duration = .seconds(10), _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while try await !condition() {
        guard ContinuousClock.now < end else {
            throw WaitExpired(description: "\(what): not within \(limit)")
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// What one end of a connection has seen.
public final class ChannelRecord: Sendable {
    /// What was seen so far.
    public struct Contents: Sendable {
        /// All bytes read.
        public var bytes: [UInt8] = []
        /// Number of bytes read.
        public var count = 0
        /// Errors in order.
        public var errors: [any Error] = []
        /// Evidence of the completed handshake.
        public var evidence: PeerEvidence?
        /// Whether the channel has ended.
        public var ended = false
    }
    private let state = Mutex(Contents())
    private let keepsBytes: Bool

    /// - keepsBytes: false counts bytes only.
    public init(keepsBytes: Bool = true) { self.keepsBytes = keepsBytes }

    /// A copy of what was seen so far.
    public var contents: Contents { state.withLock { $0 } }
    /// All bytes read, as text.
    public var text: String { String(decoding: contents.bytes, as: UTF8.self) }
    /// The TLS errors seen.
    public var tlsErrors: [TLSError] { contents.errors.compactMap { $0 as? TLSError } }

    /// The handler that fills this record; one record may be filled by one handler.
    public func handler() -> any ChannelInboundHandler & Sendable { Recorder(record: self) }

    private final class Recorder: ChannelInboundHandler, Sendable {
        typealias InboundIn = ByteBuffer
        let record: ChannelRecord
        init(record: ChannelRecord) { self.record = record }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let buffer = unwrapInboundIn(data)
            record.state.withLock {
                $0.count += buffer.readableBytes
                if record.keepsBytes { $0.bytes.append(contentsOf: buffer.readableBytesView) }
            }
            context.fireChannelRead(data)
        }
        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if let completed = event as? TLSHandshakeCompleted {
                record.state.withLock { $0.evidence = completed.evidence }
            }
            context.fireUserInboundEventTriggered(event)
        }
        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            record.state.withLock { $0.errors.append(error) }
        }
        func channelInactive(context: ChannelHandlerContext) {
            record.state.withLock { $0.ended = true }
            context.fireChannelInactive()
        }
    }
}
