// What follows from an attempt: which recipients end and how, when the rest is tried again, which events tell it and who is
// notified. A pure function of what was claimed, what was found, the clock and one random number.

import Foundation
import Ledger
import Policy
import SMTP

/// What the consequences depend on beyond the attempt.
package struct SettlementPolicy: Sendable {
    /// When to try again, and until when.
    var schedule: RetrySchedule
    /// Whether what is in doubt is held for an operator rather than sent again.
    var holdsInDoubt: Bool

    package init(schedule: RetrySchedule, holdsInDoubt: Bool) {
        self.schedule = schedule
        self.holdsInDoubt = holdsInDoubt
    }
}

/// The facts of a claimed delivery that a settlement needs.
package struct DeliveryFacts: Sendable {
    /// A recipient that was open when it was claimed.
    package struct Recipient: Sendable {
        /// Its number in the envelope.
        var number: Int32
        /// Its address and what it asked for.
        var envelope: EnvelopeRecipient

        package init(number: Int32, envelope: EnvelopeRecipient) {
            self.number = number
            self.envelope = envelope
        }
    }

    /// When the message was taken in.
    var acceptedAt: Date
    /// The number of this attempt, from 1.
    var attempt: Int32
    /// Whether a final dot may have been sent before.
    var possibleDuplicate: Bool
    /// Whether the sender was told of the delay.
    var delayReported: Bool
    /// Whether it is a notification of ours: it never bounces.
    var isNotification: Bool
    /// Whether anybody can be notified: the reverse path is not null.
    var hasSender: Bool
    /// Those open, in order.
    var recipients: [Recipient]

    package init(
        acceptedAt: Date, attempt: Int32, possibleDuplicate: Bool, delayReported: Bool, isNotification: Bool,
        hasSender: Bool, recipients: [Recipient]
    ) {
        self.acceptedAt = acceptedAt
        self.attempt = attempt
        self.possibleDuplicate = possibleDuplicate
        self.delayReported = delayReported
        self.isNotification = isNotification
        self.hasSender = hasSender
        self.recipients = recipients
    }
}

