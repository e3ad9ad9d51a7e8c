// From a recipient domain to hosts: each row is a rule, the world that DNS shows, and what follows.

import DNS
import Foundation
import Lab
import Policy
import Settings
import Testing

@testable import SmartTLS

@Suite struct RoutingTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        var domain = "bar.test"
        let world: [String: DNSTable.Entry]
        /// `host addresses…` in order, `|` between hosts; or `status reason`.
        let ends: String
        var testDescription: String { rule }

        init(_ rule: String, domain: String = "bar.test", _ world: [String: DNSTable.Entry], _ ends: String) {
            (self.rule, self.domain, self.world, self.ends) = (rule, domain, world, ends)
        }
    }

    static let rows: [Row] = [
        Row(
            "RFC 5321 §5.1: MX by preference",
            [
                "bar.test MX": .mx("20 b.test", "10 a.test"), "a.test A": .addresses("192.0.2.1"),
                "b.test A": .addresses("192.0.2.2"),
            ], "a.test 192.0.2.1|b.test 192.0.2.2"),
        Row(
            "RFC 5321 §5.1: no MX, so the domain is its own host", ["bar.test A": .addresses("192.0.2.1")],
            "bar.test 192.0.2.1"),
        Row(
            "RFC 5321 §5.1: no MX and only AAAA", ["bar.test AAAA": .addresses("2001:db8::1")],
            "bar.test 2001:db8::1"),
        Row(
            "RFC 7505 §4.1: null MX", ["bar.test MX": .mx("0 ."), "bar.test A": .addresses("192.0.2.1")],
            "5.1.10 null-mx"),
        Row(
            "RFC 7505 §3: a null MX beside others is no null MX and is ignored",
            ["bar.test MX": .mx("0 .", "10 a.test"), "a.test A": .addresses("192.0.2.1")], "a.test 192.0.2.1"),
        Row("NXDOMAIN is final", [:], "5.1.2 no-such-domain"),
        Row(
            "a domain without MX and without address is final", ["bar.test TXT": .records([.txt([])])],
            "5.4.4 no-mail-host"),
        Row("SERVFAIL for MX waits", ["bar.test MX": .failure(.servfail)], "4.4.3 dns-failure"),
        Row(
            "SERVFAIL for MX never falls back to A",
            ["bar.test MX": .failure(.servfail), "bar.test A": .addresses("192.0.2.1")], "4.4.3 dns-failure"),
        Row("a timeout for MX waits", ["bar.test MX": .failure(.timeout)], "4.4.3 dns-failure"),
        Row("REFUSED for MX waits", ["bar.test MX": .failure(.refused)], "4.4.3 dns-failure"),
        Row("a malformed MX waits", ["bar.test MX": .failure(.malformed)], "4.4.3 dns-failure"),
        Row("a bogus MX waits and says why", ["bar.test MX": .failure(.bogus)], "4.4.3 dnssec-invalid"),
        Row(
            "MX present and all hosts NXDOMAIN is final, and A of the domain is not used",
            ["bar.test MX": .mx("10 a.test", "20 b.test"), "bar.test A": .addresses("192.0.2.1")],
            "5.4.4 no-mail-host"),
        Row(
            "MX present, one host absent and one failing: waits",
            ["bar.test MX": .mx("10 a.test", "20 b.test"), "b.test A": .failure(.servfail)],
            "4.4.3 dns-failure"),
        Row(
            "a host that fails is passed over for one that answers",
            [
                "bar.test MX": .mx("10 a.test", "20 b.test"), "a.test A": .failure(.timeout),
                "a.test AAAA": .failure(.timeout), "b.test A": .addresses("192.0.2.2"),
            ], "b.test 192.0.2.2"),
        Row(
            "a host whose addresses are bogus is not used",
            ["bar.test MX": .mx("10 a.test"), "a.test A": .failure(.bogus), "a.test AAAA": .failure(.bogus)],
            "4.4.3 dnssec-invalid"),
        Row(
            "RFC 7672 §2.1.1: one family broken, the other is used",
            [
                "bar.test MX": .mx("10 a.test"), "a.test A": .addresses("192.0.2.1"),
                "a.test AAAA": .failure(.servfail),
            ], "a.test 192.0.2.1"),
        Row(
            "one family absent and the other failing waits",
            ["bar.test MX": .mx("10 a.test"), "a.test AAAA": .failure(.servfail)], "4.4.3 dns-failure"),
        Row(
            "IPv6 first, then turn by turn",
            [
                "bar.test MX": .mx("10 a.test"), "a.test A": .addresses("192.0.2.1"),
                "a.test AAAA": .addresses("2001:db8::1"),
            ], "a.test 2001:db8::1 192.0.2.1"),
        Row(
            "an alias as domain is followed",
            [
                "bar.test MX": .mx("10 mx.other.test", canonical: "other.test"),
                "mx.other.test A": .addresses("192.0.2.9"),
            ], "mx.other.test 192.0.2.9"),
        Row(
            "an MX host that is an alias keeps its name",
            [
                "bar.test MX": .mx("10 a.test"),
                "a.test A": .addresses("192.0.2.1", canonical: "real.test"),
            ], "a.test 192.0.2.1"),
        Row(
            "an address as MX target is ignored",
            ["bar.test MX": .mx("10 192.0.2.7", "20 a.test"), "a.test A": .addresses("192.0.2.1")],
            "a.test 192.0.2.1"),
        Row(
            "only addresses as MX targets is final", ["bar.test MX": .mx("10 192.0.2.7")],
            "5.4.4 no-mail-host"),
        Row(
            "RFC 5321 §5.1: at our own name the list ends",
            [
                "bar.test MX": .mx("10 a.test", "20 out.own.test", "20 c.test", "30 d.test"),
                "a.test A": .addresses("192.0.2.1"), "c.test A": .addresses("192.0.2.3"),
                "d.test A": .addresses("192.0.2.4"),
            ], "a.test 192.0.2.1"),
        Row(
            "RFC 5321 §5.1: our own name as best MX is a loop",
            ["bar.test MX": .mx("10 OUT.own.test", "20 a.test"), "a.test A": .addresses("192.0.2.1")],
            "5.4.6 mail-loop"),
        Row(
            "the same host twice counts once, by its best preference",
            [
                "bar.test MX": .mx("10 a.test", "20 b.test", "30 a.test"),
                "a.test A": .addresses("192.0.2.1"),
                "b.test A": .addresses("192.0.2.2"),
            ], "a.test 192.0.2.1|b.test 192.0.2.2"),
        Row("an address literal is refused", domain: "[192.0.2.1]", [:], "5.1.2 address-literal"),
        Row("an IPv6 address literal is refused", domain: "[ipv6:2001:db8::1]", [:], "5.1.2 address-literal"),
        Row("no domain name is refused", domain: "a..b", [:], "5.1.2 domain-invalid"),
        Row("an address without brackets is no domain", domain: "192.0.2.1", [:], "5.1.2 domain-invalid"),
        Row(
            "a static route to an address asks nothing", domain: "routed.test", [:],
            "192.0.2.50:2525 192.0.2.50"),
        Row(
            "a static route to a name asks for its addresses and never for MX", domain: "named.test",
            ["gw.test A": .addresses("192.0.2.51"), "named.test MX": .mx("0 .")], "gw.test:26 192.0.2.51"),
        Row(
            "a static route whose host fails waits", domain: "named.test",
            ["gw.test A": .failure(.servfail)], "4.4.3 dns-failure"),
        Row("a static route whose host is absent is final", domain: "named.test", [:], "5.4.4 no-mail-host"),
    ]

    private func router(
        _ table: DNSTable, generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) throws -> Router {
        let routes = ["routed.test=192.0.2.50:2525", "named.test=gw.test:26"].compactMap { StaticRoute($0) }
        #expect(routes.count == 2)
        return Router(
            resolver: table, staticRoutes: routes, ownName: "out.own.test", generator: generator, now: now)
    }

    private func ends(_ router: Router, _ domain: String) async -> String {
        do {
            return try await router.route(to: domain).hosts.map { host in
                let port = host.port.map { ":\($0)" } ?? ""
                return ([host.name + port] + host.addresses.map(\.address.description)).joined(separator: " ")
            }.joined(separator: "|")
        } catch {
            return "\(error.status) \(error.reason)"
        }
    }

    @Test(arguments: rows) func `routes`(_ row: Row) async throws {
        let table = DNSTable(row.world)
        #expect(await ends(try router(table), row.domain) == row.ends)
        if row.domain == "named.test" { #expect(!table.questions.contains { $0.hasSuffix("MX") }) }
        if row.domain == "routed.test" { #expect(table.questions.isEmpty) }
    }

    @Test(arguments: [
        (DNSSecurity.secure, DNSSecurity.secure, NameProvenance.proven),
        (.secure, .insecure, .proven), (.insecure, .secure, .unproven), (.insecure, .insecure, .unproven),
    ])
    func `what DNSSEC says is kept at each step`(
        mx: DNSSecurity, address: DNSSecurity, name: NameProvenance
    ) async throws {
        let table = DNSTable([
            "bar.test MX": .mx("10 a.test", security: mx),
            "a.test A": .addresses("192.0.2.1", security: address, canonical: "real.test"),
        ])
        let route = try await router(table).route(to: "bar.test")
        #expect(route.security == mx && route.origin == .mx)
        #expect(route.hosts.first?.provenance == name)
        #expect(route.hosts.first?.addresses.first?.security == address)
        #expect(route.hosts.first?.referenceName == "a.test")
    }

    @Test func `the name of an implicit MX is what the sender wrote, so it is proven`() async throws {
        let table = DNSTable(["bar.test A": .addresses("192.0.2.1"), "bar.test MX": .nodata(.insecure)])
        let route = try await router(table).route(to: "bar.test")
        #expect(route.origin == .implicitMX && route.security == .insecure)
        #expect(route.hosts.first?.provenance == .proven)
    }

    @Test func `a static route to an address is held against the recipient domain`() async throws {
        let route = try await router(DNSTable([:])).route(to: "routed.test")
        #expect(route.hosts.first?.referenceName == "routed.test" && route.origin == .configured)
        #expect(route.hosts.first?.provenance == .proven)
    }

    @Test func `law 9: at most 10 hosts and 6 addresses of each`() async throws {
        var world: [String: DNSTable.Entry] = [:]
        var records: [DNSRecord] = []
        for number in 0..<200 {
            records.append(.mx(preference: UInt16(number), exchange: try DomainName("h\(number).test")))
            world["h\(number).test A"] = .records(
                (0..<200).compactMap { IPAddress("192.0.2.\($0)").map { .address($0) } })
        }
        world["bar.test MX"] = .records(records)
        let table = DNSTable(world)
        let route = try await router(table).route(to: "bar.test")
        #expect(route.hosts.map(\.preference) == Array(0..<10))
        #expect(route.hosts.allSatisfy { $0.addresses.count == 6 })
        #expect(table.questions.count == 21)
    }

    @Test func `a host that fails stays in the route as a gap, and the route is not kept`() async throws {
        let table = DNSTable([
            "bar.test MX": .mx("10 a.test", "20 b.test"), "a.test A": .failure(.timeout),
            "a.test AAAA": .failure(.timeout), "b.test A": .addresses("192.0.2.2"),
        ])
        let router = try router(table)
        let route = try await router.route(to: "bar.test")
        #expect(route.gaps.map(\.host) == ["a.test"] && route.gaps.first?.failure.code == .timeout)
        _ = try await router.route(to: "bar.test")
        #expect(table.questions.filter { $0 == "bar.test MX" }.count == 2)
    }

    @Test(
        "a host of which one family cannot be looked up is in the route and a gap too, and that is kept for 30 s",
        arguments: ["A", "AAAA"])
    func familyGap(_ failing: String) async throws {
        let found = failing == "A" ? "a.test AAAA" : "a.test A"
        let table = DNSTable([
            "bar.test MX": .mx("10 a.test", ttl: 7200), "a.test \(failing)": .failure(.servfail),
            found: .addresses(failing == "A" ? "2001:db8::1" : "192.0.2.1", ttl: 7200),
        ])
        let start = ContinuousClock.now
        let clock = Elapsed()
        let router = Router(resolver: table, now: { start + clock.value })
        let route = try await router.route(to: "bar.test")
        #expect(route.hosts.map(\.name) == ["a.test"] && route.hosts[0].addresses.count == 1)
        #expect(route.gaps.map(\.host) == ["a.test"] && route.gaps.first?.failure.code == .servfail)
        let gateway = try await router.route(to: "other.test", through: try #require(HostPort("a.test:25")))
        #expect(gateway.gaps.map(\.host) == ["a.test"], "so of a host that an operator named")
        func asked() async throws -> Bool {
            let before = table.questions.count
            _ = try await router.route(to: "bar.test")
            return table.questions.count > before
        }
        clock.set(.seconds(29))
        #expect(try await !asked())
        clock.set(.seconds(31))
        #expect(try await asked())
    }

    @Test func `among equals every order comes up, and preference is never crossed`() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        let table = DNSTable([
            "bar.test MX": .mx("10 a.test", "10 b.test", "10 c.test", "20 d.test"),
            "a.test A": .addresses("192.0.2.1"), "b.test A": .addresses("192.0.2.2"),
            "c.test A": .addresses("192.0.2.3"), "d.test A": .addresses("192.0.2.4"),
        ])
        let router = try router(table, generator: SplitMix(seed))
        var orders: [String: Int] = [:]
        for _ in 0..<600 {
            let names = try await router.route(to: "bar.test").hosts.map { String($0.name.prefix(1)) }
            #expect(names.last == "d")
            orders[names.joined(), default: 0] += 1
        }
        #expect(orders.count == 6)
        #expect(orders.values.allSatisfy { $0 > 50 }, "\(orders)")
        #expect(table.questions.count == 9, "one lookup serves them all")
    }

    @Test func `many that ask at once share one lookup`() async throws {
        let table = DNSTable(
            ["bar.test MX": .mx("10 a.test"), "a.test A": .addresses("192.0.2.1")], delay: .milliseconds(30))
        let router = try router(table)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<200 {
                group.addTask { #expect(await ends(router, "bar.test") == "a.test 192.0.2.1") }
            }
        }
        #expect(table.questions.count == 3)
    }

    @Test
    func `a route is kept for its smallest TTL, an absence for at most 5 minutes, a failure not at all`()
        async throws
    {
        let start = ContinuousClock.now
        let clock = Elapsed()
        let table = DNSTable([
            "bar.test MX": .mx("10 a.test", ttl: 7200), "a.test A": .addresses("192.0.2.1", ttl: 40),
            "fails.test MX": .failure(.servfail),
        ])
        let router = try router(table, now: { start + clock.value })
        func asked(_ domain: String) async -> Int {
            let before = table.questions.count
            _ = await ends(router, domain)
            return table.questions.count - before
        }
        #expect(await asked("bar.test") == 3)
        #expect(await asked("gone.test") == 1)
        #expect(await asked("fails.test") == 1)
        #expect(await asked("fails.test") == 1)
        clock.set(.seconds(39))
        #expect(await asked("bar.test") == 0)
        #expect(await asked("gone.test") == 0)
        clock.set(.seconds(41))
        #expect(await asked("bar.test") == 3)
        clock.set(.seconds(61))
        #expect(await asked("gone.test") == 1)
    }

    @Test func `law 9: the messages that are kept with routes are bounded`() async throws {
        struct Large: DNSResolving {
            func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
                guard type == .a, let address = IPAddress("192.0.2.1") else {
                    return DNSAnswer(name: name, type: type, outcome: .nodata, ttl: 600)
                }
                return DNSAnswer(
                    name: name, type: type, outcome: .records([.address(address)]), ttl: 600,
                    packet: Array(repeating: 0, count: 65_535))
            }
        }
        let router = Router(resolver: Large())
        for number in 0..<1_100 {
            _ = try await router.route(to: "n\(number).test")
            #expect(await router.keptOctets <= RouteLimits.cachedOctets)
        }
        #expect(await router.keptCount * 65_535 == router.keptOctets)
        #expect(await router.keptOctets > RouteLimits.cachedOctets / 2)
    }

    @Test func `law 9: the number of kept routes is bounded`() async throws {
        let router = try router(DNSTable([:]))
        for number in 0..<(RouteLimits.cached + 500) { _ = await ends(router, "n\(number).test") }
        #expect(await router.keptCount <= RouteLimits.cached)
    }
}
