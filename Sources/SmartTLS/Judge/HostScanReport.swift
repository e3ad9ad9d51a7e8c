// What a scan of one host found, graded, as a report shows it.

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
    /// Compression, renegotiation, the extended master secret, hashes of the key exchange.
    public let others: [Parameter]
    /// Whether every question was answered; otherwise what is missing here may be accepted all the same.
    public let isComplete: Bool
    /// Why it is not complete; nil: it is, or single questions went without an answer.
    public let reason: String?
    /// How many handshakes were begun; none was finished.
    public let handshakes: Int

    private enum CodingKeys: String, CodingKey {
        case guidelines, versions, suites, groups, certificate, others, reason, handshakes
        case isComplete = "complete"
    }

    init(_ scan: HostScan, _ graded: HostGrade) {
        func all(_ aspects: GradedParameter.Aspect...) -> [Parameter] {
            graded.parameters.filter { aspects.contains($0.aspect) }.map {
                Parameter(aspect: $0.aspect.rawValue, name: $0.value, grade: "\($0.grade)")
            }
        }
        guidelines = graded.guidelines
        versions = all(.version)
        let known = Dictionary(all(.cipherSuite).map { ($0.name, $0) }, uniquingKeysWith: { one, _ in one })
        suites = Dictionary(
            scan.report.suites.map { version, codes in
                ("\(version)", codes.compactMap { known[HostGrade.name(ofSuite: $0)] })
            }, uniquingKeysWith: { one, _ in one })
        groups = all(.group)
        certificate = all(.certificateKey, .certificateSignature)
        others = all(.exchangeHash, .compression, .renegotiation, .extendedMasterSecret)
        isComplete = scan.report.isComplete
        reason = scan.failure.map { "\($0)" }
        handshakes = scan.report.handshakes
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
        lines.append(
            "\(handshakes) handshakes, \(isComplete ? "complete" : "not complete")"
                + (reason.map { ": \($0)" } ?? ""))
        return lines
    }
}

extension HostScan {
    /// The facts in it that have a name.
    func findings(under table: GradeTable = .ncsc2025) -> Set<Finding> {
        var findings: Set<Finding> = []
        if failure?.code == .startTLSInjection { findings.insert(.starttlsInjection) }
        if report.versions.contains(where: { $0 < .tls12 }) { findings.insert(.acceptsOldTLS) }
        if report.suites.values.joined().contains(where: { table.grade(suite: $0) == .insufficient }) {
            findings.insert(.acceptsWeakSuites)
        }
        if report.compresses == true { findings.insert(.compression) }
        if report.isRenegotiationSecure == false { findings.insert(.renegotiationInsecure) }
        if report.versions.contains(.tls12), report.hasExtendedMasterSecret == false {
            findings.insert(.noExtendedMasterSecret)
        }
        return findings
    }
}
