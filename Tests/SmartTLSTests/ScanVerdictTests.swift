// What a scan does to a verdict: nothing unless the ruleset asks, and then it only tightens. `docs/verdicts.md` shows the same rows.

import Foundation
import Lab
import Policy
import Testing

@testable import SmartTLS

@Suite struct ScanVerdictTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let findings: Set<Finding>
        /// `outcome reason` without `scan`, with `scan: known` and with `scan: required`.
        let ends: [String]
        var testDescription: String { rule }

        init(_ rule: String, _ findings: Set<Finding>, _ none: String, _ known: String, _ required: String) {
            (self.rule, self.findings, ends) = (rule, findings, [none, known, required])
        }
    }

    private static let good: Set<Finding> = [
        .tls13, .forwardSecrecy, .chainTrusted, .nameMatches, .nameProven, .daneAbsent, .stsAbsent,
    ]
    private static let sent = "deliver tls-authenticated"
    private static let refused = "refuse insufficient-tls-accepted"

    static let rows: [Row] = [
        Row("nobody has scanned the host", good, sent, sent, "defer scan-pending"),
        Row("scanned, and nothing insufficient", good.union([.scanned]), sent, sent, sent),
        Row(
            "scanned, and it accepts TLS 1.0 too", good.union([.scanned, .acceptsOldTLS]), sent, refused,
            refused),
        Row(
            "scanned, and it accepts a weak suite too", good.union([.scanned, .acceptsWeakSuites]), sent,
            refused, refused),
        Row(
            "a scan that is not complete", good.union([.noExtendedMasterSecret]), sent, sent,
            "defer scan-pending"),
        Row(
            "one that is not complete and found enough", good.union([.acceptsOldTLS]), sent, refused, refused),
        Row(
            "law 2: no scan makes good what the connection lacks",
            good.subtracting([.chainTrusted]).union([
                .expired, .scanned,
            ]), "refuse certificate-expired", "refuse certificate-expired", "refuse certificate-expired"),
        Row(
            "RFC 7672 §2.2: who does not satisfy its records is not known to be the host",
            good.subtracting([.daneAbsent]).union([
                .tlsaPublished, .daneMismatch, .scanned, .acceptsOldTLS,
            ]), "defer tlsa-invalid", "defer tlsa-invalid", "defer tlsa-invalid"),
        Row(
            "no STARTTLS: there is nothing to scan",
            [
                .starttlsNotOffered, .nameProven, .daneAbsent, .stsAbsent,
            ], "refuse starttls-not-supported", "refuse starttls-not-supported",
            "refuse starttls-not-supported"),
    ]

    static func ruleset(_ demand: ScanDemand?) -> Ruleset {
        var ruleset = Ruleset.secure
        (ruleset.name, ruleset.scan) = ("own", demand)
        return ruleset
    }

    @Test(arguments: rows) func `what a scan does to a verdict`(row: Row) {
        let findings = HostFindings(row.findings, evidence: EvidenceSummary(host: "mx.test"))
        for (demand, end) in zip([nil, .known, .required] as [ScanDemand?], row.ends) {
            let verdict = Verdict.judge(Self.ruleset(demand), findings)
            #expect("\(verdict.outcome.rawValue) \(verdict.reason)" == end, "\(String(describing: demand))")
        }
    }

    @Test func `the rows are in docs/verdicts.md`() throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(
            path: "../../docs/verdicts.md")
        let text = try String(contentsOf: path, encoding: .utf8)
        for row in Self.rows {
            let line = "| \(row.rule) | \(row.ends.joined(separator: " | ")) |"
            #expect(text.contains(line), "\(line)")
        }
    }

    @Test func `whatever is found, a ruleset that asks for scans delivers nothing that it would not without`()
    {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SplitMix(seed)
        for _ in 0..<20_000 {
            let findings = HostFindings(
                Self.good.union(Finding.allCases.filter { _ in random.next() % 6 == 0 })
                    .subtracting(Finding.allCases.filter { _ in random.next() % 6 == 0 }),
                evidence: EvidenceSummary(host: "mx.test"))
            let outcomes = ([nil, .known, .required] as [ScanDemand?]).map {
                Verdict.judge(Self.ruleset($0), findings).outcome
            }
            if outcomes[2] == .deliver { #expect(outcomes[1] == .deliver, "\(findings.findings)") }
            if outcomes[1] == .deliver { #expect(outcomes[0] == .deliver, "\(findings.findings)") }
        }
    }
}
