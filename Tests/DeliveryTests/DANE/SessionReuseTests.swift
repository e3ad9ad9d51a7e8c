// A session is reused only under the same host, address and TLSA set (design §9): what DNS says anew counts before the next
// message.

import DNS
import Foundation
import Lab
import NIOPosix
import Policy
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct SessionReuseTests {
    private static let names = ["bar.test MX", "mx.test A", "_25._tcp.mx.test TLSA"]

    private static func records(_ records: TLSARecord..., ttl: UInt32 = 300) -> DNSTable.Entry {
        .records(
            records.map {
                .tlsa(
                    usage: $0.usage, selector: $0.selector, matchingType: $0.matchingType, data: $0.data)
            }, .secure, ttl: ttl)
    }

    private static func world(_ tlsa: DNSTable.Entry, port: Int = 25) -> [String: DNSTable.Entry] {
        [
            "bar.test MX": .mx("10 mx.test", security: .secure, ttl: 1),
            "mx.test A": .addresses("127.0.0.1", security: .secure),
            "_\(port)._tcp.mx.test TLSA": tlsa,
        ]
    }

    @Test func `a route with another host, address, proof or TLSA set ends the reuse`() async throws {
        let identity = try TestAuthority.selfSigned(["mx.test"])
        let mine = TLSARecord.matching(identity.certificate)
        let other = TLSARecord.matching(try TestAuthority.selfSigned(["x.test"]).certificate)
        let server = try await ScriptedSMTPServer.start(try SMTPScript(identity))
        let opener = SessionOpener(
            examiner: HostExaminer(
                group: MultiThreadedEventLoopGroup.singleton, tls: try TLSContext.client(trust: .none),
                heloName: "zegel.test", sourceAddress: nil, port: try #require(server.address.port),
                timeouts: SessionTimeouts()))
        func route(_ change: (inout [String: DNSTable.Entry]) -> Void = { _ in }) async throws -> Route {
            var world = Self.world(Self.records(mine, other))
            change(&world)
            return try await Router(resolver: DNSTable(world)).route(to: "bar.test")
        }
        let first = try await route()
        let host = try #require(first.hosts.first)
        guard case .open(let live) = await opener.open(first, host, host.addresses[0], .nta7516) else {
            Issue.record("no session")
            return
        }
        #expect(try await live.isOn(route()))
        let rotated = Self.records(other, mine, ttl: 5)
        #expect(try await live.isOn(route { $0[Self.names[2]] = rotated }), "another order is the same set")
        let rows: [(String, String, DNSTable.Entry?)] = [
            ("a record less", Self.names[2], Self.records(mine)),
            ("provably none", Self.names[2], .nodata(.secure)),
            ("not signed any more", Self.names[2], .nodata()),
            ("not known", Self.names[2], .failure(.servfail)),
            ("another address", Self.names[1], .addresses("127.0.0.2", security: .secure)),
            ("the address not signed", Self.names[1], .addresses("127.0.0.1")),
            ("the MX not signed", Self.names[0], .mx("10 mx.test")),
            (
                "the domain has an alias", Self.names[0],
                .mx("10 mx.test", security: .secure, canonical: "a.test")
            ),
        ]
        for (what, name, entry) in rows {
            #expect(try await !live.isOn(route { $0[name] = entry }), "\(what)")
        }
        await live.session.quit()
        try await server.stop()
    }

    @Test func `a worker drops its session when the records change under it`() async throws {
        let lab = try await WorkerLab()
        let identity = try TestAuthority.selfSigned(["mx.test"])
        let host = try await lab.host("mx.test") {
            $0.tls = try? TLSContext.server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM)
        }
        let port = try #require(host.address.port)
        let mine = Self.records(.matching(identity.certificate), ttl: 1)
        let table = DNSTable(Self.world(mine, port: port))
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(port)", "worker.per_destination=1"], resolver: table)
        @Sendable func send() async throws {
            _ = try await lab.accept(from: nil, to: ["r@bar.test"], ruleset: "nta7516")
        }
        let stranger = try TestAuthority.selfSigned(["x.test"])
        let events = try await lab.working([worker]) {
            for _ in 0..<3 { try await send() }
            _ = try await lab.events { $0.filter { $0.kind == "delivered" }.count == 3 }
            table.change(
                "_\(port)._tcp.mx.test TLSA", to: Self.records(.matching(stranger.certificate), ttl: 1))
            // Mail keeps coming, so that the session rests never for long; the old records hold for their TTL.
            let end = ContinuousClock.now + .seconds(20)
            while ContinuousClock.now < end {
                try await send()
                let seen = try await lab.events()
                if seen.contains(where: { $0.kind == "deferred" }) { return seen }
                try await Task.sleep(for: .milliseconds(50))
            }
            throw WaitExpired(description: "nothing was deferred")
        }
        #expect(events.filter { $0.kind == "deferred" }.allSatisfy { $0.reason == "tlsa-invalid" })
        let delivered = events.filter { $0.kind == "delivered" }
        #expect(delivered.allSatisfy { $0.reason == "dane-authenticated" })
        #expect(delivered.first?.detail?.tlsaBaseDomain == "mx.test")
        #expect(delivered.first?.detail?.tlsaRecord?.hasPrefix("3 1 1 ") == true)
        try await host.stop()
    }
}
