// Before the first attempt of a message: do other shards hold the same bytes? A client that lost its 250 repeats, and its repeat may be
// taken in by another shard, where nobody recognises it (design §7). A value: words of the shards come in, a decision comes out.
//
// The message with the smaller id goes and the other one ends as its replay. That rests on no clock: whichever of the two is asked
// about first, one of them finds the other, or finds that it may have gone.

import Foundation
import Ledger

/// What another shard has to say about the bytes of a message.
package enum ReplayWord: Sendable, Equatable {
    /// Its quorum has these messages with the same bytes; none: nobody holds them.
    case holders([ReplayHolder])
    /// Nobody speaks for its quorum. `isThere`: a member knows the bytes, so that its next leader may hold them. `isEnough`: so many
    /// members have answered that one of them would know whatever was durable. `since`: from when on too few have, whoever asked; nil: not
    /// known.
    case silence(isThere: Bool, isEnough: Bool, since: ContinuousClock.Instant? = nil)
}

/// The course of one message's questions.
package struct ReplayInquiry: Sendable {
    /// How long a message waits for the word of a shard without a leader; then it goes, marked. Of a shard that has been away for so long
    /// already the next message waits for nothing.
    package static let bound = Duration.seconds(45)
    /// Between questions to such a shard.
    package static let again = Duration.seconds(2)

    /// What follows for the message.
    package enum Decision: Sendable, Equatable {
        /// Shards have not spoken yet, or not clearly.
        case open
        /// It goes. Marked: other bytes like these may have gone before.
        case goes(isMarked: Bool)
        /// It is a replay of this message, which now stands.
        case isReplay(of: UUID)
    }

    private let message: UUID
    private var waits: Set<Int>
    private var silentSince: [Int: ContinuousClock.Instant] = [:]
    private var isMarked = false
    private var first: UUID?

    /// - Parameters:
    ///   - message: asked for.
    ///   - shards: that are to be asked, by number.
    package init(message: UUID, shards: some Sequence<Int>) {
        self.message = message
        waits = Set(shards)
    }

    /// Shards to be asked, now or again.
    package var shards: Set<Int> { first == nil ? waits : [] }

    /// What is decided.
    package var decision: Decision {
        if let first { return .isReplay(of: first) }
        return waits.isEmpty ? .goes(isMarked: isMarked) : .open
    }

    /// A shard has spoken.
    /// - Returns: a message there that is to be made to stand (`relied` tells how that went), if this one is to yield to it.
    package mutating func heard(_ word: ReplayWord, from shard: Int, at now: ContinuousClock.Instant) -> UUID?
    {
        guard shards.contains(shard) else { return nil }
        switch word {
        case .holders(let holders):
            if let earlier = holders.filter({ !$0.isAcknowledged && precedes($0.message) }).map(\.message)
                .min()
            {
                return earlier
            }
            // The greater id has gone, or may have; or its client has its 250 and this is what it had sent before, or sends again.
            if holders.contains(where: { $0.wasClaimed || $0.isAcknowledged }) { isMarked = true }
            waits.remove(shard)
        case .silence(let isThere, let isEnough, let since):
            stayedSilent(shard, mayGo: !isThere && isEnough, since: since, at: now)
        }
        return nil
    }

    /// The attempt to make a message stand ended: it does, it does not any more, or (nil) nobody knows.
    package mutating func relied(
        on earlier: UUID, _ stands: Bool?, in shard: Int, at now: ContinuousClock.Instant
    ) {
        guard shards.contains(shard) else { return }
        switch stands {
        case true?: first = earlier
        case false?: waits.remove(shard)
        case nil: stayedSilent(shard, mayGo: false, since: nil, at: now)
        }
    }

    private func precedes(_ other: UUID) -> Bool { other < message }

    private mutating func stayedSilent(
        _ shard: Int, mayGo: Bool, since away: ContinuousClock.Instant?, at now: ContinuousClock.Instant
    ) {
        if mayGo {
            waits.remove(shard)
            return
        }
        let since = min(silentSince[shard] ?? now, away ?? now)
        silentSince[shard] = since
        guard now - since >= Self.bound else { return }
        isMarked = true
        waits.remove(shard)
    }
}
