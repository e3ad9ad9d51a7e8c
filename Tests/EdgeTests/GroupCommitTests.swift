import Foundation
import Ledger
import Postgres
import Testing

@testable import Edge

@Suite struct GroupCommitTests {
    static let start = ContinuousClock.now

    static func message(tag: [UInt8]? = nil, bytes: Int = 10) -> MessageRow {
        let key = KeyReference(batchKeyID: UUID(), index: 0, wrapped: [1])
        return MessageRow(
            id: UUID(), tenant: "demo", acceptedAt: Date(), ruleset: "secure", size: Int64(bytes),
            keyedDigest: [1],
            contentKey: key, metadataKey: key, sealedEnvelope: [1],
            frames: [[UInt8](repeating: 0, count: bytes)],
            frameCount: 1, deliveries: [DeliveryRow(number: 0, lane: "bar.test")],
            recipients: [RecipientRow(number: 0, delivery: 0, sealedAddress: [1])], replayTag: tag)
    }

    /// Plays a ledger: answers each action by `respond`, up to 200 actions, and collects what was told.
    static func play(
        _ machine: consuming GroupCommit, from: ContinuousClock.Instant = start,
        _ respond: (GroupCommit.Action, inout ContinuousClock.Instant) -> GroupCommit.Result?
    ) -> [Int: IntakeAnswer] {
        var now = from
        var told: [Int: IntakeAnswer] = [:]
        for _ in 0..<200 {
            let action = machine.next(now: now)
            if case .idle = action { break }
            if case .wait(let until) = action { now = until }
            if let result = respond(action, &now) { machine.finished(result, now: now) }
            for (token, answer) in machine.takeAnswers() {
                #expect(told[token] == nil, "answered once")
                told[token] = answer
            }
        }
        return told
    }

    static let conflict = PostgresError(.server, "duplicate key", sqlState: "23505", table: "replay")
    static let lost = PostgresError(.connectionLost, "gone", inDoubt: true)

