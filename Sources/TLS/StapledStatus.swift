// What an OCSP response that a server staples to its handshake (RFC 6066 §8) says of its certificate (RFC 6960). Only the issuer of the
// certificate, or whom it delegated, is heard; trusted roots have no part in it, so that it can be read again at any later time.

import CLibSSL

/// What a stapled OCSP response comes to.
public enum StapledStatus: String, Sendable, Hashable, Codable {
    /// The issuer says that the certificate holds.
    case good
    /// The issuer has revoked it; that is not taken back, however old the response is.
    case revoked
    /// The issuer does not know it.
    case unknown
    /// The response is not of this time, and says nothing.
    case stale
    /// It is no response about this certificate that its issuer signed.
    case invalid

    /// Responses that are read, in octets.
    public static let largest = 16 << 10
    /// How far clocks may be apart, in seconds.
    private static let tolerance = 300

    /// Reads a response.
    ///
    /// - Parameters:
    ///   - response: DER of an OCSPResponse (RFC 6960 §4.2.1).
    ///   - chain: DER of the certificates as presented, leaf first.
    ///   - anchor: DER of the root that they led to; it may be the issuer.
    ///   - time: the moment of the handshake, in seconds since 1970.
    public init(_ response: [UInt8], chain: [[UInt8]], anchor: [UInt8]?, at time: Int) {
        self = Self.read(response, chain, anchor, time)
        ERR_clear_error()
    }

    private static func read(
        _ der: [UInt8], _ chain: [[UInt8]], _ anchor: [UInt8]?, _ time: Int
    ) -> StapledStatus {
        guard der.count <= largest, let leaf = chain.first.flatMap({ try? Certificate(der: $0) }),
            let issuer = issuer(of: leaf, among: chain.dropFirst() + (anchor.map { [$0] } ?? [])),
            let response = der.withUnsafeBufferPointer({ octets in
                var cursor = octets.baseAddress
                return d2i_OCSP_RESPONSE(nil, &cursor, octets.count)
            })
        else { return .invalid }
        defer { OCSP_RESPONSE_free(response) }
        guard OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL,
            let basic = OCSP_response_get1_basic(response)
        else { return .invalid }
        defer { OCSP_BASICRESP_free(basic) }
        guard isSigned(basic, issuer, time) else { return .invalid }
        for index in 0..<min(OCSP_resp_count(basic), 64) {
            guard let single = OCSP_resp_get0(basic, index),
                zegel_OCSP_is_about(single, leaf.pointer, issuer.pointer) == 1
            else { continue }
            return status(single, time)
        }
        return .invalid
    }

    private static func issuer(of leaf: Certificate, among others: some Sequence<[UInt8]>) -> Certificate? {
        for der in others {
            guard let other = try? Certificate(der: der) else { continue }
            if X509_check_issued(other.pointer, leaf.pointer) == X509_V_OK { return other }
        }
        return nil
    }

    /// RFC 6960 §4.2.2.2: by the issuer itself, or by a certificate that it issued for the purpose.
    private static func isSigned(_ basic: OpaquePointer, _ issuer: Certificate, _ time: Int) -> Bool {
        guard let known = OPENSSL_sk_new_null() else { return false }
        defer { OPENSSL_sk_free(known) }
        OPENSSL_sk_push(known, UnsafeRawPointer(issuer.pointer))
        var signer: OpaquePointer?
        guard OCSP_resp_get0_signer(basic, &signer, known) == 1, let signer,
            OCSP_basic_verify(basic, known, nil, UInt(OCSP_NOVERIFY)) == 1
        else { return false }
        if X509_cmp(signer, issuer.pointer) == 0 { return true }
        var now = time_t(time)
        return X509_check_issued(issuer.pointer, signer) == X509_V_OK
            && X509_verify(signer, X509_get0_pubkey(issuer.pointer)) == 1
            && X509_get_extended_key_usage(signer) & UInt32(XKU_OCSP_SIGN) != 0
            && X509_cmp_time(X509_get0_notBefore(signer), &now) < 0
            && X509_cmp_time(X509_get0_notAfter(signer), &now) > 0
    }

    private static func status(_ single: OpaquePointer, _ time: Int) -> StapledStatus {
        var from: UnsafeMutablePointer<ASN1_GENERALIZEDTIME>?
        var to: UnsafeMutablePointer<ASN1_GENERALIZEDTIME>?
        let status = OCSP_single_get0_status(single, nil, nil, &from, &to)
        var (latest, earliest) = (time_t(time + tolerance), time_t(time - tolerance))
        guard let from, X509_cmp_time(from, &latest) < 0 else { return .stale }
        if status == V_OCSP_CERTSTATUS_REVOKED { return .revoked }
        if let to, X509_cmp_time(to, &earliest) <= 0 { return .stale }
        return status == V_OCSP_CERTSTATUS_GOOD ? .good : .unknown
    }
}
