import NIOCore
import Testing

@testable import SMTP

/// DATA and BDAT: what arrives is what was sent, and nothing that could be read in two ways gets through.
@Suite("SMTP server: content") struct ServerContentTests {
    static let opening = "EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n"

    struct Accepted: Sendable, CustomTestStringConvertible {
        let rule: String
        let sent: String
        let content: String
        var testDescription: String { rule }
    }

    @Test(arguments: [
        Accepted(rule: "RFC 5321 §4.1.1.4: empty", sent: ".\r\n", content: ""),
        Accepted(rule: "one empty line", sent: "\r\n.\r\n", content: "\r\n"),
        Accepted(rule: "header only", sent: "A: b\r\n.\r\n", content: "A: b\r\n"),
        Accepted(
            rule: "RFC 5321 §4.5.2: a dot in front goes", sent: "..\r\n..a\r\n.b\r\n.\r\n",
            content: ".\r\n.a\r\nb\r\n"),
        Accepted(
            rule: "RFC 5321 §4.5.2: dots elsewhere stay", sent: "a.\r\nb..c\r\n.\r\n",
            content: "a.\r\nb..c\r\n"),
        Accepted(
            rule: "NUL before a dot ends nothing", sent: "a\r\n\0.\r\nb\r\n.\r\n",
            content: "a\r\n\0.\r\nb\r\n"),
        Accepted(
            rule: "RFC 5321 §4.5.3.1.6: a line of 1000 octets",
            sent: String(repeating: "x", count: 998) + "\r\n.\r\n",
            content: String(repeating: "x", count: 998) + "\r\n"),
        Accepted(
            rule: "RFC 5321 §4.5.3.1.6: a doubled dot does not count",
            sent: "." + String(repeating: ".", count: 998) + "\r\n.\r\n",
            content: String(repeating: ".", count: 998) + "\r\n"),
    ])
    func data(_ row: Accepted) {
        let text = Self.opening + "DATA\r\n" + row.sent + "NOOP\r\n"
        let result = ServerConversation().run(text)
        #expect(result.codes.suffix(3) == ["354", "250 2.6.0", "250 2.0.0"])
        #expect(result.messages.map { String(decoding: $0.content, as: UTF8.self) } == [row.content])
        #expect(ServerConversation().run(Array(text.utf8).map { [$0] }) == result)
    }

    /// Every form that some server was seen to take for the end of content, and every CR or LF alone.
    static let smuggling = [
        "\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n.\r", "\r.\n", "\r\n\0.\n",
        "\r\r\n.\r\n",
        "\r\n.\r\r\n", "a\nb", "a\rb", "\n", "\r", "\r\n\n", "\r\n\r",
        "\r\n.\r\n".replacing("\r\n.", with: "\r\r\n."),
    ]

    @Test(
        "RFC 5321 §2.3.8, §4.1.1.4: CR or LF alone in DATA: read to the true end, 550 5.6.0, closed",
        arguments: smuggling)
    func smuggledData(_ form: String) {
        let attack =
            "A: b\r\n\r\nbody" + form
            + "MAIL FROM:<evil@a.test>\r\nRCPT TO:<v@b.test>\r\nDATA\r\nevil\r\n.\r\nQUIT\r\n"
        let bytes = Array((Self.opening + "DATA\r\n" + attack).utf8)
        let whole = ServerConversation().run([bytes])
        #expect(whole.messages.isEmpty)
        #expect(whole.codes.suffix(2) == ["354", "550 5.6.0"])
        #expect(whole.faults == 1, "said once")
        #expect(whole.isClosed)
        for cut in Self.opening.utf8.count..<bytes.count {
            #expect(ServerConversation().run([Array(bytes[..<cut]), Array(bytes[cut...])]) == whole)
        }
    }

    @Test(
        "RFC 5321 §2.3.8 with RFC 3030: CR or LF alone in BDAT: octets read, 550 5.6.0", arguments: smuggling)
    func smuggledChunk(_ form: String) {
        let content = Array(("body" + form + "more\r\n").utf8)
        for cut in 0...content.count {
            let text =
                Self.opening + "BDAT \(cut)\r\n" + String(decoding: content[..<cut], as: UTF8.self)
                + "BDAT \(content.count - cut) LAST\r\n" + String(decoding: content[cut...], as: UTF8.self)
                + "NOOP\r\n"
            let result = ServerConversation().run(text)
            #expect(result.messages.isEmpty)
            #expect(result.codes.contains("550 5.6.0"))
            #expect(result.codes.last == "250 2.0.0", "the octets of both chunks were read as content")
        }
    }

