// The embedded key service: a keyring behind Unix sockets. Each socket says which purposes it serves and to which users;
// the kernel says who is at the other end (SO_PEERCRED). Unwrapping costs a quarter of a millisecond of processor time,
// so it runs on a few threads of its own, behind a bounded queue: a flood of requests gets "unavailable", not memory.

import Foundation
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Serves a keyring on Unix sockets.
public final class KeyringServer: Sendable {
    /// One socket and who may ask what on it.
    public struct Socket: Sendable {
        /// File of the socket; an old socket file there is replaced.
        public var path: String
        /// Its name in the audit trail, such as `worker`.
        public var name: String
        /// Purposes it opens.
        public var purposes: Set<KeyPurpose>
        /// Users who may connect.
        public var userIDs: Set<UInt32>

        /// Makes a value.
        public init(path: String, name: String, purposes: Set<KeyPurpose>, userIDs: Set<UInt32>) {
            self.path = path
            self.name = name
            self.purposes = purposes
            self.userIDs = userIDs
        }
    }

    /// Bounds.
    public struct Limits: Sendable {
        /// Connections of one socket.
        public var connections = 64
        /// Requests of one connection that are not answered yet.
        public var requestsPerConnection = 256
        /// Requests of all connections that are not answered yet.
        public var requests = 1024
        /// Threads that unwrap.
        public var threads = 2
        /// How long a request may take to arrive whole.
        public var partialRequest: Duration = .seconds(10)

        /// The defaults above.
        public init() {}
    }

    private struct State {
        var listeners: [any Channel] = []
        var connections: [ObjectIdentifier: any Channel] = [:]
        var perSocket: [String: Int] = [:]
        var lock: PrivateDirectory.Lock?
        var isStopped = false
    }

    private let keyring: Keyring
    private let sockets: [Socket]
    private let audit: Logger
    private let group: any EventLoopGroup
    private let pool: NIOThreadPool
    private let state = Mutex(State())
    private let running = Atomic<Int>(0)
    let limits: Limits

    /// Makes a server; `start` opens the sockets.
    ///
    /// - Parameter audit: gets one record for every use of a key.
    public init(
        keyring: Keyring, sockets: [Socket], audit: Logger, group: any EventLoopGroup,
        limits: Limits = Limits()
    ) {
        self.keyring = keyring
        self.sockets = sockets
        self.audit = audit
        self.group = group
        self.limits = limits
        self.pool = NIOThreadPool(numberOfThreads: max(1, limits.threads))
    }

    /// Opens the sockets. A connection may be made as soon as it returns.
    ///
    /// - Throws: `KeyringError.inUse` if another process serves this keyring there; NIO's errors for a path it cannot bind.
    public func start() async throws {
        let lock = try keyring.lockForServing(at: sockets.first?.path)
        state.withLock { $0.lock = lock }
        pool.start()
        do {
            for socket in sockets {
                let listener = try await bind(socket)
                state.withLock { $0.listeners.append(listener) }
            }
        } catch {
            await stop()
            throw error
        }
    }

    /// Closes sockets and connections, and waits for the threads. Call it once for every server that was started.
    public func stop() async {
        let channels = state.withLock { state in
            defer {
                state.listeners = []
                state.isStopped = true
            }
            return state.listeners + state.connections.values
        }
        for channel in channels { try? await channel.close() }
        try? await pool.shutdownGracefully()
        for socket in sockets { unlink(socket.path) }
        state.withLock { $0.lock = nil }
    }

    private func bind(_ socket: Socket) async throws -> any Channel {
        let desk = KeyringDesk(keyring: keyring, purposes: socket.purposes, audit: audit)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(ChannelOptions.backlog, value: 64)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(
                        KeyringConnectionHandler(server: self, socket: socket, desk: desk))
                }
            }
            .bind(unixDomainSocketPath: socket.path, cleanupExistingSocketFile: true).get()
        // The kernel tells who connects, and the allow-list decides; the file's mode only has to let them try.
        guard chmod(socket.path, 0o666) == 0 else { throw KeyringError.system("chmod", socket.path) }
        return channel
    }

    /// Counts a connection in; `false` if there are too many.
    func admit(_ channel: any Channel, socket: Socket) -> Bool {
        state.withLock { state in
            guard !state.isStopped, state.perSocket[socket.name, default: 0] < limits.connections else {
                return false
            }
            state.perSocket[socket.name, default: 0] += 1
            state.connections[ObjectIdentifier(channel)] = channel
            return true
        }
    }

    func dismiss(_ channel: any Channel, socket: Socket) {
        state.withLock { state in
            if state.connections.removeValue(forKey: ObjectIdentifier(channel)) != nil {
                state.perSocket[socket.name, default: 0] -= 1
            }
        }
    }

    /// Runs an unwrap on a thread of the pool; `nil` if too many are waiting already.
    func run(
        on loop: any EventLoop, _ work: @escaping @Sendable () -> Result<SecretBytes, KeyServiceError>
    ) -> EventLoopFuture<Result<SecretBytes, KeyServiceError>>? {
        guard running.add(1, ordering: .relaxed).oldValue < limits.requests else {
            running.subtract(1, ordering: .relaxed)
            return nil
        }
        return pool.runIfActive(eventLoop: loop) { [self] in
            defer { running.subtract(1, ordering: .relaxed) }
            return work()
        }
    }
}
