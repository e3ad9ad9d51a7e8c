// A bounded set of connections that mends itself.

/// Lends connections. At most `limit` exist; who finds none free waits in line, at most `waitLimit`.
///
/// A connection that broke, or that met a server which may no longer be written to (25006, 57P0x), is replaced. Attempts to
/// connect back off together, with jitter, so that many callers do not storm a server that comes back.
public actor PostgresPool {
    /// Sets up the state of a fresh connection (`SET …`, a check of the schema).
    public typealias OnConnect = @Sendable (PostgresSession) throws -> Void

    private let configuration: PostgresConfiguration
    private let limit: Int
    private let waitLimit: Duration
    private let onConnect: OnConnect?

    private var idle: [PostgresConnection] = []
    /// Connections lent, idle or being made.
    private var count = 0
    private var waiters: [Waiter] = []
    private var nextWaiter = 0
    private var isClosed = false
    private var failures = 0
    private var nextAttempt = ContinuousClock.now

    private struct Waiter {
        var id: Int
        var continuation: CheckedContinuation<Permit, any Error>
    }

    /// What a waiter gets: a connection, or the right to make one.
    private enum Permit {
        case connection(PostgresConnection)
        case slot
    }

    /// Makes a pool; connections are made when first needed.
    /// - Parameters:
    ///   - configuration: where to connect.
    ///   - limit: most connections at a time.
    ///   - waitLimit: longest wait for a connection, reconnecting included.
    ///   - onConnect: runs on each fresh connection, before anyone gets it.
    public init(
        configuration: PostgresConfiguration, limit: Int, waitLimit: Duration, onConnect: OnConnect? = nil
    ) {
        precondition(limit > 0, "a pool of none")
        self.configuration = configuration
        self.limit = limit
        self.waitLimit = waitLimit
        self.onConnect = onConnect
    }

    /// Lends a connection to `body`.
    ///
    /// A transaction that `body` leaves open is rolled back.
    /// - Throws: what `body` throws; `.poolExhausted` when none became free in time, or the last failure to connect.
    public func withConnection<T: Sendable>(
        isolation: isolated (any Actor)? = #isolation, _ body: (PostgresConnection) async throws -> T
    ) async throws -> T {
        let connection = try await acquire()
        do {
            let value = try await body(connection)
            await release(connection, after: nil)
            return value
        } catch {
            await release(connection, after: error as? PostgresError)
            throw error
        }
    }

    /// Closes all connections; those lent, when they come back. Later calls fail with `.closed`.
    public func close() async {
        isClosed = true
        let closing = idle
        idle = []
        count -= closing.count
        let refused = waiters
        waiters = []
        for waiter in refused { waiter.continuation.resume(throwing: Self.closedError) }
        for connection in closing { await connection.close() }
    }

    // MARK: Lending

    private static let closedError = PostgresError(.closed, "the pool was closed")

    private func acquire() async throws -> PostgresConnection {
        let until = ContinuousClock.now + waitLimit
        switch try await permit(until: until) {
        case .connection(let connection): return connection
        case .slot:
            do {
                return try await connect(until: until)
            } catch {
                giveSlot()
                throw error
            }
        }
    }

    private func permit(until: ContinuousClock.Instant) async throws -> Permit {
        if isClosed { throw Self.closedError }
        try Task.checkCancellation()
        while let connection = idle.popLast() {
            if connection.isUsable { return .connection(connection) }
            count -= 1
        }
        if count < limit {
            count += 1
            return .slot
        }
        nextWaiter += 1
        let id = nextWaiter
        let timer = Task {
            try await Task.sleep(until: until)
            self.dismiss(
                id,
                PostgresError(
                    .poolExhausted, "all \(self.limit) connections were in use for \(self.waitLimit)"))
        }
        defer { timer.cancel() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                // Under the actor from here to the append: a cancellation that came before is seen here, later ones dismiss.
                if Task.isCancelled {
                    continuation.resume(throwing: CancellationError())
                } else {
                    waiters.append(Waiter(id: id, continuation: continuation))
                }
            }
        } onCancel: {
            Task { await self.dismiss(id, CancellationError()) }
        }
    }

    private func dismiss(_ id: Int, _ error: any Error) {
        guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
        waiters.remove(at: index).continuation.resume(throwing: error)
    }

    private func release(_ connection: PostgresConnection, after error: PostgresError?) async {
        var keep = connection.isUsable && !isClosed
        if let state = error?.sqlState, state == "25006" || state.hasPrefix("57P0") { keep = false }
        if keep, connection.isInTransaction {
            do {
                try await connection.perform(deadline: .seconds(5)) { $0.rollBack() }
                keep = connection.isUsable && !connection.isInTransaction && !isClosed
            } catch {
                keep = false
            }
        }
        guard keep else {
            connection.core.requestClose()
            giveSlot()
            return
        }
        if waiters.isEmpty {
            idle.append(connection)
        } else {
            waiters.removeFirst().continuation.resume(returning: .connection(connection))
        }
    }

    /// A connection is gone: its place goes to the first in line.
    private func giveSlot() {
        if waiters.isEmpty || isClosed {
            count -= 1
        } else {
            waiters.removeFirst().continuation.resume(returning: .slot)
        }
    }

    // MARK: Connecting

    private func connect(until: ContinuousClock.Instant) async throws -> PostgresConnection {
        var last = PostgresError(.poolExhausted, "no time left to connect")
        while true {
            let wait = nextAttempt
            if wait > .now {
                guard wait < until else { throw last }
                try await Task.sleep(until: wait)
                if nextAttempt > .now { continue }  // somebody else just failed
            }
            if isClosed { throw Self.closedError }
            guard ContinuousClock.now < until else { throw last }
            do {
                let connection = try await PostgresConnection.connect(configuration)
                if let onConnect {
                    do {
                        try await connection.perform { try onConnect($0) }
                    } catch {
                        connection.core.requestClose()
                        throw error
                    }
                }
                failures = 0
                nextAttempt = .now
                return connection
            } catch let error as PostgresError {
                guard error.isTransient else { throw error }
                last = error
                failures += 1
                // 50 ms doubled up to 2 s, of which a random half is taken off.
                let ceiling = min(2.0, 0.05 * Double(1 << min(failures, 10)))
                nextAttempt = max(nextAttempt, .now + .seconds(ceiling * Double.random(in: 0.5...1)))
            }
        }
    }
}
