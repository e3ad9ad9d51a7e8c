// Which timeline a member that is about to lead may begin, and whether it may. PostgreSQL counts on from the histories in its own folder, so
// two that lead one after the other, the second without having heard of the first, would begin the same one; and PostgreSQL, pg_rewind and
// Patroni tell timelines by their numbers alone. The first would come back with commits that nobody acknowledged, unseen, and what was
// acknowledged since could be lost to it.

import Ledger

/// A number that no member has had. A value without I/O.
struct TimelineClaim: Sendable, Equatable {
    /// More that are passed over at once than any shard comes to: what the register holds is not to be believed.
    static let limit = 10_000

    /// The timeline's number.
    let number: UInt32
    /// Numbers below it that this member has no history of, ascending: PostgreSQL takes the first number that it finds none of, and a
    /// follower asks its leader for each that it lacks.
    let skipped: [UInt32]

    /// - Parameters:
    ///   - claimed: the highest number that any member has claimed; nil: none yet.
    ///   - histories: the numbers that this member has histories of. The first timeline has none.
    /// - Throws: `state` where the register holds what no shard comes to.
    init(claimed: UInt32?, histories: Set<UInt32>) throws(ClusterError) {
        let known = histories.max() ?? 1
        let newest = max(claimed ?? 1, known)
        guard newest - known <= Self.limit, newest < .max else {
            throw ClusterError(
                .state,
                "the register holds timeline \(newest), and \(known) is the newest known here: somebody wrote to it by hand"
            )
        }
        number = newest + 1
        skipped = (2..<number).filter { !histories.contains($0) }
    }

    /// What the register holds of it.
    func text(of member: String) -> String { "\(number) \(member)" }

    /// The number in what a register holds; nil: it cannot be read.
    static func number(in text: String) -> UInt32? {
        text.split(separator: " ").first.flatMap { UInt32($0) }
    }

    /// Why a member must not lead, whatever number it would get; nil: nothing is known against it. Patroni's votes compare positions in the
    /// WAL, and one that was left behind on a former timeline may be further on it than those who followed the next leader.
    /// - Parameters:
    ///   - timeline: where the member is.
    ///   - others: what the other members' Patronis say, as far as they answer.
    static func refusal(_ timeline: Int, _ others: [MemberReport]) -> String? {
        let ahead = others.filter { !$0.leads && ($0.timeline ?? 0) > timeline }
        guard let one = ahead.max(by: { ($0.timeline ?? 0) < ($1.timeline ?? 0) }) else { return nil }
        return
            "\(one.region) follows timeline \(one.timeline ?? 0), and this member is on \(timeline): what was "
            + "acknowledged since is not here"
    }
}
