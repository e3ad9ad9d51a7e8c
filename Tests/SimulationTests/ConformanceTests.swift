// The model of a shard against the real one: the same transactions, and the same rows after each.

import Foundation
import Lab
import Postgres
import Testing

@testable import Ledger
@testable import Simulation

@Suite(.serialized, .timeLimit(.minutes(3))) struct ConformanceTests {
    static let sequences = 200
    static let steps = 30

    @Test("The model changes its rows as PostgreSQL does, whatever is asked of it in whatever order")
    func conformance() async throws {
        let (difference, counts) = try await compare(flaw: nil)
        #expect(difference == nil)
        #expect(
            counts.count >= 20 && counts["reclaim in doubt"] != nil,
            "everything is asked for: \(counts.keys.sorted())")
    }

    @Test(
        "The comparison sees a mistake in the model",
        arguments: [
            Flaw.withdrawalIgnoresReplay, .withdrawalIgnoresClaim, .reclaimWithoutDotWait, .unmarkedDoubt,
            .uncheckedFences, .forgottenDots,
        ])
    func differences(_ flaw: Flaw) async throws {
        #expect(try await compare(flaw: flaw).difference != nil)
    }

    /// Asks the model and a server the same until they differ.
    private func compare(flaw: Flaw?) async throws -> (difference: String?, counts: [String: Int]) {
        let given = ProcessInfo.processInfo.environment["ZEGEL_SIM_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("conformance\(flaw.map { " with \($0)" } ?? ""): seed \(seed)")
        let server = try await TemporaryPostgres.start(fsync: false)
        let real = try await RealShard.make(on: server)
        var dice = Dice(seed: seed)
        var counts: [String: Int] = [:]
        let began = ContinuousClock.now
        for number in 0..<Self.sequences {
            try await real.clear()
            var twin = Twin(real: real, dice: Dice(seed: dice.next()), flaw: flaw)
            for step in 0..<Self.steps {
                let what = try await twin.step()
                counts[what, default: 0] += 1
                let (expected, found) = (twin.rows, try await real.rows())
                guard expected == found, twin.differences.isEmpty else {
                    let (mine, theirs) = (Set(expected), Set(found))
                    try await server.stop()
                    let difference = """
                        seed \(seed), sequence \(number), step \(step): \(what)
                        \(twin.differences.joined(separator: "\n"))
                        model only: \(mine.subtracting(theirs).sorted())
                        server only: \(theirs.subtracting(mine).sorted())
                        before: \(twin.told.joined(separator: "; "))
                        """
                    if flaw == nil { print(difference) }
                    return (difference, counts)
                }
            }
        }
        print("conformance: \(counts.sorted { $0.key < $1.key }) in \(ContinuousClock.now - began)")
        try await server.stop()
        return (nil, counts)
    }
}

/// A database with the schema, and its rows as text.
struct RealShard {
    let intake: IntakeLedger
    let work: WorkLedger
    let owner: PostgresPool

    static func make(on server: TemporaryPostgres) async throws -> RealShard {
        let database = try await server.createDatabase()
        func pool(_ user: String) -> PostgresPool {
            PostgresPool(
                configuration: PostgresConfiguration(server.dsn(database: database, user: user)), limit: 2,
                waitLimit: .seconds(60))
        }
        let owner = pool("postgres")
        _ = try await owner.withConnection { try await Migrator().migrate($0) }
        try await ControlAdministration(pool: owner)
            .putTenant(id: "demo", name: "Demo", defaultRuleset: "opportunistic")
        return RealShard(
            intake: IntakeLedger(shard: "a", pool: pool("zegel_edge")),
            work: WorkLedger(shard: "a", pool: pool("zegel_worker")), owner: owner)
    }

    func execute(_ sql: String) async throws {
        try await owner.withConnection { connection in
            _ = try await connection.perform { try $0.execute(sql) }
        }
    }