    @Test("What is ready goes into one commit, and all of it is answered by it")
    func oneCommitForMany() {
        var machine = GroupCommit(GroupCommit.Limits())
        let rows = (0..<5).map { _ in Self.message() }
        for (token, row) in rows.enumerated() {
            _ = machine.submit(.message(row), token: token, now: Self.start)
        }
        var commits = 0
        let told = Self.play(machine) { action, _ in
            if case .commit(let batch) = action {
                commits += 1
                #expect(batch.messages.count == 5)
                return .commit(.durable)
            }
            return nil
        }
        #expect(commits == 1)
        for (token, row) in rows.enumerated() { #expect(told[token] == .accepted(row.id)) }
    }

    @Test("A batch at fault is split until the one at fault stands alone", arguments: 0..<7)
    func faultStandsAlone(bad: Int) {
        var machine = GroupCommit(GroupCommit.Limits())
        let rows = (0..<7).map { _ in Self.message() }
        for (token, row) in rows.enumerated() {
            _ = machine.submit(.message(row), token: token, now: Self.start)
        }
        let told = Self.play(machine) { action, _ in
            guard case .commit(let batch) = action else { return nil }
            return batch.messages.contains { $0.id == rows[bad].id }
                ? .commit(.atFault(PostgresError(.server, "no", sqlState: "22001"))) : .commit(.durable)
        }
        for (token, row) in rows.enumerated() {
            #expect(told[token] == (token == bad ? .tryAgain(reason: "ledger-refused") : .accepted(row.id)))
        }
    }

    @Test("The same bytes again are answered with the first id, once that is durable")
    func replay() {
        var machine = GroupCommit(GroupCommit.Limits())
        let first = UUID()
        _ = machine.submit(.message(Self.message(tag: [7])), token: 1, now: Self.start)
        var tries = 0
        let told = Self.play(machine) { action, _ in
            switch action {
            case .commit: return .commit(.atFault(Self.conflict))
            case .replay:
                tries += 1
                return tries < 3 ? .replay(.failure(Self.lost)) : .replay(.success(first))
            default: return nil
            }
        }
        #expect(told[1] == .replayed(first))
        #expect(tries == 3)
    }

    @Test("A replay whose first is gone by now is a new message")
    func replayOfNothing() {
        var machine = GroupCommit(GroupCommit.Limits())
        let row = Self.message(tag: [7])
        _ = machine.submit(.message(row), token: 1, now: Self.start)
        var commits = 0
        let told = Self.play(machine) { action, _ in
            switch action {
            case .commit:
                commits += 1
                return .commit(commits == 1 ? .atFault(Self.conflict) : .durable)
            case .replay: return .replay(.success(nil))
            default: return nil
            }
        }
        #expect(told[1] == .accepted(row.id))
    }

    @Test("Unknown or warned commits are settled with the same ids, then 250", arguments: [true, false])
    func settles(warned: Bool) {
        var machine = GroupCommit(GroupCommit.Limits())
        let row = Self.message()
        _ = machine.submit(.message(row), token: 1, now: Self.start)
        var resubmitted: [UUID] = []
        let told = Self.play(machine) { action, _ in
            switch action {
            case .commit: return .commit(warned ? .notDurable("canceling wait") : .inDoubt(Self.lost))
            case .resubmit(let batch):
                resubmitted += batch.messages.map(\.id)
                return .commit(resubmitted.count < 4 ? .unavailable(Self.lost) : .durable)
            default: return nil
            }
        }
        #expect(told[1] == .accepted(row.id))
        #expect(Set(resubmitted) == [row.id])
    }

    @Test(
        "Past the settle time the message is withdrawn and its client told 451, unless somebody relies on it",
        arguments: [true, false])
    func withdraws(stands: Bool) {
        var machine = GroupCommit(GroupCommit.Limits())
        let row = Self.message()
        _ = machine.submit(.message(row), token: 1, now: Self.start)
        var withdrawn = false
        let told = Self.play(machine) { action, now in
            switch action {
            case .commit, .resubmit:
                now = now + .seconds(20)
                return .commit(.inDoubt(Self.lost))
            case .withdraw(let ids):
                withdrawn = true
                #expect(ids == [row.id])
                return .withdraw(standing: stands ? [row.id] : [])
            default: return nil
            }
        }
        #expect(withdrawn)
        #expect(told[1] == (stands ? .accepted(row.id) : .tryAgain(reason: "outcome-unknown")))
    }

    @Test("What never was committed needs no withdrawal: 451 after the settle time")
    func unavailable() {
        var machine = GroupCommit(GroupCommit.Limits())
        _ = machine.submit(.message(Self.message()), token: 1, now: Self.start)
        let told = Self.play(machine) { action, now in
            guard case .commit = action else { return nil }
            now = now + .seconds(7)
            return .commit(.unavailable(PostgresError(.connectionLost, "refused")))
        }
        #expect(told[1] == .tryAgain(reason: "ledger-unavailable"))
    }

    @Test("A full disk is said at once")
    func diskFull() {
        var machine = GroupCommit(GroupCommit.Limits())
        _ = machine.submit(.message(Self.message()), token: 1, now: Self.start)
        let told = Self.play(machine) { action, _ in
            guard case .commit = action else { return nil }
            return .commit(.unavailable(PostgresError(.server, "disk full", sqlState: "53100")))
        }
        #expect(told[1] == .insufficientStorage)
    }

    @Test("The queue is bounded in bytes and in number")
    func bounded() {
        var limits = GroupCommit.Limits()
        limits.queueBytes = 3_000
        var machine = GroupCommit(limits)
        var taken = 0
        for token in 0..<10
        where machine.submit(.message(Self.message(bytes: 1000)), token: token, now: Self.start) {
            taken += 1
        }
        #expect(taken == 1)
        limits.queueBytes = 1 << 30
        limits.queueCount = 4
        machine = GroupCommit(limits)
        taken = 0
        for token in 0..<10 where machine.submit(.message(Self.message()), token: token, now: Self.start) {
            taken += 1
        }
        #expect(taken == 4)
    }

    @Test("Batch keys and acknowledged tags go with the next commit, and again when it fails")
    func keysAndTags() {
        var machine = GroupCommit(GroupCommit.Limits())
        machine.add(keys: [
            BatchKeyRow(
                id: UUID(), tenant: "demo", purpose: "content", epoch: 1, createdAt: Date(), wrapped: [1])
        ])
        machine.acknowledge(tag: [9])
        _ = machine.submit(.message(Self.message()), token: 1, now: Self.start)
        var seen: [Int] = []
        _ = Self.play(machine) { action, _ in
            guard case .commit(let batch) = action else { return nil }
            seen.append(batch.batchKeys.count + batch.acknowledgedTags.count)
            return .commit(
                seen.count == 1 ? .unavailable(PostgresError(.connectionLost, "refused")) : .durable)
        }
        #expect(seen == [2, 2])
    }
}
