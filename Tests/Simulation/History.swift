// One simulated history from its seed, and many of them.

import Foundation

/// A history: what came of it.
public struct History: Sendable {
    /// What it began with.
    public let seed: UInt64
    /// Laws that were broken; none is as it should be.
    public let violations: [String]
    /// How many things happened in it.
    public let steps: Int
    /// Messages, copies that recipients got, and final dots, for the report.
    public let messages: Int
    /// Copies beyond the first of a content, all of them marked if nothing is violated.
    public let doubles: Int
    /// What happened, line by line, where it was asked for.
    public let trace: [String]

    /// Runs the history of a seed.
    public static func run(
        seed: UInt64, flaw: Flaw? = nil, isTraced: Bool = false
    ) -> History {
        var world = World(seed: seed, flaw: flaw, lean: flaw?.shows, isTraced: isTraced)
        world.run()
        var copies: Set<Int> = []
        for copy in world.copies {
            copies.insert(copy.content * ShardTables.recipientsOfMessage + copy.recipient)
        }
        return History(
            seed: seed, violations: world.violations, steps: world.steps, messages: world.messages.count,
            doubles: world.copies.count - copies.count, trace: world.trace?.lines ?? [])
    }

    /// The seed of one of many histories.
    public static func seed(_ first: UInt64, _ index: Int) -> UInt64 {
        var dice = Dice(seed: first &+ UInt64(index) &* 0x2545_F491_4F6C_DD1D)
        return dice.next()
    }
}
