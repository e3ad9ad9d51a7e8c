// Where a quorum is far away: which transactions are under way beside each other, and which are alone.

import Foundation
import Ledger
import Testing

@testable import Edge

@Suite("Group commits that overlap") struct GroupCommitOverlapTests {
    /// A group that has seen the batch key of all messages that `message` below makes, and may have three transactions under way.
    private final class Overlapping {
        typealias Submission = (slot: GroupCommit<Int>.Slot, batch: IntakeBatch, isRepeat: Bool)
        var group: GroupCommit<Int>
        var now = GroupCommitTests.start
        let key = KeyReference(batchKeyID: UUID(), index: 0, wrapped: [1])
        static let gather = GroupCommit<Int>.Limits().gather

        init(_ change: (inout GroupCommit<Int>.Limits) -> Void = { _ in }) throws {
            var limits = GroupCommit<Int>.Limits()
            limits.overlap = 3
            change(&limits)
            group = GroupCommit(limits: limits)
            put()
            end(try #require(submission()), .durable)
            now += Self.gather
        }

        func put(_ key: KeyReference? = nil, tag: [UInt8]? = nil, previousTag: [UInt8]? = nil) {
            let key = key ?? self.key
            let row = MessageRow(
                id: UUID(), tenant: "demo", acceptedAt: Date(), ruleset: "secure", size: 1, keyedDigest: [1],
                contentKey: key, metadataKey: key, sealedEnvelope: [1], frames: [[0]], frameCount: 1,
                deliveries: [DeliveryRow(number: 0, lane: "bar.test")],
                recipients: [RecipientRow(number: 0, delivery: 0, sealedAddress: [1])], replayTag: tag,
                previousTag: previousTag)
            _ = group.enqueue(.message(row), ticket: nil, now: now)
        }

        /// The next step, if it is a submission.
        func submission() -> Submission? {
            guard case .submit(let slot, let batch, let isRepeat, _) = group.next(now: now) else {
                return nil
            }
            return (slot, batch, isRepeat)
        }

        /// The next step, if it is a look-up.
        func lookUp() -> (slot: GroupCommit<Int>.Slot, tags: [[UInt8]])? {
            guard case .lookUp(let slot, let tags) = group.next(now: now) else { return nil }
            return (slot, tags)
        }

        func rests(until end: ContinuousClock.Instant?) -> Bool {
            guard case .rest(let until) = group.next(now: now) else { return false }
            return until == end
        }

        func end(_ submission: Submission, _ outcome: IntakeOutcome) {
            group.submitted(submission.slot, outcome, newKeys: [], now: now)
        }
    }

    @Test("Batches of new items overlap up to the bound, each begun a moment after the last")
    func overlap() throws {
        let commits = try Overlapping()
        commits.put()
        let first = try #require(commits.submission())
        commits.put()
        #expect(commits.rests(until: commits.now + Overlapping.gather))
        commits.now += Overlapping.gather
        _ = try #require(commits.submission())
        commits.put()
        commits.now += Overlapping.gather
        _ = try #require(commits.submission())
        commits.put()
        commits.now += Overlapping.gather
        #expect(commits.rests(until: nil), "three are under way")
        commits.end(first, .durable)
        #expect(try #require(commits.submission()).batch.messages.count == 1)
        commits.now += Overlapping.gather
        guard case .rest = commits.group.next(now: commits.now) else {
            Issue.record("a fourth is begun")
            return
        }
    }

