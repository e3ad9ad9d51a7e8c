// What a sender is told about recipients (RFC 3464 in the multipart/report of RFC 6522; RFC 6533 where addresses are UTF-8):
// a text for people in Dutch and English, a part for programs, and the header of the message. Never its body: what was sent
// sealed does not come back in the clear (design §9).
//
// To an ASCII reverse path the whole report is ASCII, so that any host takes it; to a UTF-8 one it is an SMTPUTF8 message.

import Foundation

/// A sentence in both languages of a report.
public struct BilingualText: Sendable, Hashable, Codable {
    /// In Dutch.
    public var dutch: String
    /// In English.
    public var english: String

    /// A sentence in both languages.
    public init(dutch: String, english: String) {
        self.dutch = dutch
        self.english = english
    }
}

/// A delivery status notification, before it is written out.
public struct DeliveryStatusNotification: Sendable {
    /// The Action field (RFC 3464 §2.3.3).
    public enum Action: String, Sendable, Codable {
        case failed, delayed, delivered, relayed, expanded
    }

    /// What is told about one recipient.
    public struct Recipient: Sendable {
        /// The address that delivery was tried to.
        public var address: String
        /// ORCPT as the sender gave it (RFC 3461 §4.2); nil when it gave none.
        public var originalRecipient: OriginalRecipient?
        /// What happened.
        public var action: Action
        /// Why, as a status (RFC 3463).
        public var status: EnhancedStatusCode
        /// Why, in words that a help desk can read out.
        public var explanation: BilingualText
        /// Why, by name (RFC 8460 §4.3 and our own): what a help desk looks up.
        public var reasonCode: String?
        /// The host that decided; nil when none was reached.
        public var remoteHost: String?
        /// The reply of that host, without its line ends; nil when none came.
        public var diagnostic: String?
        /// When it was last tried.
        public var lastAttempt: Date?
        /// Until when it is tried again; only with `delayed`.
        public var willRetryUntil: Date?

        /// A recipient of the report.
        public init(
            address: String, originalRecipient: OriginalRecipient? = nil, action: Action,
            status: EnhancedStatusCode,
            explanation: BilingualText, reasonCode: String? = nil, remoteHost: String? = nil,
            diagnostic: String? = nil,
            lastAttempt: Date? = nil, willRetryUntil: Date? = nil
        ) {
            self.address = address
            self.originalRecipient = originalRecipient
            self.action = action
            self.status = status
            self.explanation = explanation
            self.reasonCode = reasonCode
            self.remoteHost = remoteHost
            self.diagnostic = diagnostic
            self.lastAttempt = lastAttempt
            self.willRetryUntil = willRetryUntil
        }
    }

    /// A report as it goes onto the wire.
    public struct Encoded: Sendable {
        /// The whole message, strict CRLF.
        public var bytes: [UInt8]
        /// True when it must be sent with SMTPUTF8 and BODY=8BITMIME.
        public var needsSMTPUTF8: Bool
    }

    /// The most bytes of the original header that are returned.
    public static let maximumHeaderBytes = 65536

    /// Our own host, for Reporting-MTA and Message-ID.
    public var reportingHost: String
    /// The domain of the From address; the tenant's own, or the reporting host.
    public var fromDomain: String
    /// The reverse path of the message: where the report goes. Never empty.
    public var reversePath: String
    /// ENVID, decoded (RFC 3461 §4.4).
    public var envelopeID: String?
    /// When we took the message.
    public var arrival: Date
    /// The recipients, at least one.
    public var recipients: [Recipient]
    /// The header of the message, with line ends; a body behind it is cut off.
    public var originalHeader: [UInt8]

    /// A report.
    public init(
        reportingHost: String, fromDomain: String, reversePath: String, envelopeID: String? = nil,
        arrival: Date,
        recipients: [Recipient], originalHeader: [UInt8]
    ) {
        self.reportingHost = reportingHost
        self.fromDomain = fromDomain
        self.reversePath = reversePath
        self.envelopeID = envelopeID
        self.arrival = arrival
        self.recipients = recipients
        self.originalHeader = originalHeader
    }

