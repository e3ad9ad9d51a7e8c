// The door to MTA-STS policies, with a table of names, a policy host that does as it is told and a clock that a test sets: what is
// fetched when, what is kept, and what a failure must not loosen.

import DNS
import Foundation
import Lab
import Policy
import Synchronization
import Testing

@testable import SmartTLS

/// A store in memory that can be taken away.
private final class MemoryStore: MTASTSStore {
    private let rows = Mutex<[String: StoredMTASTSPolicy]>([:])
    let isAway = Mutex(false)

    func policy(of domain: String) async throws -> StoredMTASTSPolicy? {
        if isAway.withLock({ $0 }) { throw LabError("away") }
        return rows.withLock { $0[domain] }
    }

    func due(at time: Date, limit: Int) async throws -> [String] {
        if isAway.withLock({ $0 }) { throw LabError("away") }
        return rows.withLock { rows in
            rows.values.filter { row in
                let rest = row.expiresAt.timeIntervalSince(time)
                return rest > 0 && rest < row.expiresAt.timeIntervalSince(row.fetchedAt) / 4
            }.map(\.domain).prefix(limit).map { $0 }
        }
    }

    func keep(_ policy: StoredMTASTSPolicy) async throws {
        if isAway.withLock({ $0 }) { throw LabError("away") }
        rows.withLock { rows in
            if let known = rows[policy.domain], known.fetchedAt >= policy.fetchedAt { return }
            rows[policy.domain] = policy
        }
    }
}

/// Domains, their records and policy hosts, and a clock.
private final class World: Sendable {
    let table: DNSTable
    let store = MemoryStore()
    let clock = Elapsed()
    private let answers = Mutex<[String: String]>([:])
    private let asked = Mutex<[String]>([])
    private let seen = Mutex<[MTASTSOccurrence]>([])
    private let gate = Mutex<[CheckedContinuation<Void, Never>]?>(nil)
    static let start = Date(timeIntervalSince1970: 1_800_000_000)

    init(_ entries: [String: DNSTable.Entry] = [:]) { table = DNSTable(entries) }

    static func txt(_ id: String, ttl: UInt32 = 60) -> DNSTable.Entry {
        .records([.txt([Array("v=STSv1; id=\(id)".utf8)])], ttl: ttl)
    }

    /// What the policy host answers: `mode mx max_age`, `gave-up`, or a reason.
    func serve(_ domain: String, _ text: String) { answers.withLock { $0[domain] = text } }
    var fetches: [String] { asked.withLock { $0 } }
    var occurrences: [MTASTSOccurrence] { seen.withLock { $0 } }

    /// From now on fetches wait for `open()`.
    func shut() { gate.withLock { $0 = [] } }
    func open() {
        let waiting = gate.withLock { gate in
            defer { gate = nil }
            return gate ?? []
        }
        for one in waiting { one.resume() }
    }

    private func fetch(_ domain: DomainName) async -> MTASTSFetched {
        asked.withLock { $0.append(domain.text) }
        await withCheckedContinuation { continuation in
            let waits = gate.withLock { gate in
                gate?.append(continuation)
                return gate != nil
            }
            if !waits { continuation.resume() }
        }
        let answer = answers.withLock { $0[domain.text] } ?? "sts-policy-fetch-error"
        let words = answer.split(separator: " ")
        if answer == "gave-up" { return .gaveUp("too many") }
        guard words.count == 3 else { return .failed(ReasonCode(rawValue: answer), "as the test wants it") }
        let body = "version: STSv1\nmode: \(words[0])\nmx: \(words[1])\nmax_age: \(words[2])\n"
        guard let policy = try? MTASTSPolicy(body: Array(body.utf8)) else { return .gaveUp("no policy") }
        return .policy(policy)
    }

    func policies(_ bounds: MTASTSPolicies.Bounds = .init()) -> MTASTSPolicies {
        MTASTSPolicies(
            resolver: table, store: store, fetch: { await self.fetch($0) },
            observe: { occurrence in self.seen.withLock { $0.append(occurrence) } },
            now: { World.start + TimeInterval(self.clock.value.components.seconds) }, bounds: bounds)
    }
}

extension MTASTSStanding {
    fileprivate var text: String {
        switch status {
        case .unasked: "unasked"
        case .bypassed: "bypassed"
        case .absent: "absent"
        case .unavailable(let unavailable): unavailable.reason.rawValue
        case .unknown(let unknown): unknown.isBogus ? "bogus" : "unknown"
        case .policy(let inForce): "\(inForce.id) \(inForce.policy.mode)"
        }
    }
}

