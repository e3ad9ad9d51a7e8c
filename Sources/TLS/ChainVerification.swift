// What checking a certificate chain found, told apart: OpenSSL's hundred codes as the dozen kinds a judge and a help
// desk need. Every fault that holds is kept, not only the last.

import CLibSSL

/// The outcome of checking the chain a peer presented against the trusted roots. Names are a question of their own:
/// `PeerEvidence.nameMatched`.
public enum ChainVerification: Sendable, Equatable {
    /// Every check passed.
    case valid
    /// At least one check failed; most telling first, never empty.
    case failed([ChainFault])
    /// The peer presented no certificate.
    case notPresented

    /// Whether every check passed.
    public var isValid: Bool { self == .valid }

    /// The kinds of all faults, most telling first; empty when valid.
    public var kinds: [ChainFault.Kind] {
        guard case .failed(let faults) = self else { return [] }
        return faults.map(\.kind)
    }
}

/// One thing that is wrong with a presented chain.
public struct ChainFault: Sendable, Equatable, CustomStringConvertible {
    /// Kinds of faults, in the order in which a report names them.
    public enum Kind: String, Sendable, Codable, CaseIterable, Comparable {
        /// The leaf is its own issuer and is not trusted.
        case selfSigned
        /// The chain ends in a root that was presented and is not trusted: an unknown root.
        case selfSignedInChain
        /// Only a leaf was presented and nothing known has issued it: an intermediate is missing, or the root is unknown.
        case missingIntermediate
        /// The last presented certificate was issued by nobody known: the root is unknown.
        case unknownIssuer
        /// A signature in the chain does not verify, or the chain does not hold together.
        case badSignature
        /// Revoked by its issuer.
        case revoked
        /// Past its notAfter.
        case expired
        /// Before its notBefore.
        case notYetValid
        /// A key or a digest too weak (under 112 bits of security).
        case weak
        /// Not a certificate for this use: extended key usage, key usage, basic constraints.
        case wrongPurpose
        /// The name does not match; only where a handshake itself required a name.
        case wrongName
        /// Any other; `code` and `reason` say which.
        case other

        /// The order in which a report names them.
        public static func < (left: Kind, right: Kind) -> Bool { left.rank < right.rank }
        private var rank: Int { Kind.allCases.firstIndex(of: self) ?? Kind.allCases.count }
    }

    /// What is wrong.
    public var kind: Kind
    /// Which certificate: 0 is the leaf.
    public var depth: Int
    /// OpenSSL's verification code (`X509_V_ERR_…`).
    public var code: Int
    /// OpenSSL's words for it.
    public var reason: String

    /// Kind, depth and OpenSSL's words.
    public var description: String { "\(kind.rawValue) at depth \(depth): \(reason)" }

    /// A hostile chain can have many faults; more than this many say nothing new.
    static let most = 64

    init(code: Int32, depth: Int32) {
        self.code = Int(code)
        self.depth = Int(depth)
        self.kind = ChainFault.kind(code: code, depth: depth)
        self.reason = X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "code \(code)"
    }

    private static func kind(code: Int32, depth: Int32) -> Kind {
        switch code {
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: .selfSigned
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: .selfSignedInChain
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_CERT_UNTRUSTED:
            depth == 0 ? .missingIntermediate : .unknownIssuer
        case X509_V_ERR_CERT_SIGNATURE_FAILURE, X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE,
            X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY, X509_V_ERR_SIGNATURE_ALGORITHM_MISMATCH,
            X509_V_ERR_AKID_SKID_MISMATCH, X509_V_ERR_AKID_ISSUER_SERIAL_MISMATCH,
            X509_V_ERR_SUBJECT_ISSUER_MISMATCH:
            .badSignature
        case X509_V_ERR_CERT_REVOKED: .revoked
        case X509_V_ERR_CERT_HAS_EXPIRED: .expired
        case X509_V_ERR_CERT_NOT_YET_VALID: .notYetValid
        case X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK: .weak
        case X509_V_ERR_INVALID_PURPOSE, X509_V_ERR_INVALID_CA, X509_V_ERR_KEYUSAGE_NO_CERTSIGN,
            X509_V_ERR_PATH_LENGTH_EXCEEDED, X509_V_ERR_CERT_REJECTED, X509_V_ERR_PATHLEN_INVALID_FOR_NON_CA,
            X509_V_ERR_CA_BCONS_NOT_CRITICAL:
            .wrongPurpose
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH: .wrongName
        default: .other
        }
    }

    /// The faults as a verdict.
    static func verdict(_ faults: [ChainFault]) -> ChainVerification {
        faults.isEmpty ? .valid : .failed(ranked(faults))
    }

    /// The faults without doubles, most telling first.
    static func ranked(_ faults: [ChainFault]) -> [ChainFault] {
        var kept: [ChainFault] = []
        // OpenSSL reports a lone leaf twice (20, then 21): the first says it all.
        for fault in faults where !kept.contains(where: { $0.kind == fault.kind && $0.depth == fault.depth })
        {
            kept.append(fault)
        }
        return kept.sorted { ($0.kind, $0.depth) < ($1.kind, $1.depth) }
    }
}
