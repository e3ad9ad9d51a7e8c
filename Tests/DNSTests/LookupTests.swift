// Lookups through libunbound against real NSD with zones signed by ldns: what is secure, what is not, what is
// bogus and why, and that a failure is never an absence.

import Foundation
import Lab
import Testing

@testable import DNS

/// One NSD for the whole suite; each test has resolvers of its own.
private enum World {
    static let lab = Task {
        let texts = (0..<60).map { "big TXT \"\($0) \(String(repeating: "x", count: 90))\"" }
        return try await NameServerLab.start([
            LabZone(
                "good.test", .signed,
                """
                @ MX 10 mx
                @ MX 20 Backup.Example.COM.
                mx A 127.0.0.77
                mx AAAA ::1
                alias CNAME mx
                chain CNAME alias
                dangling CNAME nowhere
                out CNAME mx.plain.test.
                loop CNAME pool
                pool CNAME loop
                note TXT "v=one" "two"
                odd MX 5 a\\.b\\001c
                _25._tcp.mx TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
                xn--bcher-kva A 127.0.0.9
                """),
            LabZone("plain.test", .unsigned, "@ MX 10 mx\nmx A 127.0.0.78\n"),
            LabZone(
                "altered.test", .altered(name: "@", type: "MX"),
                "@ MX 10 mx\nmx A 127.0.0.79\n"),
            LabZone("expired.test", .expired, "@ MX 10 mx\nmx A 127.0.0.80\n"),
            LabZone("large.test", .signed, texts.joined(separator: "\n")),
            LabZone("broken.test", .unsigned, nil),
        ])
    }

    static func resolver(validating: Bool = true, deadline: Duration = .seconds(15)) async throws
        -> UnboundResolver
    {
        let lab = try await lab.value
        let loopback = try #require(IPAddress("127.0.0.1"))
        var configuration = DNSConfiguration(
            forwarders: [.init(address: loopback, port: lab.port)],
            trustAnchor: validating ? .file(lab.trustAnchor) : .none)
        configuration.queryDeadline = deadline
        return try UnboundResolver(configuration)
    }
}

