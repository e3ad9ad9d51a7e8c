// The course of a lease and of final dots as values: what each answer leads to.

import Foundation
import Ledger
import Testing

@testable import Delivery

@Suite struct LeaseRenewalTests {
    private let start = ContinuousClock.now
    private let first = UUID()
    private let second = UUID()

    private func held() -> LeaseRenewal {
        var renewal = LeaseRenewal(worker: first, lease: .seconds(15))
        _ = renewal.answered(holds: true, sentAt: start, now: start, newWorker: second)
        return renewal
    }

    @Test("A lease begins with its registration and goes on with each renewal")
    func goesOn() {
        var renewal = LeaseRenewal(worker: first, lease: .seconds(15))
        #expect(renewal.step == .register(first))
        var change = renewal.answered(holds: true, sentAt: start, now: start, newWorker: second)
        #expect(change == .began)
        #expect(renewal.step == .renew(first))
        change = renewal.rested(now: start + .seconds(5), newWorker: second)
        #expect(change == .goesOn)
        let sentAt = start + .seconds(5)
        change = renewal.answered(holds: true, sentAt: sentAt, now: sentAt, newWorker: second)
        #expect(change == .goesOn)
        #expect(renewal.clock.remaining(at: sentAt) == .seconds(15))
    }

    @Test("A registration that failed may have committed: its id is not used again; a renewal's is")
    func failed() {
        var renewal = LeaseRenewal(worker: first, lease: .seconds(15))
        renewal.failed(newWorker: second)
        #expect(renewal.step == .register(second))
        renewal = held()
        renewal.failed(newWorker: second)
        #expect(renewal.step == .renew(first))
    }

    @Test("A lease that the ledger does not know, or that ran out here, is gone: a new id registers")
    func gone() {
        var renewal = held()
        let later = start + .seconds(5)
        var change = renewal.answered(holds: false, sentAt: later, now: later, newWorker: second)
        #expect(change == .lapsed(first))
        #expect(renewal.step == .register(second))
        renewal = held()
        change = renewal.rested(now: start + .seconds(15), newWorker: second)
        #expect(change == .lapsed(first))
        #expect(renewal.step == .register(second))
    }

    @Test(
        "A lease that ran out while its renewal waited for the quorum does not come back under its id: work was given up meanwhile"
    )
    func late() {
        var renewal = held()
        let (sentAt, now) = (start + .seconds(5), start + .seconds(16))
        #expect(!renewal.clock.owns(first, at: now))
        let change = renewal.answered(holds: true, sentAt: sentAt, now: now, newWorker: second)
        #expect(change == .lapsed(first))
        #expect(!renewal.clock.owns(first, at: now))
        #expect(renewal.step == .register(second))
    }
}

@Suite struct FinalDotRequestsTests {
    private let worker = UUID()
    private let other = UUID()

    private func claim(_ number: Int32) -> DeliveryReference {
        DeliveryReference(message: UUID(), number: number, fence: 1)
    }

    @Test(
        "What waits goes with one registration; claims of an earlier id are denied, and all are without a lease"
    )
    func rounds() {
        var dots = FinalDotRequests<Int>()
        for (ticket, id) in [(1, worker), (2, other), (3, worker)] {
            _ = dots.ask(claim(Int32(ticket)), worker: id, ticket: ticket)
        }
        let round = dots.take(owner: worker, owns: true)
        #expect(round.asked.map(\.ticket) == [1, 3])
        #expect(round.stale.map(\.ticket) == [2])
        #expect(dots.isEmpty)
        _ = dots.ask(claim(4), worker: worker, ticket: 4)
        let without = dots.take(owner: worker, owns: false)
        #expect(without.stale.map(\.ticket) == [4])
    }

    @Test("Those in flight go with each registration until their end is committed, and not under another id")
    func inFlight() {
        var dots = FinalDotRequests<Int>()
        let (one, two) = (claim(1), claim(2))
        func next(_ id: UUID) -> Set<DeliveryReference> {
            _ = dots.ask(claim(9), worker: id, ticket: 9)
            return Set(dots.take(owner: id, owns: true).inFlight.map(\.reference))
        }
        #expect(next(worker).isEmpty)
        dots.registered([one, two], worker: worker, at: Date())
        #expect(next(worker) == [one, two])
        dots.settled([one])
        #expect(next(worker) == [two])
        #expect(next(other).isEmpty)
        dots.registered([one], worker: worker, at: Date())
        #expect(next(other).isEmpty, "an answer to an earlier id")
    }

    @Test("Once closed nothing is taken, and what waited is denied")
    func closed() {
        var dots = FinalDotRequests<Int>()
        _ = dots.ask(claim(1), worker: worker, ticket: 1)
        var left = dots.close()
        #expect(left.map(\.ticket) == [1])
        let isTaken = dots.ask(claim(2), worker: worker, ticket: 2)
        #expect(!isTaken)
        left = dots.close()
        #expect(left.isEmpty)
    }
}