    func clear() async throws {
        try await execute(
            """
            DELETE FROM ledger.message; DELETE FROM ledger.content; DELETE FROM ledger.recipient;
            DELETE FROM ledger.event; DELETE FROM ledger.delivery; DELETE FROM ledger.replay;
            DELETE FROM ledger.worker_heartbeat; DELETE FROM ledger.dot_in_flight; DELETE FROM ledger.incarnation
            """)
    }

    private static let dump = """
        SELECT concat_ws(' ', 'message', substr(id::text, 25, 6), open_deliveries, withdrawn_at IS NOT NULL,
                         wrapped_message_key IS NULL, EXISTS (SELECT 1 FROM ledger.content c WHERE c.message_id = m.id))
        FROM ledger.message m
        UNION ALL SELECT concat_ws(' ', 'delivery', substr(message_id::text, 25, 6), no, state, attempts, fence,
                         coalesce(substr(worker::text, 25, 6), '-'), possible_duplicate, delay_reported)
        FROM ledger.delivery
        UNION ALL SELECT concat_ws(' ', 'recipient', substr(message_id::text, 25, 6), rcpt_no, delivery_no, state)
        FROM ledger.recipient
        UNION ALL SELECT concat_ws(' ', 'tag', get_byte(tag, 0), substr(message_id::text, 25, 6), replayed_at IS NOT NULL, acknowledged_at IS NOT NULL)
        FROM ledger.replay
        UNION ALL SELECT concat_ws(' ', 'lease', substr(id::text, 25, 6), lease_until > clock_timestamp())
        FROM ledger.worker_heartbeat
        UNION ALL SELECT concat_ws(' ', 'dot', substr(i.worker::text, 25, 6), substr(x.m::text, 25, 6), x.n, x.f,
                         x.at > clock_timestamp() - interval '10 minutes')
        FROM ledger.dot_in_flight i CROSS JOIN LATERAL unnest(i.message_ids, i.nos, i.fences, i.registered_at) AS x (m, n, f, at)
        UNION ALL SELECT concat_ws(' ', 'event', substr(message_id::text, 25, 6), coalesce(rcpt_no, -1), kind, possible_duplicate)
        FROM ledger.event
        UNION ALL SELECT concat_ws(' ', 'incarnations', count(*)) FROM ledger.incarnation
        """

    func rows() async throws -> [String] {
        try await owner.withConnection { connection in
            try await connection.perform { session in
                try session.query(Self.dump).map { try $0.text(0) }.sorted()
            }
        }
    }
}

/// The model and the real shard, asked the same things.
struct Twin {
    let real: RealShard
    var dice: Dice
    var model: ShardModel
    var position = 0
    /// What was asked.
    var told: [String] = []
    /// Answers that differ.
    var differences: [String] = []

    private var sent: [MessageRow] = []
    private var workers: [UUID] = []
    private var claims: [SimulatedClaim] = []
    private var claimants: [DeliveryReference: UUID] = [:]
    private var dots: [UUID: [DeliveryReference: Date]] = [:]
    private var completions: [Completion] = []
    private var workerCount = 0
    private var eventCount = 0
    private var clock = 0
    /// Deliveries became ready at a moment of the server's: their order is not ours to know.
    private var isOrderKnown = true

    static let lease = Duration.seconds(60)

    init(real: RealShard, dice: Dice, flaw: Flaw?) {
        self.real = real
        self.dice = dice
        var times = ShardModel.Times()
        times.lease = .seconds(60)
        model = ShardModel(tables: ShardTables(), timeline: 1, times: times, flaw: flaw)
    }

    private var now: Ticks { Ticks(date: Date()) }
    private var milliseconds: Int64 { Int64(Date().timeIntervalSince1970 * 1000) }

    private mutating func ask(_ request: ShardRequest) -> ShardReply {
        position += 1
        switch model.begin(request, ticket: position, position: position, now: now) {
        case .answered(let reply): return reply
        case .waits: return model.release(upTo: position).first?.reply ?? .done
        case .blocked: return .done
        }
    }

    private mutating func compare<Value: Equatable>(_ what: String, _ mine: Value, _ theirs: Value) {
        if mine != theirs { differences.append("\(what): model \(mine), server \(theirs)") }
    }

