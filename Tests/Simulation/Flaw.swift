// The mistakes that can be planted into a history, to see that the laws catch them.

/// A mistake planted into the model or into what drives the values.
public enum Flaw: String, Sendable, CaseIterable {
    /// The edge takes a commit with a warning for durable.
    case warnedAcceptCounts
    /// The edge takes a commit without synchronous names for durable.
    case emptyNamesCount
    /// The names are read before the commit alone: emptied while it waits, it ends without a warning.
    case namesReadBefore
    /// A resubmission that finds everything there writes nothing, and so waits for nobody.
    case unmarkedResubmission
    /// A resubmission looks on one server and adds what is missing on another.
    case twoServerResubmission
    /// An item in doubt is submitted to another shard under the same id.
    case movesInDoubt
    /// A replay whose mark was warned counts.
    case warnedReplayCounts
    /// A withdrawal takes back what a replay relies on.
    case withdrawalIgnoresReplay
    /// A withdrawal takes back what was claimed.
    case withdrawalIgnoresClaim
    /// A withdrawal takes back what is left of a message of which a delivery has ended.
    case withdrawalIgnoresEnds
    /// Workers take warned claims, heartbeats and registrations for done.
    case warnedWorkCounts
    /// Workers do not look at the synchronous names.
    case emptyNamesCountForWork
    /// A lease that had run out goes on under the same id when its renewal is answered at last.
    case resumedLease
    /// A final dot goes whatever is left of the lease.
    case noLeaseMargin
    /// A final dot goes before its registration is answered.
    case unregisteredDot
    /// A registration forgets those before it.
    case forgottenDots
    /// A reclaim frees what has a registered final dot.
    case reclaimWithoutDotWait
    /// A reclaim does not mark what is in doubt.
    case unmarkedDoubt
    /// Each server counts fences for itself: after a rewind the same come again.
    case reusedFences
    /// What is given back of a lapsed lease includes final dots without an answer.
    case doubtGivenUp
    /// A completion counts whatever its fence.
    case uncheckedFences
    /// A claim of which every recipient was served is given back, not ended.
    case unendedClaims
    /// A commit waits for nobody.
    case commitsAlone
    /// Any member becomes leader, not the most advanced one.
    case electsAnyMember
    /// Another shard's word that nobody holds a tag is a plain read.
    case unmarkedQuestion
    /// Nobody asks other shards.
    case unaskedReplays
    /// Others are asked for a smaller id alone, as it was first drawn up: a greater one that has gone marks nothing, and any member's
    /// silence will do.
    case plainQuestion
    /// A tag goes when its client has shown that it has its 250.
    case forgottenTags
}

extension Flaw {
    /// The kind of history in which it shows, where it shows but rarely in others.
    var shows: Temper.Kind? {
        switch self {
        case .withdrawalIgnoresReplay, .warnedReplayCounts, .withdrawalIgnoresClaim, .withdrawalIgnoresEnds,
            .unmarkedQuestion:
            .doubt
        case .uncheckedFences, .resumedLease, .unendedClaims, .doubtGivenUp: .cutOff
        case .reusedFences: .change
        case .twoServerResubmission: .frozen
        default: nil
        }
    }

    /// Whether it takes hundreds of thousands of histories to meet it.
    public var isRare: Bool { self == .unmarkedQuestion || self == .withdrawalIgnoresEnds }

    /// Looks for a history of a seed onwards in which a law is broken; nil: none of so many.
    public func find(from seed: UInt64, within count: Int) -> (History, tried: Int)? {
        for index in 0..<count {
            let history = History.run(seed: History.seed(seed, index), flaw: self)
            if !history.violations.isEmpty { return (history, index + 1) }
        }
        return nil
    }
}
