// TLSA answers that never come, or come too late, are no absence; and they hold up nobody else.

import DNS
import Foundation
import Lab
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct LateAnswerTests {
    private static let domains = ["dropped.test", "late.test", "prompt.test"]

    @Test func `no TLSA answer in time defers without a connection, and others are served meanwhile`()
        async throws
    {
        let lab = try await WorkerLab()
        let port = Int(try freePort())
        let identity = try TestAuthority.selfSigned(["mx.test"])
        let record = TLSARecord.matching(identity.certificate).zoneText
        let servers = try await ScriptedSMTPServer.start(
            Self.domains.map { _ in identity }, on: Self.domains.indices.map { "127.0.14.\($0 + 1)" },
            port: port)
        let names = try await NameServerLab.start(
            Self.domains.enumerated().map { number, domain in
                LabZone(
                    domain, .signed,
                    "@ MX 10 mx\nmx A 127.0.14.\(number + 1)\n_\(port)._tcp.mx TLSA \(record)\n")
            })
        let liar = try await ForgingNameServer.start(to: names.port)
        liar.forge("_\(port)._tcp.mx.dropped.test", .tlsa, .dropped)
        liar.forge("_\(port)._tcp.mx.late.test", .tlsa, .delayed(.seconds(20)))
        var configuration = DNSConfiguration(
            forwarders: [.init(address: try #require(IPAddress("127.0.0.1")), port: liar.port)],
            trustAnchor: .file(names.trustAnchor))
        configuration.queryDeadline = .seconds(6)
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(port)", "delivery.retry=1h"],
            resolver: try UnboundResolver(configuration))
        var messages: [UUID: String] = [:]
        for domain in Self.domains {
            for ruleset in ["opportunistic", "secure", "nta7516"] {
                messages[try await lab.accept(from: nil, to: ["r@\(domain)"], ruleset: ruleset)] = domain
            }
        }
        let ids = Set(messages.keys)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(40)) { seen in
                Set(seen.filter(\.endsAttempt).map(\.message)).isSuperset(of: ids)
            }
        }
        let ends = events.filter(\.endsAttempt)
        for end in ends {
            let wanted =
                messages[end.message] == "prompt.test"
                ? "delivered dane-authenticated" : "deferred dns-failure"
            #expect("\(end.kind) \(end.reason ?? "")" == wanted, "\(messages[end.message] ?? "")")
        }
        let order = ends.map { messages[$0.message] == "prompt.test" }
        #expect(order.prefix(3) == [true, true, true], "nobody waits for the answers of others")
        #expect(servers[0].transcript.connections == 0 && servers[1].transcript.connections == 0)
        for server in servers { try await server.stop() }
        await liar.stop()
        await names.stop()
    }
}
