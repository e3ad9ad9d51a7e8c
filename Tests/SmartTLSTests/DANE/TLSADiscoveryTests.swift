// Which TLSA records a host is held against: each row is a rule, the world that DNS shows, what follows for each address,
// and the questions that were asked beyond MX and addresses.

import DNS
import Foundation
import Lab
import Policy
import Settings
import TLS
import Testing

@testable import SmartTLS

@Suite struct TLSADiscoveryTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let world: [String: DNSTable.Entry]
        /// `address=status` of each address in order.
        let ends: String
        /// The TLSA and CNAME questions.
        let asked: [String]
        var testDescription: String { rule }

        init(_ rule: String, _ world: [String: DNSTable.Entry], _ ends: String, _ asked: String...) {
            (self.rule, self.world, self.ends, self.asked) = (rule, world, ends, asked)
        }
    }

    private static let digest = [UInt8](repeating: 7, count: 32)
    private static let tlsa = DNSTable.Entry.records(
        [.tlsa(usage: 3, selector: 1, matchingType: 1, data: digest)], .secure)
    private static let unsigned = DNSTable.Entry.records(
        [.tlsa(usage: 3, selector: 1, matchingType: 1, data: digest)])
    private static let mx = DNSTable.Entry.mx("10 mx.test", security: .secure)
    private static let four = DNSTable.Entry.addresses("192.0.2.1", security: .secure)
    private static let six = DNSTable.Entry.addresses("2001:db8::1", security: .secure)
    private static func alias(_ end: String, _ security: DNSSecurity) -> DNSTable.Entry {
        .addresses("192.0.2.1", security: security, canonical: end)
    }
    private static func cname(_ target: String, _ security: DNSSecurity) -> DNSTable.Entry {
        .records([(try? DomainName(target)).map { .cname($0) }].compactMap { $0 }, security)
    }
    private static let record = "_25._tcp.mx.test TLSA"
    private static let expanded = "_25._tcp.real.test TLSA"
    private static let published = "192.0.2.1=mx.test[bar.test]"

    static let failures: [Row] = [
        DNSFailure.Code.servfail, .timeout, .bogus, .refused, .otherResponseCode, .malformed, .overloaded,
        .resolverFailed,
    ].map { code in
        Row(
            "1. \(code.rawValue) for TLSA is no absence",
            ["bar.test MX": mx, "mx.test A": four, record: .failure(code)],
            "192.0.2.1=unknown \(code.rawValue)", record)
    }

    static let rows: [Row] =
        failures + [
            Row(
                "secure TLSA records", ["bar.test MX": mx, "mx.test A": four, record: tlsa], published,
                record),
            Row(
                "1. NODATA is an answer",
                ["bar.test MX": mx, "mx.test A": four, record: .nodata(.secure)], "192.0.2.1=absent", record),
            Row(
                "1. NXDOMAIN is an answer",
                ["bar.test MX": mx, "mx.test A": four, record: .nxdomain(.secure)], "192.0.2.1=absent", record
            ),
            Row(
                "TLSA records that are not signed are none",
                ["bar.test MX": mx, "mx.test A": four, record: unsigned], "192.0.2.1=insecure", record),
            Row(
                "2. insecure address: TLSA is not asked for, though it would fail (outlook.com)",
                [
                    "bar.test MX": mx, "mx.test A": .addresses("192.0.2.1"),
                    "mx.test AAAA": .addresses("2001:db8::1"), record: .failure(.servfail),
                ], "2001:db8::1=insecure 192.0.2.1=insecure"),
            Row(
                "3. AAAA broken: A goes on, with its TLSA records",
                ["bar.test MX": mx, "mx.test A": four, "mx.test AAAA": .failure(.servfail), record: tlsa],
                published, record),
            Row(
                "3. A bogus: AAAA goes on, with its TLSA records",
                ["bar.test MX": mx, "mx.test AAAA": six, "mx.test A": .failure(.bogus), record: tlsa],
                "2001:db8::1=mx.test[bar.test]", record),
            Row(
                "both families share one question",
                ["bar.test MX": mx, "mx.test AAAA": six, "mx.test A": four, record: tlsa],
                "2001:db8::1=mx.test[bar.test] \(published)", record),
            Row(
                "one family insecure: each address has its own status",
                [
                    "bar.test MX": mx, "mx.test AAAA": .addresses("2001:db8::1"), "mx.test A": four,
                    record: tlsa,
                ], "2001:db8::1=insecure \(published)", record),
            Row(
                "4. MX insecure: no DANE, nothing is asked for",
                ["bar.test MX": .mx("10 mx.test"), "mx.test A": four, record: tlsa], "192.0.2.1=insecure"),
            Row("4. MX bogus waits", ["bar.test MX": .failure(.bogus)], "4.4.3 dnssec-invalid"),
            Row("4. MX not looked up waits", ["bar.test MX": .failure(.timeout)], "4.4.3 dns-failure"),
            Row(
                "4. secure NODATA for MX: the domain is its own host, securely",
                ["bar.test MX": .nodata(.secure), "bar.test A": four, "_25._tcp.bar.test TLSA": tlsa],
                "192.0.2.1=bar.test[]", "_25._tcp.bar.test TLSA"),
            Row(
                "4. insecure NODATA for MX: no DANE",
                ["bar.test MX": .nodata(), "bar.test A": four, "_25._tcp.bar.test TLSA": tlsa],
                "192.0.2.1=insecure"),
            Row("4. null MX is final", ["bar.test MX": .mx("0 .", security: .secure)], "5.1.10 null-mx"),
            Row(
                "4. NXDOMAIN is final", ["bar.test MX": .nxdomain(.secure)], "5.1.2 no-such-domain"),
            Row(
                "5. RFC 7672 §2.2.3: a host name that is an alias: its end first",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .secure), expanded: tlsa,
                    record: .failure(.servfail),
                ], "192.0.2.1=real.test[bar.test]", expanded),
            Row(
                "5. RFC 7672 §2.2.3: no records at its end: the name itself",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .secure),
                    expanded: .nxdomain(.secure), record: tlsa,
                ], published, expanded, record),
            Row(
                "5. insecure records at its end: the name itself",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .secure), expanded: unsigned,
                    record: tlsa,
                ], published, expanded, record),
            Row(
                "5. a failure at its end is no absence: the name itself is not asked",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .secure),
                    expanded: .failure(.servfail), record: tlsa,
                ], "192.0.2.1=unknown servfail", expanded),
            Row(
                "5. none at either, both proven",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .secure),
                    expanded: .nodata(.secure), record: .nodata(.secure),
                ], "192.0.2.1=absent", expanded, record),
            Row(
                "5. none at either, one not proven",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .secure), expanded: .nodata(),
                    record: .nodata(.secure),
                ], "192.0.2.1=insecure", expanded, record),
            Row(
                "5. RFC 7672 §2.2.2: the target is unsigned, the alias is signed: the name itself",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .insecure),
                    "mx.test CNAME": cname("real.test", .secure), record: tlsa, expanded: .failure(.servfail),
                ], published, "mx.test CNAME", record),
            Row(
                "5. target and alias unsigned: no DANE, TLSA is not asked for",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .insecure),
                    "mx.test CNAME": cname("real.test", .insecure), record: .failure(.servfail),
                ], "192.0.2.1=insecure", "mx.test CNAME"),
            Row(
                "5. the alias cannot be looked up: nobody knows",
                [
                    "bar.test MX": mx, "mx.test A": alias("real.test", .insecure),
                    "mx.test CNAME": .failure(.bogus), record: tlsa,
                ], "192.0.2.1=unknown bogus", "mx.test CNAME"),
            Row(
                "DNAME: the alias that it makes is an alias; TLSA below the name follows it too",
                [
                    "bar.test MX": mx, "mx.test A": alias("mx.new.test", .secure),
                    "_25._tcp.mx.new.test TLSA": tlsa,
                ], "192.0.2.1=mx.new.test[bar.test]", "_25._tcp.mx.new.test TLSA"),
            Row(
                "6. RFC 7672 §3.2.2: the names that count: base domain, next hop, the end of its alias",
                [
                    "bar.test MX": .mx("10 mx.test", security: .secure, canonical: "foo.test"),
                    "mx.test A": four, record: tlsa,
                ], "192.0.2.1=mx.test[bar.test,foo.test]", record),
            Row(
                "9. several hosts: each has its own records, a failure is only its own",
                [
                    "bar.test MX": .mx("10 mx.test", "20 b.test", security: .secure), "mx.test A": four,
                    record: .failure(.timeout), "b.test A": .addresses("192.0.2.2", security: .secure),
                    "_25._tcp.b.test TLSA": tlsa,
                ], "192.0.2.1=unknown timeout 192.0.2.2=b.test[bar.test]", record, "_25._tcp.b.test TLSA"),
            Row(
                "10. an alias loop waits",
                ["bar.test MX": mx, "mx.test A": .failure(.servfail), "mx.test AAAA": .failure(.servfail)],
                "4.4.3 dns-failure"),
            Row(
                "a static route: the operator's name is proven",
                ["gw.test A": four, "_2525._tcp.gw.test TLSA": tlsa], "192.0.2.1=gw.test[]",
                "_2525._tcp.gw.test TLSA"),
            Row(
                "a static route to an insecure address: no DANE", ["gw.test A": .addresses("192.0.2.1")],
                "192.0.2.1=insecure"),
            Row(
                "a static route to an address has no name and no records", ["literal A": four],
                "192.0.2.9=absent"),
        ]

    private func router(_ row: Row, _ table: DNSTable) throws -> Router {
        var routes: [StaticRoute] = []
        if row.world["gw.test A"] != nil { routes = [try #require(StaticRoute("bar.test=gw.test:2525"))] }
        if row.world["literal A"] != nil { routes = [try #require(StaticRoute("bar.test=192.0.2.9:25"))] }
        return Router(resolver: table, staticRoutes: routes)
    }

    @Test(arguments: rows) func `discovery`(_ row: Row) async throws {
        let table = DNSTable(row.world)
        let router = try router(row, table)
        var ends: String
        do {
            let route = try await router.route(to: "bar.test")
            ends = route.hosts.flatMap(\.addresses).map { "\($0.address)=\($0.tlsa.text)" }
                .joined(separator: " ")
        } catch {
            ends = "\(error.status) \(error.reason)"
        }
        #expect(ends == row.ends)
        let asked = table.questions.filter { $0.hasSuffix(" TLSA") || $0.hasSuffix(" CNAME") }
        #expect(asked.sorted() == row.asked.sorted())
    }

    @Test func `the port is the one that is connected to`() async throws {
        let table = DNSTable(["bar.test MX": Self.mx, "mx.test A": Self.four])
        _ = try await Router(resolver: table, port: 2525).route(to: "bar.test")
        #expect(table.questions.contains("_2525._tcp.mx.test TLSA"))
    }

    @Test func `a route with TLSA records is kept for the TTL of these, one without an answer not at all`()
        async throws
    {
        let start = ContinuousClock.now
        let clock = Elapsed()
        let short = DNSTable.Entry.records(
            [.tlsa(usage: 3, selector: 1, matchingType: 1, data: Self.digest)], .secure, ttl: 20)
        let table = DNSTable(["bar.test MX": Self.mx, "mx.test A": Self.four, Self.record: short])
        let router = Router(resolver: table, now: { start + clock.value })
        func asked() async throws -> Bool {
            let before = table.questions.count
            _ = try await router.route(to: "bar.test")
            return table.questions.count > before
        }
        #expect(try await asked())
        clock.set(.seconds(19))
        #expect(try await !asked())
        clock.set(.seconds(21))
        #expect(try await asked())
        clock.set(.seconds(42))
        table.change(Self.record, to: .failure(.servfail))
        #expect(try await asked())
        #expect(try await asked(), "what failed is asked anew")
    }

    @Test func `a name too long for TLSA records has none, odd octets count once`() throws {
        let long = Array(repeating: String(repeating: "a", count: 61), count: 4).joined(separator: ".")
        let host = try DomainName(long)
        let address = DNSAnswer(name: host, type: .a, outcome: .records([]), security: .secure, ttl: 1)
        let search = TLSADiscovery(
            host: host, port: 25, hostSecurity: .secure, address: address, names: [])
        #expect(search.step == .ended(.absent))
        let short = try DomainName(String(long.dropLast(10)))
        #expect(short.below("_25._tcp")?.text == "_25._tcp.\(short)")
    }

    @Test func `law 9: at most 64 records, the usable ones, always in the same order`() throws {
        var records: [DNSRecord] = (0..<300).map { number in
            .tlsa(
                usage: UInt8(number % 3), selector: 1, matchingType: 1, data: [UInt8](repeating: 1, count: 5))
        }
        let usable: [DNSRecord] = (0..<60).map { number in
            .tlsa(
                usage: 3, selector: 1, matchingType: 1, data: [UInt8](repeating: UInt8(number), count: 32))
        }
        records += usable + usable
        let base = try DomainName("mx.test")
        let one = DANEReference(rrset: records.shuffled(), baseDomain: base, furtherNames: [base])
        #expect(one == DANEReference(rrset: records.shuffled(), baseDomain: base, furtherNames: [base]))
        #expect(one.records.count <= RouteLimits.tlsaRecords)
        #expect(one.records.filter(\.isWellFormed).count == 60)
        #expect(one.furtherNames.isEmpty)
    }
}

extension TLSAStatus {
    /// `base[names]`, `absent`, `insecure` or `unknown code`.
    fileprivate var text: String {
        switch self {
        case .published(let reference):
            "\(reference.baseDomain)[\(reference.furtherNames.joined(separator: ","))]"
        case .absent: "absent"
        case .insecure: "insecure"
        case .unknown(let failure): "unknown \(failure.code.rawValue)"
        }
    }
}
