// The other end of the keyring's socket: one connection, pipelined. It connects when first asked, and again after a
// breach, with a growing pause; requests wait for that, each no longer than its deadline. Unwrapping twice is harmless,
// so what was not answered when a connection broke is asked again on the next.

import Foundation
import NIOCore
import NIOPosix

/// A key service behind the keyring's socket.
public final class KeyringClient: KeyService {
    /// Bounds.
    public struct Limits: Sendable {
        /// Longest wait for an answer, connecting included.
        public var deadline: Duration = .seconds(2)
        /// Requests without an answer at once.
        public var requests = 256
        /// First pause after a connection that failed; it doubles up to `longestPause`.
        public var shortestPause: Duration = .milliseconds(20)
        /// Longest pause between attempts to connect.
        public var longestPause: Duration = .seconds(1)

        /// The defaults above.
        public init() {}
    }

    private let loop: any EventLoop
    private let link: NIOLoopBound<KeyringLink>

    /// Makes a client of the socket at `path`; nothing connects yet.
    public init(path: String, group: any EventLoopGroup, limits: Limits = Limits()) async throws {
        let loop = group.next()
        self.loop = loop
        self.link = try await loop.submit {
            NIOLoopBound(KeyringLink(path: path, loop: loop, limits: limits), eventLoop: loop)
        }.get()
    }

    /// Opens a wrapped batch key.
    public func unwrap(
        _ wrapped: WrappedBatchKey, of batch: BatchKeyContext
    ) async throws(KeyServiceError) -> SecretBytes {
        let promise = loop.makePromise(of: SecretBytes.self)
        let body = UnwrapRequest(batch: batch, wrapped: wrapped).encoded
        loop.execute { [link] in link.value.submit(body, promise) }
        do {
            return try await promise.futureResult.get()
        } catch {
            throw error as? KeyServiceError ?? .unavailable("connection lost")
        }
    }

    /// Closes the connection and fails what waits.
    public func close() async {
        try? await loop.submit { [link] in link.value.close() }.get()
    }
}

/// What lives on the client's event loop.
final class KeyringLink {
    private struct Call {
        var frame: [UInt8]
        var promise: EventLoopPromise<SecretBytes>
        var deadline: Scheduled<Void>
    }

    private let path: String
    private let loop: any EventLoop
    private let limits: KeyringClient.Limits
    private var calls: [UUID: Call] = [:]
    private var channel: (any Channel)?
    private var isConnecting = false
    private var isClosed = false
    private var failures = 0
    private var lastFailure = "not connected yet"

    init(path: String, loop: any EventLoop, limits: KeyringClient.Limits) {
        self.path = path
        self.loop = loop
        self.limits = limits
    }

    func submit(_ body: [UInt8], _ promise: EventLoopPromise<SecretBytes>) {
        guard !isClosed else { return promise.fail(KeyServiceError.unavailable("client closed")) }
        guard calls.count < limits.requests else {
            return promise.fail(KeyServiceError.unavailable("too many requests without an answer"))
        }
        let id = UUIDv7.make(at: Date())
        let deadline = loop.assumeIsolated().scheduleTask(in: TimeAmount(limits.deadline)) {
            let state = self.channel == nil ? self.lastFailure : "no answer"
            self.finish(id, .failure(.unavailable("\(state) within \(self.limits.deadline)")))
        }
        let frame = KeyringProtocol.frame(.unwrap, id, body: body)
        calls[id] = Call(frame: frame, promise: promise, deadline: deadline)
        if let channel {
            channel.writeAndFlush(ByteBuffer(bytes: frame), promise: nil)
        } else {
            connect()
        }
    }

    func close() {
        isClosed = true
        for id in Array(calls.keys) { finish(id, .failure(.unavailable("client closed"))) }
        channel?.close(promise: nil)
    }

    /// Takes one frame from the server.
    func receive(_ frame: [UInt8]) throws(KeyringProtocol.Violation) {
        var (kind, id, body) = try KeyringProtocol.open(frame)
        defer { Erasure.erase(&body) }
        switch kind {
        case .unwrap: throw KeyringProtocol.Violation()
        case .opened:
            guard body.count == 32 else { throw KeyringProtocol.Violation() }
            finish(id, .success(SecretBytes(copying: body)))
        case .failed:
            guard let error = try? KeyServiceError(decoding: body) else { throw KeyringProtocol.Violation() }
            finish(id, .failure(error))
        }
    }

    func connectionEnded(_ ended: any Channel) {
        guard channel === ended else { return }
        channel = nil
        lastFailure = "connection lost"
        if !calls.isEmpty { pauseThenConnect() }
    }

    private func finish(_ id: UUID, _ result: Result<SecretBytes, KeyServiceError>) {
        guard let call = calls.removeValue(forKey: id) else { return }
        call.deadline.cancel()
        call.promise.completeWith(result.mapError { $0 as any Error })
    }

    private func connect() {
        guard !isConnecting, !isClosed else { return }
        isConnecting = true
        let link = NIOLoopBound(self, eventLoop: loop)
        ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(KeyringLinkHandler(link.value))
                }
            }
            .connectTimeout(TimeAmount(limits.deadline))
            .connect(unixDomainSocketPath: path)
            .assumeIsolated()
            .whenComplete { result in
                self.isConnecting = false
                switch result {
                case .success(let channel): self.connected(channel)
                case .failure(let error):
                    self.lastFailure =
                        (error as? IOError).map { "connect: errno \($0.errnoCode)" } ?? "connect failed"
                    self.pauseThenConnect()
                }
            }
    }

    private func connected(_ channel: any Channel) {
        guard !isClosed, channel.isActive else {
            channel.close(promise: nil)
            return pauseThenConnect()
        }
        self.channel = channel
        for call in calls.values { channel.write(ByteBuffer(bytes: call.frame), promise: nil) }
        channel.flush()
    }

    /// An answer shows that the service is well again.
    func answered() { failures = 0 }

    private func pauseThenConnect() {
        guard !isClosed, !isConnecting else { return }
        isConnecting = true
        failures += 1
        let pause =
            min(
                limits.shortestPause * (1 << min(failures - 1, 16)), limits.longestPause)
            * Double.random(in: 0.5...1)
        loop.assumeIsolated().scheduleTask(in: TimeAmount(pause)) {
            self.isConnecting = false
            // Nobody waits any more: the next request connects.
            if !self.calls.isEmpty { self.connect() }
        }
    }
}

/// Cuts frames for the link.
private final class KeyringLinkHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let link: KeyringLink
    private var accumulator = FrameAccumulator()

    init(_ link: KeyringLink) { self.link = link }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var buffer = unwrapInboundIn(data)
        accumulator.append(&buffer)
        do {
            while var frame = try accumulator.next() {
                defer { Erasure.erase(&frame) }
                try link.receive(frame)
                link.answered()
            }
        } catch {
            context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { link.connectionEnded(context.channel) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
