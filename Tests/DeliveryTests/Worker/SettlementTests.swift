// What follows from an attempt, as a table: which recipients end, what the rest waits for, who is told.

import Foundation
import Ledger
import Policy
import SMTP
import Testing

@testable import Delivery

@Suite struct SettlementTests {
    private let accepted = Date(timeIntervalSince1970: 1_790_000_000)
    private let schedule = RetrySchedule(waits: [.seconds(60)], expire: .seconds(5 * 86400))

    private func facts(
        notify: [DSNNotify?] = [nil], isNotification: Bool = false, hasSender: Bool = true,
        possibleDuplicate: Bool = false, delayReported: Bool = false
    ) throws -> DeliveryFacts {
        DeliveryFacts(
            acceptedAt: accepted, attempt: 1, possibleDuplicate: possibleDuplicate,
            delayReported: delayReported,
            isNotification: isNotification, hasSender: hasSender,
            recipients: try notify.enumerated().map { index, notify in
                DeliveryFacts.Recipient(
                    number: Int32(index),
                    envelope: EnvelopeRecipient(
                        address: try MailAddress("r\(index)@peer.test"), notify: notify))
            })
    }

    private func settle(
        _ facts: DeliveryFacts, _ kinds: [RecipientResult.Kind], holdsInDoubt: Bool = false, age: Double = 1,
        passedOn: Bool = true, hasKeys: Bool = true
    ) -> Settlement {
        var result = AttemptResult()
        for (index, kind) in kinds.enumerated() {
            let reason: ReasonCode =
                switch kind {
                case .delivered: .tlsAuthenticated
                case .bounced: .remoteRejected
                case .refused: .starttlsNotSupported
                case .deferred: .connectionRefused
                case .inDoubt: .finalDotInDoubt
                }
            var one = RecipientResult(number: Int32(index), kind: kind, reason: reason)
            one.isReportPassedOn = passedOn
            result.recipients.append(one)
        }
        let policy = SettlementPolicy(schedule: schedule, holdsInDoubt: holdsInDoubt)
        let now = accepted.addingTimeInterval(age)
        return hasKeys
            ? Settlement.make(facts, result, policy, now: now, random: 0.5)
            : Settlement.withoutKeys(facts, result, policy, now: now, random: 0.5)
    }

    @Test("Every recipient ends on its own, and only the rest is tried again")
    func partial() throws {
        let settlement = settle(try facts(notify: [nil, nil, nil]), [.delivered, .bounced, .deferred])
        #expect(settlement.ended.map(\.number) == [0, 1])
        #expect(settlement.ended.map(\.state) == [.delivered, .bounced])
        #expect(settlement.events.map(\.kind) == [.delivered, .bounced, .deferred])
        guard case .retry(let due, let possibleDuplicate, _) = settlement.step else {
            Issue.record("no retry")
            return
        }
        #expect(abs(due.timeIntervalSince(accepted) - 61) < 0.001)
        #expect(!possibleDuplicate)
        #expect(settlement.reports.map(\.recipient.number) == [1])
    }

    @Test("All ended: the delivery ends")
    func ends() throws {
        guard case .ends = settle(try facts(notify: [nil, nil]), [.delivered, .refused]).step else {
            Issue.record("does not end")
            return
        }
    }

    @Test(
        "RFC 3461 §4.1: who is told of a failure",
        arguments: [
            (nil, true), (.failure, true), ([.failure, .success], true), (.never, false), (.success, false),
            (.delay, false),
        ] as [(DSNNotify?, Bool)])
    func failureNotify(_ notify: DSNNotify?, _ told: Bool) throws {
        for kind in [RecipientResult.Kind.bounced, .refused] {
            #expect(settle(try facts(notify: [notify]), [kind]).reports.count == (told ? 1 : 0))
        }
    }

    @Test("RFC 5321 §4.5.5: nothing is told to the null reverse path, and the recipient ends all the same")
    func nullSender() throws {
        let settlement = settle(try facts(hasSender: false), [.bounced])
        #expect(settlement.reports.isEmpty)
        #expect(settlement.ended.map(\.state) == [.bounced])
    }

    @Test("A notification of ours that cannot go is held with an alert, never bounced")
    func notificationHeld() throws {
        for kind in [RecipientResult.Kind.bounced, .refused] {
            let settlement = settle(try facts(isNotification: true, hasSender: false), [kind])
            guard case .hold = settlement.step else {
                Issue.record("not held")
                return
            }
            #expect(settlement.events.map(\.kind) == [.held])
            #expect(settlement.ended.isEmpty && settlement.reports.isEmpty && settlement.isAlert)
        }
        let old = settle(try facts(isNotification: true, hasSender: false), [.deferred], age: 6 * 86400)
        #expect(old.events.map(\.kind) == [.held])
    }

