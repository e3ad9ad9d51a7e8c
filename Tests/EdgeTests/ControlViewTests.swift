// How old an edge takes its knowledge of tenants and credentials to be, and when it stops working with it.

import Foundation
import Testing

@testable import Edge
@testable import Ledger

@Suite("What an edge knows of tenants ages with the leader's heartbeat") struct ControlViewTests {
    private static let start = Date(timeIntervalSince1970: 1_790_000_000)

    private static func snapshot(_ version: Int64, age: Double = 0) -> ControlSnapshot {
        ControlSnapshot(
            version: version, age: age, tenants: [:], senderDomains: [:], credentials: [:], signedKeySet: nil)
    }

    @Test("A member that its leader does not reach confirms nothing new: past the bound there is no snapshot")
    func cutOffMember() {
        let view = ControlView(maximumAge: 100)
        #expect(view.current(now: Self.start) == nil)
        view.take(Self.snapshot(3), now: Self.start)
        for seconds in stride(from: 10.0, through: 200, by: 10) {
            let now = Self.start + seconds
            // It answers each time, and its heartbeat is the same.
            view.confirm(ControlVersion(number: 3, age: seconds), now: now)
            #expect(view.age(now: now) == seconds)
            #expect((view.current(now: now) == nil) == (seconds > 100))
        }
        // The leader is heard of again.
        view.confirm(ControlVersion(number: 3, age: 2), now: Self.start + 210)
        #expect(view.current(now: Self.start + 210)?.version == 3 && view.age(now: Self.start + 210) == 2)
    }

    @Test("A snapshot that was old when it was read is as old here")
    func oldFromTheStart() {
        let view = ControlView(maximumAge: 100)
        view.take(Self.snapshot(3, age: 90), now: Self.start)
        #expect(view.current(now: Self.start + 5) != nil)
        #expect(view.current(now: Self.start + 11) == nil)
    }

    @Test("Of a member that lags no earlier version is taken, and its word for that makes nothing younger")
    func laggingMember() {
        let view = ControlView(maximumAge: 100)
        view.take(Self.snapshot(3), now: Self.start)
        #expect(!view.take(Self.snapshot(2), now: Self.start + 1))
        view.confirm(ControlVersion(number: 2, age: 0), now: Self.start + 50)
        #expect(view.version == 3 && view.age(now: Self.start + 50) == 50)
        // Past the bound what there is is better than nothing: a control shard that was put back to an earlier point.
        #expect(view.take(Self.snapshot(2), now: Self.start + 101) && view.version == 2)
    }
}
