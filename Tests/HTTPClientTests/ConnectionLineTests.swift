// Who gets a connection, who waits, and who makes room.

import DNS
import Testing

@testable import HTTPClient

@Suite struct ConnectionLineTests {
    typealias Line = ConnectionLine<String, String>

    private let addresses: [IPAddress]
    private let here: Origin
    private let there: Origin

    init() throws {
        addresses = ["192.0.2.1", "192.0.2.2"].compactMap { IPAddress($0) }
        here = Origin(try HTTPSURL("https://a.test/"))
        there = Origin(try HTTPSURL("https://b.test/"))
    }

    /// What a place is, in one word.
    private func word(_ place: Line.Place?) -> String {
        switch place {
        case nil: "wait"
        case .idle(let connection): connection
        case .open(nil): "open"
        case .open(let closing?): "open, close \(closing)"
        }
    }

    @Test func `a host has its own bound, all of them have one together`() {
        var line = Line(total: 3, perOrigin: 2, waiting: 9)
        #expect(word(line.place(here, addresses, takesIdle: true)) == "open")
        #expect(word(line.place(here, addresses, takesIdle: true)) == "open")
        #expect(word(line.place(here, addresses, takesIdle: true)) == "wait")
        #expect(word(line.place(there, addresses, takesIdle: true)) == "open")
        #expect(word(line.place(there, addresses, takesIdle: true)) == "wait")
        line.release(here)
        #expect(word(line.place(there, addresses, takesIdle: true)) == "open")
    }

    @Test func `an idle connection is taken only for its host, port and address`() throws {
        var line = Line(total: 9, perOrigin: 9, waiting: 9)
        _ = line.place(here, addresses, takesIdle: true)
        line.park("1", "first", here, addresses[0])
        let otherPort = Origin(try HTTPSURL("https://a.test:444/"))
        #expect(word(line.place(there, addresses, takesIdle: true)) == "open")
        #expect(word(line.place(otherPort, addresses, takesIdle: true)) == "open")
        #expect(word(line.place(here, [addresses[1]], takesIdle: true)) == "open")
        #expect(word(line.place(here, addresses, takesIdle: false)) == "open")
        #expect(word(line.place(here, addresses, takesIdle: true)) == "first")
        #expect(word(line.place(here, addresses, takesIdle: true)) == "open")
    }

    @Test func `an idle connection makes room for another host, the oldest first`() {
        var line = Line(total: 2, perOrigin: 2, waiting: 9)
        for _ in 0..<2 { _ = line.place(here, addresses, takesIdle: true) }
        line.park("1", "first", here, addresses[0])
        line.park("2", "second", here, addresses[0])
        #expect(word(line.place(there, addresses, takesIdle: true)) == "open, close first")
        #expect(word(line.place(here, addresses, takesIdle: true)) == "second")
    }

    @Test func `a fresh connection takes the place of an idle one of its host`() {
        var line = Line(total: 9, perOrigin: 1, waiting: 9)
        _ = line.place(here, addresses, takesIdle: true)
        line.park("1", "first", here, addresses[0])
        #expect(word(line.place(here, addresses, takesIdle: false)) == "open, close first")
    }

    @Test func `the line is in order, and a full host does not hold up the others`() {
        var line = Line(total: 2, perOrigin: 1, waiting: 9)
        _ = line.place(here, addresses, takesIdle: true)
        let tickets = [line.ticket(), line.ticket(), line.ticket()]
        line.wait(tickets[0], here, addresses, takesIdle: true)
        line.wait(tickets[1], there, addresses, takesIdle: true)
        line.wait(tickets[2], here, addresses, takesIdle: true)
        #expect(line.admitted().map(\.ticket) == [tickets[1]])
        line.park("1", "first", here, addresses[0])
        let next = line.admitted()
        #expect(next.map(\.ticket) == [tickets[0]])
        #expect(word(next.first?.place) == "first")
        line.abandon(tickets[2])
        line.release(here)
        #expect(line.admitted().isEmpty)
    }

    @Test func `no more come in than have a connection or may wait`() {
        var line = Line(total: 1, perOrigin: 1, waiting: 2)
        var entered: [Bool] = []
        for _ in 0..<4 { entered.append(line.enter()) }
        #expect(entered == [true, true, true, false])
        line.leave()
        let again = line.enter()
        #expect(again)
    }

    @Test func `IPv6 goes first, and both families are tried`() {
        func spread(_ texts: [String], _ most: Int) -> [String] {
            HTTPClient.spread(texts.compactMap { IPAddress($0) }, most).map(\.description)
        }
        #expect(spread(["192.0.2.1", "2001:db8::1"], 4) == ["2001:db8::1", "192.0.2.1"])
        #expect(
            spread(["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "192.0.2.1"], 3)
                == ["2001:db8::1", "2001:db8::2", "192.0.2.1"])
        #expect(spread(["192.0.2.1", "192.0.2.2", "192.0.2.3"], 2) == ["192.0.2.1", "192.0.2.2"])
        #expect(spread([], 4).isEmpty)
    }
}
