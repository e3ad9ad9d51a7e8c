// A bounded set of connections that mends itself.

/// Lends connections. At most `limit` exist; who finds none free waits in line, at most `waitLimit`.
///
/// A connection that broke, or that met a server which may no longer be written to (25006, 57P0x), is replaced. Attempts to
/// connect back off together, with jitter, so that many callers do not storm a server that comes back.
public actor PostgresPool {
    /// Sets up the state of a fresh connection (`SET …`, a check of the schema).
    public typealias OnConnect = @Sendable (PostgresSession) throws -> Void

    private let route: any PostgresRoute
    private let limit: Int
    private let waitLimit: Duration
    private let lifetime: Duration?

    private var idle: [Lodger] = []
    private var lent: [ObjectIdentifier: Lodger] = [:]
    /// Connections lent, idle or being made.
    private var count = 0
    private var waiters: [Waiter] = []
    private var nextWaiter = 0
    private var isClosed = false
    private var failures = 0
    private var nextAttempt = ContinuousClock.now

    /// A connection with what must be known to lend it again.
    private struct Lodger {
        var connection: PostgresConnection
        var epoch: Int
        var since: ContinuousClock.Instant
    }

    private struct Waiter {
        var id: Int
        var continuation: CheckedContinuation<Permit, any Error>
    }

    /// What a waiter gets: a connection, or the right to make one.
    private enum Permit {
        case connection(Lodger)
        case slot
    }

    /// Makes a pool; connections are made when first needed.
    /// - Parameters:
    ///   - configuration: where to connect.
    ///   - limit: most connections at a time.
    ///   - waitLimit: longest wait for a connection, reconnecting included.
    ///   - onConnect: runs on each fresh connection, before anyone gets it.
    public init(
        configuration: PostgresConfiguration, limit: Int, waitLimit: Duration, lifetime: Duration? = nil,
        onConnect: OnConnect? = nil
    ) {
        self.init(
            route: FixedRoute(configuration: configuration, onConnect: onConnect), limit: limit,
            waitLimit: waitLimit, lifetime: lifetime)
    }

    /// Makes a pool whose connections lead where a route says.
    /// - Parameters:
    ///   - route: asked before each connection.
    ///   - lifetime: how long a connection is lent again; nil: as long as it holds.
    public init(route: any PostgresRoute, limit: Int, waitLimit: Duration, lifetime: Duration? = nil) {
        precondition(limit > 0, "a pool of none")
        self.route = route
        self.limit = limit
        self.waitLimit = waitLimit
        self.lifetime = lifetime
    }

    /// The route has changed: connections that lead elsewhere end now, also under those who use them. A commit that was sent is in
    /// doubt then.
    public func leaveFormer() {
        let former = idle.filter { !route.isCurrent($0.epoch) }
        idle.removeAll { !route.isCurrent($0.epoch) }
        count -= former.count
        for lodger in former { lodger.connection.core.requestClose() }
        for lodger in lent.values where !route.isCurrent(lodger.epoch) {
            lodger.connection.core.abandon("the shard has another leader now")
        }
    }

    /// Lends a connection to `body`.
    ///
    /// A transaction that `body` leaves open is rolled back.
    /// - Throws: what `body` throws; `.poolExhausted` when none became free in time, or the last failure to connect.
    public func withConnection<T: Sendable>(
        isolation: isolated (any Actor)? = #isolation, _ body: (PostgresConnection) async throws -> T
    ) async throws -> T {
        let lodger = try await acquire()
        do {
            let value = try await body(lodger.connection)
            await release(lodger, after: nil)
            return value
        } catch {
            await release(lodger, after: error as? PostgresError)
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
        for lodger in closing { await lodger.connection.close() }
    }

    // MARK: Lending

    private static let closedError = PostgresError(.closed, "the pool was closed")

    private func acquire() async throws -> Lodger {
        let until = ContinuousClock.now + waitLimit
        let lodger: Lodger
        switch try await permit(until: until) {
        case .connection(let kept): lodger = kept
        case .slot:
            do {
                lodger = try await connect(until: until)
            } catch {
                giveSlot()
                throw error
            }
        }
        lent[ObjectIdentifier(lodger.connection)] = lodger
        return lodger
    }

    private func permit(until: ContinuousClock.Instant) async throws -> Permit {
        if isClosed { throw Self.closedError }
        try Task.checkCancellation()
        while let lodger = idle.popLast() {
            if mayServe(lodger) { return .connection(lodger) }
            lodger.connection.core.requestClose()
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

    private func mayServe(_ lodger: Lodger) -> Bool {
        if let lifetime, lodger.since + lifetime < .now { return false }
        return lodger.connection.isUsable && route.isCurrent(lodger.epoch)
    }

    private func dismiss(_ id: Int, _ error: any Error) {
        guard let index = waiters.firstIndex(where: { $0.id == id }) else { return }
        waiters.remove(at: index).continuation.resume(throwing: error)
    }

    private func release(_ lodger: Lodger, after error: PostgresError?) async {
        let connection = lodger.connection
        lent[ObjectIdentifier(connection)] = nil
        if !connection.isUsable { route.failed() }
        var keep = mayServe(lodger) && !isClosed
        if let state = error?.sqlState, state == "25006" || state.hasPrefix("57P0") {
            keep = false
            route.failed()
        }
        if keep, connection.isInTransaction {
            do {
                try await connection.perform(deadline: .seconds(5)) { $0.rollBack() }
                keep = mayServe(lodger) && !connection.isInTransaction && !isClosed
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
            idle.append(lodger)
        } else {
            waiters.removeFirst().continuation.resume(returning: .connection(lodger))
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

    private func connect(until: ContinuousClock.Instant) async throws -> Lodger {
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
                let destination = try route.destination()
                let connection = try await PostgresConnection.connect(destination.configuration)
                let epoch: Int
                do {
                    let route = self.route
                    epoch = try await connection.perform(deadline: .seconds(5)) {
                        try route.admit($0, of: destination)
                    }
                } catch {
                    connection.core.requestClose()
                    throw error
                }
                failures = 0
                nextAttempt = .now
                return Lodger(connection: connection, epoch: epoch, since: .now)
            } catch let error as PostgresError {
                guard error.isTransient else { throw error }
                last = error
                failures += 1
                route.failed()
                // 50 ms doubled up to 2 s, of which a random half is taken off.
                let ceiling = min(2.0, 0.05 * Double(1 << min(failures, 10)))
                nextAttempt = max(nextAttempt, .now + .seconds(ceiling * Double.random(in: 0.5...1)))
            }
        }
    }
}
