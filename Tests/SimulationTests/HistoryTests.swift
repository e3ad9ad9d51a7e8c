// Simulated histories, a short form: the runner `simulate` does 100,000 of them in a release build.

import Foundation
import Simulation
import Testing

@Suite(.timeLimit(.minutes(4))) struct HistoryTests {
    private static let given = ProcessInfo.processInfo.environment["ZEGEL_SIM_SEED"].flatMap { UInt64($0) }

    @Test("Laws 1, 5, 6 and 7 hold in histories of faults; ZEGEL_SIM_SEED tells one of them")
    func laws() {
        if let seed = Self.given {
            let history = History.run(seed: seed, isTraced: true)
            for line in history.trace { print(line) }
            #expect(history.violations == [], "seed \(seed)")
            return
        }
        let first = UInt64.random(in: 0..<UInt64.max)
        print("histories: seed \(first)")
        for index in 0..<2000 {
            let history = History.run(seed: History.seed(first, index))
            #expect(history.violations == [], "seed \(history.seed)")
        }
    }

    @Test("The same seed is the same history, line by line")
    func repeats() {
        for seed in UInt64(1)...5 {
            let (one, other) = (
                History.run(seed: seed, isTraced: true), History.run(seed: seed, isTraced: true)
            )
            #expect(one.trace == other.trace && one.steps == other.steps)
            #expect(one.trace.count > 10)
        }
    }

    @Test(
        "A planted mistake breaks a law within a few histories",
        arguments: [
            Flaw.warnedAcceptCounts, .emptyNamesCount, .namesReadBefore, .unmarkedResubmission, .movesInDoubt,
            .warnedWorkCounts, .emptyNamesCountForWork, .noLeaseMargin, .unregisteredDot, .forgottenDots,
            .reclaimWithoutDotWait, .unmarkedDoubt, .commitsAlone, .electsAnyMember, .unaskedReplays,
            .unendedClaims, .plainQuestion, .forgottenTags,
        ])
    func flaws(_ flaw: Flaw) throws {
        let first = UInt64.random(in: 0..<UInt64.max)
        let (history, tried) = try #require(
            flaw.find(from: first, within: 1500), "not found from seed \(first)")
        print("\(flaw): history \(tried), seed \(history.seed): \(history.violations[0])")
    }
}
