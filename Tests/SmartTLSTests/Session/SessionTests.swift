// Outbound sessions against a host that does as it is told: what is sent, what is concluded, and what never leaves.

import Foundation
import Lab
import NIOCore
import NIOPosix
import SMTP
import SmartTLS
import Synchronization
import TLS
import Testing

/// Certificates and shorthands for the tests of sessions.
enum SessionBench {
    static let authority = Result { try TestAuthority() }

    static func server(_ identity: TestIdentity? = nil) throws -> TLSContext {
        let identity = try identity ?? authority.get().issue(["peer.test"])
        return try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM)
    }

    static func client() throws -> TLSContext { try .client(trust: .pem(authority.get().rootPEM)) }

    /// A short limit for one step, so that a busy machine does not run out of the others.
    static func impatient(_ step: WritableKeyPath<SessionTimeouts, Duration>?) -> SessionTimeouts {
        var timeouts = SessionTimeouts()
        if let step { timeouts[keyPath: step] = .milliseconds(300) }
        return timeouts
    }

    static func target(_ server: ScriptedSMTPServer, _ tls: SessionTLS = .never) throws -> SessionTarget {
        SessionTarget(
            hostName: "peer.test", address: try server.address, heloName: "zegel.test", tls: tls,
            serverName: "peer.test")
    }

    static func open(
        _ server: ScriptedSMTPServer, _ tls: SessionTLS = .never,
        timeouts: SessionTimeouts = SessionTimeouts()
    ) async throws -> OutboundSession {
        try await OutboundSession.open(
            try target(server, tls), on: MultiThreadedEventLoopGroup.singleton, timeouts: timeouts)
    }

    /// Why no session could be opened.
    static func failure(
        _ server: ScriptedSMTPServer, _ tls: SessionTLS = .never,
        timeouts: SessionTimeouts = SessionTimeouts()
    ) async throws -> SessionFailure? {
        let target = try target(server, tls)
        do throws(SessionFailure) {
            let session = try await OutboundSession.open(
                target, on: MultiThreadedEventLoopGroup.singleton, timeouts: timeouts)
            await session.quit()
            return nil
        } catch { return error }
    }

    static func transaction(
        _ recipients: [String] = ["a@peer.test"], content: String = "Subject: x\r\n\r\nHello\r\n"
    ) -> OutboundTransaction {
        OutboundTransaction(
            envelope: ClientTransaction(
                reversePath: "sender@demo.test", recipients: recipients.map { ClientRecipient(address: $0) }),
            content: OutboundContent(
                prefix: Array("Received: by us\r\n".utf8), body: .memory([Array(content.utf8)])))
    }
}

extension OutboundSession {
    func send(_ transaction: OutboundTransaction) async -> TransactionResult {
        await send(transaction) { true }
    }
}

