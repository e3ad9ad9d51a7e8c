// What a certificate's key and signature are, for whoever grades them.

import CLibSSL

/// The key and the signature of one certificate.
public struct CertificateDescription: Sendable, Hashable {
    /// A public key (RFC 5280 §4.1.2.7).
    public enum Key: Sendable, Hashable {
        /// RSA, also restricted to PSS, with a modulus of so many bits.
        case rsa(bits: Int)
        /// ECDSA, on a curve by its name in the registry of TLS groups (RFC 8422 §5.1.1) in lower case, such as `secp256r1`.
        case curve(String)
        /// Ed25519 or Ed448 (RFC 8410).
        case edwards
        /// Any other, by OpenSSL's name.
        case other(String)
    }

    /// What signs (RFC 5280 §4.1.1.2).
    public enum Signer: Sendable, Hashable {
        case rsa
        case ecdsa
        case edwards
        case other
    }

    /// The key.
    public let key: Key
    /// The algorithm that the issuer signed with.
    public let signer: Signer
    /// The hash that was signed, such as `SHA256`; nil: the algorithm has its own, or it is not known.
    public let hash: String?
    /// Whether it is signed with its own key: nothing rests on that signature.
    public let isSelfSigned: Bool

    /// Reads a certificate.
    ///
    /// - Parameter der: DER (RFC 5280 §4.1).
    /// - Throws: `TLSError` with `invalidCertificate` where it is none, or its key cannot be read.
    public init(der: [UInt8]) throws(TLSError) {
        let certificate = try Certificate(der: der)
        guard let key = X509_get0_pubkey(certificate.pointer) else { throw .takingQueue(.invalidCertificate) }
        self.key = Self.read(key)
        var digest: Int32 = 0
        var algorithm: Int32 = 0
        var flags: UInt32 = 0
        // False also where the digest is weak: the numbers are there all the same.
        _ = X509_get_signature_info(certificate.pointer, &digest, &algorithm, nil, &flags)
        switch algorithm {
        case EVP_PKEY_RSA, EVP_PKEY_RSA_PSS: signer = .rsa
        case EVP_PKEY_EC: signer = .ecdsa
        case EVP_PKEY_ED25519, EVP_PKEY_ED448: signer = .edwards
        default: signer = .other
        }
        hash = digest == NID_undef ? nil : OBJ_nid2sn(digest).map { String(cString: $0) }
        isSelfSigned = X509_self_signed(certificate.pointer, 0) == 1
        ERR_clear_error()
    }

    private static func read(_ key: OpaquePointer) -> Key {
        switch EVP_PKEY_get_base_id(key) {
        case EVP_PKEY_RSA, EVP_PKEY_RSA_PSS: return .rsa(bits: Int(EVP_PKEY_get_bits(key)))
        case EVP_PKEY_ED25519, EVP_PKEY_ED448: return .edwards
        case EVP_PKEY_EC: return .curve(TLSConnection.groupName(key).map(TLSConnection.tlsName) ?? "unnamed")
        default:
            return .other(EVP_PKEY_get0_type_name(key).map { String(cString: $0) } ?? "unknown")
        }
    }
}
