// The timeline of one message for people: what `zegel trace <id>` prints.

import Foundation
import Observability

/// A message's way, as text.
public struct TraceReport: Sendable {
    /// What the API said.
    public let message: MessageBody

    /// A report on `message`.
    public init(_ message: MessageBody) { self.message = message }

    /// Several lines: the message, its recipients, what is open, and each event with its distance from acceptance.
    public var text: String {
        var lines = [
            "message   \(message.id)",
            "tenant    \(message.tenant)   ruleset \(message.ruleset)   shard \(message.shard)",
            "accepted  \(message.acceptedAt)   \(message.size) bytes",
        ]
        if let envelope = message.envelope {
            let asked = [
                envelope.body, envelope.smtpUTF8 ? "SMTPUTF8" : nil, envelope.requireTLS ? "REQUIRETLS" : nil,
                envelope.envelopeID.map { "ENVID=\($0)" },
            ].compactMap { $0 }
            lines.append("from      <\(envelope.returnPath)>   \(asked.joined(separator: " "))")
        } else {
            lines.append("from      (sealed)")
        }
        if let original = message.reportsOn { lines.append("reports on \(original)") }
        if let withdrawn = message.withdrawnAt { lines.append("withdrawn \(withdrawn)") }
        lines.append(
            message.shreddedAt.map { "shredded  \($0)" }
                ?? "shredded  not yet: content and key are still kept, sealed")
        if message.sealed == true {
            lines.append("note      parts are sealed: the key service is away or its epoch is destroyed")
        }
        lines += ["", "recipients"]
        for recipient in message.recipients {
            lines.append(
                "  \(recipient.number)  \(pad(recipient.state, 10)) \(recipient.address ?? "(sealed)")")
        }
        if !message.deliveries.isEmpty {
            lines += ["", "open deliveries"]
            for delivery in message.deliveries {
                lines.append(
                    "  \(delivery.domain)  \(delivery.state), due \(delivery.due), attempts so far: \(delivery.attempts)"
                )
            }
        }
        lines += ["", "timeline"]
        for event in message.events {
            var line =
                "  \(event.at)  \(pad(Self.distance(from: message.acceptedAt, to: event.at), 9)) \(pad(event.kind, 10))"
            if let recipient = event.recipient { line += " \(recipient)" }
            if let reason = event.reasonCode { line += "  [\(reason)]" }
            if event.possibleDuplicate == true { line += "  possible duplicate" }
            lines.append(Self.withoutEnd(line))
            if let detail = event.detail { lines += Self.wrapped(Self.inReadingOrder(detail), indent: 14) }
            if event.sealed == true {
                lines.append(String(repeating: " ", count: 14) + "(details are sealed)")
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    /// What matters most first; members that this version does not know come last.
    private static let readingOrder = [
        "attempt", "verdict", "remote_host", "remote_address", "reply", "explanation", "next_attempt",
        "tls_version",
        "cipher_suite", "key_exchange_group", "findings", "certificate_digest", "tlsa_base_domain",
        "tlsa_record",
    ]

    private static func inReadingOrder(_ detail: JSONValue) -> String {
        guard case .object(var members) = detail else { return detail.line }
        var parts: [String] = []
        for name in readingOrder {
            guard let value = members.removeValue(forKey: name) else { continue }
            parts.append(JSONValue.object([name: value]).line)
        }
        parts.append(JSONValue.object(members).line)
        return parts.filter { !$0.isEmpty }.joined(separator: " ")
    }

    private func pad(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func withoutEnd(_ line: String) -> String {
        var line = line
        while line.last == " " { line.removeLast() }
        return line
    }

    /// `+0.123s`, `+5m02s`; empty when a time cannot be read.
    static func distance(from start: String, to end: String) -> String {
        guard let start = seconds(start), let end = seconds(end) else { return "" }
        let sign = end < start ? "-" : "+"
        let distance = abs(end - start)
        if distance < 60 {
            let millis = Int((distance * 1000).rounded())
            let fraction = "00\(millis % 1000)".suffix(3)
            return "\(sign)\(millis / 1000).\(fraction)s"
        }
        let whole = Int(distance)
        if whole < 3600 { return "\(sign)\(whole / 60)m" + "0\(whole % 60)s".suffix(3) }
        return "\(sign)\(whole / 3600)h" + "0\(whole / 60 % 60)m".suffix(3)
    }

    private static func seconds(_ text: String) -> Double? {
        guard let dot = text.firstIndex(of: "."), text.hasSuffix("Z"),
            let whole = try? Date(String(text[..<dot]) + "Z", strategy: .iso8601),
            let fraction = Double("0" + text[dot...].dropLast())
        else { return nil }
        return whole.timeIntervalSince1970 + fraction
    }

    private static func wrapped(_ text: String, indent: Int) -> [String] {
        let margin = String(repeating: " ", count: indent)
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, line.count + word.count + 1 > 96 {
                lines.append(margin + line)
                line = ""
            }
            line += line.isEmpty ? String(word) : " \(word)"
        }
        if !line.isEmpty { lines.append(margin + line) }
        return lines
    }
}
