// How long a supervisor waits before it starts a child again.

/// The pause before the next start of a child that ended by itself.
///
/// The first pause is short, so that one crash is hardly noticed; each further one doubles it up to a limit, so that a child
/// that cannot live does not eat the machine. A child that lived long enough starts again from the first pause.
public struct RestartBackoff: Sendable, Equatable {
    /// The first pause.
    public let first: Duration
    /// The longest pause.
    public let limit: Duration
    /// A child that lived at least this long is forgiven its past.
    public let forgiveAfter: Duration
    /// Ends without a long life in between.
    public private(set) var failures = 0

    /// A back-off from `first`, doubling up to `limit`, forgetting after a life of `forgiveAfter`.
    public init(
        first: Duration = .milliseconds(200), limit: Duration = .seconds(5),
        forgiveAfter: Duration = .seconds(10)
    ) {
        self.first = first
        self.limit = limit
        self.forgiveAfter = forgiveAfter
    }

    /// Counts the end of a child that lived for `life`, and returns the pause before its next start.
    public mutating func pause(afterLifeOf life: Duration) -> Duration {
        if life >= forgiveAfter { failures = 0 }
        let doublings = min(failures, 30)
        failures += 1
        return min(limit, first * (1 << doublings))
    }
}
