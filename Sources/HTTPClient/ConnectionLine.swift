// Who may have a connection, who waits for one, and which connections wait for somebody: the bookkeeping of a client as a
// value without I/O.
//
// Every connection that is open or being opened counts, idle ones too: an idle one makes room when another host needs its
// place. Whoever waits does so in order; one whose host has no free place lets those behind it pass.

import DNS

/// The book of a client's connections.
struct ConnectionLine<Connection: Sendable, ID: Hashable & Sendable>: Sendable {
    /// What a request gets.
    enum Place: Sendable {
        /// This idle connection.
        case idle(Connection)
        /// It may open a connection, once this one (if any) has been closed.
        case open(closing: Connection?)
    }

    private struct Idle {
        var id: ID
        var connection: Connection
        var origin: Origin
        var address: IPAddress
    }

    private struct Waiting {
        var ticket: UInt64
        var origin: Origin
        var addresses: [IPAddress]
        var takesIdle: Bool
    }

    private let total: Int
    private let perOrigin: Int
    private let most: Int
    /// Requests between their first and their last step.
    private var requests = 0
    /// Connections in use, by origin.
    private var used: [Origin: Int] = [:]
    /// Oldest first.
    private var idle: [Idle] = []
    private var waiting: [Waiting] = []
    private var tickets: UInt64 = 0
    private(set) var isClosed = false

    /// - total, perOrigin: most connections at once.
    /// - waiting: most requests besides those that have one.
    init(total: Int, perOrigin: Int, waiting: Int) {
        self.total = total
        self.perOrigin = perOrigin
        most = total + waiting
    }

    /// Lets a request in; false: too many are there.
    mutating func enter() -> Bool {
        guard requests < most else { return false }
        requests += 1
        return true
    }

    /// A request is over, whatever it held given back.
    mutating func leave() { requests -= 1 }

    /// A place for a request; nil: it must wait.
    /// - addresses: those that a connection may lead to now.
    /// - takesIdle: false: a fresh connection is wanted.
    mutating func place(_ origin: Origin, _ addresses: [IPAddress], takesIdle: Bool) -> Place? {
        let here = used[origin, default: 0]
        guard here < perOrigin else { return nil }
        // The youngest is the least likely to have been closed by the server.
        if takesIdle,
            let index = idle.lastIndex(where: { $0.origin == origin && addresses.contains($0.address) })
        {
            used[origin] = here + 1
            return .idle(idle.remove(at: index).connection)
        }
        let open = used.values.reduce(0, +)
        guard open < total else { return nil }
        var closing: Connection?
        if here + idle.count(where: { $0.origin == origin }) >= perOrigin,
            let index = idle.firstIndex(where: { $0.origin == origin })
        {
            closing = idle.remove(at: index).connection
        } else if open + idle.count >= total, !idle.isEmpty {
            closing = idle.removeFirst().connection
        }
        used[origin] = here + 1
        return .open(closing: closing)
    }

    /// A number for a request that may have to wait.
    mutating func ticket() -> UInt64 {
        tickets += 1
        return tickets
    }

    /// Puts a request at the end of the line.
    mutating func wait(_ ticket: UInt64, _ origin: Origin, _ addresses: [IPAddress], takesIdle: Bool) {
        waiting.append(
            Waiting(ticket: ticket, origin: origin, addresses: addresses, takesIdle: takesIdle))
    }

    /// Takes a request out of the line.
    mutating func abandon(_ ticket: UInt64) { waiting.removeAll { $0.ticket == ticket } }

    /// Those of the line who get a place now, in order.
    mutating func admitted() -> [(ticket: UInt64, place: Place)] {
        var admitted: [(UInt64, Place)] = []
        var index = 0
        while index < waiting.count {
            let next = waiting[index]
            if let place = place(next.origin, next.addresses, takesIdle: next.takesIdle) {
                waiting.remove(at: index)
                admitted.append((next.ticket, place))
            } else {
                index += 1
            }
        }
        return admitted
    }

    /// A connection in use is closed, or was never made.
    mutating func release(_ origin: Origin) {
        guard let count = used[origin] else { return }
        used[origin] = count > 1 ? count - 1 : nil
    }

    /// A connection in use becomes idle.
    mutating func park(_ id: ID, _ connection: Connection, _ origin: Origin, _ address: IPAddress) {
        release(origin)
        idle.append(Idle(id: id, connection: connection, origin: origin, address: address))
    }

    /// An idle connection is taken away, because it was closed or is to be; nil: it is not idle.
    mutating func remove(_ id: ID) -> Connection? {
        guard let index = idle.firstIndex(where: { $0.id == id }) else { return nil }
        return idle.remove(at: index).connection
    }

    /// Takes in nothing more.
    /// - Returns: what was idle, and who waited.
    mutating func close() -> (idle: [Connection], waiting: [UInt64]) {
        isClosed = true
        defer {
            idle = []
            waiting = []
        }
        return (idle.map(\.connection), waiting.map(\.ticket))
    }
}