    @Test(
        "What met trouble is taken up alone: nothing new is begun before it is over",
        arguments: [
            IntakeOutcome.inDoubt(GroupCommitTests.lost), .notDurable("canceling wait"),
            .atFault(GroupCommitTests.refused),
            .unavailable(GroupCommitTests.away),
        ])
    func troubleIsAlone(outcome: IntakeOutcome) throws {
        let commits = try Overlapping()
        for _ in 0..<2 { commits.put() }
        let first = try #require(commits.submission())
        commits.now += Overlapping.gather
        commits.put()
        let second = try #require(commits.submission())
        commits.end(first, outcome)
        commits.put()
        commits.now += .seconds(1)
        #expect(commits.rests(until: nil), "the second is under way")
        commits.end(second, .durable)
        let again = try #require(commits.submission())
        #expect(again.batch.messages.allSatisfy { row in first.batch.messages.contains { $0.id == row.id } })
        #expect(commits.rests(until: nil), "it is alone")
    }

    @Test("A batch that brings a key is alone: two that bring the same one would wait for each other")
    func newKeyIsAlone() throws {
        let commits = try Overlapping()
        let key = KeyReference(batchKeyID: UUID(), index: 0, wrapped: [1])
        commits.put()
        let first = try #require(commits.submission())
        commits.now += Overlapping.gather
        commits.put(key)
        #expect(commits.rests(until: nil))
        commits.end(first, .durable)
        let bringing = try #require(commits.submission())
        commits.put()
        commits.now += Overlapping.gather
        #expect(commits.rests(until: nil))
        commits.end(bringing, .durable)
        _ = try #require(commits.submission())
        commits.put(key)
        commits.now += Overlapping.gather
        #expect(commits.submission() != nil, "the shard has it now")
    }

    @Test("Questions about yesterday's tags overlap as commits do")
    func lookUpsOverlap() throws {
        let commits = try Overlapping()
        commits.put()
        _ = try #require(commits.submission())
        commits.now += Overlapping.gather
        commits.put(previousTag: [1])
        let slot = try #require(commits.lookUp()).slot
        commits.group.lookedUp(slot, [:], now: commits.now)
        #expect(commits.submission() != nil)
    }

    @Test("Across midnight: who has yesterday's tag is looked up when what may bring it has ended")
    func lookUpWaits() throws {
        let commits = try Overlapping()
        commits.put(tag: [1])
        let first = try #require(commits.submission())
        commits.now += Overlapping.gather
        commits.put(tag: [2], previousTag: [1])
        #expect(commits.rests(until: nil))
        commits.end(first, .durable)
        #expect(try #require(commits.lookUp()).tags == [[1]])
    }

    @Test("Nor is what has yesterday's tag itself begun beside one that looked for it in vain")
    func lateOfYesterdayWaits() throws {
        let commits = try Overlapping()
        commits.put(tag: [2], previousTag: [1])
        let slot = try #require(commits.lookUp()).slot
        commits.now += Overlapping.gather
        commits.put(tag: [1])
        #expect(commits.rests(until: nil))
        commits.group.lookedUp(slot, [:], now: commits.now)
        let first = try #require(commits.submission())
        #expect(commits.rests(until: nil))
        commits.end(first, .durable)
        #expect(try #require(commits.submission()).batch.messages.map(\.replayTag) == [[1]])
    }

    @Test("The same within one batch: the repeat is taken up after the first")
    func lookUpWaitsForItsNeighbour() throws {
        let commits = try Overlapping()
        commits.put(tag: [1])
        commits.put(tag: [2], previousTag: [1])
        let first = try #require(commits.submission())
        #expect(first.batch.messages.map(\.replayTag) == [[1]])
        commits.now += Overlapping.gather
        #expect(commits.rests(until: nil))
        commits.end(first, .durable)
        #expect(try #require(commits.lookUp()).tags == [[1]])
    }

    @Test("Law 9: what is under way is bounded in octets, too")
    func boundedUnderWay() throws {
        let commits = try Overlapping { $0.batchBytes = 600 }
        for _ in 0..<4 { commits.put() }
        _ = try #require(commits.submission())
        commits.now += Overlapping.gather
        _ = try #require(commits.submission())
        commits.now += Overlapping.gather
        #expect(commits.rests(until: nil), "each is of more than one batch's octets")
    }
}
