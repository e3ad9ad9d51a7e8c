// Reports as they leave: structure, fields, folding, languages, and that no body ever comes back.

import Foundation
import Testing

@testable import SMTP

@Suite struct DeliveryStatusNotificationTests {
    private let identifier = UUID(uuidString: "01900000-0000-7000-8000-000000000001") ?? UUID()

    private func report(
        reversePath: String = "a@demo.test", recipient: String = "r@peer.test",
        header: String = "Subject: hi\r\nFrom: a@demo.test\r\n\r\nsecret body\r\n",
        diagnostic: String? = "550 5.1.1 no such user", dutch: String = "Geen TLS.",
        action: DeliveryStatusNotification.Action = .failed
    ) -> DeliveryStatusNotification.Encoded {
        DeliveryStatusNotification(
            reportingHost: "mx.zegel.test", fromDomain: "demo.test", reversePath: reversePath,
            envelopeID: "envelope",
            arrival: Date(timeIntervalSince1970: 1_790_000_000),
            recipients: [
                .init(
                    address: recipient,
                    originalRecipient: OriginalRecipient(addressType: "rfc822", address: "old@peer.test"),
                    action: action, status: EnhancedStatusCode(5, 7, 10),
                    explanation: BilingualText(dutch: dutch, english: "No TLS."), remoteHost: "mx.peer.test",
                    diagnostic: diagnostic)
            ], originalHeader: Array(header.utf8)
        ).encoded(date: Date(timeIntervalSince1970: 1_790_000_100), identifier: identifier)
    }

    private func text(_ encoded: DeliveryStatusNotification.Encoded) -> String {
        String(decoding: encoded.bytes, as: UTF8.self)
    }

    @Test("RFC 3464 §2: the fields; RFC 3834: Auto-Submitted; both languages; the header and never the body")
    func fields() {
        let encoded = report()
        let whole = text(encoded)
        for part in [
            "From: \"Mail Delivery System\" <MAILER-DAEMON@demo.test>\r\n", "To: <a@demo.test>\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "Content-Type: multipart/report; report-type=delivery-status;\r\n",
            "Content-Type: message/delivery-status\r\n", "Original-Envelope-Id: envelope\r\n",
            "Reporting-MTA: dns; mx.zegel.test\r\n", "Original-Recipient: rfc822; old@peer.test\r\n",
            "Final-Recipient: rfc822; r@peer.test\r\n", "Action: failed\r\n", "Status: 5.7.10\r\n",
            "Remote-MTA: dns; mx.peer.test\r\n", "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
            "Content-Type: text/rfc822-headers\r\n", "Subject: hi\r\n", "NL: Geen TLS.", "EN: No TLS.",
            "Arrival-Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n",
        ] { #expect(whole.contains(part), "\(part)") }
        #expect(!whole.contains("secret body"))
        #expect(!encoded.needsSMTPUTF8)
    }

    @Test("Strict CRLF, no line over 998 bytes, ASCII to an ASCII sender, whatever goes in")
    func lines() {
        let long = String(repeating: "x", count: 3000)
        let encoded = report(
            recipient: "ü@bücher.test", header: "Subject: é\r\nX: \(long)\r\nY: a\nZ: b\r\n\r\nsecret",
            diagnostic: "550 \(long) é\r\nInjected: yes", dutch: "Eén reden = \(long) ë.")
        let bytes = encoded.bytes
        var start = 0
        for (index, byte) in bytes.enumerated() {
            #expect(byte < 0x80)
            if byte == 0x0A {
                #expect(bytes[index - 1] == 0x0D)
                #expect(index + 1 - start <= 1000)
                start = index + 1
            }
            if byte == 0x0D { #expect(bytes[index + 1] == 0x0A) }
        }
        let whole = text(encoded)
        #expect(!whole.contains("\r\nInjected"))
        #expect(!whole.contains("secret"))
        #expect(whole.contains("Final-Recipient: utf-8; \\x{FC}@b\\x{FC}cher.test\r\n"))
        #expect(
            whole.contains("Content-Type: message/global-headers\r\nContent-Transfer-Encoding: base64\r\n"))
    }

    @Test("RFC 6533: to a UTF-8 sender the global forms, sent with SMTPUTF8")
    func internationalised() {
        let encoded = report(
            reversePath: "é@demo.test", recipient: "ü@peer.test", header: "Subject: é\r\n\r\n")
        let whole = text(encoded)
        #expect(encoded.needsSMTPUTF8)
        #expect(whole.contains("To: <é@demo.test>\r\n"))
        #expect(whole.contains("Content-Type: message/global-delivery-status\r\n"))
        #expect(whole.contains("Final-Recipient: utf-8; ü@peer.test\r\n"))
        #expect(
            whole.contains(
                "Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: é\r\n"
            ))
    }

    @Test("A header without a body, an empty one, one beyond the limit: only whole lines come back")
    func headerBounds() {
        #expect(text(report(header: "Subject: x\r\n")).contains("Subject: x\r\n"))
        #expect(!text(report(header: "")).contains("Subject: x"))
        let line = "X: " + String(repeating: "y", count: 94) + "\r\n"
        let many = String(repeating: line, count: 2000) + "Last: z\r\n\r\n"
        let whole = text(report(header: many))
        #expect(!whole.contains("Last: z"))
        #expect(whole.utf8.count < DeliveryStatusNotification.maximumHeaderBytes + 8192)
    }

    @Test("A delay says so")
    func delay() {
        let whole = text(report(action: .delayed))
        #expect(whole.contains("Subject: Bericht vertraagd / Message delayed\r\n"))
        #expect(whole.contains("Action: delayed\r\n"))
    }

    @Test(
        "RFC 5322 §3.3: dates",
        arguments: [
            (0.0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_399.9, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (1_795_557_845, "Tue, 24 Nov 2026 22:04:05 +0000"),
            (-1, "Wed, 31 Dec 1969 23:59:59 +0000"),
        ])
    func dates(_ seconds: Double, _ expected: String) {
        #expect(InternetDate.format(Date(timeIntervalSince1970: seconds)) == expected)
    }
}
