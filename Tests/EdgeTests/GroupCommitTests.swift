import Foundation
import Ledger
import Postgres
import Testing

@testable import Edge

/// Group commit and settling, one outcome at a time.
@Suite("Group commit") struct GroupCommitTests {
    static let start = ContinuousClock.now

    static func message(
        tag: [UInt8]? = nil, previousTag: [UInt8]? = nil, octets: Int = 10, isUploaded: Bool = false
    ) -> MessageRow {
        let key = KeyReference(batchKeyID: UUID(), index: 0, wrapped: [1])
        return MessageRow(
            id: UUID(), tenant: "demo", acceptedAt: Date(), ruleset: "secure", size: Int64(octets),
            keyedDigest: [1], contentKey: key, metadataKey: key, sealedEnvelope: [1],
            frames: isUploaded ? [] : [[UInt8](repeating: 0, count: octets)], frameCount: 1,
            deliveries: [DeliveryRow(number: 0, lane: "bar.test")],
            recipients: [RecipientRow(number: 0, delivery: 0, sealedAddress: [1])], replayTag: tag,
            previousTag: previousTag)
    }

    static func batchKey() -> BatchKeyRow {
        BatchKeyRow(
            id: UUID(), tenant: "demo", purpose: "content", epoch: 1, createdAt: Date(), wrapped: [1])
    }

    static let conflict = PostgresError(.server, "duplicate key", sqlState: "23505", table: "replay")
    static let refused = PostgresError(.server, "too long", sqlState: "22001")
    static let lost = PostgresError(.connectionLost, "gone", inDoubt: true)
    static let away = PostgresError(.connectFailed, "refused")

    /// Drives a group commit until it rests, and collects who was told what.
    struct Driver {
        var group: GroupCommit<Int>
        var now = GroupCommitTests.start
        var told: [Int: IntakeAnswer] = [:]
        var steps = 0
        /// Keys that go with each submission.
        var newKeys: [BatchKeyRow] = []

        init(_ change: (inout GroupCommit<Int>.Limits) -> Void = { _ in }) {
            var limits = GroupCommit<Int>.Limits()
            change(&limits)
            group = GroupCommit(limits: limits)
        }

        mutating func put(_ row: MessageRow, _ ticket: Int) -> Bool {
            group.enqueue(.message(row), ticket: ticket, now: now)
        }

        mutating func run(
            submit: (IntakeBatch, Bool, inout ContinuousClock.Instant) -> IntakeOutcome,
            replay: ([UInt8]) -> EarlierAccept?? = { _ in .some(nil) },
            lookUp: ([[UInt8]]) -> [[UInt8]: EarlierAccept]? = { _ in [:] },
            withdraw: ([UUID]) -> Set<UUID>? = { _ in [] }, abandon: (UUID) -> Void = { _ in }
        ) {
            while steps < 10_000 {
                steps += 1
                let step = group.next(now: now, flushes: true)
                collect()
                switch step {
                case .wait(nil): return
                case .rest(nil):
                    Issue.record("it rests with nothing under way")
                    return
                case .wait(let until?), .rest(let until?): now = until
                case .submit(let slot, var batch, let isRepeat, _):
                    let keys = newKeys.filter { new in !batch.batchKeys.contains { $0.id == new.id } }
                    batch.batchKeys += keys
                    let outcome = submit(batch, isRepeat, &now)
                    group.submitted(slot, outcome, newKeys: keys, now: now)
                    if case .durable = outcome { newKeys = [] }
                case .lookUp(let slot, let tags): group.lookedUp(slot, lookUp(tags), now: now)
                case .replay(let tag): group.replayed(replay(tag), now: now)
                case .withdraw(let ids): group.withdrawn(standing: withdraw(ids), now: now)
                case .abandon(let id):
                    abandon(id)
                    group.abandonmentEnded()
                }
                collect()
            }
            Issue.record("it never rests")
        }

        private mutating func collect() {
            for (ticket, answer) in group.takeAnswers() {
                #expect(told[ticket] == nil, "answered once")
                told[ticket] = answer
            }
        }
    }

