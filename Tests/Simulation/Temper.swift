// What kind of history it is: some are about intake in doubt, some about workers cut off with work in hand, some about leaders that
// change often, some about everything. Rare coincidences are met often enough only where a history leans towards them.

/// The leanings of a history.
struct Temper {
    /// What a history is about.
    enum Kind: Sendable {
        /// Everything.
        case any
        /// Intake in doubt: edges that do not know, clients that repeat, nobody who claims at once.
        case doubt
        /// Work in hand when the way to the ledger is gone.
        case cutOff
        /// Leaders come and go.
        case change
        /// Leaders that stand still, and go on when another leads.
        case frozen
    }

    /// What can go wrong.
    enum Fault: Int, CaseIterable {
        case workerDies, edgeDies, nodeStops, regionCut, leaderDies, regionLost, regionFrozen, waitsCancelled
        case switchover, namesEmptied, peersLost
    }

    /// Clients in a thousand that lose their connection early.
    var impatience = 150
    /// Attempts in a thousand that fail before their final dot.
    var trouble = 80
    /// Answers to final dots in a hundred that are late.
    var lateness = 8
    /// No worker runs before.
    var workersFrom = Ticks(0)
    /// How long an edge settles, in seconds.
    var settle = 30
    /// How often each fault comes, by its number.
    var weights = [12, 10, 12, 16, 10, 10, 6, 8, 6, 5, 5]
    /// How many faults.
    var faults = 2...7

    init(_ dice: inout Dice, lean: Kind?) {
        let kinds: [Kind] = [.doubt, .doubt, .cutOff, .cutOff, .change, .frozen, .any, .any, .any, .any]
        let kind = kinds[dice.below(kinds.count)]
        switch lean ?? kind {
        case .any: break
        case .doubt:
            impatience = 500
            settle = dice.within(3...12)
            workersFrom = dice.milliseconds(0...50_000)
            weights = [2, 4, 12, 24, 10, 6, 10, 14, 4, 4, 10]
            faults = 3...8
        case .cutOff:
            trouble = 400
            lateness = 40
            weights = [4, 2, 16, 30, 4, 6, 10, 4, 2, 2, 20]
            faults = 3...8
        case .change:
            trouble = 250
            lateness = 25
            impatience = 300
            weights = [2, 2, 6, 20, 20, 12, 14, 10, 12, 2, 0]
            faults = 4...9
        case .frozen:
            impatience = 50
            weights = [0, 0, 2, 6, 2, 4, 30, 24, 4, 2, 16]
            faults = 4...10
        }
    }

    func fault(_ dice: inout Dice) -> Fault {
        var luck = dice.below(weights.reduce(0, +))
        for (index, weight) in weights.enumerated() {
            if luck < weight { return Fault(rawValue: index) ?? .nodeStops }
            luck -= weight
        }
        return .nodeStops
    }
}
