// When a delivery is tried again.

import Foundation
import Testing

@testable import Delivery

@Suite struct RetryScheduleTests {
    private let schedule = RetrySchedule(
        waits: [.seconds(60), .seconds(120), .seconds(300)], expire: .seconds(3600))

    @Test(
        "Each attempt has its wait, and the last one repeats",
        arguments: [(0, 60), (1, 60), (2, 120), (3, 300), (4, 300), (1000, 300)])
    func waits(_ attempt: Int, _ seconds: Int) {
        #expect(schedule.wait(after: attempt, random: 0.5) == .seconds(seconds))
    }

    @Test(
        "A wait is spread by a fifth either way, whatever the random number",
        arguments: [-1, 0, 0.25, 0.5, 0.999, 1, 7])
    func spread(_ random: Double) {
        let wait = schedule.wait(after: 1, random: random).seconds
        #expect(wait >= 48 - 1e-6 && wait <= 72 + 1e-6)
        #expect(schedule.wait(after: 1, random: 0).seconds < schedule.wait(after: 1, random: 0.9).seconds)
    }

    @Test("A message has had its time when its age reaches the limit")
    func expiry() {
        let accepted = Date(timeIntervalSince1970: 1_790_000_000)
        #expect(!schedule.isExpired(acceptedAt: accepted, now: accepted.addingTimeInterval(3599.9)))
        #expect(schedule.isExpired(acceptedAt: accepted, now: accepted.addingTimeInterval(3600)))
    }

    @Test("An empty list still waits")
    func empty() {
        #expect(RetrySchedule(waits: [], expire: .seconds(1)).wait(after: 1, random: 0.5) == .seconds(1800))
    }
}