    @Test("What is ready goes into one transaction, and all of it is answered by it")
    func oneForMany() {
        var driver = Driver()
        for ticket in 0..<5 { _ = driver.put(Self.message(), ticket) }
        var batches: [Int] = []
        driver.run(submit: { batch, _, _ in
            batches.append(batch.messages.count)
            return .durable
        })
        #expect(batches == [5])
        #expect(driver.told == [0: .durable, 1: .durable, 2: .durable, 3: .durable, 4: .durable])
    }

    @Test("A transaction is bounded in number and in octets, and takes at least one")
    func caps() {
        for (change, expected) in [
            ({ $0.batchCount = 2 }, [2, 2, 1]), ({ $0.batchBytes = 2500 }, [2, 2, 1]),
            ({ $0.batchBytes = 1 }, [1, 1, 1, 1, 1]),
        ] as [((inout GroupCommit<Int>.Limits) -> Void, [Int])] {
            var driver = Driver(change)
            for ticket in 0..<5 { _ = driver.put(Self.message(), ticket) }
            var batches: [Int] = []
            driver.run(submit: { batch, _, _ in
                batches.append(batch.messages.count)
                return .durable
            })
            #expect(batches == expected)
        }
    }

    @Test("Behind a commit of several items the next one gathers for a moment; behind one of one it does not")
    func gathers() {
        for (first, flushes, waiting, rests) in [
            (2, false, 1, true), (1, false, 1, false), (2, true, 1, false), (2, false, 3, false),
        ] {
            var driver = Driver { $0.batchCount = 3 }
            for ticket in 0..<first { _ = driver.put(Self.message(), ticket) }
            guard case .submit(let slot, _, _, _) = driver.group.next(now: driver.now) else {
                Issue.record("the first commit waits")
                continue
            }
            driver.group.submitted(slot, .durable, newKeys: [], now: driver.now)
            for ticket in 0..<waiting { _ = driver.put(Self.message(), 10 + ticket) }
            let step = driver.group.next(now: driver.now, flushes: flushes)
            guard rests else {
                guard case .submit = step else {
                    Issue.record("\(step) after \(first)")
                    continue
                }
                continue
            }
            guard case .rest(let end?) = step else {
                Issue.record("\(step) after \(first)")
                continue
            }
            #expect(end == driver.now + GroupCommit<Int>.Limits().gather)
            guard case .submit = driver.group.next(now: end) else {
                Issue.record("it waits for more than its time")
                continue
            }
        }
    }

    @Test("Law 9: the queue is bounded in number and in octets")
    func bounded() {
        for change in [{ $0.queueCount = 3 }, { $0.queueBytes = 3000 }]
            as [(inout GroupCommit<Int>.Limits) -> Void]
        {
            var driver = Driver(change)
            var taken = 0
            for ticket in 0..<10 where driver.put(Self.message(), ticket) { taken += 1 }
            #expect(taken == 3)
        }
    }

