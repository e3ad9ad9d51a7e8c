// The whole worker, from a committed message to its last event, against recipients that misbehave on order.

import Foundation
import Lab
import SMTP
import Sealing
import Settings
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct WorkerTests {
    @Test(
        "Delivered over TLS, byte for byte behind our Received line; events tell it; then content and key are gone"
    )
    func delivers() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        let content = Array("Subject: x\r\n\r\n.dot\r\n..two\r\nlast line without end".utf8)
        let message = try await lab.accept(to: ["r@peer.test"], content: content)
        let events = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
            try await lab.events { $0.contains { $0.kind == "shredded" } }
        }
        let mail = try #require(host.transcript.mails.first)
        #expect(mail.isSecure)
        #expect(mail.content.starts(with: Array("Received: from test by lab;".utf8)))
        #expect(mail.content.suffix(content.count + 2).elementsEqual(content + [0x0D, 0x0A]))
        // Law 2: nothing of the message in clear, not even MAIL.
        #expect(!host.transcript.inClear.contains { $0.hasPrefix("MAIL") || $0.hasPrefix("RCPT") })
        let kinds = events.filter { $0.message == message }.map(\.kind)
        #expect(Set(kinds) == ["accepted", "assessed", "delivered", "shredded"])
        let delivered = try #require(events.first { $0.kind == "delivered" })
        #expect(delivered.reason == "tls-authenticated")
        #expect(delivered.recipient == 0)
        #expect(!delivered.possibleDuplicate)
        let detail = try #require(delivered.detail)
        #expect(detail.tlsVersion == "TLSv1.3")
        #expect(detail.certificateDigest?.count == 64)
        #expect(detail.verdict == "deliver" && detail.ruleset == "secure")
        #expect(detail.reply?.hasPrefix("250") == true)
        #expect(detail.attempt == 1)
        #expect(try await lab.count("SELECT count(*) FROM ledger.content") == 0)
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery") == 0)
        #expect(
            try await lab.count("SELECT count(*) FROM ledger.message WHERE wrapped_message_key IS NOT NULL")
                == 0)
    }

    @Test(
        "Each recipient ends on its own: delivered, bounced with a report, tried again until it is delivered")
    func partial() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") {
            $0.answers[.rcpt] = [
                .reply("250 2.1.5 ok"), .reply("550 5.1.1 who is that"), .reply("451 4.7.1 greylisted"),
            ]
        }
        let sender = try await lab.host("demo.test")
        let message = try await lab.accept(to: ["a@peer.test", "b@peer.test", "c@peer.test"])
        let events = try await lab.working([
            try await lab.worker(routes: ["peer.test": host, "demo.test": sender])
        ]) {
            try await lab.events { seen in
                seen.filter { $0.kind == "delivered" && $0.message == message }.count == 2
                    && seen.filter { $0.kind == "shredded" }.count == 2
            }
        }
        func kinds(_ recipient: Int32) -> [String] {
            events.filter { $0.message == message && $0.recipient == recipient }.map(\.kind)
        }
        #expect(kinds(0) == ["accepted", "delivered"])
        #expect(kinds(1) == ["accepted", "bounced", "notified"])
        #expect(kinds(2) == ["accepted", "deferred", "delivered"])
        // Nobody got it twice.
        let told = host.transcript.mails.flatMap(\.recipients)
        #expect(told.filter { $0.contains("a@peer.test") }.count == 1)
        #expect(told.filter { $0.contains("c@peer.test") }.count == 1)
        let report = String(decoding: try #require(sender.transcript.mails.first).content, as: UTF8.self)
        #expect(report.contains("Final-Recipient: rfc822; b@peer.test\r\n"))
        #expect(report.contains("Status: 5.1.1\r\n"))
        #expect(report.contains("Diagnostic-Code: smtp; 550 5.1.1 who is that\r\n"))
        #expect(report.contains("Subject: test\r\n"))
        #expect(!report.contains("hello"))
        #expect(sender.transcript.mails.first?.mail.hasPrefix("MAIL FROM:<>") == true)
    }

    /// A recipient that is not good enough for `secure`.
    enum Fault: String, CaseIterable, Sendable {
        case noTLS = "starttls-not-supported"
        case selfSigned = "certificate-not-trusted"
        case expired = "certificate-expired"
        case wrongName = "certificate-host-mismatch"
    }

    @Test(
        "Law 2: refused at the first attempt, nothing sent, the sender told why in both languages",
        arguments: Fault.allCases)
    func refuses(_ fault: Fault) async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { script in
            let identity =
                switch fault {
                case .noTLS: nil as TestIdentity?
                case .selfSigned: try? TestAuthority.selfSigned(["peer.test"])
                case .expired: try? lab.authority.issue(["peer.test"], from: .now - 7200, to: .now - 3600)
                case .wrongName: try? lab.authority.issue(["other.test"])
                }
            script.tls = identity.flatMap { identity in
                try? TLSContext.server(
                    certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM)
            }
        }
        let sender = try await lab.host("demo.test")
        let message = try await lab.accept(to: ["r@peer.test"])
        let events = try await lab.working([
            try await lab.worker(routes: ["peer.test": host, "demo.test": sender])
        ]) {
            try await lab.events { $0.filter { $0.kind == "shredded" }.count == 2 }
        }
        let refused = try #require(events.first { $0.kind == "refused" })
        #expect(refused.reason == fault.rawValue)
        #expect(refused.detail?.verdict == "refuse")
        #expect(events.contains { $0.kind == "assessed" && $0.message == message })
        #expect(!host.transcript.commands.contains { $0.hasPrefix("MAIL") })
        #expect(host.transcript.contentBytes == 0)
        let report = String(decoding: try #require(sender.transcript.mails.first).content, as: UTF8.self)
        #expect(report.contains("NL: De mailserver") || report.contains("NL: Het certificaat"))
        #expect(report.contains("EN: The "))
        #expect(report.contains("Action: failed\r\n"))
    }

    @Test("`opportunistic` goes in clear only where STARTTLS is not offered")
    func opportunistic() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.tls = nil }
        _ = try await lab.accept(to: ["r@peer.test"], ruleset: "opportunistic")
        let events = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
            try await lab.events { $0.contains { $0.kind == "delivered" } }
        }
        #expect(events.first { $0.kind == "delivered" }?.reason == "cleartext-allowed")
    }

    @Test("5xx to the content bounces, 4xx defers, and the retry is delivered")
    func finalReplies() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") {
            $0.answers[.dot] = [.reply("451 4.3.0 later"), .reply("550 5.7.1 spam")]
        }
        _ = try await lab.accept(from: nil, to: ["r@peer.test"])
        let events = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
            try await lab.events { $0.contains { $0.kind == "bounced" } }
        }
        #expect(events.compactMap(\.recipient).count == 3)
        #expect(events.first { $0.kind == "deferred" }?.detail?.reply == "451 4.3.0 later")
        let bounced = try #require(events.first { $0.kind == "bounced" })
        #expect(bounced.detail?.reply == "550 5.7.1 spam" && bounced.detail?.attempt == 2)
        // The null reverse path gets no report.
        #expect(!events.contains { $0.kind == "notified" })
    }

    @Test("A connection that is refused defers; past delivery.expire it expires with a report")
    func expires() async throws {
        let lab = try await WorkerLab()
        let gone = try await lab.host("peer.test")
        let sender = try await lab.host("demo.test")
        let worker = try await lab.worker(
            routes: ["peer.test": gone, "demo.test": sender], settings: ["delivery.expire=15s"])
        try await gone.stop()
        let events = try await lab.working([worker]) {
            _ = try await lab.accept(to: ["r@peer.test"])
            return try await lab.events(within: .seconds(90)) { $0.contains { $0.kind == "delivered" } }
        }
        let message = events.first?.message
        let mine = events.filter { $0.message == message && $0.recipient == 0 }
        #expect(mine.contains { $0.kind == "deferred" })
        #expect(mine.first { $0.kind == "deferred" }?.reason == "connection-refused")
        #expect(mine.contains { $0.kind == "expired" && $0.reason == "message-expired" })
        let report = String(decoding: try #require(sender.transcript.mails.first).content, as: UTF8.self)
        #expect(report.contains("Status: 5.4.7\r\n"))
    }

    @Test("No such domain bounces at once; the report that cannot go is held, never bounced")
    func heldReport() async throws {
        let lab = try await WorkerLab()
        let message = try await lab.accept(to: ["r@nowhere.test"])
        let events = try await lab.working([try await lab.worker(routes: [:])]) {
            try await lab.events { $0.contains { $0.kind == "held" } }
        }
        #expect(
            events.contains { $0.kind == "bounced" && $0.message == message && $0.reason == "no-such-domain" }
        )
        let held = try #require(events.first { $0.kind == "held" })
        #expect(held.message != message)
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery WHERE state = 'held'") == 1)
    }

    @Test(
        "The dot went out and the answer never came: tried again and marked, or held",
        arguments: ["resend", "hold"])
    func inDoubt(_ policy: String) async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.answers[.dot] = [.close] }
        _ = try await lab.accept(to: ["r@peer.test"])
        let last = policy == "resend" ? "delivered" : "held"
        let events = try await lab.working([
            try await lab.worker(routes: ["peer.test": host], settings: ["delivery.in_doubt=\(policy)"])
        ]) {
            try await lab.events { $0.contains { $0.kind == last } }
        }
        let end = try #require(events.first { $0.kind == last })
        #expect(end.possibleDuplicate)
        if policy == "resend" {
            #expect(events.contains { $0.kind == "deferred" && $0.reason == "final-dot-in-doubt" })
        } else {
            #expect(host.transcript.dots == 1)
        }
    }

    @Test("A connection lost before the dot leaves no mark")
    func lostBeforeDot() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.answers[.data] = [.close] }
        _ = try await lab.accept(to: ["r@peer.test"])
        let events = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
            try await lab.events { $0.contains { $0.kind == "delivered" } }
        }
        #expect(events.allSatisfy { !$0.possibleDuplicate })
    }

    /// Where a stored message is altered.
    enum Damage: String, CaseIterable, Sendable {
        case frame =
            "UPDATE ledger.content SET sealed = set_byte(sealed, 90, get_byte(sealed, 90) # 1) WHERE frame_no = 0"
        case lastFrame =
            "UPDATE ledger.content SET sealed = set_byte(sealed, 10, get_byte(sealed, 10) # 1) WHERE frame_no = (SELECT max(frame_no) FROM ledger.content)"
        case missingFrame =
            "DELETE FROM ledger.content WHERE frame_no = (SELECT max(frame_no) FROM ledger.content)"
        case key =
            "UPDATE ledger.message SET wrapped_message_key = set_byte(wrapped_message_key, 60, get_byte(wrapped_message_key, 60) # 1)"
        case envelope =
            "UPDATE ledger.message SET sealed_envelope = set_byte(sealed_envelope, 20, get_byte(sealed_envelope, 20) # 1)"
        case address =
            "UPDATE ledger.recipient SET sealed_address = set_byte(sealed_address, 20, get_byte(sealed_address, 20) # 1)"
    }

    @Test(
        "One altered bit anywhere: held with reason integrity-failure, and nothing partial leaves",
        arguments: Damage.allCases)
    func integrity(_ damage: Damage) async throws {
        for size in [2_000, 600_000] {
            let lab = try await WorkerLab()
            let host = try await lab.host("peer.test")
            let content =
                Array("Subject: big\r\n\r\n".utf8) + Array(repeating: UInt8(ascii: "x"), count: size)
            _ = try await lab.accept(to: ["r@peer.test"], content: content, frameSize: 1000 * (size / 2000))
            try await lab.tamper(damage.rawValue)
            let events = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
                try await lab.events { $0.contains { $0.kind == "held" } }
            }
            #expect(events.first { $0.kind == "held" }?.reason == "integrity-failure")
            #expect(host.transcript.contentBytes == 0)
            #expect(host.transcript.mails.isEmpty)
            #expect(try await lab.count("SELECT count(*) FROM ledger.delivery WHERE state = 'held'") == 1)
        }
    }

    @Test("A large message is streamed in frames, byte for byte")
    func large() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        var content = Array("Subject: big\r\n\r\n".utf8)
        var line = 0
        while content.count < 3_000_000 {
            content +=
                Array(".line \(line) ".utf8)
                + Array(repeating: UInt8(truncatingIfNeeded: 33 + line % 90), count: 60)
            content += [0x0D, 0x0A]
            line += 1
        }
        _ = try await lab.accept(to: ["r@peer.test"], content: content)
        _ = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
            try await lab.events(within: .seconds(60)) { $0.contains { $0.kind == "delivered" } }
        }
        let mail = try #require(host.transcript.mails.first)
        #expect(mail.content.suffix(content.count).elementsEqual(content))
    }

    @Test(
        "The key service is away: claims pause, nothing is sent and nothing ends; when it is back, all goes")
    func keyOutage() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        lab.keys.fail(.unavailable("switched off"))
        _ = try await lab.accept(to: ["r@peer.test"])
        let events = try await lab.working([
            try await lab.worker(routes: ["peer.test": host], settings: ["delivery.expire=1s"])
        ]) {
            try await Task.sleep(for: .seconds(3))
            let during = try await lab.events()
            #expect(during.map(\.kind) == ["accepted"])
            #expect(host.transcript.connections == 0)
            lab.keys.fail(nil)
            return try await lab.events { $0.contains { $0.kind == "delivered" } }
        }
        #expect(events.first { $0.kind == "delivered" }?.detail?.attempt == 1)
    }

    @Test("Sessions are reused for the same destination and ruleset, never across rulesets")
    func reuse() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        for _ in 0..<30 { _ = try await lab.accept(to: ["r@peer.test"]) }
        for _ in 0..<5 { _ = try await lab.accept(to: ["r@peer.test"], ruleset: "opportunistic") }
        _ = try await lab.working([
            try await lab.worker(routes: ["peer.test": host], settings: ["worker.per_destination=2"])
        ]) {
            try await lab.events { $0.filter { $0.kind == "delivered" }.count == 35 }
        }
        let transcript = host.transcript
        #expect(transcript.mails.count == 35)
        #expect(transcript.connections <= 4)
        #expect(transcript.connections >= 2)
    }

    @Test(
        "Two workers on one queue, some recipients failing: nobody gets anything twice, and everything ends")
    func twoWorkers() async throws {
        let lab = try await WorkerLab()
        let good = try await lab.host("good.test")
        let moody = try await lab.host("moody.test") { script in
            script.answers[.rcpt] = (0..<20).map {
                $0 % 2 == 0 ? .reply("451 4.7.1 later") : .reply("250 ok")
            }
            script.answers[.mail] = (0..<10).map { _ in .reply("421 4.3.2 busy") }
        }
        let sender = try await lab.host("demo.test")
        let routes = ["good.test": good, "moody.test": moody, "demo.test": sender]
        let count = 150
        for number in 0..<count {
            _ = try await lab.accept(
                to: ["\(number)@good.test", "\(number)@moody.test", "\(number)-too@good.test"])
        }
        let events = try await lab.working([
            try await lab.worker(name: "one", routes: routes),
            try await lab.worker(name: "two", routes: routes),
        ]) {
            try await lab.events(within: .seconds(60)) {
                $0.filter { $0.kind == "delivered" }.count >= 3 * count
            }
        }
        let told = (good.transcript.mails + moody.transcript.mails).flatMap(\.recipients)
        #expect(told.count == 3 * count)
        #expect(Set(told).count == 3 * count)
        #expect(!events.contains { $0.possibleDuplicate || $0.kind == "duplicate" || $0.kind == "bounced" })
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery") == 0)
    }

    @Test("SIGTERM: what nobody began goes back at once, and the next worker takes it")
    func handsOver() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test") { $0.answers[.dot] = [] }
        for _ in 0..<60 { _ = try await lab.accept(to: ["r@peer.test"]) }
        _ = try await lab.working([
            try await lab.worker(routes: ["peer.test": host], settings: ["worker.per_destination=1"])
        ]) {
            try await lab.events { $0.contains { $0.kind == "delivered" } }
        }
        #expect(try await lab.count("SELECT count(*) FROM ledger.delivery WHERE state = 'claimed'") == 0)
        _ = try await lab.working([try await lab.worker(name: "next", routes: ["peer.test": host])]) {
            try await lab.events { $0.filter { $0.kind == "delivered" }.count == 60 }
        }
        #expect(host.transcript.mails.count == 60)
    }
}