@Suite(.serialized, .timeLimit(.minutes(2))) struct LookupTests {
    private func name(_ text: String) throws -> DomainName { try DomainName(text) }

    private func failure(_ resolver: UnboundResolver, _ name: String, _ type: DNSRecordType) async throws
        -> DNSFailure?
    {
        do {
            let answer = try await resolver.resolve(try DomainName(name), type)
            Issue.record("an answer where none can be: \(answer)")
            return nil
        } catch let error as DNSFailure {
            return error
        }
    }

    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let name: String
        let type: DNSRecordType
        let outcome: DNSAnswer.Outcome
        let security: DNSSecurity
        var canonical: String?
        var testDescription: String { rule }
    }

    static let rows: [Row] = {
        let mx = (try? DomainName("mx.good.test")) ?? .root
        let backup = (try? DomainName("backup.example.com")) ?? .root
        let four = IPAddress("127.0.0.77").map { DNSRecord.address($0) }
        let six = IPAddress("::1").map { DNSRecord.address($0) }
        let plain = IPAddress("127.0.0.78").map { DNSRecord.address($0) }
        func records(_ records: DNSRecord?...) -> DNSAnswer.Outcome { .records(records.compactMap { $0 }) }
        return [
            Row(
                rule: "MX of a signed zone is secure; names come in lower case", name: "Good.TEST.",
                type: .mx,
                outcome: .records([.mx(preference: 10, exchange: mx), .mx(preference: 20, exchange: backup)]),
                security: .secure),
            Row(
                rule: "A of a signed zone is secure", name: "mx.good.test", type: .a, outcome: records(four),
                security: .secure),
            Row(
                rule: "AAAA of a signed zone is secure", name: "mx.good.test", type: .aaaa,
                outcome: records(six),
                security: .secure),
            Row(
                rule: "an alias is followed and its end is named", name: "chain.good.test", type: .a,
                outcome: records(four), security: .secure, canonical: "mx.good.test"),
            Row(
                rule: "an alias itself can be asked for", name: "alias.good.test", type: .cname,
                outcome: .records([.cname(mx)]), security: .secure),
            Row(
                rule: "an alias into an unsigned zone is insecure", name: "out.good.test", type: .a,
                outcome: records(plain), security: .insecure, canonical: "mx.plain.test"),
            Row(
                rule: "an alias to a name that does not exist is NXDOMAIN", name: "dangling.good.test",
                type: .a,
                outcome: .nxdomain, security: .secure, canonical: "nowhere.good.test"),
            Row(
                rule: "the absence of a type is NODATA and proven", name: "mx.good.test", type: .mx,
                outcome: .nodata,
                security: .secure),
            Row(
                rule: "the absence of a name is NXDOMAIN and proven", name: "none.good.test", type: .a,
                outcome: .nxdomain, security: .secure),
            Row(
                rule: "a zone without DS is provably insecure", name: "mx.plain.test", type: .a,
                outcome: records(plain), security: .insecure),
            Row(
                rule: "NODATA in an unsigned zone is insecure", name: "mx.plain.test", type: .aaaa,
                outcome: .nodata,
                security: .insecure),
            Row(
                rule: "NXDOMAIN in an unsigned zone is insecure", name: "none.plain.test", type: .a,
                outcome: .nxdomain, security: .insecure),
            Row(
                rule: "TXT keeps its strings apart", name: "note.good.test", type: .txt,
                outcome: .records([.txt([Array("v=one".utf8), Array("two".utf8)])]), security: .secure),
            Row(
                rule: "TLSA is read", name: "_25._tcp.mx.good.test", type: .tlsa,
                outcome: .records([
                    .tlsa(
                        usage: 3, selector: 1, matchingType: 1,
                        data: (0..<32).map { UInt8($0 % 16 * 17) })
                ]), security: .secure),
            Row(
                rule: "an internationalised name is asked for by its A-label", name: "bücher.good.test",
                type: .a,
                outcome: .records([IPAddress("127.0.0.9").map { DNSRecord.address($0) }].compactMap { $0 }),
                security: .secure),
        ]
    }()

    @Test(arguments: rows) func `answers`(_ row: Row) async throws {
        let resolver = try await World.resolver()
        let answer = try await resolver.resolve(try name(row.name), row.type)
        let sorted = DNSAnswer.Outcome.records(answer.records.sorted { "\($0)" < "\($1)" })
        #expect((answer.records.isEmpty ? answer.outcome : sorted) == row.outcome)
        #expect(answer.security == row.security)
        #expect(answer.canonicalName == (try name(row.canonical ?? row.name)))
        #expect(answer.ttl > 0 && answer.ttl <= 300)
        // The message itself, read without a resolver, says the same, and carries its signatures.
        let message = try DNSMessage(answer.packet)
        let read = try #require(message.outcome(of: answer.name, answer.type))
        #expect(read.canonicalName == answer.canonicalName)
        #expect(read.outcome == answer.outcome)
        let isSigned = message.answers.contains { $0.type.rawValue == 46 }
        #expect(isSigned || answer.security == .insecure || message.answers.isEmpty)
    }

    @Test func `without a trust anchor every answer is insecure, an altered one too`() async throws {
        let resolver = try await World.resolver(validating: false)
        for zone in ["good.test", "altered.test", "expired.test", "plain.test"] {
            let answer = try await resolver.resolve(try name(zone), .mx)
            #expect(answer.security == .insecure && !answer.records.isEmpty, "\(zone)")
        }
    }

    @Test func `a signature that was altered is bogus, with the reason, and only that RRset`() async throws {
        let resolver = try await World.resolver()
        let failure = try #require(try await failure(resolver, "altered.test", .mx))
        #expect(failure.code == .bogus)
        #expect(failure.reason.contains("signature"), "\(failure)")
        let address = try await resolver.resolve(try name("mx.altered.test"), .a)
        #expect(address.security == .secure)
        let again = try await self.failure(resolver, "altered.test", .mx)
        #expect(again?.code == .bogus, "from the cache too")
    }

    @Test func `signatures that have ended are bogus, with the reason`() async throws {
        let failure = try #require(try await failure(World.resolver(), "expired.test", .mx))
        #expect(failure.code == .bogus)
        #expect(failure.reason.contains("expired"), "\(failure)")
    }

    @Test func `an answer too large for a datagram comes over TCP, whole and secure`() async throws {
        let answer = try await World.resolver().resolve(try name("big.large.test"), .txt)
        #expect(answer.records.count == 60)
        #expect(answer.security == .secure)
    }

    @Test func `law 2: an answer too large for any message is a failure and no absence, signed or not`()
        async throws
    {
        let digits = String(repeating: "0", count: 60)
        func record(_ number: Int) -> String {
            let text = String(number, radix: 16)
            return "@ TLSA 3 1 1 \(digits)\(String(repeating: "0", count: 4 - text.count))\(text)\n"
        }
        let counts = [1_000, 1_380, 1_385, 1_389, 1_390, 1_391, 1_392, 1_393, 1_394, 1_395, 1_400, 1_600]
        let lab = try await NameServerLab.start(
            counts.flatMap { count in
                let records = (0..<count).map(record).joined()
                return [
                    LabZone("s\(count).test", .signed, records),
                    LabZone("u\(count).test", .unsigned, records),
                ]
            })
        let resolver = try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: try #require(IPAddress("127.0.0.1")), port: lab.port)],
                trustAnchor: .file(lab.trustAnchor)))
        var failures = 0
        for count in counts {
            for zone in ["s\(count).test", "u\(count).test"] {
                do {
                    let answer = try await resolver.resolve(try name(zone), .tlsa)
                    #expect(answer.records.count == count, "\(zone): \(answer.outcome == .nodata)")
                } catch {
                    failures += 1
                }
            }
        }
        #expect(failures >= 4, "1,400 and more fit into no message")
        await lab.stop()
    }

    @Test func `SERVFAIL is a failure`() async throws {
        let failure = try await failure(World.resolver(), "mx.broken.test", .a)
        #expect(failure?.code == .servfail)
    }

    @Test func `REFUSED is a failure`() async throws {
        // The server has no such zone. libunbound tells it as SERVFAIL once no server is left to ask.
        let failure = try await failure(World.resolver(), "mx.elsewhere.example", .a)
        #expect(
            failure.map { [.refused, .servfail].contains($0.code) } == true, "\(String(describing: failure))")
    }

    @Test func `an alias loop is a failure and ends soon`() async throws {
        let start = ContinuousClock.now
        let failure = try await failure(World.resolver(), "loop.good.test", .a)
        #expect(failure?.code == .servfail)
        #expect(ContinuousClock.now - start < .seconds(5))
    }

    @Test func `an MX target with odd octets is read and is no host name`() async throws {
        let answer = try await World.resolver().resolve(try name("odd.good.test"), .mx)
        guard case .mx(_, let exchange)? = answer.records.first else {
            Issue.record("no MX")
            return
        }
        #expect(exchange.text == #"a\.b\001c.good.test"#)
        #expect(!exchange.isHostName)
    }

    @Test func `no answer before the deadline is a timeout, and other questions are not held up`()
        async throws
    {
        let silent = try SilentNameServer()
        let loopback = try #require(IPAddress("127.0.0.1"))
        var configuration = DNSConfiguration(
            forwarders: [.init(address: loopback, port: silent.port)], trustAnchor: .none)
        configuration.queryDeadline = .milliseconds(400)
        let resolver = try UnboundResolver(configuration)
        let start = ContinuousClock.now
        let failures = await withTaskGroup(of: DNSFailure?.self) { group in
            for number in 0..<50 {
                group.addTask {
                    do {
                        _ = try await resolver.resolve(DomainName("n\(number).example.net"), .a)
                        return nil
                    } catch {
                        return error as? DNSFailure
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(failures.allSatisfy { $0?.code == .timeout })
        #expect(ContinuousClock.now - start < .seconds(3))
    }

    @Test func `law 9: more questions than may wait are refused as overload`() async throws {
        let silent = try SilentNameServer()
        let loopback = try #require(IPAddress("127.0.0.1"))
        var configuration = DNSConfiguration(
            forwarders: [.init(address: loopback, port: silent.port)], trustAnchor: .none)
        (configuration.concurrentQueries, configuration.waitingQueries) = (2, 4)
        configuration.queryDeadline = .milliseconds(600)
        let resolver = try UnboundResolver(configuration)
        let codes = await withTaskGroup(of: DNSFailure.Code?.self) { group in
            for number in 0..<40 {
                group.addTask {
                    do {
                        _ = try await resolver.resolve(DomainName("n\(number).example.net"), .a)
                        return nil
                    } catch {
                        return (error as? DNSFailure)?.code
                    }
                }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(codes.filter { $0 == .overloaded }.count >= 30, "\(codes)")
        #expect(codes.allSatisfy { $0 == .overloaded || $0 == .timeout })
    }

    @Test func `a caller that gives up gets its answer at once`() async throws {
        let silent = try SilentNameServer()
        let loopback = try #require(IPAddress("127.0.0.1"))
        let resolver = try UnboundResolver(
            DNSConfiguration(forwarders: [.init(address: loopback, port: silent.port)], trustAnchor: .none))
        let asking = Task { try await resolver.resolve(DomainName("slow.example.net"), .a) }
        try await Task.sleep(for: .milliseconds(50))
        let start = ContinuousClock.now
        asking.cancel()
        let result = await asking.result
        #expect(throws: DNSFailure.self) { try result.get() }
        #expect(ContinuousClock.now - start < .seconds(1))
    }

    @Test func `a resolver that goes away fails what is under way and frees its thread`() async throws {
        for _ in 0..<5 {
            let resolver = try await World.resolver()
            _ = try await resolver.resolve(try name("mx.good.test"), .a)
        }
    }

    @Test func `many questions at once are all answered, from the cache too`() async throws {
        let resolver = try await World.resolver()
        let start = ContinuousClock.now
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<2000 {
                group.addTask {
                    let answer = try await resolver.resolve(
                        DomainName("mx.good.test"), number % 2 == 0 ? .a : .aaaa)
                    #expect(answer.security == .secure)
                }
            }
            try await group.waitForAll()
        }
        print("2000 questions of which 2 were asked: \(ContinuousClock.now - start)")
    }

    @Test(arguments: ["/nonexistent/anchor"]) func `an anchor that cannot be read is told at once`(
        path: String
    ) {
        #expect(throws: DNSConfigurationError.self) {
            try UnboundResolver(DNSConfiguration(trustAnchor: .file(path)))
        }
    }
}