    @Test("A batch at fault is halved until the one at fault stands alone", arguments: 0..<7)
    func faultStandsAlone(bad: Int) {
        var driver = Driver()
        let rows = (0..<7).map { _ in Self.message() }
        for (ticket, row) in rows.enumerated() { _ = driver.put(row, ticket) }
        driver.run(submit: { batch, _, _ in
            batch.messages.contains { $0.id == rows[bad].id } ? .atFault(Self.refused) : .durable
        })
        for ticket in 0..<7 { #expect(driver.told[ticket] == (ticket == bad ? .atFault : .durable)) }
    }

    @Test("The same bytes again get the first id; the answer is asked for until it is certain")
    func replay() {
        var driver = Driver()
        let first = UUID()
        _ = driver.put(Self.message(tag: [7], isUploaded: true), 1)
        var tries = 0
        var abandoned = 0
        driver.run(
            submit: { _, _, _ in .atFault(Self.conflict) },
            replay: { _ in
                tries += 1
                return tries < 3 ? nil : .stands(first)
            }, abandon: { _ in abandoned += 1 })
        #expect(driver.told[1] == .replayed(first))
        #expect(tries == 3)
        #expect(abandoned == 1, "what was uploaded of the repeat goes")
    }

    @Test("A replay whose first is gone by now is a new message")
    func replayOfNothing() {
        var driver = Driver()
        _ = driver.put(Self.message(tag: [7]), 1)
        var commits = 0
        driver.run(submit: { _, _, _ in
            commits += 1
            return commits == 1 ? .atFault(Self.conflict) : .durable
        })
        #expect(driver.told[1] == .durable)
    }

    @Test(
        "The same bytes as a message whose client has its 250 are taken, marked, and the first keeps the tag")
    func replayOfAcknowledged() {
        var driver = Driver()
        _ = driver.put(Self.message(tag: [7]), 1)
        var committed: [MessageRow] = []
        driver.run(
            submit: { batch, _, _ in
                guard batch.messages.allSatisfy(\.isPossibleDuplicate) else { return .atFault(Self.conflict) }
                committed += batch.messages
                return .durable
            }, replay: { _ in .acknowledged })
        #expect(driver.told[1] == .durable)
        #expect(committed.map(\.replayTag) == [nil])
    }

    @Test("The same before midnight: it is taken, marked, under its own tag")
    func replayOfAcknowledgedYesterday() {
        var driver = Driver()
        _ = driver.put(Self.message(tag: [1], previousTag: [11]), 1)
        var committed: [MessageRow] = []
        driver.run(
            submit: { batch, _, _ in
                committed += batch.messages
                return .durable
            }, lookUp: { _ in [[11]: .acknowledged] })
        #expect(driver.told[1] == .durable)
        #expect(committed.map(\.isPossibleDuplicate) == [true])
        #expect(committed.map(\.replayTag) == [[1]])
    }

    @Test("Yesterday's tags are looked up before the commit, once")
    func previousTags() {
        var driver = Driver()
        let first = UUID()
        _ = driver.put(Self.message(tag: [1], previousTag: [11]), 1)
        _ = driver.put(Self.message(tag: [2], previousTag: [12]), 2)
        var lookUps = 0
        var commits = 0
        driver.run(
            submit: { batch, _, _ in
                commits += 1
                #expect(batch.messages.count == 1)
                return commits == 1 ? .unavailable(Self.away) : .durable
            },
            lookUp: { tags in
                lookUps += 1
                #expect(Set(tags) == [[11], [12]])
                return [[11]: .stands(first)]
            })
        #expect(driver.told == [1: .replayed(first), 2: .durable])
        #expect(lookUps == 1)
    }

    @Test("Unknown and warned commits are settled with the same ids, then 250", arguments: [true, false])
    func settles(isWarned: Bool) {
        var driver = Driver()
        let row = Self.message()
        _ = driver.put(row, 1)
        var repeated: [UUID] = []
        driver.run(submit: { batch, isRepeat, _ in
            guard isRepeat else { return isWarned ? .notDurable("canceling wait") : .inDoubt(Self.lost) }
            repeated += batch.messages.map(\.id)
            return repeated.count < 4 ? .unavailable(Self.away) : .durable
        })
        #expect(driver.told[1] == .durable)
        #expect(repeated == Array(repeating: row.id, count: 4))
    }

    @Test(
        "Past the settle time it is withdrawn, 451, unless somebody relies on it", arguments: [true, false])
    func withdraws(stands: Bool) {
        var driver = Driver()
        let row = Self.message()
        _ = driver.put(row, 1)
        var withdrawn: [UUID] = []
        driver.run(
            submit: { _, _, now in
                now += .seconds(20)
                return .inDoubt(Self.lost)
            },
            withdraw: { ids in
                withdrawn += ids
                return stands ? Set(ids) : []
            })
        #expect(withdrawn == [row.id])
        #expect(driver.told[1] == (stands ? .durable : .unsettled))
    }

    @Test(
        "A withdrawal that is not durable is none: it is tried again, and given up after a bound",
        arguments: [3, 1000])
    func withdrawalFails(times: Int) {
        var driver = Driver()
        let row = Self.message()
        _ = driver.put(row, 1)
        var withdrawals: [ContinuousClock.Instant] = []
        var clock = driver.now
        driver.run(
            submit: { _, _, now in
                now += .seconds(20)
                clock = now
                return .inDoubt(Self.lost)
            },
            withdraw: { ids in
                #expect(ids == [row.id])
                withdrawals.append(clock)
                return withdrawals.count <= times ? nil : Set(ids)
            })
        if times == 3 {
            #expect(driver.told[1] == .durable, "it stands, and that is certain now")
            #expect(withdrawals.count == 4)
        } else {
            #expect(driver.told[1] == .unsettled)
            #expect(withdrawals.count > 5)
            #expect(driver.now - Self.start < .seconds(85))
        }
    }

    @Test(
        "A commit in doubt that becomes visible between the look and the copy is no fault of the message",
        arguments: ["message_p20261124", "content_p20261124", "batch_key"])
    func becomesVisible(table: String) {
        var driver = Driver()
        driver.newKeys = [Self.batchKey()]
        for ticket in 0..<3 { _ = driver.put(Self.message(), ticket) }
        let conflict = PostgresError(.server, "duplicate key", sqlState: "23505", table: table)
        let outcomes: [IntakeOutcome] = [
            .inDoubt(Self.lost), .atFault(conflict), .atFault(conflict), .durable,
        ]
        var seen: [Int] = []
        let start = driver.now
        driver.run(submit: { batch, isRepeat, _ in
            seen.append(batch.messages.count)
            #expect(isRepeat == (seen.count > 1))
            return outcomes[seen.count - 1]
        })
        #expect(driver.told == [0: .durable, 1: .durable, 2: .durable])
        #expect(seen == [3, 3, 3, 3], "the batch stays whole")
        #expect(driver.now > start, "with a wait between")
    }

    @Test("What never was committed needs no withdrawal; a late cancel (57014) is never the data's fault")
    func unavailable() {
        var driver = Driver()
        _ = driver.put(Self.message(), 1)
        driver.run(
            submit: { _, _, now in
                now += .seconds(7)
                return .unavailable(PostgresError(.server, "canceling statement", sqlState: "57014"))
            },
            withdraw: { _ in
                Issue.record("withdrawn")
                return []
            })
        #expect(driver.told[1] == .unavailable)
    }

    @Test("Whoever waits behind a database that is away hears it in time too")
    func queueExpires() {
        var driver = Driver { $0.batchCount = 1 }
        for ticket in 0..<4 { _ = driver.put(Self.message(), ticket) }
        driver.run(submit: { _, _, _ in .unavailable(Self.away) })
        #expect(driver.told == [0: .unavailable, 1: .unavailable, 2: .unavailable, 3: .unavailable])
        #expect(driver.now - Self.start < .seconds(65))
    }

    @Test("A full disk is said at once")
    func diskFull() {
        var driver = Driver()
        _ = driver.put(Self.message(), 1)
        driver.run(submit: { _, _, _ in .unavailable(PostgresError(.server, "disk full", sqlState: "53100")) }
        )
        #expect(driver.told[1] == .storageFull)
    }

    @Test("Frames in doubt cannot be settled: the client repeats the message")
    func uploadInDoubt() {
        var driver = Driver()
        let upload = UploadRow(messageID: UUID(), tenant: "demo", firstFrame: 0, frames: [[1]])
        _ = driver.group.enqueue(.upload(upload), ticket: 1, now: driver.now)
        driver.run(submit: { _, _, _ in .inDoubt(Self.lost) })
        #expect(driver.told[1] == .unsettled)
    }

    @Test(
        "Batch keys: handed back after a certain failure, carried along and looked for after an uncertain one"
    )
    func keys() {
        var driver = Driver()
        let key = Self.batchKey()
        driver.newKeys = [key]
        _ = driver.put(Self.message(), 1)
        var seen: [[UUID]] = []
        var repeats: [Bool] = []
        let outcomes: [IntakeOutcome] = [
            .unavailable(Self.away), .inDoubt(Self.lost), .unavailable(Self.away), .durable,
        ]
        driver.run(submit: { batch, isRepeat, _ in
            seen.append(batch.batchKeys.map(\.id))
            repeats.append(isRepeat)
            return outcomes[seen.count - 1]
        })
        #expect(seen == [[key.id], [key.id], [key.id], [key.id]])
        #expect(repeats == [false, false, true, true])
        #expect(driver.group.unsureKeys.isEmpty)
        #expect(driver.told[1] == .durable)
    }

    @Test("Acknowledged tags go with the next batch, and again when it fails")
    func tags() {
        var driver = Driver()
        driver.group.acknowledge([9], now: driver.now)
        _ = driver.put(Self.message(), 1)
        var seen: [[[UInt8]]] = []
        driver.run(submit: { batch, _, _ in
            seen.append(batch.acknowledgedTags)
            return seen.count == 1 ? .unavailable(Self.away) : .durable
        })
        #expect(seen == [[[9]], [[9]]])
    }

    @Test("Law 9: acknowledged tags are bounded, through failures too, and what finds no room is counted")
    func tagBound() {
        var limits = GroupCommit<Int>.Limits()
        limits.tagCount = 4
        var group = GroupCommit<Int>(limits: limits)
        for tag in 0..<6 { group.acknowledge([UInt8(tag)], now: Self.start) }
        #expect(group.takeForgottenTags() == 2)
        guard case .submit(let slot, let batch, _, _) = group.next(now: Self.start) else {
            Issue.record("no flush"); return
        }
        #expect(batch.acknowledgedTags == [[0], [1], [2], [3]])
        // While that is under way others come; then it fails.
        for tag in 6..<9 { group.acknowledge([UInt8(tag)], now: Self.start) }
        group.submitted(slot, .unavailable(Self.away), newKeys: [], now: Self.start)
        #expect(group.takeForgottenTags() == 3)
        guard case .submit(_, let again, _, _) = group.next(now: Self.start + .seconds(1)) else {
            Issue.record("no flush")
            return
        }
        #expect(again.acknowledgedTags == [[0], [6], [7], [8]])
        #expect(group.takeForgottenTags() == 0)
    }

    @Test("Acknowledged tags wait for company, but not for longer than their delay")
    func tagDelay() {
        var group = GroupCommit<Int>()
        group.acknowledge([9], now: Self.start)
        guard case .wait(let until?) = group.next(now: Self.start) else { Issue.record("no wait"); return }
        #expect(until == Self.start + .seconds(1))
        guard case .submit(_, let batch, _, _) = group.next(now: until) else {
            Issue.record("no flush"); return
        }
        #expect(batch.acknowledgedTags == [[9]])
    }

    @Test(
        "Another shard may take what was certainly never committed and is whole: not what is in doubt, nor what has frames here"
    )
    func takeUnsent() {
        var group = GroupCommit<Int>()
        func put(_ row: MessageRow, _ ticket: Int) {
            let isTaken = group.enqueue(.message(row), ticket: ticket, now: Self.start)
            #expect(isTaken)
        }
        func submit(_ outcome: IntakeOutcome) {
            guard case .submit(let slot, _, _, _) = group.next(now: Self.start) else {
                Issue.record("nothing is submitted")
                return
            }
            group.submitted(slot, outcome, newKeys: [], now: Self.start)
        }
        func takeAll() -> [Int?] { group.takeUnsent().map(\.ticket) }
        put(Self.message(), 1)
        submit(.inDoubt(Self.lost))
        put(Self.message(isUploaded: true), 2)
        put(Self.message(), 3)
        #expect(takeAll() == [3])
        #expect(takeAll() == [])
        #expect(group.waiting == 2)
        // One that the database did not take for sure may go, too.
        group = GroupCommit()
        put(Self.message(), 4)
        submit(.unavailable(Self.away))
        #expect(takeAll() == [4])
        #expect(group.isIdle)
    }
}
