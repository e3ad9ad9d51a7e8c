// TLSA records that match test certificates.

import Crypto
import SwiftASN1
import TLS
import X509

extension TLSARecord {
    /// The record that matches `certificate`.
    /// - usage: 2 DANE-TA, 3 DANE-EE, 0 and 1 the PKIX usages.
    /// - selector: 0 the certificate, 1 its public key.
    /// - matchingType: 0 whole, 1 SHA-256, 2 SHA-512.
    public static func matching(
        _ certificate: Certificate, usage: UInt8 = 3, selector: UInt8 = 1, matchingType: UInt8 = 1
    ) -> TLSARecord {
        let subject =
            selector == 0
            ? TestIdentity.der(certificate) : (try? certificate.publicKey.serializeAsPEM().derBytes) ?? []
        let data: [UInt8] =
            switch matchingType {
            case 0: subject
            case 2: Array(SHA512.hash(data: subject))
            default: Array(SHA256.hash(data: subject))
            }
        return TLSARecord(usage: usage, selector: selector, matchingType: matchingType, data: data)
    }

    /// As in a zone file.
    public var zoneText: String {
        let digits = data.map { octet in (octet < 16 ? "0" : "") + String(octet, radix: 16) }
        return "\(usage) \(selector) \(matchingType) \(digits.joined())"
    }
}
