// The timeline as text, and the JSON it comes from.
import Foundation
import Testing

@testable import API

@Suite("Trace report")
struct TraceReportTests {
    private static func message() -> MessageBody {
        func event(
            _ kind: String, _ at: String, _ recipient: String?, _ reason: String?, _ detail: JSONValue?
        ) -> EventBody {
            EventBody(
                id: UUID().uuidString.lowercased(), kind: kind, messageID: "m", recipient: recipient,
                tenant: "demo",
                shard: "a", at: at, reasonCode: reason, cursor: nil, detail: detail, possibleDuplicate: nil,
                sealed: nil)
        }
        return MessageBody(
            id: "01980000-0000-7000-8000-000000000001", tenant: "demo", shard: "a",
            acceptedAt: "2026-11-24T10:00:00.000000Z", ruleset: "secure", size: 10_240,
            envelope: .init(
                returnPath: "a@demo.test", body: "8BITMIME", smtpUTF8: false, requireTLS: false,
                envelopeID: nil),
            recipients: [.init(number: 0, address: "b@bar.test", state: "delivered")],
            deliveries: [],
            events: [
                event("accepted", "2026-11-24T10:00:00.000000Z", "b@bar.test", nil, nil),
                event(
                    "delivered", "2026-11-24T10:01:02.500000Z", "b@bar.test", nil,
                    .object(["host": .string("mx.bar.test"), "tls": .object(["version": .string("TLSv1.3")])])
                ),
            ], reportsOn: nil, withdrawnAt: nil, shreddedAt: "2026-11-24T10:01:02.600000Z", sealed: nil)
    }

    @Test("people read the message, its recipients and its timeline")
    func text() {
        #expect(
            TraceReport(Self.message()).text == """
                message   01980000-0000-7000-8000-000000000001
                tenant    demo   ruleset secure   shard a
                accepted  2026-11-24T10:00:00.000000Z   10240 bytes
                from      <a@demo.test>   8BITMIME
                shredded  2026-11-24T10:01:02.600000Z

                recipients
                  0  delivered  b@bar.test

                timeline
                  2026-11-24T10:00:00.000000Z  +0.000s   accepted   b@bar.test
                  2026-11-24T10:01:02.500000Z  +1m02s    delivered  b@bar.test
                              host=mx.bar.test tls={version=TLSv1.3}

                """)
    }

    @Test("what is sealed says so")
    func sealed() {
        var message = Self.message()
        message.envelope = nil
        message.recipients[0].address = nil
        message.events[1].sealed = true
        message.events[1].detail = nil
        message.sealed = true
        let text = TraceReport(message).text
        #expect(text.contains("from      (sealed)\n"))
        #expect(text.contains("delivered  (sealed)\n"))
        #expect(text.contains("(details are sealed)\n"))
    }

    @Test("the JSON reads back, with null for what a reader may rely on")
    func json() throws {
        let message = Self.message()
        let data = try JSONEncoder().encode(message)
        #expect(try JSONDecoder().decode(MessageBody.self, from: data) == message)
        let event = try #require(
            try JSONSerialization.jsonObject(with: JSONEncoder().encode(message.events[0])) as? [String: Any])
        #expect(event["reason_code"] is NSNull && event["recipient"] as? String == "b@bar.test")
        #expect(event["possible_duplicate"] == nil && event["detail"] == nil)
    }

    @Test(
        "distances are short",
        arguments: [
            ("2026-11-24T10:00:00.000000Z", "+0.000s"), ("2026-11-24T10:00:01.234567Z", "+1.235s"),
            ("2026-11-24T10:59:05.000000Z", "+59m05s"), ("2026-11-25T12:03:00.000000Z", "+26h03m"),
            ("2026-11-24T09:59:59.900000Z", "-0.100s"), ("soon", ""),
        ])
    func distance(to end: String, text: String) {
        #expect(TraceReport.distance(from: "2026-11-24T10:00:00.000000Z", to: end) == text)
    }
}
