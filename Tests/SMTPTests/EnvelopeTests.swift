import SMTP
import Testing

/// The stored forms of envelope and recipient, and the small values in them.
@Suite("Envelope") struct EnvelopeTests {
    @Test("What was encoded is decoded again")
    func roundTrip() throws {
        let envelopes = [
            Envelope(reversePath: .null),
            Envelope(
                reversePath: .mailbox(try MailAddress("\"a b\"@Bücher.test")), body: .eightBitMIME,
                smtpUTF8: true,
                requireTLS: true, envelopeID: "", returnContent: .headers,
                receivedLine: Array("Received: from a\r\n".utf8), subject: "Hé"),
            Envelope(
                reversePath: .mailbox(try MailAddress("a@b.test")),
                envelopeID: String(repeating: "x", count: 300),
                returnContent: .full, receivedLine: [UInt8](repeating: 7, count: 20_000)),
        ]
        for envelope in envelopes {
            #expect(try Envelope(decoding: envelope.encoded()) == envelope)
        }
        let recipients = [
            EnvelopeRecipient(address: try MailAddress("a@b.test")),
            EnvelopeRecipient(
                address: try MailAddress("имя@b.test"), notify: [.success, .delay],
                originalRecipient: OriginalRecipient(addressType: "utf-8", address: "имя@b.test")),
        ]
        for recipient in recipients {
            #expect(try EnvelopeRecipient(decoding: recipient.encoded()) == recipient)
        }
    }

    @Test("Octets that end early, go on too long or are altered never crash the reader")
    func damage() throws {
        let recipient = EnvelopeRecipient(
            address: try MailAddress("a@b.test"), notify: .never,
            originalRecipient: OriginalRecipient(addressType: "rfc822", address: "c@d.test"))
        let bytes = recipient.encoded()
        for length in 0..<bytes.count {
            #expect(throws: EnvelopeFormatError.self) {
                try EnvelopeRecipient(decoding: Array(bytes.prefix(length)))
            }
        }
        #expect(throws: EnvelopeFormatError.malformed) { try EnvelopeRecipient(decoding: bytes + [0]) }
        #expect(throws: EnvelopeFormatError.unknownVersion(9)) {
            try EnvelopeRecipient(decoding: [9] + bytes.dropFirst())
        }
        for index in bytes.indices {
            for bit in 0..<8 {
                var altered = bytes
                altered[index] ^= 1 << UInt8(bit)
                _ = try? EnvelopeRecipient(decoding: altered)
                _ = try? Envelope(decoding: altered)
            }
        }
    }

    @Test("RFC 3461 §4: xtext")
    func xtext() {
        #expect(XText.encode(Array("a+b=c é".utf8)) == "a+2Bb+3Dc+20+C3+A9")
        #expect(XText.decode(Array("a+2Bb+3Dc+20+C3+A9".utf8)) == Array("a+b=c é".utf8))
        for broken in ["+", "+2", "a=b", "a b", "+GG"] {
            #expect(XText.decode(Array(broken.utf8)) == nil)
        }
    }

    @Test("RFC 3463: enhanced status codes")
    func enhanced() {
        #expect(EnhancedStatusCode("5.7.30")?.description == "5.7.30")
        for broken in ["", "3.1.1", "5.7", "5.7.1.1", "5.1000.1", "5..1", "5.7.x", "25.1.1"] {
            #expect(EnhancedStatusCode(broken) == nil)
        }
    }

    @Test("RFC 5321 §4.2.1, RFC 2034 §4: both codes on every line, and no text ends a line of its own")
    func reply() {
        let reply = SMTPReply(550, .init(5, 7, 1), lines: ["one", "two\r\n250 three"])
        #expect(
            String(decoding: reply.encoded(), as: UTF8.self)
                == "550-5.7.1 one\r\n550 5.7.1 two  250 three\r\n")
        #expect(String(decoding: SMTPReply(354, nil, "go").encoded(), as: UTF8.self) == "354 go\r\n")
    }
}
