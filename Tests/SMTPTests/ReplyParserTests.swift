// Replies off the wire: framing, bounds, enhanced codes.

import NIOCore
import Testing

@testable import SMTP

@Suite struct ReplyParserTests {
    private func parse(_ text: String) throws(SMTPReplyError) -> SMTPReply? {
        var parser = SMTPReplyParser()
        var buffer = ByteBuffer(string: text)
        return try parser.next(&buffer)
    }

    @Test(
        "RFC 5321 §4.2, RFC 2034: what a reply means",
        arguments: [
            ("250 ok\r\n", SMTPReply(250, nil, "ok")),
            ("250\r\n", SMTPReply(250, nil, "")),
            ("250 ok\n", SMTPReply(250, nil, "ok")),
            ("550 5.1.1 who\r\n", SMTPReply(550, EnhancedStatusCode(5, 1, 1), "who")),
            ("550 5.1.1\r\n", SMTPReply(550, EnhancedStatusCode(5, 1, 1), "")),
            ("550 4.1.1 who\r\n", SMTPReply(550, nil, "4.1.1 who")),
            ("550 5.1.1234 who\r\n", SMTPReply(550, nil, "5.1.1234 who")),
            ("550 5.1.1x\r\n", SMTPReply(550, nil, "5.1.1x")),
            (
                "550-5.7.26 one\r\n550 5.7.26 two\r\n",
                SMTPReply(550, EnhancedStatusCode(5, 7, 26), lines: ["one", "two"])
            ),
            ("250 a\u{1}b\r\n", SMTPReply(250, nil, "a?b")),
        ])
    func reads(_ text: String, _ expected: SMTPReply) throws {
        #expect(try parse(text) == expected)
    }

    @Test(
        "What is not a reply is told apart from one that is not complete",
        arguments: [
            "25\r\n", "abc\r\n", "650 x\r\n", "150 x\r\n", "250_x\r\n", "250-a\r\n251 b\r\n", "\r\n",
        ])
    func refuses(_ text: String) {
        #expect(throws: SMTPReplyError.malformed) { try parse(text) }
    }

    @Test("A reply may come byte by byte")
    func incremental() throws {
        var parser = SMTPReplyParser()
        var buffer = ByteBuffer()
        let text = "250-peer\r\n250-SIZE\r\n250 DSN\r\n"
        for (index, byte) in text.utf8.enumerated() {
            buffer.writeInteger(byte)
            let reply = try parser.next(&buffer)
            #expect((reply != nil) == (index == text.utf8.count - 1))
        }
    }

    @Test("Law 9: the length of a line and the number of lines are bounded")
    func bounded() {
        #expect(throws: SMTPReplyError.lineTooLong) {
            try parse("250 " + String(repeating: "x", count: SMTPReplyParser.maximumLineLength))
        }
        #expect(throws: SMTPReplyError.lineTooLong) {
            try parse("250 " + String(repeating: "x", count: SMTPReplyParser.maximumLineLength) + "\r\n")
        }
        #expect(throws: SMTPReplyError.tooManyLines) {
            try parse(String(repeating: "250-x\r\n", count: SMTPReplyParser.maximumLines + 1))
        }
    }

    @Test("RFC 9422 §4: a syntax error in LIMITS means no limits")
    func limits() {
        let good = EHLOExtensions(SMTPReply(250, lines: ["p", "LIMITS RCPTMAX=5 NEW=x MAILMAX=7"]))
        #expect(good.limits.rcptMax == 5)
        #expect(good.limits.mailMax == 7)
        for bad in ["RCPTMAX=0", "RCPTMAX", "RCPTMAX=-1", "RCPTMAX=5 MAILMAX=99999999", "=4"] {
            let read = EHLOExtensions(SMTPReply(250, lines: ["p", "LIMITS \(bad)"]))
            #expect(read.limits == SMTPLimits(), "\(bad)")
        }
    }
}