    private mutating func pick<Element>(_ from: [Element]) -> Element? {
        from.isEmpty ? nil : from[dice.below(from.count)]
    }

    private mutating func some<Element>(_ from: [Element], _ perThousand: Int = 500) -> [Element] {
        from.filter { _ in dice.happens(perThousand) }
    }

    // MARK: Steps

    mutating func step() async throws -> String {
        let what: String
        switch dice.below(40) {
        case 0..<6: what = try await commit()
        case 6: what = try await resubmit()
        case 7: what = try await replay()
        case 8: what = try await question()
        case 9, 10: what = try await withdraw()
        case 11, 12: what = try await register()
        case 13: what = try await heartbeat()
        case 14..<19: what = try await claim()
        case 19: what = try await release()
        case 20..<25: what = try await registerDots()
        case 25..<30: what = try await complete()
        case 30..<33: what = try await reclaim()
        case 33: what = try await promote()
        case 34..<37: what = try await lapse()
        default: what = try await age()
        }
        told.append(what)
        return what
    }

    private mutating func newMessage() -> MessageRow {
        // Moments apart, so that the order of claims is known.
        clock += 1
        let deliveries = dice.within(1...2)
        let recipients = dice.within(1...2)
        let key = KeyReference(batchKeyID: SimulatedID.make(.event, 0), index: 0, wrapped: [1])
        let row = MessageRow(
            id: SimulatedID.make(.message, sent.count, milliseconds: milliseconds), tenant: "demo",
            acceptedAt: Date(ticks: now - .seconds(100) + Ticks(clock) * 1000), ruleset: "opportunistic",
            size: 1, keyedDigest: [1], contentKey: key, metadataKey: key, sealedEnvelope: [1],
            frames: [[1, 2]], frameCount: 1,
            deliveries: (0..<deliveries).map { DeliveryRow(number: Int32($0), lane: "d\($0).test") },
            recipients: (0..<deliveries * recipients).map {
                RecipientRow(number: Int32($0), delivery: Int32($0 / recipients), sealedAddress: [1])
            }, replayTag: dice.happens(800) ? SimulatedID.tag(dice.below(12), octets: 32) : nil)
        sent.append(row)
        return row
    }

    private mutating func newBatch() -> IntakeBatch {
        var batch = IntakeBatch()
        for _ in 0..<dice.within(1...3) { batch.messages.append(newMessage()) }
        if dice.happens(100), let again = pick(sent), !batch.messages.contains(where: { $0.id == again.id }) {
            batch.messages.append(again)
        }
        if dice.happens(300) { batch.acknowledgedTags = [SimulatedID.tag(dice.below(12), octets: 32)] }
        return batch
    }

    private func word(_ outcome: IntakeOutcome) -> String {
        switch outcome {
        case .durable: "durable"
        case .atFault(let error):
            IntakeLedger.isReplay(error) ? "replay" : "repeated \(IntakeLedger.isRepeatedID(error))"
        default: "\(outcome)"
        }
    }

    private func word(_ reply: ShardReply) -> String {
        if case .conflict(let error) = reply { return word(IntakeOutcome.atFault(error)) }
        return "durable"
    }

    private mutating func commit() async throws -> String {
        let batch = newBatch()
        let mine = word(ask(.intake(batch, isMarked: false)))
        compare("commit", mine, word(await real.intake.commit(batch)))
        return "commit"
    }

    private mutating func resubmit() async throws -> String {
        let batch = newBatch()
        var missing = batch
        if case .messages(let known) = ask(.known(batch.messages.map(\.id))) {
            missing.messages.removeAll { known.contains($0.id) }
        }
        let mine = word(ask(.intake(missing, isMarked: true)))
        compare("resubmit", mine, word(await real.intake.resubmit(batch)))
        return "resubmit"
    }

    private mutating func replay() async throws -> String {
        let content = dice.below(12)
        guard case .earlier(let mine) = ask(.replay(content)) else { return "replay" }
        compare("replay", mine, try await real.intake.replay(of: SimulatedID.tag(content, octets: 32)))
        return "replay"
    }