@Suite(.timeLimit(.minutes(1))) struct MTASTSPoliciesTests {
    private let record = "_mta-sts.bar.test TXT"

    @Test func `a policy is fetched once and survives its host, its record, a restart and failed refreshes`()
        async
    {
        let world = World([record: World.txt("1")])
        world.serve("bar.test", "enforce mx.bar.test 604800")
        let policies = world.policies()
        for _ in 0..<3 { #expect(await policies.standing(of: "bar.test").text == "1 enforce") }
        #expect(world.fetches == ["bar.test"])
        world.serve("bar.test", "sts-webpki-invalid")
        let day = 86_400
        for (seconds, entry) in [
            (2 * day, World.txt("1")), (2 * day + 400, World.txt("2")), (3 * day, .failure(.servfail)),
            (4 * day, .failure(.bogus)), (5 * day, .nxdomain()), (7 * day - 1, .failure(.timeout)),
        ] {
            world.table.change(record, to: entry)
            world.clock.set(.seconds(seconds))
            #expect(await policies.standing(of: "bar.test").text == "1 enforce", "\(seconds)")
            #expect(
                await world.policies().standing(of: "bar.test").text == "1 enforce", "restarted, \(seconds)")
        }
        // Its time is over: what follows is what a domain never seen would come to.
        for (entry, end) in [
            (World.txt("1"), "sts-webpki-invalid"), (.failure(.servfail), "unknown"),
            (.failure(.bogus), "bogus"), (.nxdomain(), "absent"),
        ] as [(DNSTable.Entry, String)] {
            world.clock.set(.seconds(8 * day))
            world.table.change(record, to: entry)
            #expect(await world.policies().standing(of: "bar.test").text == end)
        }
    }

    @Test func `another id is fetched before the message goes, and the old policy holds where that fails`()
        async
    {
        let world = World([record: World.txt("1")])
        world.serve("bar.test", "enforce mx.bar.test 604800")
        let policies = world.policies()
        #expect(await policies.standing(of: "bar.test").text == "1 enforce")
        world.table.change(record, to: World.txt("2"))
        world.serve("bar.test", "testing mx.bar.test 604800")
        #expect(
            await policies.standing(of: "bar.test").text == "1 enforce", "its record is known for its TTL")
        world.clock.set(.seconds(301))
        #expect(await policies.standing(of: "bar.test").text == "2 testing")
        world.table.change(record, to: World.txt("3"))
        world.serve("bar.test", "sts-policy-invalid")
        world.clock.set(.seconds(700))
        #expect(await policies.standing(of: "bar.test").text == "2 testing")
        world.serve("bar.test", "none mx.bar.test 604800")
        world.clock.set(.seconds(1100))
        #expect(await policies.standing(of: "bar.test").text == "absent", "only mode none ends a policy")
        #expect(world.fetches.count == 4)
    }

    @Test func `a fetch that fails is not tried again within five minutes, whatever the id`() async {
        let world = World([record: World.txt("1", ttl: 1)])
        world.serve("bar.test", "sts-webpki-invalid")
        let policies = world.policies()
        for second in 0..<299 {
            world.table.change(record, to: World.txt("\(second)", ttl: 1))
            world.clock.set(.seconds(second))
            #expect(await policies.standing(of: "bar.test").text == "sts-webpki-invalid")
        }
        #expect(world.fetches.count == 1)
        world.clock.set(.seconds(300))
        _ = await policies.standing(of: "bar.test")
        #expect(world.fetches.count == 2)
    }

    @Test func `many messages at once make one fetch, and each waits for it`() async throws {
        let world = World([record: World.txt("1")])
        world.serve("bar.test", "enforce mx.bar.test 604800")
        world.shut()
        let policies = world.policies()
        let waiting = (0..<20).map { _ in Task { await policies.standing(of: "bar.test").text } }
        try await eventually("the fetch has begun") { world.fetches.count == 1 }
        world.open()
        for task in waiting { #expect(await task.value == "1 enforce") }
        #expect(world.fetches.count == 1)
    }

    @Test func `a refresh ahead keeps nobody waiting, and more than so many at once are shed`() async throws {
        let domains = (0..<3).map { "d\($0).test" }
        let world = World(
            Dictionary(uniqueKeysWithValues: domains.map { ("_mta-sts.\($0) TXT", World.txt("1")) }))
        for domain in domains { world.serve(domain, "enforce mx.bar.test 604800") }
        let policies = world.policies(.init(refreshes: 2))
        for domain in domains { #expect(await policies.standing(of: domain).text == "1 enforce") }
        world.clock.set(.seconds(86_500))
        for domain in domains { world.serve(domain, "testing mx.bar.test 604800") }
        world.shut()
        for domain in domains { #expect(await policies.standing(of: domain).text == "1 enforce") }
        try await eventually("two refreshes") { world.fetches.count == 5 }
        #expect(world.occurrences.filter { $0 == .refreshShed }.count == 1)
        world.open()
        try await eventually("they arrived") { await policies.standing(of: "d0.test").text == "1 testing" }
    }

    @Test func `a policy that no mail asks for is refreshed before its time is over`() async throws {
        let world = World([record: World.txt("1")])
        world.serve("bar.test", "enforce mx.bar.test 604800")
        #expect(await world.policies().standing(of: "bar.test").text == "1 enforce")
        // Another worker, which has never seen the domain.
        let policies = world.policies()
        for (day, fetched) in [(1, 0), (5, 0), (6, 6), (7, 6), (12, 12)] {
            world.clock.set(.seconds(day * 86_400))
            let expiry = World.start + TimeInterval((fetched + 7) * 86_400)
            try await eventually("day \(day)") {
                // Again and again, as a worker does: a round that finds the last refresh still ending starts none.
                await policies.refreshDue()
                return try await world.store.policy(of: "bar.test")?.expiresAt == expiry
            }
        }
        #expect(world.fetches.count == 3)
        world.store.isAway.withLock { $0 = true }
        await policies.refreshDue()
        #expect(world.occurrences.contains(.storeFailed))
    }

    @Test func `our own load and a store that is away are no absence`() async {
        let world = World([record: World.txt("1")])
        world.serve("bar.test", "gave-up")
        let policies = world.policies()
        #expect(await policies.standing(of: "bar.test").text == "unknown")
        world.serve("bar.test", "enforce mx.bar.test 604800")
        #expect(await policies.standing(of: "bar.test").text == "1 enforce", "tried again at once")
        world.store.isAway.withLock { $0 = true }
        #expect(await policies.standing(of: "bar.test").text == "1 enforce")
        #expect(await world.policies().standing(of: "bar.test").text == "unknown")
        world.table.change(record, to: .nxdomain())
        #expect(await world.policies().standing(of: "bar.test").text == "unknown", "one may be held")
    }

    @Test func `what another worker fetched is taken up instead of fetched again`() async {
        let world = World([record: World.txt("1", ttl: 1)])
        world.serve("bar.test", "enforce mx.bar.test 604800")
        let (one, other) = (world.policies(), world.policies())
        #expect(await one.standing(of: "bar.test").text == "1 enforce")
        #expect(await other.standing(of: "bar.test").text == "1 enforce")
        #expect(world.fetches.count == 1)
        world.table.change(record, to: World.txt("2", ttl: 1))
        world.serve("bar.test", "testing mx.bar.test 604800")
        world.clock.set(.seconds(400))
        #expect(await one.standing(of: "bar.test").text == "2 testing")
        #expect(await other.standing(of: "bar.test").text == "2 testing")
        #expect(world.fetches.count == 2)
    }

    @Test func `a policy belongs to its domain and to no alias, host or neighbour`() async {
        let world = World([
            record: World.txt("1"), "bar.test MX": .mx("10 mx.shared.test"),
            "other.test MX": .mx("10 mx.shared.test"), "other.test CNAME": .nodata(canonical: "bar.test"),
        ])
        world.serve("bar.test", "enforce mx.shared.test 604800")
        let policies = world.policies()
        #expect(await policies.standing(of: "bar.test").text == "1 enforce")
        for domain in ["other.test", "shared.test", "mx.shared.test", "test", "sub.bar.test"] {
            #expect(await policies.standing(of: domain).text == "absent", "\(domain)")
        }
        #expect(world.fetches == ["bar.test"])
    }

    @Test func `what is remembered has a bound; the rest is in the store`() async {
        let domains = (0..<50).map { "d\($0).test" }
        let world = World(
            Dictionary(uniqueKeysWithValues: domains.map { ("_mta-sts.\($0) TXT", World.txt("1")) }))
        for domain in domains { world.serve(domain, "enforce mx.bar.test 604800") }
        let policies = world.policies(.init(weight: 20))
        for domain in domains + domains { #expect(await policies.standing(of: domain).text == "1 enforce") }
        #expect(await policies.rememberedWeight <= 20)
        #expect(world.fetches.count == 50)
    }

    @Test func `a policy's shortest form is the same policy and never longer than it was`() throws {
        let patterns = (0..<4000).map { "mx:\($0).nl" }.joined(separator: "\n")
        let text = "version:STSv1\nmode:enforce\nmax_age:1\n\(patterns)\n"
        let policy = try MTASTSPolicy(body: Array(text.utf8))
        #expect(policy.body == Array(text.utf8))
        #expect(try MTASTSPolicy(body: policy.body) == policy)
    }
}
