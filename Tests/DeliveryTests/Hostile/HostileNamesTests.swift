// DNS that means harm, on the way of a delivery, from real name servers: each domain ends in time with a reason, costs a bounded number
// of connections, and holds up nobody else.

import DNS
import Foundation
import Lab
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct HostileNamesTests {
    private struct Row: Sendable {
        let what: String
        /// `{A}` is an address where nobody listens, `{H}` that of an ordinary host.
        let zone: String
        /// `kind reason` under `secure`.
        let end: String
    }

    private static let rows: [Row] = {
        let chain = (0..<40).map { "c\($0) CNAME c\($0 + 1)\n" }.joined()
        func hosts(_ count: Int) -> String {
            (0..<count).map { "@ MX \($0) h\($0)\nh\($0) A {A}\n" }.joined()
        }
        let addresses = (0..<4_000).map { "mx A 127.0.\(200 + $0 / 250).\($0 % 250 + 1)\n" }.joined()
        let strings = (0..<250).map { _ in "\"\(String(repeating: "x", count: 240))\"" }
        let texts = (0..<1_500).map { "_mta-sts TXT \"v=STSv1; id=\($0)\"\n" }.joined()
        let good = "@ MX 20 mx\nmx A {H}\n"
        return [
            Row(
                what: "an alias that leads to itself", zone: "@ MX 10 mx\nmx CNAME mx\n",
                end: "deferred dns-failure"),
            Row(
                what: "two aliases that lead to each other", zone: "@ MX 10 a\na CNAME b\nb CNAME a\n",
                end: "deferred dns-failure"),
            Row(
                what: "forty aliases in a row", zone: "@ MX 10 c0\nc40 A {H}\n" + chain,
                end: "deferred dns-failure"),
            Row(what: "2,000 hosts", zone: hosts(2_000), end: "deferred connection-refused"),
            Row(
                what: "2,400 hosts, which do not fit into a message: no absence of MX", zone: hosts(2_400),
                end: "deferred dns-failure"),
            Row(
                what: "4,000 addresses of one host: 64 KB", zone: "@ MX 10 mx\n" + addresses,
                end: "deferred connection-refused"),
            Row(
                what: "a TXT record of 60 KB where a policy's may be",
                zone: good + "_mta-sts TXT \(strings.joined(separator: " "))\n",
                end: "delivered tls-authenticated"),
            Row(
                what: "1,500 records where one announces a policy", zone: good + texts,
                end: "delivered tls-authenticated"),
            Row(
                what: "hosts whose names hold zero, blanks and octets above 127, beside one that is a host",
                zone: "@ MX 1 a\\000b\n@ MX 2 a\\032b\n@ MX 3 \\255\\254\n@ MX 4 a\\.b\n" + good,
                end: "delivered tls-authenticated"),
        ]
    }()

    @Test func `hostile answers end in time, cost little, and hold up nobody`() async throws {
        let lab = try await WorkerLab()
        let port = Int(try freePort())
        let identity = try lab.authority.issue(
            Self.rows.indices.map { "mx.row\($0).test" } + ["mx.good.test"])
        let host = try await ScriptedSMTPServer.start(
            try SMTPScript(identity), on: "127.0.19.1", port: port)
        var zones = Self.rows.enumerated().map { number, row in
            LabZone(
                "row\(number).test", .unsigned,
                row.zone.replacing("{A}", with: "127.0.19.2").replacing("{H}", with: "127.0.19.1"))
        }
        zones.append(LabZone("good.test", .unsigned, "@ MX 10 mx\nmx A 127.0.19.1\n"))
        let names = try await NameServerLab.start(zones)
        let resolver = try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: try #require(IPAddress("127.0.0.1")), port: names.port)],
                trustAnchor: .file(names.trustAnchor)))
        // A resolver whose first questions to a server go unanswered, as on a busy machine, takes it for one without DNSSEC for half a
        // minute; one that knows it does not.
        let known = try DomainName("good.test")
        try await eventually("the resolver knows its forwarder", within: .seconds(60)) {
            (try? await resolver.resolve(known, .mx)) != nil
        }
        var messages: [UUID: Int] = [:]
        for number in Self.rows.indices {
            messages[try await lab.accept(from: nil, to: ["r@row\(number).test"])] = number
        }
        for _ in 0..<5 { messages[try await lab.accept(from: nil, to: ["r@good.test"])] = -1 }
        let ids = Set(messages.keys)
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(port)", "delivery.retry=1h"], resolver: resolver)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(60)) { seen in
                Set(seen.filter(\.endsAttempt).map(\.message)).isSuperset(of: ids)
            }
        }
        for end in events where end.endsAttempt {
            let number = messages[end.message] ?? -1
            let (what, wanted) =
                number < 0
                ? ("good.test", "delivered tls-authenticated")
                : (Self.rows[number].what, Self.rows[number].end)
            let explanation = end.detail?.explanation ?? ""
            #expect("\(end.kind) \(end.reason ?? "")" == wanted, "\(what): \(explanation)")
            #expect(end.kind == "delivered" || !explanation.isEmpty, "\(what): no explanation")
        }
        #expect(host.transcript.mails.count == 5 + Self.rows.count { $0.end.hasPrefix("delivered") })
        // Law 9: of thousands of hosts and addresses a dozen are looked up and tried.
        let assessed = Dictionary(grouping: events, by: \.message).mapValues(\.count)
        #expect(assessed.values.allSatisfy { $0 < 40 })
        try await host.stop()
        await names.stop()
    }
}
