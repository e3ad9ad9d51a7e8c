// Which results go into one commit.

import Foundation
import Ledger
import Testing

@testable import Delivery

/// A batch that can be taken from inside an expectation.
private final class Queue {
    private var batch = CompletionBatch()
    var isEmpty: Bool { batch.isEmpty }
    var count: Int { batch.count }
    func append(_ completion: Completion, worker: UUID) { batch.append(completion, worker: worker) }
    func take() -> (worker: UUID, completions: [Completion])? { batch.take() }
}

@Suite struct CompletionBatchTests {
    private func completion(_ detailBytes: Int = 10) -> Completion {
        let message = UUID()
        return Completion(
            reference: DeliveryReference(message: message, number: 0, fence: 1), deliveriesOfMessage: 1,
            tenant: "t",
            ended: [], step: .ends,
            events: [
                EventRow(
                    id: UUID(), tenant: "t", message: message, recipient: 0, kind: .delivered, at: Date(),
                    sealedDetail: Array(repeating: 0, count: detailBytes))
            ], shreddedEventID: UUID())
    }

    @Test("Everything that waits goes in one commit, in order")
    func oneCommit() throws {
        let batch = Queue()
        let worker = UUID()
        let all = (0..<7).map { _ in completion() }
        for one in all { batch.append(one, worker: worker) }
        let taken = try #require(batch.take())
        #expect(taken.worker == worker)
        #expect(taken.completions.map(\.reference) == all.map(\.reference))
        #expect(batch.isEmpty)
        #expect(batch.take() == nil)
    }

    @Test("Law 9: a commit has at most so many results and bytes, but always one")
    func bounds() throws {
        let batch = Queue()
        let worker = UUID()
        for _ in 0..<(CompletionBatch.maximumCount + 3) { batch.append(completion(), worker: worker) }
        #expect(batch.take()?.completions.count == CompletionBatch.maximumCount)
        #expect(batch.take()?.completions.count == 3)
        for _ in 0..<3 { batch.append(completion(CompletionBatch.maximumBytes * 2 / 3), worker: worker) }
        batch.append(completion(CompletionBatch.maximumBytes * 2), worker: worker)
        #expect((0..<4).map { _ in batch.take()?.completions.count } == [1, 1, 1, 1])
        #expect(batch.isEmpty)
    }

    @Test("Law 7: results of different worker ids go apart")
    func workers() {
        let batch = Queue()
        let (old, new) = (UUID(), UUID())
        batch.append(completion(), worker: old)
        batch.append(completion(), worker: old)
        batch.append(completion(), worker: new)
        let first = batch.take()
        #expect(first?.worker == old && first?.completions.count == 2)
        let second = batch.take()
        #expect(second?.worker == new && second?.completions.count == 1)
    }

    @Test("Long use does not grow it")
    func reuse() {
        let batch = Queue()
        let worker = UUID()
        for _ in 0..<5000 {
            batch.append(completion(0), worker: worker)
            batch.append(completion(0), worker: worker)
            _ = batch.take()
        }
        #expect(batch.count == 0)
    }
}
