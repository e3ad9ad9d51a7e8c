// Which timeline a member that is about to lead may begin, and whether it may. PostgreSQL counts on from the histories in its own folder, so
// two that lead one after the other, the second without having heard of the first, would begin the same one; and PostgreSQL, pg_rewind and
// Patroni tell timelines by their numbers alone. The first would come back with commits that nobody acknowledged, unseen, and what was
// acknowledged since could be lost to it.

import Ledger

/// What a shard's register of timelines holds: who claimed which number, the newest first.
struct ClaimedTimelines: Sendable, Equatable {
    /// Claims that are remembered.
    static let limit = 64

    /// The claims: a number, and the region whose member claimed it.
    private(set) var claims: [(number: UInt32, region: String)] = []

    /// None yet.
    init() {}

    /// Reads what ``text`` wrote.
    /// - Returns: nil for what is none.
    init?(_ text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let number = UInt32(words[0]) else { return nil }
            claims.append((number, String(words[1])))
        }
        if claims.isEmpty { return nil }
    }

    /// One claim a line.
    var text: String { claims.map { "\($0.number) \($0.region)" }.joined(separator: "\n") }

    /// The highest number that anybody has claimed; nil: none yet.
    var newest: UInt32? { claims.map(\.number).max() }

    /// Who claimed a number, as far as it is remembered.
    func claimer(of timeline: Int) -> String? { claims.first { Int($0.number) == timeline }?.region }

    /// One more.
    mutating func add(_ claim: TimelineClaim, by region: String) {
        claims = Array(([(claim.number, region)] + claims).prefix(Self.limit))
    }

    static func == (left: Self, right: Self) -> Bool { left.text == right.text }
}

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

    /// Why a member must not lead, whatever number it would get; nil: nothing is known against it. Patroni's votes compare positions in the
    /// WAL, and one that was left behind on a former timeline may be further on it than those who followed the next leader.
    /// - Parameters:
    ///   - timeline: where the member is.
    ///   - others: what the other members' Patronis say, as far as they answer.
    ///   - claimed: who began which timeline: one that only its beginner is on has had nothing acknowledged.
    static func refusal(_ timeline: Int, _ others: [MemberReport], _ claimed: ClaimedTimelines) -> String? {
        let ahead = others.compactMap { other -> (region: String, timeline: Int)? in
            guard !other.leads, let theirs = other.timeline, theirs > timeline,
                claimed.claimer(of: theirs) != other.region
            else { return nil }
            return (other.region, theirs)
        }
        guard let one = ahead.max(by: { $0.timeline < $1.timeline }) else { return nil }
        return "\(one.region) follows timeline \(one.timeline), and this member is on \(timeline): what was "
            + "acknowledged since is not here"
    }
}
