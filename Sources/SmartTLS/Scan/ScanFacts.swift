// What a scan found, in the form in which it is kept: facts by their numbers on the wire and no grades, so that another edition of
// the guidelines judges old scans too. The certificates themselves are not in it, only what they are graded by.

import TLS

/// The facts of one scan.
struct ScanFacts: Sendable, Hashable, Codable {
    /// One protocol version that is accepted.
    struct Version: Sendable, Hashable, Codable {
        let version: ProtocolVersion
        /// In the order in which the server chose them.
        let suites: [UInt16]
        let groups: [UInt16]?
        let prefersOwnOrder: Bool?
    }

    /// The format of this record; readers refuse what they do not know.
    static let format = 1
    /// The octets of a record at most.
    static let most = 16_384

    let format: Int
    /// The oldest first.
    let versions: [Version]
    /// The shortest first.
    let primes: [DiffieHellmanPrime]
    let exchangeSignatures: [UInt16]
    let compresses: Bool?
    let hasExtendedMasterSecret: Bool?
    let isRenegotiationSecure: Bool?
    let takesEarlyData: Bool?
    /// How often a client could renegotiate.
    let renegotiations: Int?
    /// The keys of its own certificates.
    let keys: [GradeTable.CertificateKey]
    /// How its certificates are signed, save self-signed roots.
    let signatures: [SignatureScheme]
    /// Whether there were octets in clear behind the answer to STARTTLS.
    let injectsBehindSTARTTLS: Bool
    let isComplete: Bool
    /// What kept it from being complete.
    let failure: String?
    let handshakes: Int

    /// Writes down what a scan found.
    init(_ scan: HostScan) {
        let report = scan.report
        format = ScanFacts.format
        versions = report.versions.map { version in
            Version(
                version: version, suites: report.suites[version] ?? [], groups: report.groups[version],
                prefersOwnOrder: report.prefersOwnOrder[version])
        }
        primes = report.primes.sorted { ($0.bits, $0.group ?? 0) < ($1.bits, $1.group ?? 0) }
        exchangeSignatures = report.exchangeSignatures.sorted()
        compresses = report.compresses
        hasExtendedMasterSecret = report.hasExtendedMasterSecret
        isRenegotiationSecure = report.isRenegotiationSecure
        takesEarlyData = report.takesEarlyData
        renegotiations = report.renegotiations
        let parameters = CertificateParameters(chains: report.chains)
        keys = parameters.keys
        signatures = parameters.signatures
        injectsBehindSTARTTLS = scan.failure?.code == .startTLSInjection
        isComplete = report.isComplete
        failure = scan.failure.map { String("\($0)".prefix(300)) }
        handshakes = report.handshakes
    }

    /// Reads what was kept.
    ///
    /// - Throws: `EvidenceError` for what is no such record, or is not in canonical form.
    init(_ octets: [UInt8]) throws {
        self = try CanonicalJSON.decode(ScanFacts.self, octets)
        guard format == ScanFacts.format else {
            throw EvidenceError(.unreadable, "format \(format) of a scan is not known")
        }
    }

    /// The report again, without the chains.
    var report: ProbeReport {
        var report = ProbeReport()
        for entry in versions {
            report.suites[entry.version] = entry.suites
            report.groups[entry.version] = entry.groups
            report.prefersOwnOrder[entry.version] = entry.prefersOwnOrder
        }
        report.primes = Set(primes)
        report.exchangeSignatures = Set(exchangeSignatures)
        report.compresses = compresses
        report.hasExtendedMasterSecret = hasExtendedMasterSecret
        report.isRenegotiationSecure = isRenegotiationSecure
        report.takesEarlyData = takesEarlyData
        report.renegotiations = renegotiations
        report.isComplete = isComplete
        report.handshakes = handshakes
        return report
    }

    /// The facts in it that have a name.
    func findings(under table: GradeTable = .ncsc2025) -> Set<Finding> {
        var findings: Set<Finding> = []
        if injectsBehindSTARTTLS { findings.insert(.starttlsInjection) }
        if versions.contains(where: { $0.version < .tls12 }) { findings.insert(.acceptsOldTLS) }
        if versions.contains(where: { $0.suites.contains { table.grade(suite: $0) == .insufficient } }) {
            findings.insert(.acceptsWeakSuites)
        }
        if compresses == true { findings.insert(.compression) }
        if isRenegotiationSecure == false { findings.insert(.renegotiationInsecure) }
        if takesEarlyData == true { findings.insert(.acceptsEarlyData) }
        if let renegotiations, renegotiations > 0 { findings.insert(.clientRenegotiation) }
        if versions.contains(where: { $0.version == .tls12 }), hasExtendedMasterSecret == false {
            findings.insert(.noExtendedMasterSecret)
        }
        return findings
    }
}

/// What certificates are graded by.
struct CertificateParameters: Sendable, Hashable {
    /// The key of each host certificate.
    let keys: [GradeTable.CertificateKey]
    /// How each certificate is signed, save self-signed roots, on which nothing rests.
    let signatures: [SignatureScheme]

    /// Reads chains, a host's own certificate first in each.
    init(chains: [[[UInt8]]]) {
        let read = chains.map { $0.compactMap { try? CertificateDescription(der: $0) } }
        keys = read.compactMap(\.first).map { GradeTable.CertificateKey($0.key) }
        signatures = read.joined().filter { !$0.isSelfSigned }.map { SignatureScheme($0) }
    }
}