@Suite(.timeLimit(.minutes(2))) struct SessionTests {
    @Test func aMessageGoesTheWholeWayOverTLS() async throws {
        var script = SMTPScript()
        script.tls = try SessionBench.server()
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server, .required(SessionBench.client()))
        #expect(session.evidence?.verification == .valid)
        #expect(session.evidence?.nameMatched == true)
        #expect(session.evidence?.serverName == "peer.test")
        #expect(session.extensions.pipelining)
        #expect(session.isReusable)
        let text = ".starts with a dot\r\n..two\r\n\r\n.\r\nlast line without end"
        let result = await session.send(SessionBench.transaction(content: text))
        #expect(result.dotSent)
        #expect(result.failure == nil)
        #expect(result.fate(of: 0) == .delivered(SMTPReply(250, EnhancedStatusCode(2, 0, 0), "taken")))
        let mail = try #require(server.transcript.mails.first)
        #expect(String(decoding: mail.content, as: UTF8.self) == "Received: by us\r\n" + text + "\r\n")
        #expect(mail.isSecure)
        #expect(server.transcript.inClear == ["EHLO zegel.test", "STARTTLS"])
        await session.quit()
        #expect(server.transcript.commands.last == "QUIT")
        #expect(!session.isReusable)
        try await eventually("closed") { server.transcript.open == 0 }
        try await server.stop()
    }

    @Test func oneSessionCarriesSeveralMessages() async throws {
        let server = try await ScriptedSMTPServer.start()
        let session = try await SessionBench.open(server)
        for number in 0..<5 {
            let result = await session.send(SessionBench.transaction(content: "\(number)\r\n"))
            #expect(result.finalReply?.code == 250)
            #expect(session.isReusable)
        }
        #expect(server.transcript.mails.count == 5)
        #expect(server.transcript.connections == 1)
        await session.quit()
        try await server.stop()
    }

    @Test func withoutPipeliningEachCommandWaits() async throws {
        var script = SMTPScript()
        script.extensions = []
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server)
        let result = await session.send(SessionBench.transaction(["a@peer.test", "b@peer.test"]))
        #expect(result.finalReply?.code == 250)
        #expect(server.transcript.mails.first?.recipients.count == 2)
        await session.quit()
        try await server.stop()
    }

    @Test func heloWhereEHLOIsUnknown() async throws {
        var script = SMTPScript()
        script.answers = [.ehlo: [.reply("502 5.5.1 what?")]]
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server)
        #expect(session.extensions == EHLOExtensions())
        #expect(await session.send(SessionBench.transaction()).finalReply?.code == 250)
        await session.quit()
        try await server.stop()
    }

    @Test func recipientsFailEachOnTheirOwn() async throws {
        for pipelining in [true, false] {
            var script = SMTPScript()
            if !pipelining { script.extensions = ["ENHANCEDSTATUSCODES"] }
            script.answers = [
                .rcpt: [
                    .reply("550 5.1.1 nobody"), .reply("250 2.1.5 ok"), .reply("452 4.2.2 full"),
                    .reply("250 2.1.5 ok"),
                ]
            ]
            let server = try await ScriptedSMTPServer.start(script)
            let session = try await SessionBench.open(server)
            let result = await session.send(
                SessionBench.transaction(["a@x.test", "b@x.test", "c@x.test", "d@x.test"]))
            #expect(
                result.fate(of: 0)
                    == .rejected(SMTPReply(550, EnhancedStatusCode(5, 1, 1), "nobody"), isTransient: false))
            #expect(
                result.fate(of: 2)
                    == .rejected(SMTPReply(452, EnhancedStatusCode(4, 2, 2), "full"), isTransient: true))
            for index in [1, 3] {
                #expect(
                    result.fate(of: index) == .delivered(SMTPReply(250, EnhancedStatusCode(2, 0, 0), "taken"))
                )
            }
            #expect(
                server.transcript.mails.first?.recipients == ["RCPT TO:<b@x.test>", "RCPT TO:<d@x.test>"])
            #expect(session.isReusable)
            await session.quit()
            try await server.stop()
        }
    }

    @Test(
        "a 4yz or 5yz at any step rejects with its own class, sends no content, and the session goes on",
        arguments: [ScriptedStep.mail, .rcpt, .data, .dot], ["450 4.3.0 later", "550 5.7.1 never"])
    func refusals(at step: ScriptedStep, _ reply: String) async throws {
        for pipelining in [true, false] {
            var script = SMTPScript()
            if !pipelining { script.extensions = ["ENHANCEDSTATUSCODES"] }
            script.answers = [step: [.reply(reply)]]
            // A host that refused MAIL or all RCPT refuses DATA too.
            let server = try await ScriptedSMTPServer.start(script)
            let session = try await SessionBench.open(server)
            let result = await session.send(SessionBench.transaction())
            guard case .rejected(let said, let isTransient) = result.fate(of: 0) else {
                Issue.record("\(result)")
                continue
            }
            #expect(said.text == reply)
            #expect(isTransient == (reply.first == "4"))
            #expect(result.dotSent == (step == .dot))
            if step != .dot { #expect(server.transcript.contentBytes == 0) }
            #expect(session.isReusable)
            #expect(await session.send(SessionBench.transaction()).finalReply?.code == 250)
            await session.quit()
            try await server.stop()
        }
    }

    @Test func a421EndsTheSession() async throws {
        for step in [ScriptedStep.mail, .rcpt, .data, .dot] {
            var script = SMTPScript()
            script.answers = [step: [.replyThenClose("421 4.3.2 going down")]]
            let server = try await ScriptedSMTPServer.start(script)
            let session = try await SessionBench.open(server)
            let result = await session.send(SessionBench.transaction())
            #expect(
                result.fate(of: 0)
                    == .rejected(SMTPReply(421, EnhancedStatusCode(4, 3, 2), "going down"), isTransient: true)
            )
            #expect(!session.isReusable)
            let next = await session.send(SessionBench.transaction())
            #expect(next.fate(of: 0) == .notAttempted)
            #expect(next.failure?.code == .connectionLost)
            try await server.stop()
        }
    }

    @Test func aConnectionLostBeforeTheDotConcludesNothing() async throws {
        for step in [ScriptedStep.mail, .rcpt, .data] {
            var script = SMTPScript()
            script.answers = [step: [.close]]
            let server = try await ScriptedSMTPServer.start(script)
            let session = try await SessionBench.open(server)
            let result = await session.send(SessionBench.transaction())
            #expect(result.fate(of: 0) == .notAttempted, "\(step)")
            #expect(!result.dotSent)
            #expect(result.failure?.code == .connectionLost)
            try await server.stop()
        }
    }

    @Test func aConnectionLostAfterTheDotIsInDoubt() async throws {
        for tls in [true, false] {
            var script = SMTPScript()
            if tls { script.tls = try SessionBench.server() }
            script.answers = [.dot: [.close]]
            let server = try await ScriptedSMTPServer.start(script)
            let session = try await SessionBench.open(server, .opportunistic(SessionBench.client()))
            let result = await session.send(SessionBench.transaction())
            #expect(result.dotSent)
            #expect(result.finalReply == nil)
            #expect(result.fate(of: 0) == .inDoubt)
            #expect(result.failure?.code == .connectionLost)
            try await server.stop()
        }
    }

    @Test func withoutLeaveNoDotIsSent() async throws {
        for size in [10, 500_000] {
            let server = try await ScriptedSMTPServer.start()
            let session = try await SessionBench.open(server)
            let content = String(repeating: "0123456789\r\n", count: size / 12 + 1)
            let result = await session.send(SessionBench.transaction(content: content)) { false }
            #expect(!result.dotSent)
            #expect(result.fate(of: 0) == .notAttempted)
            #expect(result.failure?.code == .stopped)
            #expect(!session.isReusable)
            try await eventually("closed") { server.transcript.open == 0 }
            #expect(server.transcript.dots == 0)
            #expect(server.transcript.mails.isEmpty)
            try await server.stop()
        }
    }

    @Test func leaveIsAskedForOnlyWhenARecipientWasAccepted() async throws {
        var script = SMTPScript()
        script.answers = [.rcpt: [.reply("550 5.1.1 nobody")]]
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server)
        let asked = Mutex(0)
        _ = await session.send(SessionBench.transaction()) {
            asked.withLock { $0 += 1 }
            return true
        }
        #expect(asked.withLock { $0 } == 0)
        _ = await session.send(SessionBench.transaction()) {
            asked.withLock { $0 += 1 }
            return true
        }
        #expect(asked.withLock { $0 } == 1)
        await session.quit()
        try await server.stop()
    }

    @Test func whatAHostCannotTakeIsNotAttempted() async throws {
        var script = SMTPScript()
        script.extensions = ["SIZE 1000"]
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server)
        var transaction = SessionBench.transaction()
        transaction.envelope.size = 2_000
        let result = await session.send(transaction)
        #expect(result.problem == .tooLarge(limit: 1_000))
        guard case .rejected(let reply, isTransient: false) = result.fate(of: 0) else {
            Issue.record("\(result)")
            return
        }
        #expect(reply.code == 552)
        #expect(session.isReusable)
        #expect(!server.transcript.commands.contains { $0.hasPrefix("MAIL") })
        await session.quit()
        try await server.stop()
    }

    @Test func cancellationBeforeTheDotEndsTheSessionWithoutIt() async throws {
        var script = SMTPScript()
        script.answers = [.data: [.silence]]
        let server = try await ScriptedSMTPServer.start(script)
        let session = try await SessionBench.open(server)
        let task = Task { await session.send(SessionBench.transaction()) }
        try await eventually("DATA") { server.transcript.commands.last == "DATA" }
        task.cancel()
        let result = await task.value
        #expect(result.failure?.code == .cancelled)
        #expect(result.fate(of: 0) == .notAttempted)
        #expect(server.transcript.dots == 0)
        try await server.stop()
    }

    @Test func cancellationAfterTheDotStillHearsTheAnswer() async throws {
        var script = SMTPScript()
        script.answers = [.dot: [.silence]]
        let server = try await ScriptedSMTPServer.start(script)
        let timeouts = SessionBench.impatient(\.finalDot)
        let session = try await SessionBench.open(server, timeouts: timeouts)
        let task = Task { await session.send(SessionBench.transaction()) }
        try await eventually("dot") { server.transcript.dots == 1 }
        task.cancel()
        let result = await task.value
        #expect(result.failure?.code == .timeout)
        #expect(result.fate(of: 0) == .inDoubt)
        try await server.stop()
    }
}
