// What was found on one host by looking at one connection: the findings, sorted, and the parameters they rest on.
// A value that can be stored and judged again later with the same result.
import DNS
import TLS

/// How the name of the host became known, on which a match of certificate and name is worth more or less.
public enum NameProvenance: String, Sendable, Hashable, Codable {
    /// An operator configured it, or DNS gave it in a DNSSEC-secure answer.
    case proven
    /// It came from an answer that is not signed.
    case unproven
}

/// How an attempt at TLS ended without a connection.
public enum TLSAbsence: Sendable, Hashable {
    /// STARTTLS is not among the extensions of the server.
    case notOffered
    /// The server answered the STARTTLS command with an error.
    case rejected
    /// There is no protocol version that both sides allow.
    case noCommonVersion
    /// The handshake failed; the reason is kept for the evidence.
    case handshakeFailed(String)

    /// What OpenSSL's failure of a handshake says of the server.
    public init(_ error: TLSError) {
        self = error.code == .protocolVersion ? .noCommonVersion : .handshakeFailed(error.description)
    }
}

/// The parameters of a connection that findings rest on, as they go into events.
public struct EvidenceSummary: Sendable, Hashable, Codable {
    /// The name that the certificate was held against.
    public var host: String
    /// `TLSv1.3`, or nil without TLS.
    public var tlsVersion: String?
    /// The suite by its IANA name.
    public var cipherSuite: String?
    /// The group of the key exchange.
    public var keyExchangeGroup: String?
    /// How the server signed the handshake.
    public var signatureAlgorithm: String?
    /// How many certificates were presented.
    public var chainLength: Int?
    /// SHA-256 of the leaf certificate in hexadecimal.
    public var certificateDigest: String?
    /// The TLSA base domain whose records the certificate was held against.
    public var tlsaBaseDomain: String?
    /// The record that matched, in presentation form: `3 1 1 …`.
    public var tlsaRecord: String?
    /// The id of the MTA-STS policy in force for the recipient domain.
    public var stsPolicy: String?
    /// What is wrong with that policy, or with the host by it.
    public var stsDetail: String?
    /// What the OCSP response beside the certificate says: `good`, `revoked`, `unknown`, `stale` or `invalid`; nil: there is none.
    public var ocspStaple: String?
    /// Why there is no TLS, what is wrong with the chain or which lookup failed, in the library's words.
    public var detail: String?

    /// Only the host is known yet.
    public init(host: String) {
        self.host = host
    }
}

/// The findings on one host, and what they rest on.
public struct HostFindings: Sendable, Hashable, Codable {
    /// Sorted, without doubles.
    public let findings: [Finding]
    /// The parameters they rest on.
    public let evidence: EvidenceSummary

    /// Takes findings as they are, sorted here.
    public init(_ findings: Set<Finding>, evidence: EvidenceSummary) {
        self.findings = findings.sorted()
        self.evidence = evidence
    }

    /// The same and what is known of the recipient domain; nil: nothing.
    func adding(_ finding: Finding?) -> HostFindings {
        guard let finding else { return self }
        return HostFindings(Set(findings).union([finding]), evidence: evidence)
    }

    /// Reads a completed handshake.
    ///
    /// - Parameters:
    ///   - peer: what the handshake showed; its chain was checked against the configured roots.
    ///   - host: the reference identity, looked for in the leaf (subject alternative names only).
    ///   - name: how that identity became known.
    ///   - tlsa: the TLSA records of the host; the handshake held it against them, where there are any.
    ///   - sts: what MTA-STS says of the recipient domain.
    public init(
        evidence peer: PeerEvidence, host: String, name: NameProvenance, tlsa: TLSAStatus, sts: MTASTSStatus
    ) {
        var findings = HostFindings.facts(host, name, tlsa, sts)
        switch peer.version {
        case .tls10: findings.insert(.tls10)
        case .tls11: findings.insert(.tls11)
        case .tls12: findings.insert(.tls12)
        case .tls13: findings.insert(.tls13)
        }
        findings.insert(peer.isForwardSecret ? .forwardSecrecy : .noForwardSecrecy)
        let matches = peer.serverName == host ? peer.nameMatched ?? false : peer.leafMatches(name: host)
        findings.insert(matches ? .nameMatches : .nameMismatch)
        var summary = EvidenceSummary(host: host)
        (summary.stsPolicy, summary.stsDetail) = (sts.policyID, sts.complaint(about: host))
        switch peer.verification {
        case .valid: findings.insert(peer.stapled == .revoked ? .revoked : .chainTrusted)
        case .notPresented: findings.insert(.noCertificate)
        case .failed(let faults):
            for fault in faults { findings.insert(HostFindings.finding(of: fault.kind)) }
            summary.detail = faults.map(\.description).joined(separator: "; ")
        }
        let isRevoked = peer.stapled == .revoked
        if isRevoked {
            findings.insert(.revoked)
            summary.detail = [summary.detail, "revoked by its issuer, as the OCSP response beside it says"]
                .compactMap(\.self).joined(separator: "; ")
        }
        if peer.mustStaple, peer.stapled != .good, !isRevoked { findings.insert(.stapleMissing) }
        summary.ocspStaple = peer.stapled?.rawValue
        if case .published(let reference) = tlsa {
            summary.tlsaBaseDomain = reference.baseDomain
            switch peer.dane {
            case .matched(let record, _):
                // RFC 7671 §5.1, §5.2: what an authority says counts below a DANE-TA record, and not beside DANE-EE.
                findings.insert(
                    record.usage != 2 ? .daneMatchedEE : isRevoked ? .daneChainInvalid : .daneMatchedTA)
                summary.tlsaRecord = record.presentation
            case .notMatched(let faults):
                findings.insert(HostFindings.finding(ofDANE: faults))
                summary.detail = "TLSA records of \(reference.baseDomain): " + reference.complaint(faults)
            case .noUsableRecords: findings.insert(.daneUnusable)
            case nil: break
            }
        }
        summary.tlsVersion = peer.version.description
        summary.cipherSuite = peer.cipherSuite
        summary.keyExchangeGroup = peer.keyExchangeGroup
        summary.signatureAlgorithm = peer.signatureAlgorithm
        summary.chainLength = peer.chain.count
        summary.certificateDigest = peer.chain.first.map(CanonicalJSON.digest)
        self.init(findings, evidence: summary)
    }