    private mutating func question() async throws -> String {
        let content = dice.below(12)
        let tag = SimulatedID.tag(content, octets: 32)
        guard case .holders(let mine) = ask(.ask(content)) else { return "question" }
        let theirs = try await real.work.replayHolders(of: [tag], limit: .seconds(30))
        compare("holders", mine, theirs[tag] ?? [])
        guard let holder = mine.first, dice.happens(500),
            case .flag(let stands) = ask(.yield(content, to: holder.message))
        else { return "question" }
        compare(
            "relied on", stands,
            try await real.work.relyOn([holder.message], limit: .seconds(30)).contains(holder.message))
        return "reliance"
    }

    private mutating func withdraw() async throws -> String {
        var ids = some(sent, 300).map(\.id)
        if dice.happens(400), let row = sent.last, let tag = row.replayTag {
            // A message that nobody has claimed yet, as likely as not, and that somebody relies on.
            _ = ask(.replay(SimulatedID.content(tag)))
            _ = try await real.intake.replay(of: tag)
            ids = [row.id]
        }
        guard case .withdrawal(let withdrawn, let standing) = ask(.withdraw(ids)) else { return "withdraw" }
        let theirs = try await real.intake.withdraw(ids)
        compare("withdrawn", withdrawn, theirs.withdrawn)
        compare("standing", standing, theirs.standing)
        return "withdraw"
    }

    private mutating func register() async throws -> String {
        workerCount += 1
        let worker = SimulatedID.make(.worker, workerCount)
        workers.append(worker)
        _ = ask(.register(worker))
        try await real.work.register(worker: worker, name: "w", region: "a", lease: Self.lease)
        return "register"
    }

    private mutating func heartbeat() async throws -> String {
        guard let worker = pick(workers) else { return try await register() }
        if dice.happens(200) {
            _ = ask(.resign(worker))
            try await real.work.resign(worker: worker)
            return "resign"
        }
        guard case .flag(let mine) = ask(.heartbeat(worker)) else { return "heartbeat" }
        compare("heartbeat", mine, try await real.work.heartbeat(worker: worker, lease: Self.lease))
        return "heartbeat"
    }

    private mutating func claim() async throws -> String {
        guard let worker = pick(workers) else { return try await register() }
        let isBounded = isOrderKnown && dice.happens(500)
        let (limit, perLane) = isBounded ? (dice.within(1...4), dice.within(1...3)) : (100, 100)
        guard case .claims(let mine) = ask(.claim(worker, limit: limit, perLane: perLane)) else {
            return "claim"
        }
        let theirs = try await real.work.claim(
            worker: worker, ClaimRequest(limit: Int32(limit), perLane: Int32(perLane)))
        compare("claim", Set(mine.map(describe)), Set(theirs.map(describe)))
        guard case .references(let held) = ask(.claims(worker)) else { return "claim" }
        compare("claims", Set(held), Set(try await real.work.claims(of: worker)))
        for claim in mine { claimants[claim.reference] = worker }
        claims += mine
        return mine.isEmpty ? "claim of nothing" : "claim"
    }

    private func describe(_ claim: SimulatedClaim) -> String {
        "\(claim.reference) \(claim.attempts) \(claim.possibleDuplicate) \(claim.delayReported) \(claim.deliveries) \(claim.recipients.sorted())"
    }

    private func describe(_ claim: ClaimedDelivery) -> String {
        "\(claim.reference) \(claim.attempts) \(claim.possibleDuplicate) \(claim.delayReported) \(claim.deliveries) \(claim.recipients.map(\.number).sorted())"
    }

    private mutating func release() async throws -> String {
        guard let worker = pick(workers) else { return try await register() }
        let references = some(claims).map(\.reference)
        _ = ask(.release(worker, references))
        try await real.work.release(worker: worker, references)
        return "release"
    }

