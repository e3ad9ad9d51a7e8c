// A held delivery that an operator returns: nothing goes to its recipients, and its sender is told.

import Foundation
import Ledger
import SMTP
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(3))) struct ReturnedTests {
    private static let hold = "UPDATE ledger.delivery SET state = 'held'"
    // What `zegel recovery held return` sets.
    private static let giveBack =
        "UPDATE ledger.delivery SET state = 'ready', returned = true, fence = fence + 1"

    @Test(
        "Nothing is sent to its recipient; its sender is told, with the header where that still opens",
        arguments: [false, true])
    func returned(keyIsGone: Bool) async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        let sender = try await lab.host("demo.test")
        let message = try await lab.accept(
            to: ["r@peer.test"], content: Array("Subject: of the returned one\r\n\r\ntext".utf8))
        try await lab.tamper(Self.hold)
        if keyIsGone { try await lab.tamper(WorkerTests.Damage.key.rawValue) }
        try await lab.tamper(Self.giveBack)
        let events = try await lab.working([
            try await lab.worker(routes: ["peer.test": host, "demo.test": sender])
        ]) {
            try await lab.events { seen in
                seen.contains { $0.kind == "delivered" } && seen.filter { $0.kind == "shredded" }.count == 2
            }
        }
        #expect(host.transcript.mails.isEmpty && host.transcript.contentBytes == 0)
        let own = events.filter { $0.message == message }
        #expect(Set(own.map(\.kind)) == ["accepted", "cancelled", "notified", "shredded"])
        #expect(own.first { $0.kind == "cancelled" }?.reason == "operator-return")
        let report = String(decoding: try #require(sender.transcript.mails.first).content, as: UTF8.self)
        #expect(report.contains("Final-Recipient: rfc822; r@peer.test\r\n"))
        #expect(report.contains("Status: 5.0.0\r\n"))
        #expect(report.contains("An operator decided not to deliver this message."))
        #expect(report.contains("Subject: of the returned one") == !keyIsGone)
    }

    @Test("What cannot be opened at all is held again, and keeps its mark")
    func unreadable() async throws {
        let lab = try await WorkerLab()
        let host = try await lab.host("peer.test")
        _ = try await lab.accept(to: ["r@peer.test"])
        try await lab.tamper(Self.hold)
        try await lab.tamper(WorkerTests.Damage.address.rawValue)
        try await lab.tamper(Self.giveBack)
        _ = try await lab.working([try await lab.worker(routes: ["peer.test": host])]) {
            try await lab.events { $0.contains { $0.kind == "held" } }
        }
        #expect(host.transcript.mails.isEmpty)
        #expect(
            try await lab.count("SELECT count(*) FROM ledger.delivery WHERE state = 'held' AND returned") == 1
        )
    }

    /// What the recipient asked for, whether it is a report of ours, whether it has a sender; who is told.
    private static let table: [(DSNNotify?, Bool, Bool, Int)] = [
        (nil, false, true, 1), (.never, false, true, 0), ([.success], false, true, 0),
        ([.failure], false, true, 1), (nil, true, true, 0), (nil, false, false, 0),
    ]

    @Test("Who is told of a return", arguments: table)
    func reports(_ row: (DSNNotify?, Bool, Bool, Int)) throws {
        let (notify, isNotification, hasSender, count) = row
        let facts = DeliveryFacts(
            acceptedAt: Date(), attempt: 1, possibleDuplicate: true, delayReported: false,
            isNotification: isNotification, hasSender: hasSender,
            recipients: [
                .init(
                    number: 0,
                    envelope: EnvelopeRecipient(address: try MailAddress("r@peer.test"), notify: notify))
            ])
        let settlement = Settlement.returned(facts)
        #expect(settlement.reports.count == count)
        #expect(settlement.ended.map(\.state) == [.cancelled])
        #expect(settlement.events.map(\.kind) == [.cancelled])
        #expect(settlement.events.allSatisfy { $0.possibleDuplicate })
        // One that may have arrived says so.
        if count == 1 {
            #expect(settlement.reports[0].explanation.english.contains("It is not known whether"))
        }
    }
}