    /// Reads the absence of TLS.
    ///
    /// - Parameters:
    ///   - absence: how it came that there is none.
    ///   - host: the name of the host.
    ///   - name: how that name became known.
    ///   - tlsa: the TLSA records of the host.
    ///   - sts: what MTA-STS says of the recipient domain.
    public init(
        absence: TLSAbsence, host: String, name: NameProvenance, tlsa: TLSAStatus, sts: MTASTSStatus
    ) {
        var summary = EvidenceSummary(host: host)
        var findings = HostFindings.facts(host, name, tlsa, sts)
        (summary.stsPolicy, summary.stsDetail) = (sts.policyID, sts.complaint(about: host))
        if case .published(let reference) = tlsa { summary.tlsaBaseDomain = reference.baseDomain }
        switch absence {
        case .notOffered: findings.insert(.starttlsNotOffered)
        case .rejected: findings.insert(.starttlsRejected)
        case .noCommonVersion: findings.insert(.noCommonVersion)
        case .handshakeFailed(let reason):
            findings.insert(.handshakeFailed)
            summary.detail = reason
        }
        self.init(findings, evidence: summary)
    }

    /// Reads what is known before any connection; where that decides, none is made.
    ///
    /// - Parameters:
    ///   - host: the name of the host.
    ///   - name: how that name became known.
    ///   - tlsa: the TLSA records of the host.
    ///   - sts: what MTA-STS says of the recipient domain.
    public init(unconnected host: String, name: NameProvenance, tlsa: TLSAStatus, sts: MTASTSStatus) {
        var summary = EvidenceSummary(host: host)
        (summary.stsPolicy, summary.stsDetail) = (sts.policyID, sts.complaint(about: host))
        if case .unknown(let failure) = tlsa {
            summary.detail = failure.description
        } else {
            summary.detail = summary.stsDetail
        }
        self.init(HostFindings.facts(host, name, tlsa, sts), evidence: summary)
    }

    /// What is known before any connection.
    private static func facts(
        _ host: String, _ name: NameProvenance, _ tlsa: TLSAStatus, _ sts: MTASTSStatus
    ) -> Set<Finding> {
        var facts = sts.findings(on: host, name)
        facts.insert(name == .proven ? .nameProven : .nameUnproven)
        switch tlsa {
        case .published: facts.insert(.tlsaPublished)
        case .absent: facts.insert(.daneAbsent)
        case .insecure: facts.insert(.daneInsecure)
        case .unknown(let failure): facts.insert(failure.code == .bogus ? .tlsaBogus : .tlsaLookupFailed)
        }
        return facts
    }

    /// Which way usable records were not satisfied. Faults of a chain count by themselves only where its anchor matched.
    private static func finding(ofDANE faults: [ChainFault]) -> Finding {
        let kinds = Set(faults.map(\.kind))
        let unanchored: Set<ChainFault.Kind> = [
            .other, .unknownIssuer, .missingIntermediate, .selfSigned, .selfSignedInChain,
        ]
        if kinds.isEmpty || !kinds.isDisjoint(with: unanchored) { return .daneMismatch }
        if kinds == [.wrongName] { return .daneNameMismatch }
        return kinds.isSubset(of: [.expired, .wrongName]) ? .daneExpired : .daneChainInvalid
    }

    private static func finding(of kind: ChainFault.Kind) -> Finding {
        switch kind {
        case .selfSigned: .selfSigned
        case .selfSignedInChain, .unknownIssuer: .untrustedRoot
        case .missingIntermediate: .missingIntermediate
        case .badSignature: .badSignature
        case .revoked: .revoked
        case .expired: .expired
        case .notYetValid: .notYetValid
        case .weak: .weakCertificate
        case .wrongPurpose: .wrongPurpose
        case .wrongName: .nameMismatch
        case .other: .chainInvalid
        }
    }

}

extension TLSARecord {
    /// As in a zone file; data that is longer than a digest is cut off.
    var presentation: String {
        let more = data.count > 64 ? "…" : ""
        return "\(usage) \(selector) \(matchingType) \(CanonicalJSON.hexadecimal(data.prefix(64)))\(more)"
    }
}

extension DANEReference {
    /// What is wrong with a server that does not satisfy these records.
    fileprivate func complaint(_ faults: [ChainFault]) -> String {
        let count = records.count == 1 ? "1 record" : "\(records.count) records"
        return faults.isEmpty
            ? "none of \(count) matches"
            : "\(count), not satisfied: " + faults.map(\.description).joined(separator: "; ")
    }
}
