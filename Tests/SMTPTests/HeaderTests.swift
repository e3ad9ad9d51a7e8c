import SMTP
import Testing

/// Received headers, dates and the header section of a message.
@Suite("Headers") struct HeaderTests {
    @Test(
        "RFC 3848, RFC 6531 §4.3: the keyword says what protected the message",
        arguments: [
            (false, false, false, false, "SMTP"), (true, false, false, false, "ESMTP"),
            (true, true, false, false, "ESMTPS"),
            (true, false, true, false, "ESMTPA"), (true, true, true, false, "ESMTPSA"),
            (true, true, true, true, "UTF8SMTPSA"),
            (true, false, false, true, "UTF8SMTP"), (true, true, false, true, "UTF8SMTPS"),
        ])
    func keyword(_ row: (Bool, Bool, Bool, Bool, String)) {
        let header = ReceivedHeader(
            clientName: "c.test", clientAddress: "192.0.2.1", hostName: "e.test", isExtended: row.0,
            isEncrypted: row.1,
            isAuthenticated: row.2, smtpUTF8: row.3)
        #expect(header.protocolKeyword == row.4)
    }

    @Test("RFC 5321 §4.4: the line as a whole")
    func received() {
        let header = ReceivedHeader(
            clientName: "c.test", clientAddress: "2001:db8::1", hostName: "e.test", isExtended: true,
            isEncrypted: true,
            isAuthenticated: true, smtpUTF8: false, tlsDescription: "TLSv1.3 TLS_AES_256_GCM_SHA384")
        #expect(
            String(decoding: header.encoded(messageID: "0190", acceptedAt: 1_795_558_509), as: UTF8.self)
                == "Received: from c.test ([IPv6:2001:db8::1])\r\n\t(using TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
                + "\tby e.test with ESMTPSA id 0190;\r\n\tTue, 24 Nov 2026 22:15:09 +0000\r\n")
    }

    @Test(
        "RFC 5322 §3.3: dates",
        arguments: [
            (0, "Thu, 01 Jan 1970 00:00:00 +0000"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 +0000"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 +0000"),
            (-1, "Wed, 31 Dec 1969 23:59:59 +0000"),
        ])
    func date(_ row: (Int, String)) {
        var bytes: [UInt8] = []
        MailDate.append(secondsSince1970: row.0, to: &bytes)
        #expect(String(decoding: bytes, as: UTF8.self) == row.1)
    }

    private func block(_ text: String, _ check: (HeaderBlock, UnsafeRawBufferPointer) -> Void) {
        Array(text.utf8).withUnsafeBytes { check(HeaderBlock($0), $0) }
    }

    @Test("RFC 5322 §2.2: fields, folding, any case, the empty line")
    func fields() {
        block(
            "Received: a\r\n\tb\r\nrECEIVED : c\r\nSubject:  hello\r\n  world \r\nreceived-spf: x\r\n\r\nReceived: body\r\n"
        ) {
            #expect($0.isComplete)
            #expect($0.fields.count == 4)
            #expect($0.count(of: "Received", in: $1) == 2)
            #expect($0.first("subject", in: $1).map { String(decoding: $0, as: UTF8.self) } == "hello  world")
            #expect($0.first("To", in: $1) == nil)
            #expect(String(decoding: $1[$0.length...].prefix(4), as: UTF8.self) == "\r\nRe")
        }
    }

    @Test("A section without end, without fields, or empty")
    func incomplete() {
        block("Subject: a\r\n") { block, _ in
            #expect(!block.isComplete)
            #expect(block.fields.count == 1)
        }
        block("\r\nReceived: a\r\n") { block, _ in
            #expect(block.isComplete && block.fields.isEmpty && block.length == 0)
        }
        block("") { block, _ in #expect(!block.isComplete && block.fields.isEmpty) }
        block("no colon\r\n folded\r\n\r\n") { block, _ in #expect(block.fields.isEmpty) }
    }
}
