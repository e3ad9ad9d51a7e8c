// Law 7 on the worker's own clock.

import Foundation
import Testing

@testable import Delivery

@Suite struct LeaseClockTests {
    private let start = ContinuousClock.now
    private let worker = UUID()
    private func clock() -> LeaseClock { LeaseClock(worker: worker, lease: .seconds(15)) }

    @Test("Without a confirmed heartbeat nothing may be claimed, sent or owned")
    func noLease() {
        let clock = clock()
        #expect(!clock.mayClaim(at: start))
        #expect(!clock.maySendDot(worker, at: start))
        #expect(!clock.owns(worker, at: start))
        #expect(!clock.hasLapsed(at: start))
    }

    @Test("The lease counts from before the heartbeat was sent, not from when its answer came")
    func countsFromSending() {
        var clock = clock()
        // The answer took five seconds: they are gone.
        clock.confirmed(worker, sentAt: start)
        #expect(clock.remaining(at: start + .seconds(5)) == .seconds(10))
        #expect(clock.owns(worker, at: start + .milliseconds(14_999)))
        #expect(!clock.owns(worker, at: start + .seconds(15)))
        #expect(clock.hasLapsed(at: start + .seconds(15)))
    }

    @Test(
        "No final dot without enough lease left; a claim needs the same",
        arguments: [
            (0, true), (11, true), (11.99, true), (12, false), (14, false), (15, false), (1000, false),
        ])
    func dotMargin(_ seconds: Double, _ may: Bool) {
        var clock = clock()
        clock.confirmed(worker, sentAt: start)
        let now = start + .seconds(seconds)
        #expect(clock.maySendDot(worker, at: now) == may)
        #expect(clock.mayClaim(at: now) == may)
    }

    @Test("A later confirmation extends, an earlier one that arrives late does not shorten")
    func outOfOrder() {
        var clock = clock()
        clock.confirmed(worker, sentAt: start + .seconds(5))
        clock.confirmed(worker, sentAt: start)
        #expect(clock.remaining(at: start + .seconds(5)) == .seconds(15))
    }

    @Test(
        "A lapsed lease takes a new id: what the old one claimed has no dot any more, and its late heartbeat counts nothing"
    )
    func lapse() {
        var clock = clock()
        clock.confirmed(worker, sentAt: start)
        let next = UUID()
        clock.lapse(newWorker: next)
        clock.confirmed(worker, sentAt: start + .seconds(1))
        #expect(!clock.owns(worker, at: start + .seconds(1)))
        #expect(!clock.owns(next, at: start + .seconds(1)))
        clock.confirmed(next, sentAt: start + .seconds(2))
        #expect(clock.maySendDot(next, at: start + .seconds(2)))
        #expect(!clock.maySendDot(worker, at: start + .seconds(2)))
    }

    @Test("Two heartbeats may be lost before the lease is")
    func interval() {
        let clock = clock()
        #expect(clock.interval * 2 + clock.dotMargin < clock.lease)
    }
}
