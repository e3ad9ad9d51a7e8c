// When a deferred delivery is tried again. A value: the random number comes in.

import Foundation

/// The waits between attempts: the last one repeats, each is spread by a fifth either way so that what failed together does
/// not come back together.
public struct RetrySchedule: Sendable, Hashable {
    /// The waits, at least one.
    public let waits: [Duration]
    /// Age of a message at which a failed attempt is its last.
    public let expire: Duration
    /// Age of a message at which its sender is told of the delay, once.
    public let delayReport: Duration

    /// The part of a wait that it may be shorter or longer.
    public static let spread = 0.2

    /// A schedule; an empty list waits half an hour each time.
    public init(waits: [Duration], expire: Duration, delayReport: Duration = .seconds(4 * 3600)) {
        self.waits = waits.isEmpty ? [.seconds(1800)] : waits
        self.expire = expire
        self.delayReport = delayReport
    }

    /// The wait after an attempt.
    /// - Parameters:
    ///   - attempt: the number of the attempt that failed, from 1.
    ///   - random: in 0 ..< 1; a half gives the wait as it is written.
    public func wait(after attempt: Int, random: Double) -> Duration {
        let base = waits[min(max(attempt, 1), waits.count) - 1]
        return base * (1 + Self.spread * (2 * min(max(random, 0), 1) - 1))
    }

    /// Whether a message that was taken in then has had its time.
    public func isExpired(acceptedAt: Date, now: Date) -> Bool {
        now.timeIntervalSince(acceptedAt) >= expire.seconds
    }
}

extension Duration {
    /// Seconds with their fraction.
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
