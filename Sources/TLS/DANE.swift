// DANE (RFC 6698, 7671, 7672): TLSA records as the client's judge of a certificate, by OpenSSL's own implementation, and
// its outcome as a value. Whether the records may be used at all (DNSSEC) is for whoever looked them up.

import CLibSSL

/// One TLSA record (RFC 6698 §2.1).
public struct TLSARecord: Sendable, Hashable {
    /// Certificate usage: 2 is DANE-TA, 3 is DANE-EE; 0 and 1 are not usable for mail (RFC 7672 §3.1.3).
    public var usage: UInt8
    /// What is matched: 0 the certificate, 1 its public key.
    public var selector: UInt8
    /// How: 0 whole, 1 SHA-256, 2 SHA-512.
    public var matchingType: UInt8
    /// The certificate association data.
    public var data: [UInt8]

    /// A record with these fields.
    public init(usage: UInt8, selector: UInt8, matchingType: UInt8, data: [UInt8]) {
        self.usage = usage
        self.selector = selector
        self.matchingType = matchingType
        self.data = data
    }
}

extension TLSARecord {
    /// The record that RFC 7671 §5.1 recommends for a certificate: `3 1 1`, of its public key.
    ///
    /// - Parameter der: the certificate; nil comes back where it is none.
    public static func publicKey(of der: [UInt8]) -> TLSARecord? {
        guard let certificate = try? Certificate(der: der) else { return nil }
        let key = X509_get_X509_PUBKEY(certificate.pointer)
        let length = i2d_X509_PUBKEY(key, nil)
        guard length > 0 else { return nil }
        let octets = [UInt8](unsafeUninitializedCapacity: Int(length)) { bytes, count in
            var cursor = bytes.baseAddress
            count = Int(max(0, i2d_X509_PUBKEY(key, &cursor)))
        }
        var digest = [UInt8](repeating: 0, count: 32)
        var size: UInt32 = 0
        guard EVP_Digest(octets, octets.count, &digest, &size, EVP_sha256(), nil) == 1 else { return nil }
        return TLSARecord(usage: 3, selector: 1, matchingType: 1, data: digest)
    }
}

/// TLSA records to hold a server against.
public struct DANEReference: Sendable, Hashable {
    /// All records of the TLSA RRset.
    public var records: [TLSARecord]
    /// The TLSA base domain (RFC 7672 §2.2.3), which is also the name to send by SNI.
    public var baseDomain: String
    /// Further names that a certificate below a DANE-TA record may carry (RFC 7672 §3.2.2).
    public var furtherNames: [String]

    /// Takes a TLSA RRset and the names that go with it.
    public init(records: [TLSARecord], baseDomain: String, furtherNames: [String] = []) {
        self.records = records
        self.baseDomain = baseDomain
        self.furtherNames = furtherNames
    }
}

/// What holding a server against TLSA records found.
public enum DANEOutcome: Sendable, Equatable {
    /// This record matched the certificate at this depth (0: the leaf), and where it is DANE-TA the names and dates hold
    /// too (RFC 7671 §5.1, §5.2: DANE-EE asks for neither).
    case matched(TLSARecord, depth: Int)
    /// There are usable records and the server satisfies none; the faults say what else was wrong.
    case notMatched([ChainFault])
    /// No record is usable: TLS is mandatory, its authentication is not (RFC 7672 §2.2).
    case noUsableRecords
}

extension TLSConnection {
    /// Hands the usable records to OpenSSL. Returns how many there are.
    static func enableDANE(_ ssl: OpaquePointer, _ reference: DANEReference) throws(TLSError) -> Int {
        let base = Certificate.withoutTrailingDot(reference.baseDomain)
        guard SSL_dane_enable(ssl, base) == 1 else { throw .takingQueue(.invalidConfiguration) }
        // RFC 7672 §3.1.1: with DANE-EE neither names nor dates count.
        SSL_dane_set_flags(ssl, UInt(DANE_FLAG_NO_DANE_EE_NAMECHECKS))
        SSL_set_hostflags(ssl, Certificate.nameFlags)
        for name in reference.furtherNames {
            guard SSL_add1_host(ssl, Certificate.withoutTrailingDot(name)) == 1 else {
                throw .takingQueue(.invalidConfiguration)
            }
        }
        var usable = 0
        for record in reference.records where record.usage == 2 || record.usage == 3 {
            // 0: not usable (unknown parameters, malformed data).
            if SSL_dane_tlsa_add(
                ssl, record.usage, record.selector, record.matchingType, record.data, record.data.count) == 1
            {
                usable += 1
            }
        }
        ERR_clear_error()
        return usable
    }

    /// What OpenSSL's verification by TLSA records came to.
    static func outcomeOfDANE(_ ssl: OpaquePointer, faults: [ChainFault]) -> DANEOutcome {
        let depth = SSL_get0_dane_authority(ssl, nil, nil)
        var usage: UInt8 = 0
        var selector: UInt8 = 0
        var matchingType: UInt8 = 0
        var data: UnsafePointer<UInt8>?
        var length = 0
        guard depth >= 0, faults.isEmpty,
            SSL_get0_dane_tlsa(ssl, &usage, &selector, &matchingType, &data, &length) >= 0
        else { return .notMatched(ChainFault.ranked(faults)) }
        let record = TLSARecord(
            usage: usage, selector: selector, matchingType: matchingType,
            data: Array(UnsafeBufferPointer(start: data, count: length)))
        return .matched(record, depth: Int(depth))
    }
}
