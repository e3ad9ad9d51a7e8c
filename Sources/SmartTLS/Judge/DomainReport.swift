// What `zegel judge` and the API say of a recipient domain: its hosts, what was found on each, and what that comes to under each
// ruleset.

import Policy

/// A report on one recipient domain.
public struct DomainReport: Sendable, Hashable, Codable {
    /// One address of one host.
    public struct Host: Sendable, Hashable, Codable {
        /// The host's name.
        public let name: String
        /// The address, in text.
        public let address: String
        /// The preference of its MX record.
        public let preference: Int
        /// What was found, by name; empty where it could not be reached.
        public let findings: [String]
        /// What those rest on; nil where it could not be reached.
        public let evidence: EvidenceSummary?
        /// Why it could not be reached.
        public let failure: String?
        /// What it comes to, by ruleset.
        public let verdicts: [String: Conclusion]
        /// What its operator should do: what stands in the way of a delivery under some ruleset, and what the guidelines
        /// call insufficient.
        public let remedies: [Remedy]
        /// The worst of all that is known of it: `good`, `sufficient`, `phase out`, `insufficient`; `unknown` where nothing is.
        public let grade: String
        /// What else it accepts; nil without a scan.
        public let scan: HostScanReport?
    }

    /// What follows under one ruleset.
    public struct Conclusion: Sendable, Hashable, Codable {
        /// What to do with a message.
        public let outcome: Verdict.Outcome
        /// Why.
        public let reasonCode: ReasonCode
        /// The same in words, in English.
        public let why: String
        /// The same in words, in Dutch.
        public let waarom: String

        private enum CodingKeys: String, CodingKey {
            case outcome, why, waarom
            case reasonCode = "reason_code"
        }

        init(_ outcome: Verdict.Outcome, _ reason: ReasonCode) {
            self.outcome = outcome
            reasonCode = reason
            why = reason.sentence.english
            waarom = reason.sentence.dutch
        }
    }

    /// The domain, in lower-case A-labels.
    public let domain: String
    /// How its hosts became known; nil where there are none.
    public let origin: String?
    /// What DNSSEC says of that.
    public let dnssec: String?
    /// Each address of each host, in the order in which mail tries them.
    public let hosts: [Host]
    /// What it comes to for the domain, by ruleset.
    public let verdicts: [String: Conclusion]
    /// Why there are no hosts, in words for operators.
    public let detail: String?
}

extension DomainReport {
    /// The report on the same domain under further rulesets, for which it has other hosts.
    func joined(with other: DomainReport) -> DomainReport {
        DomainReport(
            domain: domain,
            origin: [origin, other.origin].compactMap(\.self).joined(separator: ", ").ifNotEmpty,
            dnssec: [dnssec, other.dnssec].compactMap(\.self).joined(separator: ", ").ifNotEmpty,
            hosts: hosts + other.hosts, verdicts: verdicts.merging(other.verdicts) { one, _ in one },
            detail: [detail, other.detail].compactMap(\.self).joined(separator: "; ").ifNotEmpty)
    }

    /// A few lines for people.
    public var text: String {
        var lines = [domain]
        if let detail { lines.append("  \(detail)") }
        if let origin, let dnssec { lines.append("  hosts by \(origin), DNSSEC \(dnssec)") }
        for host in hosts {
            lines.append("  \(host.name) [\(host.address)], preference \(host.preference)")
            if let failure = host.failure { lines.append("    not reached: \(failure)") }
            if let evidence = host.evidence {
                let parts = [evidence.tlsVersion, evidence.cipherSuite, evidence.keyExchangeGroup]
                    .compactMap { $0 }
                lines.append("    \(parts.isEmpty ? "no TLS" : parts.joined(separator: ", "))")
                if let record = evidence.tlsaRecord { lines.append("    matches TLSA \(record)") }
                if let detail = evidence.detail { lines.append("    \(detail)") }
                if let detail = evidence.stsDetail, detail != evidence.detail {
                    lines.append("    MTA-STS: \(detail)")
                }
            }
            lines.append("    grade: \(host.grade)")
            if let scan = host.scan { lines += scan.lines.map { "    " + $0 } }
            if !host.findings.isEmpty { lines.append("    found: " + host.findings.joined(separator: ", ")) }
            for remedy in host.remedies { lines.append("    to do: \(remedy.english)") }
        }
        for (ruleset, conclusion) in verdicts.sorted(by: { $0.key < $1.key }) {
            lines.append("  \(ruleset): \(conclusion.outcome.rawValue) (\(conclusion.reasonCode))")
            lines.append("    \(conclusion.why)")
        }
        return lines.joined(separator: "\n")
    }
}

extension String {
    fileprivate var ifNotEmpty: String? { isEmpty ? nil : self }
}
