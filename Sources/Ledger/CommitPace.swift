// When the next group commit may begin. One item alone never waits. But the answers to a commit of several bring the next items
// within a moment, and without a pace the first of those has a commit to itself while all others wait for it: every other commit is
// of one item. So a commit of several is followed by the next no sooner than a few milliseconds after it began.

/// The pace of one writer's group commits.
public struct CommitPace: Sendable {
    private let gather: Duration
    private var restsUntil: ContinuousClock.Instant?
    private var lastBegan: ContinuousClock.Instant?

    /// - Parameter gather: from the beginning of a commit of several items to that of the next one. A commit that takes longer is
    ///   followed at once.
    public init(gather: Duration) { self.gather = gather }

    /// A commit of `items` items begins.
    public mutating func began(items: Int, at now: ContinuousClock.Instant) {
        restsUntil = items > 1 ? now + gather : nil
        lastBegan = now
    }

    /// Until when the next commit should wait for more items; nil: it may begin.
    public func rest(at now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        restsUntil.flatMap { $0 > now ? $0 : nil }
    }

    /// The same for one that would begin while another is under way: it has company to wait for in any case.
    public func restBeside(at now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        lastBegan.map { $0 + gather }.flatMap { $0 > now ? $0 : nil }
    }
}
