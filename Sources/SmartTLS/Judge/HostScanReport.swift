// What a scan of one host found, graded, as a report shows it.

import Foundation

/// What one address of a host accepts.
public struct HostScanReport: Sendable, Hashable, Codable {
    /// A parameter and what it is worth.
    public struct Parameter: Sendable, Hashable, Codable {
        /// What kind it is, such as `cipher suite`.
        public let aspect: String
        /// Its registered name.
        public let name: String
        /// `good`, `sufficient`, `phase out` or `insufficient`.
        public let grade: String
    }

    /// What a scan is worth now.
    public enum State: String, Sendable, Hashable, Codable {
        /// Made for this report.
        case new
        /// Made by a worker before, and in force.
        case fresh
        /// Its time is over.
        case stale
        /// The host shows another certificate or has other TLSA records since.
        case superseded
    }

    /// What the scan is worth: only `new` and `fresh` ones count for findings, grade and verdicts.
    public let state: State
    /// How old it is, in seconds.
    public let age: Int
    /// The edition of the guidelines that grades are from.
    public let guidelines: String
    /// Protocol versions, the oldest first.
    public let versions: [Parameter]
    /// Cipher suites by version.
    public let suites: [String: [Parameter]]
    /// Groups of the key exchange.
    public let groups: [Parameter]
    /// Keys and signatures of its certificates.
    public let certificate: [Parameter]
    /// Compression, renegotiation, early data, the extended master secret, hashes of the key exchange.
    public let others: [Parameter]
    /// Whether every question was answered; otherwise what is missing here may be accepted all the same.
    public let isComplete: Bool
    /// Why it is not complete; nil: it is, or single questions went without an answer.
    public let reason: String?
    /// How many handshakes were begun; two at most were finished.
    public let handshakes: Int

    private enum CodingKeys: String, CodingKey {
        case state, guidelines, versions, suites, groups, certificate, others, reason, handshakes
        case age = "age_seconds"
        case isComplete = "complete"
    }

    init(_ scan: ReportedScan, _ graded: HostGrade) {
        let facts = scan.held.facts
        state = scan.state
        age = Int(scan.age / .seconds(1))
        func all(_ aspects: GradedParameter.Aspect...) -> [Parameter] {
            graded.parameters.filter { aspects.contains($0.aspect) }.map {
                Parameter(aspect: $0.aspect.rawValue, name: $0.value, grade: "\($0.grade)")
            }
        }
        guidelines = graded.guidelines
        versions = all(.version)
        let known = Dictionary(all(.cipherSuite).map { ($0.name, $0) }, uniquingKeysWith: { one, _ in one })
        suites = Dictionary(
            facts.versions.map { entry in
                ("\(entry.version)", entry.suites.compactMap { known[HostGrade.name(ofSuite: $0)] })
            }, uniquingKeysWith: { one, _ in one })
        groups = all(.group)
        certificate = all(.certificateKey, .certificateSignature)
        others = all(.exchangeHash, .compression, .renegotiation, .earlyData, .extendedMasterSecret)
        isComplete = facts.isComplete
        reason = facts.failure
        handshakes = facts.handshakes
    }

    /// A few lines for people.
    var lines: [String] {
        func list(_ parameters: [Parameter]) -> String {
            parameters.map { "\($0.name) (\($0.grade))" }.joined(separator: ", ")
        }
        var lines: [String] = []
        for version in versions {
            lines.append("accepts \(version.name) (\(version.grade)): " + list(suites[version.name] ?? []))
        }
        if !groups.isEmpty { lines.append("groups: " + list(groups)) }
        if !certificate.isEmpty { lines.append("certificate: " + list(certificate)) }
        if !others.isEmpty {
            lines.append(
                "also: " + others.map { "\($0.aspect) \($0.name) (\($0.grade))" }.joined(separator: ", "))
        }
        let origin =
            switch state {
            case .new: ""
            case .fresh: ", by a worker \(age) s ago"
            case .stale: ", by a worker \(age) s ago, too old to count"
            case .superseded: ", by a worker \(age) s ago; the host has changed since"
            }
        lines.append(
            "\(handshakes) handshakes, \(isComplete ? "complete" : "not complete")\(origin)"
                + (reason.map { ": \($0)" } ?? ""))
        return lines
    }
}

/// A scan for a report, kept or new.
struct ReportedScan: Sendable {
    let held: HeldScan
    let state: HostScanReport.State
    let age: Duration

    /// Whether findings, grade and verdicts may rest on it.
    var counts: Bool { state == .new || state == .fresh }

    /// One that a worker has kept; nil: there is none.
    ///
    /// - Parameter sighting: what the host shows now; nil: no certificate.
    init?(_ row: StoredHostScan, _ sighting: ScanSighting?) {
        guard let held = row.scan.flatMap(HeldScan.init) else { return nil }
        self.held = held
        age = row.age
        if row.invalidatedAgo != nil || sighting.map({ held.record.contradiction($0) != nil }) ?? false {
            state = .superseded
        } else {
            state = row.freshFor > .zero ? .fresh : .stale
        }
    }

    /// One that was made just now.
    init?(_ facts: ScanFacts, _ sighting: ScanSighting?) {
        guard let octets = try? CanonicalJSON.encode(facts) else { return nil }
        held = HeldScan(
            RecordedScan(
                madeAt: Date(), certificates: sighting.map { [$0.certificate] } ?? [], tlsa: sighting?.tlsa,
                facts: octets), facts)
        state = .new
        age = .zero
    }
}