    /// Writes the report.
    /// - Parameters:
    ///   - date: the time of the Date field.
    ///   - identifier: unique for this report: makes the Message-ID and the boundary, so that the same report is the same bytes.
    public func encoded(date: Date, identifier: UUID) -> Encoded {
        let utf8 = !reversePath.utf8.allSatisfy { $0 < 0x80 }
        let name = identifier.uuidString.lowercased()
        let boundary = "=_\(name)"
        let isDelay = recipients.allSatisfy { $0.action == .delayed }
        var out = ReportWriter(allowsUTF8: utf8)

        out.field("Date", InternetDate.format(date))
        out.field("From", "\"Mail Delivery System\" <MAILER-DAEMON@\(fromDomain)>")
        out.field("To", "<\(reversePath)>")
        out.field("Message-ID", "<\(name)@\(reportingHost)>")
        out.field(
            "Subject",
            isDelay
                ? "Bericht vertraagd / Message delayed" : "Bericht niet afgeleverd / Message not delivered")
        out.field("Auto-Submitted", "auto-replied")
        out.field("MIME-Version", "1.0")
        out.line("Content-Type: multipart/report; report-type=delivery-status;")
        out.line("\tboundary=\"\(boundary)\"")
        if utf8 { out.field("Content-Transfer-Encoding", "8bit") }
        out.line("")

        out.line("--\(boundary)")
        out.text(explanation(isDelay: isDelay))

        out.line("--\(boundary)")
        out.field("Content-Type", utf8 ? "message/global-delivery-status" : "message/delivery-status")
        if utf8 { out.field("Content-Transfer-Encoding", "8bit") }
        out.line("")
        if let envelopeID { out.field("Original-Envelope-Id", envelopeID) }
        out.field("Reporting-MTA", "dns; \(reportingHost)")
        out.field("Arrival-Date", InternetDate.format(arrival))
        for recipient in recipients {
            out.line("")
            write(recipient, &out)
        }
        out.line("")

        out.line("--\(boundary)")
        out.header(originalHeader)
        out.line("--\(boundary)--")
        return Encoded(bytes: out.bytes, needsSMTPUTF8: utf8)
    }

    private func write(_ recipient: Recipient, _ out: inout ReportWriter) {
        if let original = recipient.originalRecipient {
            out.field("Original-Recipient", "\(original.addressType); \(original.address)")
        }
        out.field("Final-Recipient", out.typedAddress(recipient.address))
        out.field("Action", recipient.action.rawValue)
        out.field("Status", recipient.status.description)
        if let host = recipient.remoteHost { out.field("Remote-MTA", "dns; \(host)") }
        if let diagnostic = recipient.diagnostic {
            out.field("Diagnostic-Code", "smtp; \(diagnostic)")
        } else if let reason = recipient.reasonCode {
            // Our own decision, not a reply: a diagnostic type of our own (RFC 3464 §2.3.6).
            out.field("Diagnostic-Code", "x-zegel; \(reason)")
        }
        if let date = recipient.lastAttempt { out.field("Last-Attempt-Date", InternetDate.format(date)) }
        if let date = recipient.willRetryUntil { out.field("Will-Retry-Until", InternetDate.format(date)) }
    }

    private func explanation(isDelay: Bool) -> [String] {
        var lines: [String] = []
        lines.append(
            isDelay
                ? "Uw bericht kon nog niet worden afgeleverd bij de geadresseerde(n) hieronder. U hoeft niets te doen: het wordt opnieuw geprobeerd."
                : "Uw bericht kon niet worden afgeleverd bij de geadresseerde(n) hieronder.")
        lines.append(
            isDelay
                ? "Your message could not be delivered yet to the recipient(s) below. You need not do anything: it will be tried again."
                : "Your message could not be delivered to the recipient(s) below.")
        for recipient in recipients {
            lines.append("")
            lines.append("<\(recipient.address)>")
            lines.append("")
            lines.append("NL: \(recipient.explanation.dutch)")
            lines.append("")
            lines.append("EN: \(recipient.explanation.english)")
            if let reason = recipient.reasonCode {
                lines.append("")
                lines.append("Reden / Reason: \(reason)")
            }
            if let diagnostic = recipient.diagnostic {
                let host = recipient.remoteHost ?? "?"
                lines.append("")
                lines.append("\(host): \(diagnostic)")
            }
        }
        lines.append("")
        lines.append(
            "Alleen de kop van het bericht is bijgevoegd, niet de inhoud. / Only the header of the message is attached, not its content."
        )
        return lines
    }
}