    private mutating func registerDots() async throws -> String {
        guard let claim = pick(claims) else { return try await claim() }
        let worker = claimants[claim.reference] ?? SimulatedID.make(.worker, 1)
        let asked = [claim.reference] + some(claims).map(\.reference).filter { $0 != claim.reference }
        let inFlight = some(Array(dots[worker] ?? [:]), 800).filter { !asked.contains($0.key) }.map {
            (reference: $0.key, at: $0.value)
        }
        guard case .granted(let mine, _) = ask(.dots(worker, asked, inFlight: inFlight)) else {
            return "dots"
        }
        let theirs = try await real.work.registerDots(worker: worker, asked, inFlight: inFlight)
        compare("granted", mine, theirs.granted)
        for reference in theirs.granted { dots[worker, default: [:]][reference] = theirs.at }
        return mine.isEmpty ? "dots denied" : "dots"
    }

    private mutating func complete() async throws -> String {
        if dice.happens(100), !completions.isEmpty {
            // The answer to a commit was lost: the same batch again.
            return try await complete(completions, "completions repeated")
        }
        var chosen: [SimulatedClaim] = []
        for claim in some(claims, 400).reversed()
        where chosen.count < 4
            && !chosen.contains(where: {
                $0.reference.message == claim.reference.message
                    && $0.reference.number == claim.reference.number
            })
        { chosen.append(claim) }
        if chosen.isEmpty { return try await claim() }
        completions = chosen.map { completion($0) }.sorted {
            ($0.reference.message, $0.reference.number) < ($1.reference.message, $1.reference.number)
        }
        return try await complete(completions, "completions")
    }

    private mutating func complete(_ completions: [Completion], _ what: String) async throws -> String {
        guard case .results(let mine) = ask(.complete(completions)) else { return what }
        compare(what, mine, try await real.work.complete(completions))
        return mine.contains(where: { $0 != .recorded }) ? "\(what), some late" : what
    }

    private mutating func completion(_ claim: SimulatedClaim) -> Completion {
        let states: [(EndedRecipient.State, EventKind)] = [
            (.delivered, .delivered), (.delivered, .delivered), (.bounced, .bounced), (.refused, .refused),
        ]
        var ended: [EndedRecipient] = []
        var events: [EventRow] = []
        var isOpen = false
        for recipient in claim.recipients {
            eventCount += 1
            var kind = EventKind.deferred
            if dice.happens(700) {
                let (state, word) = states[dice.below(states.count)]
                ended.append(EndedRecipient(number: recipient, state: state))
                kind = word
            } else {
                isOpen = true
            }
            events.append(
                EventRow(
                    id: SimulatedID.make(.event, eventCount, milliseconds: milliseconds), tenant: "demo",
                    message: claim.reference.message, recipient: recipient, kind: kind, at: Date(),
                    possibleDuplicate: dice.happens(200)))
        }
        clock += 1
        var step = DeliveryStep.ends
        if isOpen {
            let (isDoubtful, isTold) = (dice.happens(300), dice.happens(200))
            let away = dice.happens(600) ? -Ticks.seconds(50) : .seconds(3600)
            step =
                dice.happens(150)
                ? .hold(possibleDuplicate: isDoubtful, delayReported: isTold)
                : .retry(
                    due: Date(ticks: now + away + Ticks(clock) * 1000), possibleDuplicate: isDoubtful,
                    delayReported: isTold)
        }
        eventCount += 1
        return Completion(
            reference: claim.reference, deliveriesOfMessage: claim.deliveries, tenant: "demo", ended: ended,
            step: step, events: events,
            shreddedEventID: SimulatedID.make(.event, eventCount, milliseconds: milliseconds))
    }

    private mutating func reclaim() async throws -> String {
        guard case .counts(let freed, let inDoubt) = ask(.reclaim) else { return "reclaim" }
        let theirs = try await real.work.reclaim(finalDotTimeout: .seconds(600))
        compare("reclaim", [freed, inDoubt], [theirs.freed, theirs.inDoubt])
        if freed + inDoubt > 0 { isOrderKnown = false }
        return inDoubt > 0 ? "reclaim in doubt" : freed > 0 ? "reclaim" : "reclaim of nothing"
    }

    private mutating func promote() async throws -> String {
        guard case .counts(let mine, _) = ask(.promote) else { return "promote" }
        compare("promote", mine, try await real.work.promote())
        return mine > 0 ? "promote" : "promote of nothing"
    }

