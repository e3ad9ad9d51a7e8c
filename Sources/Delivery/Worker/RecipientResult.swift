// What one attempt found out, before anything follows from it: per recipient, and per host that was judged.

import Ledger
import Policy
import SMTP
import SmartTLS

/// A recipient host as one connection showed it.
package struct HostSite: Sendable {
    /// Its name.
    let host: String
    /// The address, in text.
    let address: String
    /// What was found on it.
    let findings: HostFindings
    /// What SmartTLS concluded.
    let verdict: Verdict
    /// All that it rests on; nil where nobody was judged.
    let judgement: SiteJudgement?

    /// The part of an event's details that rests on the connection.
    func detail(attempt: Int32) -> EventDetail {
        var detail = EventDetail()
        detail.attempt = attempt
        detail.remoteHost = host
        detail.remoteAddress = address
        detail.tlsVersion = findings.evidence.tlsVersion
        detail.cipherSuite = findings.evidence.cipherSuite
        detail.keyExchangeGroup = findings.evidence.keyExchangeGroup
        detail.certificateDigest = findings.evidence.certificateDigest
        detail.tlsaBaseDomain = findings.evidence.tlsaBaseDomain
        detail.tlsaRecord = findings.evidence.tlsaRecord
        detail.verdict = verdict.outcome.rawValue
        detail.ruleset = verdict.ruleset
        detail.rulesetVersion = verdict.rulesetVersion
        return detail
    }
}

/// What an attempt concluded on one recipient.
package struct RecipientResult: Sendable {
    /// The conclusion.
    package enum Kind: Sendable, Hashable {
        /// The remote server answered 250 to the content.
        case delivered
        /// It, or DNS, said that it never will.
        case bounced
        /// Not secure enough.
        case refused
        /// Not now.
        case deferred
        /// The final dot went out and nothing came back.
        case inDoubt
    }

    /// The recipient's number in the envelope.
    let number: Int32
    /// The conclusion.
    let kind: Kind
    /// Why.
    let reason: ReasonCode
    /// The status to report: the remote one, or ours.
    let status: EnhancedStatusCode
    /// The reply it rests on.
    var reply: SMTPReply?
    /// The host it was said on.
    var site: HostSite?
    /// The name of that host, where no connection was made.
    var host: String?
    /// What the library, the resolver or the system said.
    var explanation: String?
    /// True when the next hop promised to report successes itself (RFC 3461 §5.2.2).
    var isReportPassedOn = true

    package init(
        number: Int32, kind: Kind, reason: ReasonCode, status: EnhancedStatusCode? = nil,
        reply: SMTPReply? = nil,
        site: HostSite? = nil, host: String? = nil, explanation: String? = nil
    ) {
        self.number = number
        self.kind = kind
        self.reason = reason
        self.status = status ?? RecipientResult.status(kind, reason, reply)
        self.reply = reply
        self.site = site
        self.host = host
        self.explanation = explanation
    }

    /// RFC 3463 for what no server gave a status for.
    private static func status(_ kind: Kind, _ reason: ReasonCode, _ reply: SMTPReply?) -> EnhancedStatusCode
    {
        if let enhanced = reply?.enhanced { return enhanced }
        let statusClass =
            switch kind {
            case .delivered: 2
            case .bounced, .refused: 5
            case .deferred, .inDoubt: 4
            }
        if reply != nil { return EnhancedStatusCode(statusClass, 0, 0) }
        let (subject, detail) =
            switch reason {
            case .starttlsNotSupported, .tlsVersionTooLow, .daneRequired: (7, 4)
            case .connectionRefused, .connectionTimeout: (4, 1)
            case .connectionLost, .finalDotInDoubt: (4, 2)
            case .dnsFailure, .dnssecInvalid: (4, 3)
            case .protocolViolation: (5, 0)
            case .keyServiceUnavailable, .overloaded: (3, 0)
            case .rulesetUnknown: (3, 5)
            default: kind == .refused || kind == .deferred ? (7, 5) : (0, 0)
            }
        return EnhancedStatusCode(statusClass, subject, detail)
    }
}

/// What one attempt at one delivery found out.
package struct AttemptResult: Sendable {
    /// Hosts that were judged, in order.
    var assessed: [HostSite] = []
    /// One per recipient that was open.
    package var recipients: [RecipientResult] = []

    package init() {}
}