    @Test(
        "RFC 3030 §2: after a size that cannot be read nothing is a command any more: 501 5.5.4, closed",
        arguments: ["x", "1 FIRST", "-1", "0x10", "", "99999999999999999999999 LAST"])
    func brokenSize(_ size: String) {
        let result = ServerConversation().run(Self.opening + "BDAT \(size)\r\nRSET\r\nNOOP\r\n")
        #expect(result.codes.suffix(2) == ["250 2.1.5", "501 5.5.4"])
        #expect(result.isClosed)
        #expect(result.messages.isEmpty)
    }

    @Test("A CR at the very end of the last chunk stands alone")
    func chunkEndsInCR() {
        let result = ServerConversation().run(Self.opening + "BDAT 2 LAST\r\na\rNOOP\r\n")
        #expect(result.codes.suffix(2) == ["550 5.6.0", "250 2.0.0"])
    }

    struct Dialogue: Sendable, CustomTestStringConvertible {
        let rule: String
        let text: String
        let codes: [String]
        var messages: [String] = []
        var testDescription: String { rule }
    }

    @Test(arguments: [
        Dialogue(
            rule: "RFC 3030 §2: chunks of any size, dots as they are",
            text: "BDAT 3\r\n.\r\nBDAT 0\r\nBDAT 4 LAST\r\n..\r\nNOOP\r\n",
            codes: ["250 2.0.0", "250 2.0.0", "250 2.6.0", "250 2.0.0"], messages: [".\r\n..\r\n"]),
        Dialogue(
            rule: "RFC 3030 §2: BDAT 0 LAST ends", text: "BDAT 3\r\na\r\nBDAT 0 LAST\r\n",
            codes: ["250 2.0.0", "250 2.6.0"], messages: ["a\r\n"]),
        Dialogue(
            rule: "RFC 3030 §2: CRLF over two chunks", text: "BDAT 2\r\na\rBDAT 1 LAST\r\n\n",
            codes: ["250 2.0.0", "250 2.6.0"], messages: ["a\r\n"]),
        Dialogue(
            rule: "RFC 3030 §2: DATA cannot follow BDAT", text: "BDAT 3\r\na\r\nDATA\r\n",
            codes: ["250 2.0.0", "503 5.5.1"]),
        Dialogue(
            rule: "RFC 3030 §2: RSET in between begins anew",
            text: "BDAT 3\r\na\r\nRSET\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nc\r\n.\r\n",
            codes: ["250 2.0.0", "250 2.0.0", "250 2.1.0", "250 2.1.5", "354", "250 2.6.0"],
            messages: ["c\r\n"]),
        Dialogue(
            rule: "RFC 3030 §2: after a failed chunk every chunk fails until RSET",
            text: "BDAT 3\r\na\nbBDAT 6\r\nQUIT\r\nMAIL FROM:<a@a.test>\r\nRSET\r\nMAIL FROM:<a@a.test>\r\n",
            codes: ["550 5.6.0", "503 5.5.1", "503 5.5.1", "250 2.0.0", "250 2.1.0"]),
        Dialogue(
            rule: "RFC 1870 §6.3: chunks beyond the limit",
            text: "BDAT 100001 LAST\r\n" + String(repeating: "x", count: 99_999) + "\r\nNOOP\r\n",
            codes: ["552 5.3.4", "250 2.0.0"]),
        Dialogue(
            rule: "RFC 1870 §6.3: content beyond the limit is read, refused, and the session goes on",
            text: "DATA\r\n" + String(repeating: "abcdefgh\r\n", count: 10_001) + ".\r\nNOOP\r\n",
            codes: ["354", "552 5.3.4", "250 2.0.0"]),
        Dialogue(
            rule: "RFC 5321 §4.5.3.1.6: a line of 1001 octets",
            text: "DATA\r\n" + String(repeating: "x", count: 999) + "\r\n.\r\nNOOP\r\n",
            codes: ["354", "550 5.6.0", "250 2.0.0"]),
        Dialogue(
            rule: "RFC 2920: groups of commands, content first",
            text: "DATA\r\na\r\n.\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\nb\r\n.\r\n",
            codes: ["354", "250 2.6.0", "250 2.1.0", "250 2.1.5", "354", "250 2.6.0"],
            messages: ["a\r\n", "b\r\n"]),
    ])
    func dialogue(_ row: Dialogue) {
        let text = Self.opening + row.text
        let result = ServerConversation().run(text)
        #expect(result.codes.dropFirst(3) == row.codes[...])
        #expect(result.messages.map { String(decoding: $0.content, as: UTF8.self) } == row.messages)
        #expect(ServerConversation().run(Array(text.utf8).map { [$0] }) == result)
    }

