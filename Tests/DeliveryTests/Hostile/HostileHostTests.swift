// Recipient hosts that mean harm, on the way of a delivery: each ends in time, within bounds, with a reason; and mail to others goes on
// meanwhile.

import Foundation
import Lab
import NIOCore
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct HostileHostTests {
    /// One hostile host.
    private struct Row: Sendable {
        enum Host: Sendable {
            /// Steps, before or within TLS.
            case steps([HostileStep])
            /// Up to STARTTLS, and then this.
            case front(StartTLSBackend)
            /// An ordinary host with this chain (PEM) and the key of an identity.
            case chain([UInt8], TestIdentity)
            /// OpenSSL's own server behind STARTTLS, told something again and again.
            case openSSL(telling: String, arguments: [String])
        }
        let what: String
        let host: Host
        /// `kind reason` under `secure`.
        let end: String
        /// Octets of a flood that may be taken from the host at most, by kernel and worker together.
        var taken = 8 << 20
        /// Whether its end is a matter of patience: with more of it, it hangs.
        var hangs = false
    }

    private static func rows(_ authority: TestAuthority) throws -> [Row] {
        let good = try authority.issue((0..<40).map { "row\($0).test" })
        let tls = try TLSContext.server(
            certificateChainPEM: good.chainPEM, privateKeyPEM: try good.privateKeyPEM)
        let inTLS = HostileStep.secured(tls)
        let greeted: [HostileStep] = [.say("220 hostile.test ESMTP\r\n"), .hear]
        let ready: [HostileStep] = inTLS + [.say("250 hostile.test\r\n"), .hear]
        let violation = "deferred protocol-violation"
        let timeout = "deferred connection-timeout"
        let broken = "deferred tls-handshake-failed"
        return [
            Row(
                what: "a banner of lines without end", host: .steps([.flood("220-no end\r\n")]),
                end: violation),
            Row(
                what: "a banner of one line without end", host: .steps([.flood("220 no end ")]),
                end: violation),
            Row(what: "no banner", host: .steps([]), end: timeout, hangs: true),
            Row(
                what: "a banner octet by octet",
                host: .steps([.drip("220-slow\r\n", every: .milliseconds(50))]),
                end: timeout, hangs: true),
            Row(
                what: "an answer to EHLO without end", host: .steps(greeted + [.flood("250-X-MORE\r\n")]),
                end: violation),
            Row(
                what: "an answer to EHLO octet by octet",
                host: .steps(greeted + [.drip("250-SLOW\r\n", every: .milliseconds(50))]), end: timeout,
                hangs: true),
            Row(what: "no answer to EHLO", host: .steps(greeted), end: timeout, hangs: true),
            Row(
                what: "cleartext without end behind the 220",
                host: .steps(
                    greeted + [
                        .say("250-hostile.test\r\n250 STARTTLS\r\n"), .hear, .say("220 go\r\n"),
                        .flood("250 x\r\n"),
                    ]),
                end: broken),
            Row(what: "cleartext for TLS", host: .front(.octets(Array("250 hello\r\n".utf8))), end: broken),
            Row(
                what: "a handshake octet by octet",
                host: .front(.trickle([22, 3, 3, 0x3f, 0xff, 2, 0, 0x3f, 0])), end: broken, hangs: true),
            Row(what: "no handshake", host: .front(.octets([])), end: broken, hangs: true),
            Row(what: "a record of no length", host: .front(.octets([22, 3, 3, 0, 0])), end: broken),
            Row(
                what: "a message of 16 MB announced",
                host: .front(.octets([22, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff])),
                end: broken),
            Row(
                what: "an answer to EHLO within TLS without end",
                host: .steps(inTLS + [.flood("250-X-MORE\r\n")]),
                end: violation),
            Row(what: "no answer to EHLO within TLS", host: .steps(inTLS), end: timeout, hangs: true),
            Row(
                what: "an answer to MAIL without end", host: .steps(ready + [.flood("250-more\r\n")]),
                end: violation),
            Row(
                what: "an answer to MAIL octet by octet",
                host: .steps(ready + [.drip("250-slow\r\n", every: .milliseconds(50))]), end: timeout,
                hangs: true),
            Row(
                what: "renegotiation without end (RFC 5246 §7.4.1.1)",
                host: .openSSL(telling: "R", arguments: ["-tls1_2"]), end: "deferred connection-lost"),
            Row(
                what: "new keys without end (RFC 8446 §4.6.3)",
                host: .openSSL(telling: "K", arguments: ["-tls1_3"]), end: "deferred connection-lost"),
        ]
    }

    /// Hosts whose certificates are the harm.
    private static func certificates(_ authority: TestAuthority) throws -> [Row] {
        let good = try authority.issue((0..<40).map { "row\($0).test" })
        // Text, since certificates in thousands take their time to be written.
        let further = String(decoding: try authority.intermediate().rootPEM, as: UTF8.self)
        func chain(_ count: Int) -> [UInt8] {
            good.chainPEM + Array(String(repeating: further, count: count).utf8)
        }
        let huge = try authority.issue(
            [String(repeating: "a", count: 120 << 10) + ".hostile.test"], commonName: "hostile")
        let broken = "deferred tls-handshake-failed"
        return [
            Row(what: "a certificate of 120 KB", host: .chain(huge.chainPEM, huge), end: broken),
            Row(what: "a chain of 1,000", host: .chain(chain(1_000), good), end: broken),
            Row(
                what: "a chain of 100 that nobody needs", host: .chain(chain(100), good),
                end: "delivered tls-authenticated"),
        ]
    }

    /// A host that runs.
    private enum Running: Sendable {
        case hostile(HostileMailHost)
        case front(StartTLSFront)
        case scripted(ScriptedSMTPServer)
        case openSSL(ChildProcess, StartTLSFront, folder: String)

        func stop() async throws {
            switch self {
            case .hostile(let host): try await host.stop()
            case .front(let host): try await host.stop()
            case .scripted(let host): try await host.stop()
            case .openSSL(let process, let front, let folder):
                process.signal(SIGKILL)
                try await front.stop()
                try? FileManager.default.removeItem(atPath: folder)
            }
        }
    }

    private static func start(
        _ row: Row, _ authority: TestAuthority, on address: String, port: Int
    ) async throws -> Running {
        switch row.host {
        case .steps(let steps): return .hostile(try await .start(steps, on: address, port: port))
        case .front(let backend): return .front(try await .start(backend, on: address, port: port))
        case .chain(let chain, let identity):
            var script = SMTPScript()
            script.tls = try TLSContext.server(
                certificateChainPEM: chain, privateKeyPEM: try identity.privateKeyPEM)
            return .scripted(try await .start(script, on: address, port: port))
        case .openSSL(let command, let arguments):
            let folder = NSTemporaryDirectory() + "zegel-hostile-\(UUID().uuidString)"
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            let identity = try authority.issue(["hostile.test"])
            try Data(identity.chainPEM).write(to: URL(filePath: folder + "/cert.pem"))
            try Data(try identity.privateKeyPEM).write(to: URL(filePath: folder + "/key.pem"))
            let inner = Int(try freePort())
            // It is told once the handshake is done; `yes` ends with the reader of its pipe.
            let server =
                "exec openssl s_server -accept 127.0.0.1:\(inner) -cert cert.pem -key key.pem "
                + arguments.joined(separator: " ")
                + " < <(until grep -q CIPHER output; do sleep 0.05; done; yes \(command))"
            let process = try await ChildProcess.start(
                ["bash", "-c", server],
                environment: ["OPENSSL_CONF": "/dev/null"], directory: folder, output: folder + "/output")
            return .openSSL(
                process, try await .start(.port(inner), on: address, port: port), folder: folder)
        }
    }

    private static func routes(_ rows: [Row], port: Int) -> String {
        rows.indices.map { "row\($0).test=\(address($0)):\(port)" }.joined(separator: ",")
    }
    private static func address(_ number: Int) -> String { "127.0.15.\(number + 1)" }

    @Test func `each ends in time, within bounds, with a reason`() async throws {
        let lab = try await WorkerLab()
        let rows = try Self.rows(lab.authority) + Self.certificates(lab.authority)
        let port = Int(try freePort())
        var hosts: [Running] = []
        for (number, row) in rows.enumerated() {
            hosts.append(try await Self.start(row, lab.authority, on: Self.address(number), port: port))
        }
        var messages: [UUID: Int] = [:]
        for number in rows.indices {
            messages[try await lab.accept(from: nil, to: ["r@row\(number).test"], ruleset: "secure")] = number
        }
        let worker = try await lab.worker(
            routes: [:],
            settings: [
                "delivery.routes=" + Self.routes(rows, port: port), "delivery.retry=1h",
                "worker.concurrency=40",
            ],
            timeouts: SessionTimeouts(
                connect: .seconds(5), greeting: .seconds(6), hello: .seconds(6), handshake: .seconds(6),
                envelope: .seconds(6), quit: .seconds(1)))
        let ids = Set(messages.keys)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(60)) { seen in
                Set(seen.filter(\.endsAttempt).map(\.message)).isSuperset(of: ids)
            }
        }
        for end in events where end.endsAttempt {
            let row = rows[messages[end.message] ?? 0]
            let explanation = end.detail?.explanation ?? ""
            #expect("\(end.kind) \(end.reason ?? "")" == row.end, "\(row.what): \(explanation)")
            #expect(end.kind == "delivered" || !explanation.isEmpty, "\(row.what): no explanation")
        }
        for (row, host) in zip(rows, hosts) {
            switch host {
            case .hostile(let host):
                try await eventually("\(row.what): closed") { host.transcript.open == 0 }
                #expect(host.transcript.sent <= row.taken, "\(row.what): \(host.transcript.sent) octets")
                #expect(host.transcript.connections == 1, "\(row.what)")
            case .openSSL(_, let front, _):
                #expect(
                    front.octetsOfClients < 64 << 10,
                    "\(row.what): \(front.octetsOfClients) octets of answers")
            case .front, .scripted: break
            }
            try await host.stop()
        }
    }

    @Test func `while hostile hosts hang, mail to others goes on`() async throws {
        let lab = try await WorkerLab()
        let rows = try Self.rows(lab.authority).filter(\.hangs)
        let port = Int(try freePort())
        var hosts: [Running] = []
        for (number, row) in rows.enumerated() {
            hosts.append(try await Self.start(row, lab.authority, on: Self.address(number), port: port))
        }
        let good = try await lab.host("good.test")
        let worker = try await lab.worker(
            routes: [:],
            settings: [
                "delivery.routes=" + Self.routes(rows, port: port)
                    + ",good.test=127.0.0.1:\(try good.address.port ?? 0)",
                "delivery.retry=1h", "worker.concurrency=40",
            ],
            timeouts: SessionTimeouts(
                greeting: .seconds(20), hello: .seconds(20), handshake: .seconds(20),
                envelope: .seconds(20), quit: .seconds(1)))
        // The hostile hosts first, and two messages for each.
        for _ in 0..<2 {
            for number in rows.indices { _ = try await lab.accept(from: nil, to: ["r@row\(number).test"]) }
        }
        let running = hosts
        let events = try await lab.working([worker]) {
            try await eventually("the hostile hosts have their connections", within: .seconds(20)) {
                running.allSatisfy {
                    switch $0 {
                    case .hostile(let host): host.transcript.open > 0
                    case .front(let host): host.connections > 0
                    case .scripted, .openSSL: true
                    }
                }
            }
            for _ in 0..<5 { _ = try await lab.accept(from: nil, to: ["r@good.test"]) }
            return try await lab.events { $0.filter { $0.kind == "delivered" }.count == 5 }
        }
        #expect(events.filter(\.endsAttempt).count == 5, "the hostile ones are under way still")
        #expect(good.transcript.mails.count == 5)
        for host in hosts { try await host.stop() }
        try await good.stop()
    }
}
