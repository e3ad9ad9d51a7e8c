// NTA 7516: where mail goes by the TXT record of its domain. Each row is a rule, what DNS says, and what follows.

import DNS
import Foundation
import Lab
import Policy
import Settings
import Testing

@testable import SmartTLS

@Suite struct NTARoutingTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let txt: DNSTable.Entry?
        var more: [String: DNSTable.Entry] = [:]
        /// `finding origin hosts`, or `status reason`.
        let ends: String
        var testDescription: String { rule }
    }

    private static func txt(_ texts: String..., security: DNSSecurity = .secure) -> DNSTable.Entry {
        .records(texts.map { .txt([Array($0.utf8)]) }, security)
    }

    private static let valid = "v=NTA7516-1;startdate=2026-01;enddate=2026-12"
    private static let named = valid + ";provider=Lab;ntamx=20 b.nta.test;ntamx=10 a.nta.test"

    static let rows: [Row] = [
        Row(rule: "its hosts by preference", txt: txt(named), ends: "nta-capable nta a.nta.test b.nta.test"),
        Row(
            rule: "the older dialect, without preferences: as published",
            txt: txt("v=NTA7516;version:2026-01;expire:2026-12;ntamx:a.nta.test"),
            ends: "nta-capable nta a.nta.test"),
        Row(
            rule: "one of them is away: the other", txt: txt(named),
            more: ["a.nta.test A": .failure(.servfail), "a.nta.test AAAA": .failure(.servfail)],
            ends: "nta-capable nta b.nta.test"),
        Row(
            rule: "none of them can be looked up: it waits, and the ordinary MX is no way out",
            txt: txt(valid + ";ntamx=10 a.nta.test"),
            more: ["a.nta.test A": .failure(.timeout), "a.nta.test AAAA": .failure(.timeout)],
            ends: "4.4.3 dns-failure"),
        Row(
            rule: "none of them exists: final, and the ordinary MX is no way out",
            txt: txt(valid + ";ntamx=10 none.nta.test"), ends: "5.4.4 no-mail-host"),
        Row(
            rule: "we are the first of them ourselves", txt: txt(valid + ";ntamx=10 out.own.test"),
            ends: "5.4.6 mail-loop"),
        Row(rule: "a record without hosts: the ordinary MX", txt: txt(valid), ends: "nta-capable mx mx.test"),
        Row(rule: "no TXT at all", txt: nil, ends: "nta-absent mx mx.test"),
        Row(rule: "other TXT", txt: txt("v=spf1 -all"), ends: "nta-absent mx mx.test"),
        Row(
            rule: "an answer that is not signed may be anyone's", txt: txt(named, security: .insecure),
            ends: "nta-insecure mx mx.test"),
        Row(
            rule: "its last month is over",
            txt: txt("v=NTA7516-1;startdate=2019-06;enddate=2026-05;ntamx=10 a.nta.test"),
            ends: "nta-expired mx mx.test"),
        Row(
            rule: "its first month is still to come",
            txt: txt("v=NTA7516-1;startdate=2026-07;enddate=2026-12;ntamx=10 a.nta.test"),
            ends: "nta-not-yet-valid mx mx.test"),
        Row(rule: "two records are none", txt: txt(named, named), ends: "nta-malformed mx mx.test"),
        Row(
            rule: "no dates", txt: txt("v=NTA7516-1;ntamx=10 a.nta.test"), ends: "nta-malformed mx mx.test"),
        Row(
            rule: "another version", txt: txt("v=NTA7516-2;startdate=2026-01;enddate=2026-12"),
            ends: "nta-malformed mx mx.test"),
        Row(rule: "SERVFAIL waits", txt: .failure(.servfail), ends: "4.4.3 dns-failure"),
        Row(rule: "a timeout waits", txt: .failure(.timeout), ends: "4.4.3 dns-failure"),
        Row(rule: "bogus waits", txt: .failure(.bogus), ends: "4.4.3 dnssec-invalid"),
    ]

    private static func table(_ row: Row) -> DNSTable {
        var world: [String: DNSTable.Entry] = [
            "bar.test MX": .mx("10 mx.test", security: .secure),
            "mx.test A": .addresses("192.0.2.1", security: .secure),
            "a.nta.test A": .addresses("192.0.2.2", security: .secure),
            "b.nta.test A": .addresses("192.0.2.3", security: .secure),
        ]
        world["bar.test TXT"] = row.txt
        return DNSTable(world.merging(row.more) { $1 })
    }

    private static let june = Date(timeIntervalSince1970: 1_781_000_000)

    private static func router(_ table: DNSTable, routes: [StaticRoute] = []) -> Router {
        Router(resolver: table, staticRoutes: routes, ownName: "out.own.test", date: { june })
    }

    private static func outcome(of router: Router) async -> String {
        do {
            let route = try await router.route(to: "bar.test", heedsNTA: true)
            let isProven = route.hosts.allSatisfy { $0.provenance == .proven }
            let text = [route.nta?.rawValue ?? "-", route.origin.rawValue] + route.hosts.map { $0.name }
            return isProven ? text.joined(separator: " ") : "a name that is not proven"
        } catch {
            return "\(error.status) \(error.reason)"
        }
    }

    @Test("Where mail under a ruleset that heeds NTA 7516 goes", arguments: rows)
    func routes(_ row: Row) async {
        let table = Self.table(row)
        let found = await Self.outcome(of: Self.router(table))
        #expect(found == row.ends)
        let asked = table.questions
        #expect(asked.first == "bar.test TXT")
        if row.ends.contains(" nta ") || !row.more.isEmpty { #expect(!asked.contains("bar.test MX")) }
    }

    @Test("Other rulesets ask nothing of it and go to the ordinary MX, also side by side")
    func others() async throws {
        let table = Self.table(Self.rows[0])
        let router = Self.router(table)
        let ordinary = try await router.route(to: "bar.test")
        #expect(ordinary.nta == nil && ordinary.hosts.map(\.name) == ["mx.test"])
        #expect(!table.questions.contains("bar.test TXT"))
        #expect(try await router.route(to: "bar.test", heedsNTA: true).origin == .nta)
        #expect(try await router.route(to: "bar.test").origin == .mx)
    }

    @Test("A static route and a gateway decide where mail goes, and the record what the domain is")
    func configured() async throws {
        let place = try #require(StaticRoute("bar.test=192.0.2.9:25"))
        let router = Self.router(Self.table(Self.rows[0]), routes: [place])
        for route in [
            try await router.route(to: "bar.test", heedsNTA: true),
            try await router.route(to: "bar.test", through: place.target, heedsNTA: true),
        ] {
            #expect(route.origin == .configured && route.nta == .ntaCapable)
            #expect(route.hosts.map(\.name) == ["192.0.2.9"])
        }
        let failing = Self.router(DNSTable(["bar.test TXT": .failure(.servfail)]), routes: [place])
        await #expect(throws: RoutingFailure.self) {
            try await failing.route(to: "bar.test", heedsNTA: true)
        }
    }

    @Test("A route by a record is not kept into the next month")
    func month() async throws {
        // 30 June 2026, 23:59:59.95 UTC.
        let end = Date(timeIntervalSince1970: 1_782_863_999.95)
        #expect(Month(of: Int64(end.timeIntervalSince1970 * 1000)) == Month(year: 2026, month: 6))
        let clock = Elapsed()
        let start = ContinuousClock.now
        let table = DNSTable([
            "bar.test TXT": Self.txt("v=NTA7516-1;startdate=2026-01;enddate=2026-06;ntamx=10 a.nta.test"),
            "a.nta.test A": .addresses("192.0.2.2", security: .secure),
            "bar.test MX": .mx("10 mx.test", security: .secure),
            "mx.test A": .addresses("192.0.2.1", security: .secure),
        ])
        let router = Router(
            resolver: table, now: { start + clock.value },
            date: { end.addingTimeInterval(Double(clock.value.components.seconds)) })
        #expect(try await router.route(to: "bar.test", heedsNTA: true).origin == .nta)
        clock.set(.seconds(1))
        let after = try await router.route(to: "bar.test", heedsNTA: true)
        #expect(after.nta == .ntaExpired && after.hosts.map(\.name) == ["mx.test"])
    }

    @Test("`required` refuses what is not known to take part; `preferred` judges it as any other")
    func verdicts() {
        var required = Ruleset.nta7516
        (required.name, required.nta) = ("own", .required)
        let good: Set<Finding> = [.tls13, .forwardSecrecy, .nameProven, .tlsaPublished, .daneMatchedEE]
        for standing in Finding.allCases where standing.rawValue.hasPrefix("nta-") {
            let host = HostFindings(good.union([standing]), evidence: EvidenceSummary(host: "mx.test"))
            let verdict = Verdict.judge(required, host)
            #expect(verdict.outcome == (standing == .ntaCapable ? .deliver : .refuse))
            if standing != .ntaCapable { #expect(verdict.reason == .ntaNotCapable) }
            #expect(Verdict.judge(.nta7516, host).outcome == .deliver)
        }
        // Who forgets to look delivers nothing.
        let unknown = HostFindings(good, evidence: EvidenceSummary(host: "mx.test"))
        #expect(Verdict.judge(required, unknown).reason == .ntaNotCapable)
    }
}
