// Which timeline a member that is about to lead may begin. PostgreSQL counts on from the histories in its own folder, so two that lead one
// after the other, the second without having heard of the first, would begin the same one; and PostgreSQL, pg_rewind and Patroni tell
// timelines by their numbers alone. The first would come back with commits that nobody acknowledged, unseen, and what was acknowledged since
// could be lost to it.

/// A number that no member has had. A value without I/O.
struct TimelineClaim: Sendable, Equatable {
    /// The timeline's number.
    let number: UInt32
    /// Numbers below it that others claimed and whose histories this member does not have, ascending: PostgreSQL takes the first number
    /// that it finds no history of.
    let skipped: [UInt32]

    /// - Parameters:
    ///   - claimed: the highest number that any member has claimed; nil: none yet.
    ///   - histories: the numbers that this member has histories of. The first timeline has none.
    init(claimed: UInt32?, histories: Set<UInt32>) {
        let newest = max(claimed ?? 1, histories.max() ?? 1)
        let number = newest &+ 1
        self.number = number
        let lowest = histories.min() ?? 1
        skipped = (lowest..<number).dropFirst().filter { !histories.contains($0) }
    }

    /// What the register holds of it.
    func text(of member: String) -> String { "\(number) \(member)" }

    /// The number in what a register holds; nil: it cannot be read.
    static func number(in text: String) -> UInt32? {
        text.split(separator: " ").first.flatMap { UInt32($0) }
    }
}
