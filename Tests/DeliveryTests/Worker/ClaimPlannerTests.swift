// How much is claimed, and of which lanes.

import Foundation
import Ledger
import Testing

@testable import Delivery

/// A planner that can be asked inside an expectation.
private final class Planning {
    var planner: ClaimPlanner
    init(_ limits: ClaimPlanner.Limits) { planner = ClaimPlanner(limits) }
    var queued: Int { planner.queued }
    var active: Int { planner.active }
    func plan(at now: ContinuousClock.Instant) -> ClaimRequest? { planner.plan(at: now) }
    func took(_ lanes: [String], of request: ClaimRequest) -> Bool { planner.took(lanes, of: request) }
    func begun(_ lane: String) { planner.begun(lane) }
    func ended(_ lane: String) { planner.ended(lane) }
    func dropped(_ lane: String) { planner.dropped(lane) }
}

@Suite struct ClaimPlannerTests {
    private let start = ContinuousClock.now
    private func planner(prefetch: Int = 400, perDestination: Int = 20, batch: Int = 200) -> Planning {
        Planning(
            ClaimPlanner.Limits(prefetch: prefetch, perDestination: perDestination, batch: batch, lanes: 4))
    }

    @Test("The first claim asks for a full batch, of any lane")
    func first() throws {
        let planner = planner()
        let request = try #require(planner.plan(at: start))
        #expect(request.limit == 200)
        #expect(request.excludedLanes.isEmpty)
        #expect(request.perLane >= 20)
    }

    @Test("Law 9: what waits over all lanes is bounded, and nothing is asked when there is no room")
    func bounded() throws {
        let planner = planner(prefetch: 40, perDestination: 20)
        let request = try #require(planner.plan(at: start))
        #expect(request.limit == 40)
        _ = planner.took(Array(repeating: "a", count: 20) + Array(repeating: "b", count: 20), of: request)
        #expect(planner.queued == 40)
        #expect(planner.plan(at: start) == nil)
        for _ in 0..<10 { planner.begun("a") }
        #expect(planner.plan(at: start)?.limit == 10)
        #expect(planner.active == 10)
    }

    @Test("A lane with its share waiting is left out, and comes back as it works")
    func exclusion() throws {
        let planner = planner()
        let request = try #require(planner.plan(at: start))
        _ = planner.took(Array(repeating: "slow", count: 20) + ["fast"], of: request)
        #expect(planner.plan(at: start)?.excludedLanes == ["slow"])
        for _ in 0..<10 { planner.begun("slow") }
        #expect(planner.plan(at: start)?.excludedLanes == [])
    }

    @Test("A slow lane that was claimed in bulk does not fill the bound for the others")
    func slowLane() throws {
        let planner = planner(prefetch: 100, perDestination: 10)
        let request = try #require(planner.plan(at: start))
        _ = planner.took(Array(repeating: "slow", count: 100), of: request)
        let next = try #require(planner.plan(at: start))
        #expect(next.limit == 90)
        #expect(next.excludedLanes == ["slow"])
    }

    @Test("A lane's share follows its pace, and falls back when it rests")
    func pace() throws {
        let planner = planner()
        let request = try #require(planner.plan(at: start))
        _ = planner.took(Array(repeating: "fast", count: 200), of: request)
        #expect(planner.plan(at: start)?.excludedLanes == ["fast"])
        for _ in 0..<150 {
            planner.begun("fast")
            planner.ended("fast")
        }
        // 50 wait, and 150 went in this window.
        #expect(planner.plan(at: start)?.excludedLanes == [])
        #expect(planner.plan(at: start + .milliseconds(1100))?.excludedLanes == [])
        #expect(planner.plan(at: start + .milliseconds(2200))?.excludedLanes == ["fast"])
    }

    @Test("A full claim goes on behind its last lane, a short one starts over; both at once")
    func rotation() throws {
        let planner = planner(prefetch: 400, perDestination: 20, batch: 4)
        let request = try #require(planner.plan(at: start))
        var again = planner.took(["a", "a", "b", "b"], of: request)
        #expect(again)
        let second = try #require(planner.plan(at: start))
        #expect(second.afterLane == "b")
        again = planner.took(["c"], of: second)
        #expect(again)
        let third = try #require(planner.plan(at: start))
        #expect(third.afterLane == "")
        again = planner.took(["a"], of: third)
        #expect(!again)
    }

    @Test("What is given back leaves the count")
    func dropped() throws {
        let planner = planner()
        let request = try #require(planner.plan(at: start))
        _ = planner.took(["a", "b"], of: request)
        planner.dropped("a")
        #expect(planner.queued == 1)
    }
}
