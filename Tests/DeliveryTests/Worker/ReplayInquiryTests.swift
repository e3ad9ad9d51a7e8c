// What follows for a message from what other shards say of its bytes: every word that they can have for it.

import Foundation
import Ledger
import Testing

@testable import Delivery

@Suite struct ReplayInquiryTests {
    private static let start = ContinuousClock.now
    private static func id(_ number: UInt8) -> UUID {
        UUID(uuid: (number, 0, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0))
    }
    private static let own = id(5)

    private static func holder(_ number: UInt8, acknowledged: Bool = false, claimed: Bool = false)
        -> ReplayHolder
    {
        ReplayHolder(message: id(number), isAcknowledged: acknowledged, wasClaimed: claimed)
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let word: ReplayWord
        var yieldsTo: UUID?
        var decision = ReplayInquiry.Decision.goes(isMarked: false)
        var testDescription: String { rule }
    }

    static let rows = [
        Row(rule: "nobody holds it: it goes", word: .holders([])),
        Row(
            rule: "an earlier one stands: this one yields", word: .holders([holder(1)]), yieldsTo: id(1),
            decision: .open),
        Row(
            rule: "so also where the earlier one was claimed",
            word: .holders([holder(1, claimed: true)]), yieldsTo: id(1), decision: .open),
        Row(
            rule: "of several earlier ones it yields to the first",
            word: .holders([holder(3), holder(2), holder(9, claimed: true)]), yieldsTo: id(2), decision: .open
        ),
        Row(rule: "a later one that nobody has claimed will find this one", word: .holders([holder(9)])),
        Row(
            rule: "a later one that was claimed may have gone: marked",
            word: .holders([holder(9, claimed: true)]), decision: .goes(isMarked: true)),
        Row(
            rule: "the client of an earlier one has its 250: marked",
            word: .holders([holder(1, acknowledged: true)]), decision: .goes(isMarked: true)),
        Row(
            rule: "the client of a later one has its 250: marked",
            word: .holders([holder(9, acknowledged: true)]), decision: .goes(isMarked: true)),
        Row(
            rule: "no leader, and members enough know nothing: it goes",
            word: .silence(isThere: false, isEnough: true)),
        Row(
            rule: "no leader, and too few members: it waits", word: .silence(isThere: false, isEnough: false),
            decision: .open),
        Row(
            rule: "no leader, and a member knows the bytes: it waits",
            word: .silence(isThere: true, isEnough: true), decision: .open),
    ]

    @Test("One shard's word", arguments: rows)
    func words(_ row: Row) {
        var inquiry = ReplayInquiry(message: Self.own, shards: [1])
        #expect(inquiry.heard(row.word, from: 1, at: Self.start) == row.yieldsTo)
        #expect(inquiry.decision == row.decision)
    }

    @Test(
        "It ends as a replay only when the earlier message certainly stands; withdrawn, it goes; unknown, it asks again"
    )
    func reliance() {
        let outcomes: [(Bool?, ReplayInquiry.Decision)] = [
            (true, .isReplay(of: Self.id(1))), (false, .goes(isMarked: false)), (nil, .open),
        ]
        for (stands, decision) in outcomes {
            var inquiry = ReplayInquiry(message: Self.own, shards: [1])
            #expect(inquiry.heard(.holders([Self.holder(1)]), from: 1, at: Self.start) == Self.id(1))
            inquiry.relied(on: Self.id(1), stands, in: 1, at: Self.start)
            #expect(inquiry.decision == decision)
        }
    }

    @Test("What waits for a word goes at the bound, marked; a word before that counts")
    func bound() {
        let silence = ReplayWord.silence(isThere: true, isEnough: true)
        var inquiry = ReplayInquiry(message: Self.own, shards: [1])
        for seconds in stride(from: 0, to: 44, by: 2) {
            _ = inquiry.heard(silence, from: 1, at: Self.start + .seconds(seconds))
            #expect(inquiry.decision == .open)
        }
        var other = inquiry
        _ = inquiry.heard(silence, from: 1, at: Self.start + .seconds(45))
        #expect(inquiry.decision == .goes(isMarked: true))
        _ = other.heard(.holders([]), from: 1, at: Self.start + .seconds(45))
        #expect(other.decision == .goes(isMarked: false))
    }

    @Test("Of a shard that has been away for the bound already the next message waits for nothing")
    func away() {
        for (away, decision) in [
            (44, ReplayInquiry.Decision.open), (45, .goes(isMarked: true)), (3600, .goes(isMarked: true)),
        ] {
            var inquiry = ReplayInquiry(message: Self.own, shards: [1])
            let silence = ReplayWord.silence(
                isThere: false, isEnough: false, since: Self.start - .seconds(away))
            _ = inquiry.heard(silence, from: 1, at: Self.start)
            #expect(inquiry.decision == decision, "\(away) s")
        }
    }

    @Test("Every shard has to speak; once it is a replay no more is asked")
    func severalShards() {
        var inquiry = ReplayInquiry(message: Self.own, shards: [0, 2])
        _ = inquiry.heard(.holders([Self.holder(9, claimed: true)]), from: 0, at: Self.start)
        #expect(inquiry.decision == .open && inquiry.shards == [2])
        var other = inquiry
        _ = inquiry.heard(.holders([]), from: 2, at: Self.start)
        #expect(inquiry.decision == .goes(isMarked: true), "the first shard's mark stays")
        _ = other.heard(.holders([Self.holder(1)]), from: 2, at: Self.start)
        other.relied(on: Self.id(1), true, in: 2, at: Self.start)
        #expect(other.decision == .isReplay(of: Self.id(1)) && other.shards.isEmpty)
        #expect(ReplayInquiry(message: Self.own, shards: []).decision == .goes(isMarked: false))
    }
}
