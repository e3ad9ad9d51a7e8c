// A judgement rests on what was asked a moment before it: over the end of a month, of a policy or of a certificate it must come out as
// it did then. And what MTA-STS announced stands in the record.

import DNS
import Foundation
import Lab
import Policy
import Synchronization
import Testing

@testable import SmartTLS

@Suite(.timeLimit(.minutes(1))) struct EvidenceMomentTests {
    /// 30 June 2026, 23:59:59.9 UTC, and 200 ms later.
    private static let before: Int64 = 1_782_863_999_900
    private static let after: Int64 = 1_782_864_000_100

    /// Only participants of NTA 7516, and else anything.
    private static let participants = Ruleset(
        name: "participants", version: 1, requiresTLS: false, minimumVersion: nil,
        requiresForwardSecrecy: false, authentication: .none, acceptsUnprovenName: true, nta: .required)

    /// What a host without TLS comes to, routed to at one time and judged at another, as it is stored.
    private static func judged(
        _ table: DNSTable, routedAt: Int64, judgedAt: Int64, policies: MTASTSPolicies? = nil,
        under ruleset: Ruleset
    ) async throws -> Judgement {
        let router = Router(
            resolver: table, policies: policies,
            date: { Date(timeIntervalSince1970: Double(routedAt) / 1000) })
        let route = try await router.route(to: "bar.test", heedsNTA: ruleset.nta != nil)
        let host = try #require(route.hosts.first)
        let findings = HostFindings(
            absence: .notOffered, host: host.referenceName, name: host.provenance,
            tlsa: host.addresses[0].tlsa, sts: route.sts
        ).adding(route.nta)
        let judgement = Judgement(
            at: judgedAt, route: route, host: host, address: host.addresses[0], port: 25, exclusion: nil,
            peer: nil,
            absence: .notOffered, ruleset: ruleset, findings: findings,
            verdict: Verdict.judge(ruleset, findings))
        return try CanonicalJSON.decode(Judgement.self, try judgement.encoded().octets)
    }

    private static func code(_ judgement: Judgement) async -> EvidenceError.Code? {
        do {
            try await judgement.review(certificates: [:])
            return nil
        } catch { return error.code }
    }

    private static func world(_ nta: String) -> DNSTable {
        DNSTable([
            "bar.test TXT": .records([.txt([Array(nta.utf8)])], .secure),
            "bar.test MX": .mx("10 mx.test", security: .secure),
            "mx.test A": .addresses("192.0.2.1", security: .secure),
            "a.nta.test A": .addresses("192.0.2.2", security: .secure),
        ])
    }

    @Test(
        "NTA 7516 counts by the month in which it was looked up, also where the month ends before the connection",
        arguments: [
            ("startdate=2026-01;enddate=2026-06;ntamx=10 a.nta.test", Finding.ntaCapable, "a.nta.test"),
            ("startdate=2026-01;enddate=2026-06", .ntaCapable, "mx.test"),
            ("startdate=2026-07;enddate=2026-12;ntamx=10 a.nta.test", .ntaNotYetValid, "mx.test"),
            ("startdate=2026-01;enddate=2026-05;ntamx=10 a.nta.test", .ntaExpired, "mx.test"),
        ])
    func month(record: String, finding: Finding, host: String) async throws {
        let table = Self.world("v=NTA7516-1;\(record)")
        let judgement = try await Self.judged(
            table, routedAt: Self.before, judgedAt: Self.after, under: Self.participants)
        #expect(judgement.findings.findings.contains(finding) && judgement.host == host)
        #expect(await Self.code(judgement) == nil)
        // Within the month and within the next it holds as well.
        for time in [Self.before, Self.after] {
            let same = try await Self.judged(
                table, routedAt: time, judgedAt: time, under: Self.participants)
            #expect(await Self.code(same) == nil)
            if time == Self.before { #expect(same.verdict == judgement.verdict) }
        }
    }

    @Test("when it was asked decides, and may not be any time")
    func reliance() async throws {
        let judgement = try await Self.judged(
            Self.world("v=NTA7516-1;startdate=2026-01;enddate=2026-06"), routedAt: Self.before,
            judgedAt: Self.after, under: Self.participants)
        let later = try judgement.altered { $0["routedAt"] = Self.after }
        #expect(await Self.code(later) == .contradicted)
        let longAgo = try judgement.altered {
            $0["routedAt"] = Self.after - Judgement.longestReliance - 1
        }
        #expect(await Self.code(longAgo) == .contradicted)
        let extreme = try judgement.altered { $0["routedAt"] = Int64.min }
        #expect(await Self.code(extreme) == .contradicted)
        #expect(await Self.code(try judgement.altered { $0["routedAt"] = nil }) == .unreadable)
    }

    @Test("records of format 1 are still read")
    func firstFormat() async throws {
        let judgement = try await Self.judged(
            Self.world("v=NTA7516-1;startdate=2026-01;enddate=2026-06"), routedAt: Self.before,
            judgedAt: Self.before, under: Self.participants)
        let first = try judgement.altered { object in
            object["format"] = 1
            object["routedAt"] = nil
        }
        #expect(await Self.code(first) == nil)
        #expect(await Self.code(try judgement.altered { $0["format"] = 1 }) == .unreadable)
        #expect(await Self.code(try judgement.altered { $0["format"] = 3 }) == .unreadable)
    }

    // MARK: MTA-STS

    private static func announcing(_ id: String?) -> DNSTable {
        let table = DNSTable([
            "bar.test MX": .mx("10 mx.test"), "mx.test A": .addresses("192.0.2.1"),
        ])
        table.change("_mta-sts.bar.test TXT", to: id.map { record($0) })
        return table
    }

    private static func record(_ id: String) -> DNSTable.Entry {
        .records([.txt([Array("v=STSv1; id=\(id)".utf8)])], ttl: 1)
    }

    /// Policies at a policy host that serves this. The clock stands at `before` and what was added.
    private static func policies(_ table: DNSTable, _ body: Body, _ clock: Elapsed)
        -> MTASTSPolicies
    {
        MTASTSPolicies(
            resolver: table, store: NoPolicyStore(),
            fetch: { _ in
                guard let text = body.text.withLock({ $0 }),
                    let policy = try? MTASTSPolicy(body: Array(text.utf8))
                else { return .failed(.stsPolicyFetchError, "away") }
                return .policy(policy)
            },
            now: {
                Date(timeIntervalSince1970: Double(Self.before) / 1000)
                    + TimeInterval(clock.value.components.seconds)
            })
    }

    private static let policy = "version: STSv1\nmode: testing\nmx: mx.test\nmax_age: 3600\n"
    /// Cleartext is allowed where no policy is enforced, so that any state of a policy comes to a verdict.
    private static let anything = Ruleset.opportunistic

    @Test("the record that announced a policy is in the evidence, whatever became of the policy")
    func announced() async throws {
        for (id, body, state) in [
            ("1", Self.policy, RecordedPolicy.State.policy), ("1", nil, .unavailable), (nil, nil, .absent),
            ("1", "version: STSv1\nmode: none\nmax_age: 60\n", .absent),
        ] {
            let table = Self.announcing(id)
            let policies = Self.policies(table, Body(body), Elapsed())
            let judgement = try await Self.judged(
                table, routedAt: Self.before, judgedAt: Self.after, policies: policies, under: Self.anything)
            #expect(judgement.policy.state == state)
            #expect(try judgement.policy.announcedID() == id)
            #expect(judgement.policy.lookup?.name.text == "_mta-sts.bar.test")
            #expect(await Self.code(judgement) == nil, "\(state)")
        }
    }

    @Test("a policy that is held stays in force under its id beside the one that is announced since, or none")
    func announcedSince() async throws {
        let table = Self.announcing("1")
        let clock = Elapsed()
        let body = Body(Self.policy)
        let policies = Self.policies(table, body, clock)
        #expect(await policies.standing(of: "bar.test").status.policyID == "1")
        body.text.withLock { $0 = nil }
        for (seconds, entry, id) in [
            (600, Self.record("2") as DNSTable.Entry?, "2" as String?), (1_200, nil, nil),
            (1_800, .failure(.servfail), nil),
        ] {
            clock.set(.seconds(seconds))
            table.change("_mta-sts.bar.test TXT", to: entry)
            let time = Self.before + Int64(seconds) * 1000
            let judgement = try await Self.judged(
                table, routedAt: time, judgedAt: time, policies: policies, under: Self.anything)
            #expect(judgement.policy.id == "1")
            #expect(try judgement.policy.announcedID() == id)
            #expect(await Self.code(judgement) == nil, "\(seconds)")
        }
    }

    @Test("a policy counts as it stood when it was asked for, also where its time ends before the connection")
    func policyEnds() async throws {
        let table = Self.announcing("1")
        let clock = Elapsed()
        let policies = Self.policies(table, Body(Self.policy), clock)
        let judgement = try await Self.judged(
            table, routedAt: Self.before, judgedAt: Self.before + 3_600_001, policies: policies,
            under: Self.anything)
        #expect(judgement.policy.state == .policy)
        #expect(await Self.code(judgement) == nil)
        let late = try judgement.alteredPolicy { $0["askedAt"] = Self.before + 3_600_001 }
        #expect(await Self.code(late) == .contradicted)
    }

    @Test("an answer that is not that of the record, or none where one must have been, is found")
    func falseAnswers() async throws {
        let table = Self.announcing("1")
        let judgement = try await Self.judged(
            table, routedAt: Self.before, judgedAt: Self.before,
            policies: Self.policies(table, Body(nil), Elapsed()), under: Self.anything)
        #expect(judgement.policy.state == .unavailable)
        func altered(_ change: (inout [String: Any]) -> Void) async throws -> EvidenceError.Code? {
            await Self.code(try judgement.alteredPolicy(change))
        }
        #expect(try await altered { _ in } == nil)
        #expect(try await altered { $0["lookup"] = nil } == .contradicted)
        #expect(try await altered { $0["askedAt"] = nil } == .unreadable)
        #expect(try await altered { $0["state"] = "unasked" } == .contradicted)
        for (member, value) in [("name", "_mta-sts.foo.test" as Any), ("type", 15)] {
            let code = try await altered { policy in
                var lookup = policy["lookup"] as? [String: Any]
                lookup?[member] = value
                policy["lookup"] = lookup
            }
            #expect(code == .contradicted, "\(member)")
        }
        let other = Data(
            try await Self.announcing(nil).resolve(try DomainName("_mta-sts.bar.test"), .txt).packet)
        let swapped = try await altered { policy in
            var lookup = policy["lookup"] as? [String: Any]
            lookup?["packet"] = other.base64EncodedString()
            policy["lookup"] = lookup
        }
        #expect(swapped == .contradicted)
    }
}

/// What a policy host serves; nil: it is away.
private final class Body: Sendable {
    let text: Mutex<String?>
    init(_ text: String?) { self.text = Mutex(text) }
}
