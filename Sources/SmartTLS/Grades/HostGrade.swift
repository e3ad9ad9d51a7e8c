// What a host as a whole is worth: no more than the worst of what it accepts, since an attacker chooses that.

/// One parameter of a host with its grade.
struct GradedParameter: Sendable, Hashable, CustomStringConvertible {
    /// What kind of parameter it is.
    enum Aspect: String, Sendable, Hashable, CaseIterable {
        case version
        case cipherSuite = "cipher suite"
        case group = "key exchange group"
        case exchangeHash = "hash of the key exchange"
        case compression
        case renegotiation
        case earlyData = "early data"
        case extendedMasterSecret = "extended master secret"
        case certificateKey = "certificate key"
        case certificateSignature = "certificate signature"
    }

    /// What kind it is.
    let aspect: Aspect
    /// Which one, by its registered name.
    let value: String
    /// What it is worth.
    let grade: Grade

    /// All three.
    var description: String { "\(aspect.rawValue) \(value): \(grade)" }
}

/// The parameters of a host, graded under one edition of the guidelines.
struct HostGrade: Sendable, Hashable {
    /// The edition.
    let guidelines: String
    /// Everything that was graded, in the order of `GradedParameter.Aspect`.
    let parameters: [GradedParameter]

    /// The worst of them; nil when nothing is known.
    var overall: Grade? { parameters.map(\.grade).min() }

    /// Grades what a probe found, and the certificates that a chain was read into.
    ///
    /// - Parameters:
    ///   - report: what the host accepts.
    ///   - keys: the key of each certificate of its own.
    ///   - signatures: how each of its certificates is signed, save self-signed roots, on which nothing rests.
    init(
        _ report: ProbeReport, keys: [GradeTable.CertificateKey] = [], signatures: [SignatureScheme] = [],
        table: GradeTable = .ncsc2025
    ) {
        var graded: [GradedParameter] = []
        func add(_ aspect: GradedParameter.Aspect, _ value: String, _ grade: Grade) {
            let parameter = GradedParameter(aspect: aspect, value: value, grade: grade)
            if !graded.contains(parameter) { graded.append(parameter) }
        }
        for version in report.versions { add(.version, "\(version)", table.grade(version)) }
        for suite in Set(report.suites.values.joined()).sorted() {
            add(.cipherSuite, Self.name(ofSuite: suite), table.grade(suite: suite))
        }
        for group in Set(report.groups.values.joined()).sorted() {
            add(.group, NamedGroup.name(of: group), table.grade(group: group))
        }
        for prime in report.primes.sorted(by: { $0.bits < $1.bits }) {
            add(.group, "\(prime)", table.grade(prime))
        }
        for code in report.exchangeSignatures.sorted() {
            let hash = SignatureScheme(code: code).hash
            add(.exchangeHash, "\(hash)", table.grade(exchangeHash: hash))
        }
        if let compresses = report.compresses {
            add(.compression, compresses ? "on" : "off", table.grade(compression: compresses))
        }
        if report.isRenegotiationSecure == false {
            add(.renegotiation, "insecure", table.grade(.insecure))
        } else if let count = report.renegotiations {
            switch count {
            case 0: add(.renegotiation, "not for clients", table.grade(.none))
            case ..<FinishedQuestion.mostRenegotiations:
                add(.renegotiation, "\(count) for clients", table.grade(.clientLimited))
            default: add(.renegotiation, "without limit for clients", table.grade(.clientUnlimited))
            }
        }
        if let takes = report.takesEarlyData {
            add(.earlyData, takes ? "on" : "off", table.grade(earlyData: takes))
        }
        if report.versions.contains(.tls12), let extended = report.hasExtendedMasterSecret {
            add(
                .extendedMasterSecret, extended ? "supported" : "absent",
                table.grade(extendedMasterSecret: extended))
        }
        for key in keys { add(.certificateKey, "\(key)", table.grade(key)) }
        for scheme in signatures {
            add(.certificateSignature, "\(scheme)", table.grade(certificateSignature: scheme))
        }
        guidelines = table.version
        parameters = graded
    }

    /// The name of a suite, or its number where it has none.
    static func name(ofSuite code: UInt16) -> String {
        CipherSuite.with(code: code)?.name ?? "0x" + String(code, radix: 16)
    }
}
