// How long one attempt may take in all: a host that is slow over each of many connections holds nobody for hours.

import DNS
import Foundation
import Lab
import SmartTLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct AttemptTimeTests {
    /// The first end of an attempt at a domain with a bad host before a good one, and the connections that each had by then.
    private func end(
        _ bad: @Sendable (inout SMTPScript) -> Void, greeting: Duration = .seconds(3), patience: Duration
    ) async throws -> (event: SeenEvent?, bad: Int, good: Int) {
        let lab = try await WorkerLab()
        let good = try await lab.host("b.peer.test")
        let port = try #require(good.address.port)
        var script = SMTPScript()
        bad(&script)
        let others = [
            try await ScriptedSMTPServer.start(script, on: "127.0.8.1", port: port),
            try await ScriptedSMTPServer.start(script, on: "127.0.8.2", port: port),
        ]
        let table = DNSTable([
            "peer.test MX": .mx("10 a.peer.test", "20 b.peer.test"),
            "a.peer.test A": .addresses("127.0.8.1", "127.0.8.2"), "b.peer.test A": .addresses("127.0.0.1"),
        ])
        _ = try await lab.accept(from: nil, to: ["r@peer.test"])
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(port)", "delivery.retry=1h"], resolver: table,
            timeouts: SessionTimeouts(connect: .seconds(5), greeting: greeting, quit: .seconds(1)),
            patience: patience)
        let events = try await lab.working([worker]) {
            try await lab.events { $0.contains { ["refused", "deferred", "delivered"].contains($0.kind) } }
        }
        let asked = others.map(\.transcript.connections).reduce(0, +)
        for host in others { try await host.stop() }
        return (
            events.first { ["refused", "deferred", "delivered"].contains($0.kind) }, asked,
            good.transcript.connections
        )
    }

    @Test("When its time is over no further connection is begun, and it waits for what the last one came to")
    func overWithAFailure() async throws {
        let seen = try await end({ $0.answers = [.connect: [.silence]] }, patience: .zero)
        #expect(seen.event?.kind == "deferred" && seen.event?.reason == "connection-timeout")
        #expect(seen.bad == 1 && seen.good == 0)
    }

    @Test("Who refused is not the whole domain: where others were not asked in time, nothing is refused")
    func overWithARefusal() async throws {
        let seen = try await end({ $0.tls = nil }, patience: .zero)
        #expect(seen.event?.kind == "deferred" && seen.event?.reason == "starttls-not-supported")
        #expect(seen.bad == 1 && seen.good == 0)
    }

    @Test("A host that hangs at each address leaves time for the next host")
    func shared() async throws {
        // The first address takes at least five seconds: all of its host's half of the time.
        let seen = try await end(
            { $0.answers = [.connect: [.silence]] }, greeting: .seconds(5), patience: .seconds(10))
        #expect(seen.event?.kind == "delivered", "\(seen.event?.reason ?? "")")
        #expect(seen.bad == 1 && seen.good == 1)
    }

    @Test("Within its time it goes from address to address and from host to host")
    func within() async throws {
        let seen = try await end({ $0.answers = [.connect: [.silence]] }, patience: .seconds(60))
        #expect(seen.event?.kind == "delivered", "\(seen.event?.reason ?? "")")
        #expect(seen.bad == 2 && seen.good == 1)
    }

    @Test("A host that takes one recipient at a time is asked for no further one when the time is over")
    func oneAtATime() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.extensions = ["LIMITS RCPTMAX=1"] }
        _ = try await lab.accept(from: nil, to: ["a@peer.test", "b@peer.test", "c@peer.test"])
        let worker = try await lab.worker(
            routes: ["peer.test": host], settings: ["delivery.retry=1h"], patience: .zero)
        let events = try await lab.working([worker]) {
            try await lab.events { $0.filter(\.endsAttempt).count == 3 }
        }
        let ends = events.filter(\.endsAttempt).map { "\($0.kind) \($0.reason ?? "")" }.sorted()
        let later = "deferred connection-timeout"
        #expect(ends == [later, later, "delivered tls-authenticated"])
        #expect(host.transcript.mails.count == 1)
    }
}
