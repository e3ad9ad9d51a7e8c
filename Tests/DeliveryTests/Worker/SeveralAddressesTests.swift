// A host with several addresses, and a domain with several hosts: what one of them says of the whole.

import DNS
import Foundation
import Lab
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct SeveralAddressesTests {
    /// `peer.test` has the hosts that `mx` names; each listens, if at all, on 127.0.0.1 and on no IPv6 address.
    private func end(
        _ lab: WorkerLab, _ host: ScriptedSMTPServer, mx: DNSTable.Entry, aaaa: DNSTable.Entry
    ) async throws -> SeenEvent? {
        let table = DNSTable([
            "peer.test MX": mx, "mx.peer.test A": .addresses("127.0.0.1"), "mx.peer.test AAAA": aaaa,
            "away.peer.test A": .addresses("127.0.0.99"), "forged.peer.test A": .failure(.bogus),
            "forged.peer.test AAAA": .failure(.bogus),
        ])
        _ = try await lab.accept(from: nil, to: ["r@peer.test"])
        let port = try #require(host.address.port)
        let worker = try await lab.worker(routes: [:], settings: ["delivery.port=\(port)"], resolver: table)
        let events = try await lab.working([worker]) {
            try await lab.events { $0.contains { ["refused", "deferred", "delivered"].contains($0.kind) } }
        }
        return events.first { ["refused", "deferred", "delivered"].contains($0.kind) }
    }

    @Test("A host refused at one address and not reached at another is refused, not deferred")
    func refusedAndUnreachable() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let event = try await end(lab, host, mx: .mx("10 mx.peer.test"), aaaa: .addresses("::1"))
        #expect(event?.kind == "refused" && event?.reason == "starttls-not-supported")
    }

    @Test("A family that is broken does not stop a delivery over the other")
    func oneFamilyBroken() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("mx.peer.test")
        let event = try await end(lab, host, mx: .mx("10 mx.peer.test"), aaaa: .addresses("::1"))
        #expect(event?.kind == "delivered" && event?.reason == "tls-authenticated")
    }

    @Test("One host refused and another not reached: the other may be good enough later")
    func anotherHostAway() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let event = try await end(
            lab, host, mx: .mx("10 mx.peer.test", "20 away.peer.test"), aaaa: .nodata())
        #expect(event?.kind == "deferred" && event?.reason == "connection-refused")
    }

    @Test(
        "A host refused at one address and with a family that cannot be looked up: what that hides may be better",
        arguments: [
            (DNSFailure.Code.servfail, "dns-failure"), (.timeout, "dns-failure"), (.bogus, "dnssec-invalid"),
        ])
    func familyUnknown(_ failure: DNSFailure.Code, reason: String) async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let event = try await end(lab, host, mx: .mx("10 mx.peer.test"), aaaa: .failure(failure))
        #expect(event?.kind == "deferred" && event?.reason == reason)
    }

    @Test("A family that cannot be looked up does not stop a delivery over the other")
    func familyUnknownAndGood() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("mx.peer.test")
        let event = try await end(lab, host, mx: .mx("10 mx.peer.test"), aaaa: .failure(.servfail))
        #expect(event?.kind == "delivered" && event?.reason == "tls-authenticated")
    }

    @Test("A domain is refused only when each host is: many addresses of the first ones hide no other")
    func manyAddresses() async throws {
        let lab = try await WorkerLab()
        let last = try await lab.host("mx.peer.test")
        let port = try #require(last.address.port)
        // Three hosts in front of it at six addresses each, none of which has TLS.
        let farm = try await withThrowingTaskGroup(of: ScriptedSMTPServer.self) { group in
            for number in 1...18 {
                group.addTask {
                    try await ScriptedSMTPServer.start(SMTPScript(), on: "127.0.9.\(number)", port: port)
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        var entries: [String: DNSTable.Entry] = [
            "peer.test MX": .mx("10 a.peer.test", "10 b.peer.test", "10 c.peer.test", "20 mx.peer.test"),
            "mx.peer.test A": .addresses("127.0.0.1"),
        ]
        for (index, name) in ["a", "b", "c"].enumerated() {
            let addresses = (1...6).compactMap { IPAddress("127.0.9.\(index * 6 + $0)") }
            entries["\(name).peer.test A"] = .records(addresses.map { .address($0) })
        }
        _ = try await lab.accept(from: nil, to: ["r@peer.test"])
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(port)"], resolver: DNSTable(entries))
        let events = try await lab.working([worker]) {
            try await lab.events { $0.contains { ["refused", "deferred", "delivered"].contains($0.kind) } }
        }
        let end = events.first { ["refused", "deferred", "delivered"].contains($0.kind) }
        #expect(end?.kind == "delivered", "\(end?.kind ?? "") \(end?.reason ?? "")")
        #expect(farm.allSatisfy { $0.transcript.contentBytes == 0 })
        let asked = farm.map(\.transcript.connections).reduce(0, +)
        #expect((6...18).contains(asked), "at least two addresses of each (RFC 5321 §5.1)")
    }

    @Test("One host refused and another wrongly signed: waits, for that reason")
    func anotherHostBogus() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        let event = try await end(
            lab, host, mx: .mx("10 forged.peer.test", "20 mx.peer.test"), aaaa: .nodata())
        #expect(event?.kind == "deferred" && event?.reason == "dnssec-invalid")
    }
}
