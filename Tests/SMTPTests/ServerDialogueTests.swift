import NIOCore
import Testing

@testable import SMTP

/// What the server answers to each command in each state. A row is named by the rule it proves.
@Suite("SMTP server: dialogue") struct ServerDialogueTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let input: String
        /// The code, and the enhanced code, of each reply.
        let codes: [String]
        var isClosed = false
        var isEncrypted = true
        var isKnownNetwork = true
        var testDescription: String { rule }
    }

    static let hello = "EHLO c.test\r\n"
    static let mail = "EHLO c.test\r\nMAIL FROM:<a@a.test>\r\n"
    static let rcpt = mail + "RCPT TO:<b@b.test>\r\n"
    static let long = String(repeating: "x", count: 600)

    static let rows: [Row] = [
        Row(rule: "RFC 5321 §4.1.1.1: EHLO", input: hello, codes: ["250"]),
        Row(rule: "RFC 5321 §4.1.1.1: HELO", input: "HELO c.test\r\n", codes: ["250"]),
        Row(rule: "RFC 5321 §4.1.1.1: EHLO with a literal", input: "EHLO [127.0.0.1]\r\n", codes: ["250"]),
        Row(rule: "RFC 5321 §4.1.1.1: EHLO without a name", input: "EHLO\r\n", codes: ["501 5.5.4"]),
        Row(rule: "RFC 5321 §4.1.1.1: EHLO with a broken name", input: "EHLO a b\r\n", codes: ["501 5.5.4"]),
        Row(
            rule: "RFC 5321 §4.1.1.1: header injection by name", input: "EHLO a(b)\r\n", codes: ["501 5.5.4"]),
        Row(
            rule: "RFC 5321 §2.4: verbs in any case", input: "ehlo c.test\r\nnOOp\r\n",
            codes: ["250", "250 2.0.0"]),
        Row(
            rule: "RFC 5321 §4.1.4: MAIL before EHLO", input: "MAIL FROM:<a@a.test>\r\n", codes: ["503 5.5.1"]
        ),
        Row(
            rule: "RFC 5321 §4.1.4: RCPT before MAIL", input: hello + "RCPT TO:<b@b.test>\r\n",
            codes: ["250", "503 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.4: DATA before MAIL", input: hello + "DATA\r\n", codes: ["250", "503 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.4: DATA before RCPT", input: mail + "DATA\r\n",
            codes: ["250", "250 2.1.0", "503 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.1.4: all recipients refused",
            input: mail + "RCPT TO:<b@refused.test>\r\nDATA\r\n",
            codes: ["250", "250 2.1.0", "550 5.1.2", "554 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.4: MAIL within a transaction", input: mail + "MAIL FROM:<a@a.test>\r\n",
            codes: ["250", "250 2.1.0", "503 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.4: EHLO ends a transaction", input: rcpt + hello + "DATA\r\n",
            codes: ["250", "250 2.1.0", "250 2.1.5", "250", "503 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.1.5: RSET ends a transaction", input: rcpt + "RSET\r\nDATA\r\n",
            codes: ["250", "250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1"]),
        Row(rule: "RFC 5321 §4.1.1.5: RSET has no argument", input: "RSET x\r\n", codes: ["501 5.5.4"]),
        Row(rule: "RFC 5321 §4.1.1.6: VRFY", input: "VRFY a\r\n", codes: ["252 2.0.0"]),
        Row(rule: "RFC 5321 §4.1.1.6: VRFY without argument", input: "VRFY\r\n", codes: ["501 5.5.4"]),
        Row(rule: "RFC 5321 §4.1.1.7: EXPN not implemented", input: "EXPN a\r\n", codes: ["502 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.1.1.8: HELP", input: "HELP\r\nHELP MAIL\r\n",
            codes: ["214 2.0.0", "214 2.0.0"]),
        Row(rule: "RFC 5321 §4.1.1.9: NOOP takes a string", input: "NOOP hi\r\n", codes: ["250 2.0.0"]),
        Row(rule: "RFC 5321 §4.1.1.10: QUIT", input: "QUIT\r\n", codes: ["221 2.0.0"], isClosed: true),
        Row(rule: "RFC 5321 §4.2.4: unknown command", input: "FOO\r\n", codes: ["500 5.5.1"]),
        Row(rule: "RFC 5321 §4.2.4: empty command", input: "\r\n", codes: ["500 5.5.1"]),
        Row(rule: "RFC 5321 §4.2.4: known, not implemented", input: "TURN\r\n", codes: ["502 5.5.1"]),
        Row(
            rule: "RFC 5321 §4.5.3.1.4: 512 octets of command are taken",
            input: "NOOP \(String(repeating: "x", count: 505))\r\n", codes: ["250 2.0.0"]),
        Row(
            rule: "RFC 5321 §4.5.3.1.4: 513 are not",
            input: "NOOP \(String(repeating: "x", count: 506))\r\nNOOP\r\n",
            codes: ["500 5.5.2", "250 2.0.0"]),
        Row(
            rule: "RFC 5321 §4.5.3.1.4: a line without end is dropped up to its end",
            input: String(repeating: "y", count: 100_000) + "\r\nNOOP\r\n", codes: ["500 5.5.2", "250 2.0.0"]),
        Row(
            rule: "RFC 4954 §4, §6: an AUTH line that is too long says so by its own code",
            input: "AUTH PLAIN \(String(repeating: "y", count: 12_277))\r\nNOOP\r\n",
            codes: ["500 5.5.6", "250 2.0.0"]),
        Row(
            rule: "RFC 4954 §4, §6: and one without end",
            input: "auth plain \(String(repeating: "y", count: 100_000))\r\nNOOP\r\n",
            codes: ["500 5.5.6", "250 2.0.0"]),
        Row(
            rule: "RFC 5321 §4.5.1: postmaster without a domain, when nobody is named",
            input: mail + "RCPT TO:<postmaster>\r\n", codes: ["250", "250 2.1.0", "550 5.1.1"]),
        Row(
            rule: "RFC 5321 §4.1.1.2: sender without brackets", input: hello + "MAIL FROM:a@a.test\r\n",
            codes: ["250", "501 5.1.7"]),
        Row(
            rule: "RFC 5321 §4.1.1.2: garbage behind the path", input: hello + "MAIL FROM:<a@a.test>x\r\n",
            codes: ["250", "501 5.5.4"]),
        Row(
            rule: "RFC 5321 §4.1.1.2: no FROM", input: hello + "MAIL <a@a.test>\r\n",
            codes: ["250", "501 5.5.2"]),
        Row(
            rule: "RFC 5321 §4.1.1.3: broken recipient", input: mail + "RCPT TO:<b@>\r\n",
            codes: ["250", "250 2.1.0", "501 5.1.3"]),
        Row(
            rule: "RFC 5321 §4.1.1.3: a space behind the colon is forgiven",
            input: hello + "MAIL FROM: <a@a.test>\r\n",
            codes: ["250", "250 2.1.0"]),
        Row(
            rule: "RFC 5321 §4.1.1.11: unknown parameter", input: hello + "MAIL FROM:<a@a.test> FOO=1\r\n",
            codes: ["250", "555 5.5.4"]),
        Row(
            rule: "RFC 5321 §4.1.1.11: a parameter twice",
            input: hello + "MAIL FROM:<a@a.test> SIZE=1 SIZE=1\r\n",
            codes: ["250", "501 5.5.4"]),
        Row(
            rule: "RFC 5321 §4.1.1.11: parameters need EHLO",
            input: "HELO c.test\r\nMAIL FROM:<a@a.test> SIZE=1\r\n", codes: ["250", "555 5.5.4"]),
        Row(
            rule: "RFC 1870 §6.1: too large by its own word",
            input: hello + "MAIL FROM:<a@a.test> SIZE=100001\r\n",
            codes: ["250", "552 5.3.4"]),
        Row(
            rule: "RFC 1870 §6.1: as large as the limit",
            input: hello + "MAIL FROM:<a@a.test> SIZE=100000\r\n",
            codes: ["250", "250 2.1.0"]),
        Row(
            rule: "RFC 1870 §3: 20 digits",
            input: hello + "MAIL FROM:<a@a.test> SIZE=99999999999999999999\r\n",
            codes: ["250", "552 5.3.4"]),
        Row(
            rule: "RFC 6152: BODY", input: hello + "MAIL FROM:<a@a.test> body=8bitmime\r\n",
            codes: ["250", "250 2.1.0"]),
        Row(
            rule: "RFC 3030 §3: BINARYMIME is not offered",
            input: hello + "MAIL FROM:<a@a.test> BODY=BINARYMIME\r\n",
            codes: ["250", "555 5.5.4"]),
        Row(
            rule: "RFC 6531 §3.5: sender needs SMTPUTF8", input: hello + "MAIL FROM:<é@a.test>\r\n",
            codes: ["250", "550 5.6.7"]),
        Row(
            rule: "RFC 6531 §3.5: recipient needs SMTPUTF8", input: mail + "RCPT TO:<b@é.test>\r\n",
            codes: ["250", "250 2.1.0", "553 5.6.7"]),
        Row(
            rule: "RFC 6531 §3.4: SMTPUTF8",
            input: hello + "MAIL FROM:<é@a.test> SMTPUTF8\r\nRCPT TO:<b@é.test>\r\n",
            codes: ["250", "250 2.1.0", "250 2.1.5"]),
        Row(
            rule: "RFC 6531 §3.4: SMTPUTF8 has no value",
            input: hello + "MAIL FROM:<a@a.test> SMTPUTF8=1\r\n",
            codes: ["250", "501 5.5.4"]),
        Row(
            rule: "RFC 3461 §4: all parameters",
            input: hello + "MAIL FROM:<a@a.test> RET=HDRS ENVID=a+2Bb\r\n"
                + "RCPT TO:<b@b.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+40b.test\r\n",
            codes: ["250", "250 2.1.0", "250 2.1.5"]),
        Row(
            rule: "RFC 3461 §4.1: NEVER stands alone",
            input: mail + "RCPT TO:<b@b.test> NOTIFY=NEVER,DELAY\r\n",
            codes: ["250", "250 2.1.0", "501 5.5.4"]),
        Row(
            rule: "RFC 3461 §4.2: ORCPT without type", input: mail + "RCPT TO:<b@b.test> ORCPT=b\r\n",
            codes: ["250", "250 2.1.0", "501 5.5.4"]),
        Row(
            rule: "RFC 3461 §4.4: ENVID of 101 characters",
            input: hello + "MAIL FROM:<a@a.test> ENVID=\(String(repeating: "x", count: 101))\r\n",
            codes: ["250", "501 5.5.4"]),
        Row(
            rule: "RFC 4954 §5: AUTH= of MAIL is taken", input: hello + "MAIL FROM:<a@a.test> AUTH=<>\r\n",
            codes: ["250", "250 2.1.0"]),
        Row(
            rule: "RFC 8689 §2: REQUIRETLS over TLS", input: hello + "MAIL FROM:<a@a.test> REQUIRETLS\r\n",
            codes: ["250", "250 2.1.0"]),
        Row(
            rule: "A sender domain that is not the tenant's", input: hello + "MAIL FROM:<a@refused.test>\r\n",
            codes: ["250", "550 5.7.1"]),
        Row(
            rule: "RFC 6409 §4.3: mail without authentication", input: mail, codes: ["250", "530 5.7.0"],
            isKnownNetwork: false),
        Row(
            rule: "RFC 3207 §4: mail before STARTTLS", input: mail, codes: ["250", "530 5.7.0"],
            isEncrypted: false),
        Row(rule: "RFC 3207 §4.2: STARTTLS twice", input: "STARTTLS\r\n", codes: ["503 5.5.1"]),
        Row(
            rule: "RFC 3207 §4: STARTTLS has no argument", input: "STARTTLS x\r\n", codes: ["501 5.5.4"],
            isEncrypted: false),
        Row(
            rule: "RFC 3207 §5: octets behind STARTTLS end the connection",
            input: hello + "STARTTLS\r\n" + hello,
            codes: ["250", "554 5.5.1"], isClosed: true, isEncrypted: false),
        Row(
            rule: "RFC 3207 §5: even a part of a line", input: hello + "STARTTLS\r\nE",
            codes: ["250", "554 5.5.1"],
            isClosed: true, isEncrypted: false),
        Row(
            rule: "RFC 4954 §4: AUTH needs TLS", input: hello + "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
            codes: ["250", "538 5.7.11"], isEncrypted: false),
        Row(
            rule: "RFC 4954 §4: PLAIN with initial response, then again",
            input: hello + "AUTH PLAIN AHVzZXIAc2VjcmV0\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
            codes: ["250", "235 2.7.0", "503 5.5.1"]),
        Row(
            rule: "RFC 4954 §4: PLAIN without initial response",
            input: hello + "auth plain\r\nAHVzZXIAc2VjcmV0\r\n",
            codes: ["250", "334", "235 2.7.0"]),
        Row(
            rule: "RFC 4616 §2: authorization identity of the same user",
            input: hello + "AUTH PLAIN dXNlcgB1c2VyAHNlY3JldA==\r\n", codes: ["250", "235 2.7.0"]),
        Row(
            rule: "RFC 4616 §2: of another user", input: hello + "AUTH PLAIN b3RoZXIAdXNlcgBzZWNyZXQ=\r\n",
            codes: ["250", "535 5.7.8"]),
        Row(
            rule: "LOGIN, step by step", input: hello + "AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n",
            codes: ["250", "334", "334", "235 2.7.0"]),
        Row(
            rule: "LOGIN with the user at once", input: hello + "AUTH LOGIN dXNlcg==\r\nc2VjcmV0\r\n",
            codes: ["250", "334", "235 2.7.0"]),
        Row(
            rule: "RFC 4954 §4: wrong password", input: hello + "AUTH PLAIN AHVzZXIAd3Jvbmc=\r\nNOOP\r\n",
            codes: ["250", "535 5.7.8", "250 2.0.0"]),
        Row(
            rule: "RFC 4954 §4: three wrong passwords end the connection",
            input: hello + String(repeating: "AUTH PLAIN AHVzZXIAd3Jvbmc=\r\n", count: 4),
            codes: ["250", "535 5.7.8", "535 5.7.8", "535 5.7.8", "421 4.7.0"], isClosed: true),
        Row(
            rule: "RFC 4954 §4: cancelled", input: hello + "AUTH LOGIN\r\n*\r\nNOOP\r\n",
            codes: ["250", "334", "501 5.5.2", "250 2.0.0"]),
        Row(
            rule: "RFC 4954 §4: not base64", input: hello + "AUTH PLAIN\r\n!!!!\r\n",
            codes: ["250", "334", "501 5.5.2"]),
        Row(
            rule: "RFC 4954 §4: unknown mechanism", input: hello + "AUTH GSSAPI\r\n",
            codes: ["250", "504 5.5.4"]),
        Row(
            rule: "RFC 4954 §4: not within a transaction", input: mail + "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
            codes: ["250", "250 2.1.0", "503 5.5.1"]),
        Row(
            rule: "RFC 4954 §4: an exchange line without end",
            input: hello + "AUTH PLAIN\r\n" + String(repeating: "A", count: 13_000),
            codes: ["250", "334", "500 5.5.6"], isClosed: true),
        Row(
            rule: "RFC 5321 §2.3.8: LF ends no command", input: "NOOP\nNOOP\r\n", codes: ["500 5.5.2"],
            isClosed: true),
        Row(
            rule: "RFC 5321 §2.3.8: CR ends no command", input: "NOOP\rNOOP\r\n", codes: ["500 5.5.2"],
            isClosed: true),
        Row(
            rule: "RFC 5321 §2.3.8: LF within an address", input: hello + "MAIL FROM:<a\nb@a.test>\r\n",
            codes: ["250", "500 5.5.2"], isClosed: true),
        Row(
            rule: "RFC 5321 §4.3.2: too many errors", input: String(repeating: "FOO\r\n", count: 40),
            codes: Array(repeating: "500 5.5.1", count: 20) + ["421 4.7.0"], isClosed: true),
        Row(
            rule: "RFC 2920 §3.1: content sent before a refusal of DATA is no command",
            input: mail + "RCPT TO:<b@full.test>\r\nDATA\r\nMAIL FROM:<x@a.test>\r\n",
            codes: ["250", "250 2.1.0", "250 2.1.5", "452 4.3.1"], isClosed: true),
    ]

    @Test(arguments: rows)
    func answers(_ row: Row) {
        let conversation = ServerConversation(
            isEncrypted: row.isEncrypted, isKnownNetwork: row.isKnownNetwork)
        let result = conversation.run(row.input)
        #expect(result.codes == row.codes)
        #expect(result.isClosed == row.isClosed)
        // The same, an octet at a time, but where the octets behind a command decide.
        if !row.rule.contains("behind STARTTLS"), !row.rule.contains("even a part"),
            !row.rule.contains("RFC 2920")
        {
            #expect(conversation.run(Array(row.input.utf8).map { [$0] }) == result)
        }
    }

    @Test("RFC 2034 §4: every reply but to EHLO, HELO and 3yz carries an enhanced code of its class")
    func enhancedCodes() {
        for row in Self.rows {
            let conversation = ServerConversation(
                isEncrypted: row.isEncrypted, isKnownNetwork: row.isKnownNetwork)
            for code in conversation.run(row.input).codes
            where code != "250" && code != "334" && code != "354" {
                let words = code.split(separator: " ")
                #expect(words.count == 2 && words[1].first == words[0].first, "\(row.rule): \(code)")
            }
        }
    }

    @Test("RFC 3207 §4.2: the handshake begins the session anew, and offers what TLS allows")
    func startTLS() {
        let conversation = ServerConversation(isEncrypted: false, isKnownNetwork: false)
        let result = conversation.run([
            Array("EHLO c.test\r\n".utf8), Array("STARTTLS\r\n".utf8), Array("MAIL FROM:<a@a.test>\r\n".utf8),
            Array("EHLO c.test\r\n".utf8),
        ])
        #expect(result.codes == ["250", "220 2.0.0", "503 5.5.1", "250"])
        #expect(result.lines[0].contains("STARTTLS") && !result.lines[0].contains("AUTH"))
        #expect(!result.lines[3].contains("STARTTLS") && result.lines[3].contains("AUTH PLAIN LOGIN"))
        #expect(result.lines[3].contains("REQUIRETLS"))
    }

    @Test(
        "RFC 5321 §4.5.3.1.8, §4.5.3.1.10: recipients beyond the limit get 452, and a repeated one counts once"
    )
    func recipients() {
        var conversation = ServerConversation()
        conversation.options.maximumRecipients = 2
        let result = conversation.run(
            Self.mail
                + "RCPT TO:<b@b.test>\r\nRCPT TO:<b@B.test>\r\nRCPT TO:<c@b.test>\r\nRCPT TO:<d@b.test>\r\n"
                + "DATA\r\n.\r\n")
        #expect(
            result.codes.dropFirst(2) == [
                "250 2.1.5", "250 2.1.5", "250 2.1.5", "452 4.5.3", "354", "250 2.6.0",
            ])
        #expect(result.messages.first?.recipients == ["b@b.test", "c@b.test"])
    }

    @Test("RFC 5321 §3.8: a server that stops finishes what is under way, then says 421")
    func draining() {
        var machine = SMTPServerMachine(
            options: SMTPServerOptions(hostName: "e.test"), isEncrypted: true, isKnownNetwork: true)
        machine.receive(.init(string: Self.mail))
        _ = machine.next()
        guard case .checkSender = machine.next() else { Issue.record("no sender asked"); return }
        machine.drain()
        machine.senderDecided(nil)
        guard case .reply(let reply) = machine.next() else { Issue.record("no reply"); return }
        #expect(reply.code == 250)
        guard case .needInput = machine.next() else { Issue.record("not reading"); return }
        machine.receive(.init(string: "RSET\r\n"))
        _ = machine.next()
        guard case .close(let last?) = machine.next() else { Issue.record("not closed"); return }
        #expect(last.code == 421)
    }

    @Test("RFC 5321 §4.5.3.2: a silent client gets 421 4.4.2")
    func timeout() {
        var machine = SMTPServerMachine(options: SMTPServerOptions(hostName: "e.test"))
        guard case .close(let reply?) = machine.timedOut() else { Issue.record("not closed"); return }
        #expect(reply.code == 421 && reply.enhanced == EnhancedStatusCode(4, 4, 2))
        guard case .close(nil) = machine.next() else { Issue.record("not closed"); return }
    }
}

@Suite("A connection that rests holds nothing of what was read from it (design law 4)")
struct ServerMemoryTests {
    static func machine(after pieces: [String]) -> SMTPServerMachine {
        var machine = SMTPServerMachine(
            options: SMTPServerOptions(hostName: "edge.test", maximumSize: 100_000), isEncrypted: true,
            isKnownNetwork: true)
        for piece in pieces {
            machine.receive(ByteBuffer(string: piece))
            turning: while true {
                switch machine.next() {
                case .needInput, .wait, .close: break turning
                default: continue
                }
            }
        }
        return machine
    }

    @Test(
        "nothing, or only the line that is not whole yet",
        arguments: [
            (["EHLO client.test\r\n"], 0),
            (["EHLO client.test\r\nNOOP\r\nNO"], 2),
            (["EHLO client.test\r\nMAIL FROM:<ann@a.test>\r\n"], 0),
            (["EHLO client.test\r\n", "NOO", "P\r\n"], 0),
        ])
    func nothing(_ pieces: [String], _ left: Int) {
        let machine = Self.machine(after: pieces)
        #expect(machine.inbound.readerIndex == 0)
        #expect(machine.inbound.readableBytes == left)
        #expect(left > 0 || machine.inbound.capacity == 0)
    }
}