    @Test("Past delivery.expire a deferral is an expiry, told to the sender with both reasons")
    func expiry() throws {
        let settlement = settle(try facts(), [.deferred], age: 5 * 86400)
        #expect(settlement.ended.map(\.state) == [.expired])
        #expect(settlement.events.map(\.reason) == [.messageExpired])
        let report = try #require(settlement.reports.first)
        #expect(report.action == .failed)
        #expect(report.status == EnhancedStatusCode(5, 4, 7))
        #expect(report.explanation.english.contains(ReasonCode.connectionRefused.sentence.english))
    }

    @Test("In doubt: tried again and marked, or held, as the policy says")
    func inDoubt() throws {
        let resend = settle(try facts(), [.inDoubt])
        guard case .retry(_, let possibleDuplicate, _) = resend.step else {
            Issue.record("no retry")
            return
        }
        #expect(possibleDuplicate)
        #expect(resend.events.map(\.possibleDuplicate) == [true])
        #expect(resend.events.map(\.kind) == [.deferred])
        let hold = settle(try facts(), [.inDoubt], holdsInDoubt: true)
        guard case .hold(possibleDuplicate: true, delayReported: false) = hold.step else {
            Issue.record("not held, or its release would send it unmarked")
            return
        }
        #expect(hold.events.map(\.kind) == [.held])
    }

    @Test("A hold keeps what its sender was told of")
    func heldAfterReport() throws {
        let hold = settle(
            try facts(notify: [nil, nil]), [.inDoubt, .deferred], holdsInDoubt: true, age: 5 * 3600)
        #expect(hold.reports.map(\.action) == [.delayed])
        guard case .hold(possibleDuplicate: true, delayReported: true) = hold.step else {
            Issue.record("not held, or told again after its release")
            return
        }
    }

    @Test("Without keys a 250 is recorded, the rest waits whatever its age, and nobody counts as told")
    func withoutKeys() throws {
        let waiting = settle(
            try facts(notify: [[.success], nil, nil]), [.delivered, .bounced, .deferred], age: 9 * 86400,
            passedOn: false, hasKeys: false)
        #expect(waiting.ended.map(\.number) == [0] && waiting.ended.map(\.state) == [.delivered])
        #expect(waiting.events.map(\.kind) == [.delivered, .deferred, .deferred])
        #expect(waiting.reports.isEmpty)
        guard case .retry(_, possibleDuplicate: false, delayReported: false) = waiting.step else {
            Issue.record("no retry, or a report that was never sent counts as sent")
            return
        }
    }

    @Test("A delivery after a dot in doubt is marked as a possible duplicate")
    func marked() throws {
        let settlement = settle(try facts(possibleDuplicate: true), [.delivered])
        #expect(settlement.events.map(\.possibleDuplicate) == [true])
        #expect(settlement.events[0].detail.possibleDuplicate == true)
    }

    @Test("A delay is told once, after four hours, to those who did not decline")
    func delay() throws {
        #expect(settle(try facts(), [.deferred], age: 3600).reports.isEmpty)
        let late = settle(try facts(), [.deferred], age: 5 * 3600)
        #expect(late.reports.map(\.action) == [.delayed])
        guard case .retry(_, _, let delayReported) = late.step else {
            Issue.record("no retry")
            return
        }
        #expect(delayReported)
        #expect(settle(try facts(delayReported: true), [.deferred], age: 5 * 3600).reports.isEmpty)
        #expect(settle(try facts(notify: [.failure]), [.deferred], age: 5 * 3600).reports.isEmpty)
    }

    @Test("RFC 3461 §5.2.2: success asked and not passed on is told as relayed")
    func relayed() throws {
        #expect(settle(try facts(notify: [.success]), [.delivered], passedOn: true).reports.isEmpty)
        let told = settle(try facts(notify: [.success]), [.delivered], passedOn: false)
        #expect(told.reports.map(\.action) == [.relayed])
        #expect(settle(try facts(), [.delivered], passedOn: false).reports.isEmpty)
    }

    @Test("RFC 3463: a status for what no server gave one for")
    func statuses() {
        let table: [(RecipientResult.Kind, ReasonCode, SMTPReply?, String)] = [
            (.refused, .starttlsNotSupported, nil, "5.7.4"), (.refused, .certificateExpired, nil, "5.7.5"),
            (.deferred, .connectionTimeout, nil, "4.4.1"), (.deferred, .dnsFailure, nil, "4.4.3"),
            (.deferred, .tlsHandshakeFailed, nil, "4.7.5"),
            (.bounced, .remoteRejected, SMTPReply(550, nil, "no"), "5.0.0"),
            (.bounced, .remoteRejected, SMTPReply(550, EnhancedStatusCode(5, 1, 1), "no"), "5.1.1"),
            (.inDoubt, .finalDotInDoubt, nil, "4.4.2"),
            (.delivered, .tlsAuthenticated, SMTPReply(250, nil, "ok"), "2.0.0"),
        ]
        for (kind, reason, reply, expected) in table {
            let result = RecipientResult(number: 0, kind: kind, reason: reason, reply: reply)
            #expect(result.status.description == expected, "\(reason)")
        }
    }
}