    @Test("RFC 3030 §2: BDAT before MAIL and without recipients: octets read, then refused")
    func chunkOutOfPlace() {
        #expect(
            ServerConversation().run("EHLO c.test\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n").codes == [
                "250", "503 5.5.1", "250 2.0.0",
            ])
        #expect(
            ServerConversation().run("EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
                .codes
                == ["250", "250 2.1.0", "503 5.5.1", "250 2.0.0"])
        #expect(
            ServerConversation().run(
                "EHLO c.test\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@full.test>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"
            ).codes
                == ["250", "250 2.1.0", "250 2.1.5", "452 4.3.1", "250 2.0.0"])
    }

    @Test(
        "Random messages arrive as they were sent, by DATA and by BDAT, in pieces of any size",
        arguments: 0..<40)
    func roundTrip(_ number: Int) {
        let seed = UInt64.random(in: 0..<UInt64.max)
        var random = SeededGenerator(seed: seed)
        var content: [UInt8] = []
        for _ in 0..<Int.random(in: 0..<60, using: &random) {
            if Bool.random(using: &random) {
                content += Array(repeating: 0x2E, count: Int.random(in: 0..<4, using: &random))
            }
            for _ in 0..<Int.random(in: 0..<300, using: &random) {
                let octet = UInt8.random(in: 0...255, using: &random)
                if octet != 10 && octet != 13 { content.append(octet) }
            }
            content += [13, 10]
        }
        var stuffed: [UInt8] = []
        var isLineStart = true
        for octet in content {
            if isLineStart && octet == 0x2E { stuffed.append(0x2E) }
            stuffed.append(octet)
            isLineStart = octet == 10
        }
        var input = Array(Self.opening.utf8) + Array("DATA\r\n".utf8) + stuffed + Array(".\r\n".utf8)
        input += Array("MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\n".utf8)
        var rest = content[...]
        repeat {
            let chunk = rest.prefix(Int.random(in: 0...5000, using: &random))
            rest = rest.dropFirst(chunk.count)
            input += Array("BDAT \(chunk.count)\(rest.isEmpty ? " LAST" : "")\r\n".utf8) + chunk
        } while !rest.isEmpty
        let result = ServerConversation().run(random.split(input))
        #expect(result.messages.map(\.content) == [content, content], "seed \(seed)")
        #expect(
            result.messages.allSatisfy { $0.hasEightBit == content.contains { $0 >= 0x80 } }, "seed \(seed)")
    }

    @Test(
        "Random input never crashes, never turns without end, and gives the same in any pieces",
        arguments: 0..<200)
    func garbage(_ number: Int) {
        let seed = UInt64.random(in: 0..<UInt64.max)
        var random = SeededGenerator(seed: seed)
        let words = [
            "EHLO c.test\r\n", "MAIL FROM:<a@a.test>", "RCPT TO:<b@b.test>", "DATA\r\n", "BDAT 5\r\n",
            "BDAT 9 LAST\r\n", ".", "\r\n",
            "\r", "\n", ".\r\n", "\r\n.\r\n", "AUTH PLAIN", "AUTH LOGIN\r\n", "=", "*\r\n", "RSET\r\n",
            "NOOP\r\n", " SIZE=", "\u{0}", "é", "<", ">", "\"",
        ]
        var input: [UInt8] = []
        for _ in 0..<Int.random(in: 1..<120, using: &random) {
            if Int.random(in: 0..<8, using: &random) == 0 {
                input += (0..<Int.random(in: 1..<40, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
            } else if let word = words.randomElement(using: &random) {
                input += Array(word.utf8)
            }
        }
        var conversation = ServerConversation()
        conversation.options.maximumErrors = 1000
        let whole = conversation.run([input])
        // What follows a refused DATA decides by when it came, so no recipient here is at full.test.
        #expect(conversation.run(random.split(input)) == whole, "seed \(seed)")
        #expect(conversation.run(input.map { [$0] }) == whole, "seed \(seed)")
    }

    @Test("What is buffered stays bounded, however long a line without end")
    func bounded() {
        var machine = SMTPServerMachine(options: SMTPServerOptions(hostName: "e.test"), isEncrypted: true)
        for _ in 0..<1000 {
            machine.receive(ByteBuffer(repeating: 0x78, count: 1000))
            guard case .needInput = machine.next() else { Issue.record("not reading"); return }
            #expect(machine.inbound.readableBytes <= 2000)
        }
    }
}