/// The consequences of one attempt.
package struct Settlement: Sendable {
    /// An event to be written.
    package struct Event: Sendable {
        package var recipient: Int32?
        package var kind: EventKind
        package var reason: ReasonCode
        package var possibleDuplicate = false
        var detail: EventDetail
        /// What it rests on, where it is evidence of a delivery or a refusal.
        var judgement: SiteJudgement?
    }

    /// One recipient of a notification.
    struct Report: Sendable {
        var recipient: DeliveryFacts.Recipient
        var action: DeliveryStatusNotification.Action
        var status: EnhancedStatusCode
        var explanation: BilingualText
        var host: String?
        var diagnostic: String?
        var willRetryUntil: Date?
        var reason: ReasonCode
    }

    package var ended: [EndedRecipient] = []
    package var step: DeliveryStep = .ends
    package var events: [Event] = []
    var reports: [Report] = []
    /// Something an operator must look at.
    var isAlert = false

    /// Concludes.
    /// - Parameter random: in 0 ..< 1, spreads the retry.
    package static func make(
        _ facts: DeliveryFacts, _ result: AttemptResult, _ policy: SettlementPolicy, now: Date, random: Double
    ) -> Settlement {
        var settlement = Settlement()
        let isExpired = policy.schedule.isExpired(acceptedAt: facts.acceptedAt, now: now)
        let wait = policy.schedule.wait(after: Int(facts.attempt), random: random)
        let due = now.addingTimeInterval(wait.seconds)
        var isHeld = false
        var isOpen = false
        var isInDoubt = false
        for site in result.assessed {
            var detail = site.detail(attempt: facts.attempt)
            detail.findings = site.findings.findings.map(\.rawValue)
            detail.explanation = site.findings.evidence.detail
            settlement.events.append(Event(kind: .assessed, reason: site.verdict.reason, detail: detail))
        }
        for recipient in result.recipients {
            let isDoubtful = recipient.kind == .inDoubt
            isInDoubt = isInDoubt || isDoubtful
            var kind = terminalKind(recipient.kind, isExpired: isExpired)
            if isDoubtful && policy.holdsInDoubt { kind = .held }
            // Our own notification has nobody to report to: an operator decides (never bounced, design §5).
            if facts.isNotification, kind == .bounced || kind == .refused || kind == .expired { kind = .held }
            let possibleDuplicate = isDoubtful || facts.possibleDuplicate
            var detail = detail(of: recipient, facts)
            if possibleDuplicate { detail.possibleDuplicate = true }
            switch kind {
            case .held:
                isHeld = true
            case .deferred:
                isOpen = true
                detail.nextAttempt = due.formatted(.iso8601)
            default:
                if let state = EndedRecipient.State(rawValue: kind.rawValue) {
                    settlement.ended.append(EndedRecipient(number: recipient.number, state: state))
                }
            }
            settlement.events.append(
                Event(
                    recipient: recipient.number, kind: kind,
                    reason: kind == .expired ? .messageExpired : recipient.reason,
                    possibleDuplicate: possibleDuplicate, detail: detail,
                    judgement: kind == .delivered || kind == .refused ? recipient.site?.judgement : nil))
            settlement.report(recipient, kind, facts, policy, now: now)
        }
        settlement.isAlert = isHeld
        let isMarked = isInDoubt || facts.possibleDuplicate
        var delayReported = facts.delayReported
        if settlement.reports.contains(where: { $0.action == .delayed }) { delayReported = true }
        if isHeld {
            settlement.step = .hold(possibleDuplicate: isMarked, delayReported: delayReported)
        } else if isOpen {
            settlement.step = .retry(due: due, possibleDuplicate: isMarked, delayReported: delayReported)
        }
        return settlement
    }

    /// Ends a delivery unsent by an operator's word: whoever wants to be told of failures is.
    package static func returned(_ facts: DeliveryFacts) -> Settlement {
        var settlement = Settlement()
        let mayHaveArrived = facts.possibleDuplicate
        var words = BilingualText(ReasonCode.operatorReturn.sentence)
        if mayHaveArrived { words = words.followed(by: BilingualText(ReasonCode.finalDotInDoubt.sentence)) }
        for recipient in facts.recipients {
            // RFC 3463: nothing more is known than that it failed.
            let status = EnhancedStatusCode(5, 0, 0)
            var detail = EventDetail()
            detail.attempt = facts.attempt
            detail.status = status.description
            if mayHaveArrived { detail.possibleDuplicate = true }
            settlement.ended.append(EndedRecipient(number: recipient.number, state: .cancelled))
            settlement.events.append(
                Event(
                    recipient: recipient.number, kind: .cancelled, reason: .operatorReturn,
                    possibleDuplicate: mayHaveArrived, detail: detail))
            let notify = recipient.envelope.notify ?? [.failure]
            guard facts.hasSender, !facts.isNotification, notify.contains(.failure) else { continue }
            settlement.reports.append(
                Report(
                    recipient: recipient, action: .failed, status: status, explanation: words,
                    reason: .operatorReturn))
        }
        return settlement
    }

    private static func terminalKind(_ kind: RecipientResult.Kind, isExpired: Bool) -> EventKind {
        switch kind {
        case .delivered: .delivered
        case .bounced: .bounced
        case .refused: .refused
        case .deferred, .inDoubt: isExpired ? .expired : .deferred
        }
    }

    private static func detail(of recipient: RecipientResult, _ facts: DeliveryFacts) -> EventDetail {
        var detail = recipient.site?.detail(attempt: facts.attempt) ?? EventDetail()
        detail.attempt = facts.attempt
        if detail.remoteHost == nil { detail.remoteHost = recipient.host }
        detail.reply = recipient.reply?.text
        detail.status = recipient.status.description
        detail.explanation = recipient.explanation
        return detail
    }

    /// Adds what the sender is told of one recipient (RFC 3461 §4.1, §5.2), if anything.
    private mutating func report(
        _ result: RecipientResult, _ kind: EventKind, _ facts: DeliveryFacts, _ policy: SettlementPolicy,
        now: Date
    ) {
        guard facts.hasSender, !facts.isNotification,
            let recipient = facts.recipients.first(where: { $0.number == result.number })
        else { return }
        // RFC 3461 §4.1: without NOTIFY failures are told, and delays as is the custom.
        let notify = recipient.envelope.notify ?? [.failure, .delay]
        if notify.contains(.never) { return }
        var report = Report(
            recipient: recipient, action: .failed, status: result.status,
            explanation: BilingualText(result.reason.sentence), host: result.site?.host ?? result.host,
            diagnostic: result.reply?.text, reason: result.reason)
        switch kind {
        case .bounced, .refused:
            guard notify.contains(.failure) else { return }
        case .expired:
            guard notify.contains(.failure) else { return }
            report.status = EnhancedStatusCode(5, 4, 7)
            report.reason = .messageExpired
            report.explanation = BilingualText(ReasonCode.messageExpired.sentence)
                .followed(by: BilingualText(result.reason.sentence))
        case .deferred:
            guard notify.contains(.delay), !facts.delayReported,
                now.timeIntervalSince(facts.acceptedAt) >= policy.schedule.delayReport.seconds
            else { return }
            report.action = .delayed
            report.willRetryUntil = facts.acceptedAt.addingTimeInterval(policy.schedule.expire.seconds)
        case .delivered:
            guard notify.contains(.success), !result.isReportPassedOn else { return }
            report.action = .relayed
        default: return
        }
        reports.append(report)
    }
}

extension BilingualText {
    init(_ sentence: ReasonSentence) { self.init(dutch: sentence.dutch, english: sentence.english) }

    func followed(by other: BilingualText) -> BilingualText {
        BilingualText(dutch: "\(dutch) \(other.dutch)", english: "\(english) \(other.english)")
    }
}
