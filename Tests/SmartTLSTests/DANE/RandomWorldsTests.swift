// Random worlds against a plain and slow statement of the rules, written from RFC 7672 and the rulesets alone: for every
// address of every host, under every ruleset, both must come to the same end. Seeds are printed; `ZEGEL_WORLDS` sets
// how many worlds there are.

import DNS
import Foundation
import Lab
import Policy
import Testing

@testable import SmartTLS
@testable import TLS

@Suite(.timeLimit(.minutes(10))) struct RandomWorldsTests {
    /// What a server shows.
    struct Server: Sendable {
        var offersTLS: Bool
        var breaksHandshake: Bool
        var version: TLSVersion
        var isForwardSecret: Bool
        var isTrusted: Bool
        var nameMatches: Bool
        /// Its certificate is the one of these records.
        var key: UInt8
    }

    struct World: Sendable {
        var entries: [String: DNSTable.Entry] = [:]
        var servers: [String: Server] = [:]
        var policy = Policy.absent
    }

    /// What MTA-STS says of the recipient domain. Policies name `host`, or another.
    enum Policy: CaseIterable {
        case absent, unavailable, unknown, bogus, enforced, enforcedForAnother, testingForAnother
    }

    private func status(_ policy: Policy) throws -> MTASTSStatus {
        func inForce(_ mode: String, _ host: String) throws -> MTASTSStatus {
            let body = "version:STSv1\nmode:\(mode)\nmx:\(host)\nmax_age:86400\n"
            return .policy(
                MTASTSInForce(
                    .init(id: "1", policy: try MTASTSPolicy(body: Array(body.utf8)), fetchedAt: Date())))
        }
        switch policy {
        case .absent: return .absent
        case .unavailable: return .unavailable(MTASTSUnavailable(reason: .stsPolicyFetchError, detail: "x"))
        case .unknown: return .unknown(MTASTSUnknown(isBogus: false, detail: "x"))
        case .bogus: return .unknown(MTASTSUnknown(isBogus: true, detail: "x"))
        case .enforced: return try inForce("enforce", "host")
        case .enforcedForAnother: return try inForce("enforce", "other.test")
        case .testingForAnother: return try inForce("testing", "other.test")
        }
    }

    // MARK: Making worlds

    private static let hosts = ["a.test", "b.test", "c.test"]
    private static let ends = ["x.test", "y.test"]

    private func security(_ random: inout SplitMix) -> DNSSecurity {
        random.next() % 4 == 0 ? .insecure : .secure
    }

    private func failure(_ random: inout SplitMix) -> DNSTable.Entry {
        let codes = DNSFailure.Code.allCases
        return .failure(codes[Int(random.next() % UInt64(codes.count))])
    }

    private func record(_ random: inout SplitMix) -> DNSRecord {
        let usage: UInt8 = [3, 3, 3, 2, 2, 1, 0, 9][Int(random.next() % 8)]
        let selector: UInt8 = [0, 1, 1, 1, 7][Int(random.next() % 5)]
        let matching: UInt8 = [0, 1, 1, 1, 2, 4][Int(random.next() % 6)]
        let length = random.next() % 6 == 0 ? 5 : (matching == 2 ? 64 : 32)
        return .tlsa(
            usage: usage, selector: selector, matchingType: matching,
            data: [UInt8](repeating: UInt8(random.next() % 4), count: length))
    }

    private func world(_ random: inout SplitMix) -> World {
        var world = World()
        world.policy = Policy.allCases.randomElement(using: &random) ?? .absent
        let mxSecurity = security(&random)
        var hosts = Self.hosts.shuffled(using: &random)
        hosts.removeLast(Int(random.next() % 3))
        switch random.next() % 12 {
        case 0: world.entries["bar.test MX"] = failure(&random)
        case 1:
            world.entries["bar.test MX"] = .nodata(mxSecurity)
            hosts = ["bar.test"]
        default:
            world.entries["bar.test MX"] = .records(
                hosts.enumerated().compactMap { number, host in
                    (try? DomainName(host)).map { .mx(preference: UInt16(number), exchange: $0) }
                }, mxSecurity)
        }
        for host in hosts {
            let end = random.next() % 3 == 0 ? Self.ends[Int(random.next() % 2)] : nil
            // The addresses of both families stand under one name, but each RRset may be broken by itself.
            for (type, text) in [("A", "192.0.2.1"), ("AAAA", "2001:db8::1")] {
                let entry: DNSTable.Entry
                switch random.next() % 10 {
                case 0: entry = failure(&random)
                case 1, 2: entry = .nodata(security(&random))
                default:
                    entry = .records(
                        [IPAddress(text).map { .address($0) }].compactMap { $0 }, security(&random),
                        canonical: end)
                }
                world.entries["\(host) \(type)"] = entry
            }
            if let end, random.next() % 8 != 0 {
                world.entries["\(host) CNAME"] = .records(
                    [(try? DomainName(end)).map { .cname($0) }].compactMap { $0 }, security(&random))
            } else if end != nil {
                world.entries["\(host) CNAME"] = failure(&random)
            }
            world.servers[host] = Server(
                offersTLS: random.next() % 6 != 0, breaksHandshake: random.next() % 10 == 0,
                version: [.tls11, .tls12, .tls13, .tls13][Int(random.next() % 4)],
                isForwardSecret: random.next() % 6 != 0, isTrusted: random.next() % 2 == 0,
                nameMatches: random.next() % 3 != 0, key: UInt8(random.next() % 4))
        }
        for name in hosts + Self.ends {
            switch random.next() % 8 {
            case 0: world.entries["_25._tcp.\(name) TLSA"] = failure(&random)
            case 1: world.entries["_25._tcp.\(name) TLSA"] = .nodata(security(&random))
            case 2: world.entries["_25._tcp.\(name) TLSA"] = .nxdomain(security(&random))
            default:
                let count = 1 + random.next() % 3
                world.entries["_25._tcp.\(name) TLSA"] = .records(
                    (0..<count).map { _ in record(&random) }, security(&random))
            }
        }
        return world
    }

    // MARK: What a handshake would show

    private func evidence(_ server: Server, _ reference: DANEReference?) -> PeerEvidence {
        var outcome: DANEOutcome?
        if let reference {
            let usable = reference.records.filter(\.isWellFormed)
            let match = usable.first { $0.data.first == server.key }
            outcome =
                usable.isEmpty ? .noUsableRecords : match.map { .matched($0, depth: 0) } ?? .notMatched([])
        }
        return PeerEvidence(
            version: server.version, cipherSuite: "x", isForwardSecret: server.isForwardSecret,
            cipherBits: 256, serverName: "host", chain: [[1]],
            verification: server.isTrusted ? .valid : .failed([ChainFault(code: 20, depth: 0)]),
            nameMatched: server.nameMatches, dane: outcome)
    }

    private func found(
        _ host: RouteHost, _ address: RouteAddress, _ server: Server, _ sts: MTASTSStatus
    ) -> HostFindings {
        var records: DANEReference?
        switch address.tlsa {
        case .unknown:
            return HostFindings(unconnected: "host", name: host.provenance, tlsa: address.tlsa, sts: sts)
        case .published(let reference): records = reference
        case .absent, .insecure: break
        }
        guard server.offersTLS, !server.breaksHandshake else {
            return HostFindings(
                absence: server.offersTLS ? .handshakeFailed("x") : .notOffered, host: "host",
                name: host.provenance, tlsa: address.tlsa, sts: sts)
        }
        return HostFindings(
            evidence: evidence(server, records), host: "host", name: host.provenance, tlsa: address.tlsa,
            sts: sts)
    }

    // MARK: The rules, plainly

    /// What the rules say of one address: `deliver`, `defer` or `refuse`.
    private func rule(_ world: World, _ host: String, _ type: String, _ server: Server, _ ruleset: String)
        -> String
    {
        func isSecure(_ entry: DNSTable.Entry?) -> Bool {
            switch entry {
            case .records(_, let security, _, _), .nodata(let security, _), .nxdomain(let security):
                security == .secure
            case .failure, nil: false
            }
        }
        func isFailure(_ entry: DNSTable.Entry?) -> Bool { if case .failure = entry { true } else { false } }
        func records(_ name: String) -> [DNSRecord] {
            if case .records(let records, _, _, _) = world.entries["_25._tcp.\(name) TLSA"] {
                records
            } else {
                []
            }
        }
        // Which names may have records that count?
        var names: [String] = []
        if isSecure(world.entries["bar.test MX"]),
            case .records(_, _, let end, _) = world.entries["\(host) \(type)"]
        {
            if isSecure(world.entries["\(host) \(type)"]) {
                names = [end, host].compactMap { $0 }
            } else if end != nil {
                if isFailure(world.entries["\(host) CNAME"]) { return "defer" }
                if isSecure(world.entries["\(host) CNAME"]) { names = [host] }
            }
        }
        // Which of them does, and what does it say?
        var published: [DNSRecord]?
        for name in names where published == nil {
            let answer = world.entries["_25._tcp.\(name) TLSA"]
            if isFailure(answer) { return "defer" }
            if isSecure(answer), !records(name).isEmpty { published = records(name) }
        }
        var isProvenByDANE = false
        var isUnusable = false
        if let published {
            let usable = published.filter { record in
                guard case .tlsa(let usage, let selector, let matching, let data) = record else {
                    return false
                }
                return [2, 3].contains(usage) && [0, 1].contains(selector)
                    && (matching == 0 || (matching == 1 && data.count == 32)
                        || (matching == 2 && data.count == 64))
            }
            if !server.offersTLS || server.breaksHandshake { return "defer" }
            isUnusable = usable.isEmpty
            isProvenByDANE = usable.contains { record in
                if case .tlsa(_, _, _, let data) = record { data.first == server.key } else { false }
            }
            if !isUnusable, !isProvenByDANE { return "defer" }
        }
        // Then MTA-STS, where nothing is proven and DANE is not demanded.
        let asksPolicy = !isProvenByDANE && ruleset != "nta7516"
        if asksPolicy, [.unknown, .bogus, .enforcedForAnother].contains(world.policy) { return "defer" }
        let own = demand(server, ruleset, isProvenByDANE)
        let satisfies =
            server.offersTLS && server.version != .tls11 && server.isTrusted && server.nameMatches
        return own == "deliver" && asksPolicy && world.policy == .enforced && !satisfies ? "defer" : own
    }

    /// The ruleset's own demand.
    private func demand(_ server: Server, _ ruleset: String, _ isProvenByDANE: Bool) -> String {
        if !server.offersTLS { return ruleset == "opportunistic" ? "deliver" : "refuse" }
        if server.breaksHandshake { return "defer" }
        if ruleset == "opportunistic" { return "deliver" }
        if server.version == .tls11 || !server.isForwardSecret { return "refuse" }
        if isProvenByDANE { return "deliver" }
        return ruleset == "secure" && server.isTrusted && server.nameMatches ? "deliver" : "refuse"
    }

    @Test func `random worlds end as the rules say`() async throws {
        let count = ProcessInfo.processInfo.environment["ZEGEL_WORLDS"].flatMap { Int($0) } ?? 3_000
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed), \(count) worlds")
        var random = SplitMix(seed)
        var ends: [String: Int] = [:]
        for number in 0..<count {
            let world = world(&random)
            let router = Router(resolver: DNSTable(world.entries))
            guard let route = try? await router.route(to: "bar.test") else {
                ends["no route", default: 0] += 1
                continue
            }
            for host in route.hosts {
                let server = try #require(world.servers[host.name])
                for address in host.addresses {
                    let findings = found(host, address, server, try status(world.policy))
                    for ruleset in [Ruleset.opportunistic, .secure, .nta7516] {
                        let outcome = Verdict.judge(ruleset, findings).outcome.rawValue
                        let expected = rule(
                            world, host.name, address.address.isIPv6 ? "AAAA" : "A", server, ruleset.name)
                        if outcome != expected {
                            Issue.record(
                                "seed \(seed), world \(number), \(host.name) \(address.address), \(ruleset.name): \(outcome), by the rules \(expected): \(findings.findings.map(\.rawValue))"
                            )
                        }
                        ends["\(ruleset.name) \(outcome)", default: 0] += 1
                    }
                }
            }
        }
        // Each end is reached, or the worlds prove nothing.
        #expect(ends.count == 9, "\(ends)")
    }
}
