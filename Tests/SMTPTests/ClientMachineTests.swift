// The client's side of a session, fed reply by reply: each test is named by the rule it holds the machine to.

import NIOCore
import Testing

@testable import SMTP

/// A machine with its buffers, and everything it wrote.
private final class Dialogue {
    var machine: SMTPClientMachine
    var output = ByteBuffer()

    init(_ startTLS: SMTPClientMachine.StartTLS = .never, isProtected: Bool = false) {
        machine = SMTPClientMachine(heloName: "zegel.test", startTLS: startTLS, isProtected: isProtected)
    }

    /// What was written since the last look.
    func written() -> String { output.readString(length: output.readableBytes) ?? "" }

    /// Feeds text and returns the first action that is not `wait`, or `wait`.
    func hear(_ text: String) -> SMTPClientMachine.Action {
        var input = ByteBuffer(string: text)
        return machine.receive(&input, &output)
    }

    func open(_ extensions: [String]) {
        _ = hear("220 peer.test ESMTP\r\n")
        let lines = ["peer.test"] + extensions
        var text = ""
        for (index, line) in lines.enumerated() {
            text += "250\(index == lines.count - 1 ? " " : "-")\(line)\r\n"
        }
        #expect(hear(text) == .ready)
        _ = written()
    }

    var isReusable: Bool { machine.isReusable }
    var awaiting: SMTPClientMachine.Awaiting { machine.awaiting }
    var extensions: EHLOExtensions { machine.extensions }
    func finalDot() -> Bool { machine.finalDot(&output) }
    func tlsEstablished() -> SMTPClientMachine.Action { machine.tlsEstablished(&output) }
    func quit() -> SMTPClientMachine.Action { machine.quit(&output) }
    func connectionClosed() -> SMTPClientMachine.Action { machine.connectionClosed() }

    func begin(_ transaction: ClientTransaction) throws(CapabilityProblem) {
        _ = try machine.begin(transaction, &output)
    }
}

private func transaction(_ count: Int = 1) -> ClientTransaction {
    ClientTransaction(
        reversePath: "a@demo.test",
        recipients: (0..<count).map { ClientRecipient(address: "r\($0)@peer.test") })
}

@Suite struct ClientMachineTests {
    @Test("RFC 5321 §3.2: EHLO first, HELO when the server does not know it")
    func fallsBackToHELO() {
        let dialogue = Dialogue()
        #expect(dialogue.hear("220 hi\r\n") == .wait)
        #expect(dialogue.written() == "EHLO zegel.test\r\n")
        #expect(dialogue.hear("502 what\r\n") == .wait)
        #expect(dialogue.written() == "HELO zegel.test\r\n")
        #expect(dialogue.hear("250 peer\r\n") == .ready)
        #expect(dialogue.extensions == EHLOExtensions())
    }

    @Test(
        "A greeting other than 220 ends the session",
        arguments: ["554 5.3.2 no\r\n", "421 busy\r\n", "250 odd\r\n"])
    func refusesGreeting(_ text: String) {
        let dialogue = Dialogue()
        guard case .failed(.greetingRefused) = dialogue.hear(text) else {
            Issue.record("not refused")
            return
        }
        #expect(!dialogue.isReusable)
    }

    @Test("RFC 3207 §4.2: what EHLO said in clear is forgotten, EHLO is said again")
    func forgetsAfterTLS() {
        let dialogue = Dialogue(.required)
        _ = dialogue.hear("220 hi\r\n")
        #expect(dialogue.hear("250-peer\r\n250-SIZE 10\r\n250 STARTTLS\r\n") == .wait)
        #expect(dialogue.written() == "EHLO zegel.test\r\nSTARTTLS\r\n")
        #expect(dialogue.hear("220 2.0.0 go\r\n") == .startTLS)
        #expect(dialogue.extensions == EHLOExtensions())
        #expect(dialogue.tlsEstablished() == .wait)
        #expect(dialogue.written() == "EHLO zegel.test\r\n")
        #expect(dialogue.hear("250-peer\r\n250 STARTTLS\r\n") == .ready)
        #expect(dialogue.written() == "")
    }

    @Test("RFC 3207 §5: bytes behind the answer to STARTTLS end the session")
    func refusesInjection() {
        let dialogue = Dialogue(.required)
        _ = dialogue.hear("220 hi\r\n")
        _ = dialogue.hear("250-peer\r\n250 STARTTLS\r\n")
        #expect(dialogue.hear("220 go\r\n250 evil\r\n") == .failed(.bytesBehindStartTLS))
    }

