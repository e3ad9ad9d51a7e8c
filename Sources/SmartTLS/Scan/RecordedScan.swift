// A scan that was kept, with what it was seen with: what a verdict may rest on, and what evidence holds of it.

import Foundation

/// A scan as it is kept for all workers, and with evidence.
public struct RecordedScan: Sendable, Hashable, Codable {
    /// Leaf certificates that are remembered with one scan: hosts may have one with RSA and one with ECDSA, on several machines.
    public static let mostCertificates = 16

    /// When it was made, in milliseconds since 1970.
    public let madeAt: Int64
    /// SHA-256 of the leaf certificates that it was seen with, in hexadecimal, sorted.
    public let certificates: [String]
    /// SHA-256 of what DNSSEC said of TLSA records, in hexadecimal: these, or none; nil: it was not seen by anybody.
    public let tlsa: String?
    /// What it found: canonical JSON.
    public let facts: Data

    /// Takes what was kept.
    public init(madeAt: Date, certificates: [String], tlsa: String?, facts: [UInt8]) {
        self.madeAt = Int64((madeAt.timeIntervalSince1970 * 1000).rounded(.down))
        self.certificates = Set(certificates).sorted()
        self.tlsa = tlsa
        self.facts = Data(facts)
    }

    /// What a delivery has seen that this scan was not made with; nil: nothing. Who does not see TLSA records, since the MX records
    /// that led to the host are not signed, has seen no change of them.
    func contradiction(_ sighting: ScanSighting) -> HostScanChange? {
        if !certificates.contains(sighting.certificate) { return .certificate }
        guard let tlsa, let seen = sighting.tlsa else { return nil }
        return tlsa == seen ? nil : .tlsa
    }

    /// Its facts.
    ///
    /// - Throws: `EvidenceError`, where they are not in canonical form, or `DecodingError`.
    func read() throws -> ScanFacts { try ScanFacts(Array(facts)) }
}

/// What has changed since a scan.
public enum HostScanChange: String, Sendable, Hashable, CaseIterable {
    /// The host shows another certificate.
    case certificate
    /// Other TLSA records are in force, or none any more.
    case tlsa
}

/// A scan at hand: what it says to a verdict.
public struct HeldScan: Sendable, Hashable {
    /// As it is kept.
    public let record: RecordedScan
    /// What it found, and that it is there where it is complete.
    public let findings: Set<Finding>
    let facts: ScanFacts

    /// Reads a record; nil where it holds none.
    init?(_ record: RecordedScan) {
        guard let facts = try? record.read() else { return nil }
        self.init(record, facts)
    }

    init(_ record: RecordedScan, _ facts: ScanFacts) {
        self.record = record
        self.facts = facts
        findings = facts.findings().union(facts.isComplete ? [.scanned] : [])
    }
}

extension Examination {
    /// The same, and what a scan of the host found. Only for rulesets that ask for scans.
    public func adding(_ scan: HeldScan) -> Examination {
        var more = self
        more.findings = HostFindings(Set(findings.findings).union(scan.findings), evidence: findings.evidence)
        more.scan = scan.record
        return more
    }
}
