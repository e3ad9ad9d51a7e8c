// How many requests one caller may make: a bucket that fills at a rate, as a value.

import Foundation

/// A token bucket. Time comes in as an argument.
struct TokenBucket: Sendable {
    let perSecond: Double
    let burst: Double
    private var tokens: Double
    private var filledAt: ContinuousClock.Instant

    init(perSecond: Double, burst: Double, now: ContinuousClock.Instant) {
        self.perSecond = perSecond
        self.burst = burst
        self.tokens = burst
        self.filledAt = now
    }

    /// Takes one token if there is one.
    mutating func take(now: ContinuousClock.Instant) -> Bool {
        let passed = now - filledAt
        if passed > .zero {
            tokens = min(burst, tokens + passed / .seconds(1) * perSecond)
            filledAt = now
        }
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }

    /// Whole tokens left.
    var remaining: Int { Int(max(0, tokens)) }

    /// Until it is full again.
    var untilFull: Duration { .seconds((burst - tokens) / perSecond) }
}