    @Test("STARTTLS required: not offered or refused ends the session; where offered: goes on in clear")
    func startTLSPolicies() {
        let required = Dialogue(.required)
        _ = required.hear("220 hi\r\n")
        #expect(required.hear("250 peer\r\n") == .failed(.startTLSNotOffered))

        let refused = Dialogue(.required)
        _ = refused.hear("220 hi\r\n")
        _ = refused.hear("250-peer\r\n250 STARTTLS\r\n")
        guard case .failed(.startTLSRefused) = refused.hear("454 4.7.0 no\r\n") else {
            Issue.record("not refused")
            return
        }

        let opportunistic = Dialogue(.whereOffered)
        _ = opportunistic.hear("220 hi\r\n")
        _ = opportunistic.hear("250-peer\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
        #expect(opportunistic.hear("454 4.7.0 no\r\n") == .ready)
        #expect(opportunistic.extensions.pipelining)
    }

    @Test(
        "RFC 2920 §3.1: with PIPELINING the whole envelope goes in one write; the dot waits for its own step")
    func pipelines() throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING", "SIZE 1000"])
        var sent = transaction(2)
        sent.size = 500
        try dialogue.begin(sent)
        #expect(
            dialogue.written()
                == "MAIL FROM:<a@demo.test> SIZE=500\r\nRCPT TO:<r0@peer.test>\r\nRCPT TO:<r1@peer.test>\r\nDATA\r\n"
        )
        #expect(dialogue.hear("250 ok\r\n250 ok\r\n550 5.1.1 who\r\n") == .wait)
        #expect(dialogue.awaiting == .data)
        #expect(dialogue.hear("354 go\r\n") == .sendContent)
        #expect(dialogue.written() == "")
        let dot = dialogue.finalDot()
        #expect(dot)
        #expect(dialogue.written() == ".\r\n")
        #expect(dialogue.awaiting == .finalDot)
        let ended = dialogue.hear("250 2.0.0 queued\r\n")
        let unknown = SMTPReply(550, EnhancedStatusCode(5, 1, 1), "who")
        #expect(
            ended
                == .transactionEnded(
                    ClientTransactionOutcome(
                        recipients: [.accepted, .rejected(unknown, isTransient: false)], dotSent: true,
                        finalReply: SMTPReply(250, EnhancedStatusCode(2, 0, 0), "queued"))))
        #expect(dialogue.isReusable)
    }

    @Test("Without PIPELINING each command waits for its answer")
    func oneByOne() throws {
        let dialogue = Dialogue()
        dialogue.open([])
        try dialogue.begin(transaction(2))
        #expect(dialogue.written() == "MAIL FROM:<a@demo.test>\r\n")
        _ = dialogue.hear("250 ok\r\n")
        #expect(dialogue.written() == "RCPT TO:<r0@peer.test>\r\n")
        _ = dialogue.hear("250 ok\r\n")
        #expect(dialogue.written() == "RCPT TO:<r1@peer.test>\r\n")
        _ = dialogue.hear("450 later\r\n")
        #expect(dialogue.written() == "DATA\r\n")
        #expect(dialogue.hear("354 go\r\n") == .sendContent)
    }

    @Test("RFC 2920 §3.1: all RCPT fail and DATA is answered 354: a lone dot, and no final dot was sent")
    func loneDot() throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING"])
        try dialogue.begin(transaction(1))
        _ = dialogue.written()
        #expect(dialogue.hear("250 ok\r\n550 5.1.1 who\r\n354 go\r\n") == .wait)
        #expect(dialogue.written() == ".\r\n")
        guard case .transactionEnded(let outcome) = dialogue.hear("554 5.5.1 no recipients\r\n") else {
            Issue.record("not ended")
            return
        }
        #expect(!outcome.dotSent)
        #expect(outcome.finalReply == nil)
        #expect(dialogue.isReusable)
    }

    @Test(
        "Without PIPELINING DATA is not sent when no recipient was accepted; RSET goes before the next MAIL")
    func resetsBeforeNext() throws {
        let dialogue = Dialogue()
        dialogue.open([])
        try dialogue.begin(transaction(1))
        _ = dialogue.hear("250 ok\r\n")
        guard case .transactionEnded = dialogue.hear("550 5.1.1 who\r\n") else {
            Issue.record("not ended")
            return
        }
        _ = dialogue.written()
        try dialogue.begin(transaction(1))
        #expect(dialogue.written() == "RSET\r\n")
        _ = dialogue.hear("250 ok\r\n")
        #expect(dialogue.written() == "MAIL FROM:<a@demo.test>\r\n")
    }

    @Test("A refused MAIL is the answer for every recipient", arguments: [true, false])
    func refusedMail(_ pipelining: Bool) throws {
        let dialogue = Dialogue()
        dialogue.open(pipelining ? ["PIPELINING"] : [])
        try dialogue.begin(transaction(2))
        let text = pipelining ? "451 4.7.1 grey\r\n503 a\r\n503 b\r\n503 c\r\n" : "451 4.7.1 grey\r\n"
        guard case .transactionEnded(let outcome) = dialogue.hear(text) else {
            Issue.record("not ended")
            return
        }
        let grey = SMTPReply(451, EnhancedStatusCode(4, 7, 1), "grey")
        #expect(
            outcome.recipients == [.rejected(grey, isTransient: true), .rejected(grey, isTransient: true)])
        #expect(dialogue.isReusable)
    }

    @Test("A refused DATA is the answer for the accepted recipients only")
    func refusedData() throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING"])
        try dialogue.begin(transaction(2))
        guard
            case .transactionEnded(let outcome) = dialogue.hear(
                "250 ok\r\n250 ok\r\n550 5.1.1 who\r\n451 4.3.0 disk\r\n")
        else {
            Issue.record("not ended")
            return
        }
        let disk = SMTPReply(451, EnhancedStatusCode(4, 3, 0), "disk")
        let unknown = SMTPReply(550, EnhancedStatusCode(5, 1, 1), "who")
        #expect(
            outcome.recipients == [
                .rejected(disk, isTransient: true), .rejected(unknown, isTransient: false),
            ])
    }

    @Test("RFC 5321 §3.8: 421 in a group ends the transaction at once, transient for all that have no answer")
    func closesOn421() throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING"])
        try dialogue.begin(transaction(2))
        guard case .transactionEnded(let outcome) = dialogue.hear("250 ok\r\n421 4.3.2 bye\r\n") else {
            Issue.record("not ended")
            return
        }
        let bye = SMTPReply(421, EnhancedStatusCode(4, 3, 2), "bye")
        #expect(outcome.recipients == [.rejected(bye, isTransient: true), .rejected(bye, isTransient: true)])
        #expect(!dialogue.isReusable)
    }

    @Test("RFC 5321 §4.5.3.1.10: a bare 552 to RCPT is transient, 552 5.2.2 is not")
    func tooManyRecipients() throws {
        for (text, isTransient) in [
            ("552 too many", true), ("552 5.5.3 too many", true), ("552 5.2.2 full", false),
        ] {
            let dialogue = Dialogue()
            dialogue.open([])
            try dialogue.begin(transaction(1))
            _ = dialogue.hear("250 ok\r\n")
            guard case .transactionEnded(let outcome) = dialogue.hear(text + "\r\n"),
                case .rejected(_, let transient) = outcome.recipients[0]
            else {
                Issue.record("not rejected")
                return
            }
            #expect(transient == isTransient, "\(text)")
        }
    }

    @Test(
        "The connection ends: before the dot nothing was sent, after it the outcome is in doubt",
        arguments: [true, false])
    func closedAroundTheDot(_ afterDot: Bool) throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING"])
        try dialogue.begin(transaction(1))
        _ = dialogue.hear("250 ok\r\n250 ok\r\n354 go\r\n")
        if afterDot { #expect(dialogue.finalDot()) }
        guard case .transactionEnded(let outcome) = dialogue.connectionClosed() else {
            Issue.record("not ended")
            return
        }
        #expect(outcome.dotSent == afterDot)
        #expect(outcome.finalReply == nil)
        #expect(outcome.recipients == [afterDot ? .accepted : .notAttempted])
        #expect(dialogue.connectionClosed() == .wait)
    }

    @Test("A reply while content is streamed ends the transaction, and the dot is not given")
    func repliesDuringContent() throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING"])
        try dialogue.begin(transaction(1))
        _ = dialogue.hear("250 ok\r\n250 ok\r\n354 go\r\n")
        guard case .transactionEnded(let outcome) = dialogue.hear("552 5.3.4 too big\r\n") else {
            Issue.record("not ended")
            return
        }
        #expect(!outcome.dotSent)
        let dot = dialogue.finalDot()
        #expect(!dot)
        #expect(!dialogue.isReusable)
    }

    @Test("RFC 1870, 6152, 6531, 8689: what the server lacks is found before a byte is sent")
    func checksCapabilities() {
        var cases: [(ClientTransaction, [String], CapabilityProblem?)] = []
        var sent = transaction()
        sent.size = 1001
        cases.append((sent, ["SIZE 1000"], .tooLarge(limit: 1000)))
        cases.append((sent, ["SIZE 0"], nil))
        cases.append((sent, ["SIZE"], nil))
        sent = transaction()
        sent.isEightBit = true
        cases.append((sent, [], .noEightBitMIME))
        cases.append((sent, ["8bitmime"], nil))
        sent = transaction()
        sent.needsSMTPUTF8 = true
        cases.append((sent, ["8BITMIME"], .noSMTPUTF8))
        sent = transaction()
        sent.requiresTLS = true
        cases.append((sent, [], .noRequireTLS))
        for address in ["a\r\nRCPT TO:<b@c.test", "a>b@c.test", "", "a\u{0}@c.test"] {
            sent = transaction()
            sent.recipients = [ClientRecipient(address: address)]
            cases.append((sent, [], .unsafeArgument))
        }
        sent = transaction()
        sent.envelopeID = "a b"
        cases.append((sent, ["DSN"], .unsafeArgument))
        for (sent, extensions, expected) in cases {
            let dialogue = Dialogue()
            dialogue.open(extensions)
            var problem: CapabilityProblem?
            do { try dialogue.begin(sent) } catch { problem = error }
            #expect(problem == expected)
            if expected != nil { #expect(dialogue.written() == "") }
        }
    }

    @Test("RFC 3461 §4: DSN parameters only to a server that offers DSN", arguments: [true, false])
    func passesDSNParameters(_ offered: Bool) throws {
        let dialogue = Dialogue()
        dialogue.open(
            offered ? ["PIPELINING", "DSN", "8BITMIME", "SMTPUTF8"] : ["PIPELINING", "8BITMIME", "SMTPUTF8"])
        let sent = ClientTransaction(
            reversePath: "",
            recipients: [
                ClientRecipient(address: "é@p.test", notify: "FAILURE", originalRecipient: "rfc822;x+2B@y")
            ], isEightBit: true, needsSMTPUTF8: true, envelopeID: "id", returnContent: "HDRS")
        try dialogue.begin(sent)
        let expected =
            offered
            ? "MAIL FROM:<> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id\r\nRCPT TO:<é@p.test> NOTIFY=FAILURE ORCPT=rfc822;x+2B@y\r\nDATA\r\n"
            : "MAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<é@p.test>\r\nDATA\r\n"
        #expect(dialogue.written() == expected)
    }

    @Test("RFC 9422: RCPTMAX bounds a transaction, MAILMAX a session")
    func obeysLimits() throws {
        let dialogue = Dialogue()
        dialogue.open(["PIPELINING", "LIMITS RCPTMAX=1 MAILMAX=1"])
        try dialogue.begin(transaction(2))
        #expect(dialogue.written() == "MAIL FROM:<a@demo.test>\r\nRCPT TO:<r0@peer.test>\r\nDATA\r\n")
        _ = dialogue.hear("250 ok\r\n250 ok\r\n354 go\r\n")
        #expect(dialogue.finalDot())
        guard case .transactionEnded(let outcome) = dialogue.hear("250 ok\r\n") else {
            Issue.record("not ended")
            return
        }
        #expect(outcome.recipients == [.accepted, .notAttempted])
        #expect(!dialogue.isReusable)
    }

    @Test("QUIT is said when idle, and its answer closes")
    func quits() {
        let dialogue = Dialogue()
        dialogue.open([])
        #expect(dialogue.quit() == .wait)
        #expect(dialogue.written() == "QUIT\r\n")
        #expect(dialogue.hear("221 bye\r\n") == .close)
    }

    @Test("A reply that nothing asked for ends an idle session")
    func unexpectedReplies() {
        let dialogue = Dialogue()
        dialogue.open([])
        guard case .failed(.closing) = dialogue.hear("421 4.4.2 idle too long\r\n") else {
            Issue.record("not closing")
            return
        }
        #expect(!dialogue.isReusable)
    }
}
