// The book of connections with what it needs to act: a lock, those who wait, timers for idle connections.

import DNS
import NIOCore
import Synchronization

/// Gives out places and keeps idle connections. Safe from any thread.
final class ConnectionPool: Sendable {
    typealias Line = ConnectionLine<HTTPConnection, ObjectIdentifier>
    typealias Granted = Result<Line.Place, HTTPClientError>

    private struct State {
        var line: Line
        var waiters: [UInt64: CheckedContinuation<Granted, Never>] = [:]
        var timers: [ObjectIdentifier: Scheduled<Void>] = [:]

        /// Places for those of the line whose turn it is.
        mutating func admit() -> [(CheckedContinuation<Granted, Never>, Line.Place)] {
            line.admitted().compactMap { ticket, place in
                waiters.removeValue(forKey: ticket).map { ($0, place) }
            }
        }
    }

    private let state: Mutex<State>
    private let idleTimeout: TimeAmount

    init(total: Int, perHost: Int, waiting: Int, idleTimeout: Duration) {
        state = Mutex(State(line: Line(total: total, perOrigin: perHost, waiting: waiting)))
        self.idleTimeout = TimeAmount(idleTimeout)
    }

    /// Lets a request in; `leave` must follow.
    func enter() throws(HTTPClientError) {
        let refusal: HTTPClientError? = state.withLock {
            if $0.line.isClosed { return .closed }
            return $0.line.enter() ? nil : HTTPClientError(.tooManyWaiting, "too many requests wait already")
        }
        if let refusal { throw refusal }
    }

    /// A request is over.
    func leave() { state.withLock { $0.line.leave() } }

    /// A place for a request, waiting for one where there is none. Cancelling the task ends the wait.
    func place(
        _ origin: Origin, _ addresses: [IPAddress], takesIdle: Bool
    ) async throws(HTTPClientError) -> Line.Place {
        let ticket = state.withLock { $0.line.ticket() }
        let granted: Granted = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // A cancellation that came before this lock is seen in it, one that comes after finds the waiter.
                let now: Granted? = state.withLock {
                    if Task.isCancelled { return .failure(.cancelled) }
                    if $0.line.isClosed { return .failure(.closed) }
                    if let place = $0.line.place(origin, addresses, takesIdle: takesIdle) {
                        return .success(place)
                    }
                    $0.line.wait(ticket, origin, addresses, takesIdle: takesIdle)
                    $0.waiters[ticket] = continuation
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            let waiter = state.withLock {
                $0.line.abandon(ticket)
                return $0.waiters.removeValue(forKey: ticket)
            }
            waiter?.resume(returning: .failure(.cancelled))
        }
        let place = try granted.get()
        switch place {
        case .idle(let connection): cancelTimer(connection)
        case .open(let closing?):
            cancelTimer(closing)
            // At once: it makes room for another one.
            ConnectionEnd.cut(closing.channel)
        case .open(nil): break
        }
        return place
    }

    /// A connection was never made: its place is free.
    func release(_ origin: Origin) {
        let admitted = state.withLock {
            $0.line.release(origin)
            return $0.admit()
        }
        for (waiter, place) in admitted { waiter.resume(returning: .success(place)) }
    }

    /// An exchange on a connection is over: it is kept for the next one, or closed, and its place is free then.
    func giveBack(_ connection: HTTPConnection, isReusable: Bool) {
        guard isReusable, connection.channel.isActive else {
            ConnectionEnd.cut(connection.channel)
            connection.channel.closeFuture.whenComplete { _ in self.release(connection.origin) }
            return
        }
        let timer = connection.channel.eventLoop.scheduleTask(in: idleTimeout) { self.expire(connection) }
        let (admitted, isClosed) = state.withLock { state in
            if state.line.isClosed {
                state.line.release(connection.origin)
                return (state.admit(), true)
            }
            state.line.park(connection.id, connection, connection.origin, connection.address)
            state.timers[connection.id] = timer
            return (state.admit(), false)
        }
        for (waiter, place) in admitted { waiter.resume(returning: .success(place)) }
        if isClosed { timer.cancel() }
        // Closed in between: then nobody has taken it away yet.
        if isClosed || !connection.channel.isActive { expire(connection) }
    }

    /// A connection that was idle long enough, or that its server has closed, goes.
    func expire(_ connection: HTTPConnection) {
        let wasIdle = state.withLock { $0.line.remove(connection.id) != nil }
        cancelTimer(connection)
        if wasIdle { connection.channel.close(promise: nil) }
    }

    /// Takes in nothing more, ends what is idle and turns away who waits; exchanges that run come to their end.
    func close() {
        let (idle, waiters) = state.withLock { state in
            let (idle, tickets) = state.line.close()
            return (idle, tickets.compactMap { state.waiters.removeValue(forKey: $0) })
        }
        for waiter in waiters { waiter.resume(returning: .failure(.closed)) }
        for connection in idle {
            cancelTimer(connection)
            connection.channel.close(promise: nil)
        }
    }

    private func cancelTimer(_ connection: HTTPConnection) {
        state.withLock { $0.timers.removeValue(forKey: connection.id) }?.cancel()
    }
}

extension HTTPClientError {
    fileprivate static let closed = HTTPClientError(.shutDown, "the client is shut down")
    fileprivate static let cancelled = HTTPClientError(.cancelled, "the caller gave up")
}
