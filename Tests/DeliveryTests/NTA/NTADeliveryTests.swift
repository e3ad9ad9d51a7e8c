// What a worker does under `nta7516` beside judging TLS: the header field that marks a message, and where hosts are.

import DNS
import Foundation
import Lab
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct NTADeliveryTests {
    /// Each domain is `name.test` with the host `mx.name.test` at one address and a TLSA record for the certificate.
    private static func world(
        _ domains: [String: String], port: Int, _ identity: TestIdentity
    ) -> DNSTable {
        let record = TLSARecord.matching(identity.certificate)
        var entries: [String: DNSTable.Entry] = [:]
        for (domain, address) in domains {
            entries["\(domain) MX"] = .mx("10 mx.\(domain)", security: .secure)
            entries["mx.\(domain) A"] = .addresses(address, security: .secure)
            entries["_\(port)._tcp.mx.\(domain) TLSA"] = .records(
                [
                    .tlsa(
                        usage: record.usage, selector: record.selector, matchingType: record.matchingType,
                        data: record.data)
                ], .secure)
        }
        return DNSTable(entries)
    }

    @Test func `a message under a ruleset with nta is marked once, and is else as it came`() async throws {
        let lab = try await WorkerLab()
        let port = Int(try freePort())
        let identity = try lab.authority.issue(["mx.bar.test"])
        let host = try await ScriptedSMTPServer.start(
            try SMTPScript(identity), on: "127.0.16.1", port: port)
        let plain = Array("Subject: test\r\n\r\nhello\r\n".utf8)
        let marked = Array("x-nta-lab: theirs\r\n".utf8) + plain
        let trace = Array("Received: from test by lab; Tue, 24 Nov 2026 10:00:00 +0000\r\n".utf8)
        let mark = Array("X-NTA-Lab: yes; v=1\r\n".utf8)
        let rows: [(String, [UInt8], [UInt8])] = [
            ("nta7516", plain, trace + mark + plain), ("secure", plain, trace + plain),
            ("nta7516", marked, trace + marked),
        ]
        let worker = try await lab.worker(
            routes: [:],
            settings: [
                "delivery.port=\(port)", "nta.header_name=X-NTA-Lab", "nta.header_value=yes; v=1",
            ], resolver: Self.world(["bar.test": "127.0.16.1"], port: port, identity))
        try await lab.working([worker]) {
            for (number, (ruleset, content, _)) in rows.enumerated() {
                _ = try await lab.accept(from: nil, to: ["r@bar.test"], ruleset: ruleset, content: content)
                _ = try await lab.events { $0.filter { $0.kind == "delivered" }.count == number + 1 }
            }
        }
        let mails = host.transcript.mails
        try #require(mails.count == rows.count)
        for (mail, row) in zip(mails, rows) {
            #expect(mail.content == row.2, "\(row.0): \(String(decoding: mail.content, as: UTF8.self))")
        }
        try await host.stop()
    }

    @Test func `a host outside of the EEA gets nothing under nta7516; another address of the domain may`()
        async throws
    {
        let lab = try await WorkerLab()
        let port = Int(try freePort())
        let identity = try lab.authority.issue(["mx.in.test", "mx.out.test", "mx.hole.test"])
        let addresses = ["127.0.17.1", "127.0.18.1", "127.0.17.129"]
        let hosts = try await ScriptedSMTPServer.start(
            addresses.map { _ in identity }, on: addresses, port: port)
        let domains = ["in.test", "out.test", "hole.test"]
        let table = Self.world(
            Dictionary(uniqueKeysWithValues: zip(domains, addresses)), port: port, identity)
        table.change("both.test MX", to: .mx("10 mx.out.test", "20 mx.in.test", security: .secure))
        let ends = [
            "in.test nta7516": "delivered dane-authenticated",
            "in.test secure": "delivered dane-authenticated",
            "out.test nta7516": "refused outside-eea", "out.test secure": "delivered dane-authenticated",
            "hole.test nta7516": "refused outside-eea", "hole.test secure": "delivered dane-authenticated",
            "both.test nta7516": "delivered dane-authenticated",
        ]
        var messages: [UUID: String] = [:]
        for what in ends.keys {
            let parts = what.split(separator: " ").map(String.init)
            let id = try await lab.accept(from: nil, to: ["r@\(parts[0])"], ruleset: parts[1])
            messages[id] = what
        }
        let ids = Set(messages.keys)
        let worker = try await lab.worker(
            routes: [:],
            settings: [
                "delivery.port=\(port)", "delivery.retry=1h", "nta.eea_networks=127.0.17.0/24",
                "nta.outside_networks=127.0.17.128/25",
            ], resolver: table)
        let events = try await lab.working([worker]) {
            try await lab.events { seen in
                Set(seen.filter(\.endsAttempt).map(\.message)).isSuperset(of: ids)
            }
        }
        for end in events where end.endsAttempt {
            let what = messages[end.message] ?? ""
            #expect("\(end.kind) \(end.reason ?? "")" == ends[what], "\(what)")
        }
        #expect(hosts.map { $0.transcript.mails.count } == [3, 1, 1])
        for host in hosts { try await host.stop() }
    }
}