    // MARK: Time passes

    private mutating func lapse() async throws -> String {
        guard let worker = pick(workers) else { return try await register() }
        let number = SimulatedID.number(worker)
        guard model.tables.lease(number) != nil else { return try await register() }
        let ago = dice.happens(500) ? 30 : 3600
        model.put([.lease(number, now - .seconds(ago))])
        try await real.execute(
            """
            UPDATE ledger.worker_heartbeat SET lease_until = clock_timestamp() - interval '\(ago) seconds'
            WHERE id = '\(worker)'
            """)
        return "lapse"
    }

    private mutating func age() async throws -> String {
        let rows = model.tables.dots.indices.filter { model.tables.dots[$0] != nil }
        guard let number = pick(rows), let row = model.tables.dots[number] else { return try await claim() }
        model.put([
            .dots(
                number,
                row.map { dot in
                    var dot = dot
                    dot.at -= .seconds(3600)
                    return dot
                })
        ])
        try await real.execute(
            """
            UPDATE ledger.dot_in_flight SET registered_at = (SELECT array_agg(t - interval '1 hour' ORDER BY o)
                FROM unnest(registered_at) WITH ORDINALITY AS u (t, o)) WHERE substr(worker::text, 25, 6) = '\(hex(number))'
            """)
        for (reference, at) in dots[SimulatedID.make(.worker, number)] ?? [:] {
            dots[SimulatedID.make(.worker, number)]?[reference] = at.addingTimeInterval(-3600)
        }
        return "dots age"
    }

    // MARK: Rows

    private func hex(_ number: Int) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 6 - text.count) + text
    }

    private func flag(_ value: Bool) -> String { value ? "t" : "f" }

    /// As `RealShard.rows` writes them.
    var rows: [String] {
        let tables = model.tables
        var rows: [String] = []
        for (number, row) in tables.messages.enumerated() {
            guard let row else { continue }
            rows.append(
                "message \(hex(number)) \(row.openDeliveries) \(flag(row.isWithdrawn)) \(flag(row.isShredded)) \(flag(!row.isShredded))"
            )
        }
        for (index, row) in tables.deliveries.enumerated() {
            guard let row else { continue }
            let (message, number) = index.quotientAndRemainder(dividingBy: ShardTables.deliveriesOfMessage)
            rows.append(
                "delivery \(hex(message)) \(number) \(row.state) \(row.attempts) \(row.fence) \(row.worker < 0 ? "-" : hex(Int(row.worker))) \(flag(row.possibleDuplicate)) \(flag(row.delayReported))"
            )
        }
        for (index, row) in tables.recipients.enumerated() {
            guard let row else { continue }
            let (message, number) = index.quotientAndRemainder(dividingBy: ShardTables.recipientsOfMessage)
            let each = Int(tables.message(message)?.recipients ?? 1)
            rows.append("recipient \(hex(message)) \(number) \(number / each) \(row)")
        }
        for (content, row) in tables.tags.enumerated() {
            guard let row else { continue }
            rows.append(
                "tag \(content) \(hex(Int(row.message))) \(flag(row.isReplayed)) \(flag(row.isAcknowledged))")
        }
        let now = now
        for (worker, lease) in tables.leases.enumerated() {
            guard let lease else { continue }
            rows.append("lease \(hex(worker)) \(flag(lease > now))")
        }
        for (worker, row) in tables.dots.enumerated() {
            for dot in row ?? [] {
                let (message, number) = Int(dot.delivery)
                    .quotientAndRemainder(dividingBy: ShardTables.deliveriesOfMessage)
                rows.append(
                    "dot \(hex(worker)) \(hex(message)) \(number) \(dot.fence) \(flag(dot.at > now - .seconds(600)))"
                )
            }
        }
        for event in tables.events {
            rows.append(
                "event \(hex(Int(event.message))) \(event.recipient) \(event.kind) \(flag(event.possibleDuplicate))"
            )
        }
        rows.append("incarnations \(tables.incarnation > 0 ? 1 : 0)")
        return rows.sorted()
    }
}
