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

    /// Checks the presented chain against the trusted roots, apart from the handshake (where TLSA records were what it
    /// was checked against).
    static func verifyChain(_ ssl: OpaquePointer, _ leaf: OpaquePointer) -> [ChainFault] {
        guard let store = X509_STORE_CTX_new() else {
            return [ChainFault(code: X509_V_ERR_OUT_OF_MEM, depth: 0)]
        }
        defer { X509_STORE_CTX_free(store) }
        let roots = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl))
        guard X509_STORE_CTX_init(store, roots, leaf, SSL_get_peer_cert_chain(ssl)) == 1,
            X509_STORE_CTX_set_default(store, "ssl_server") == 1
        else { return [ChainFault(code: X509_V_ERR_UNSPECIFIED, depth: 0)] }
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store), TLSContext.chainSecurityLevel)
        let found = FaultList()
        X509_STORE_CTX_set_ex_data(store, faultListIndex, Unmanaged.passUnretained(found).toOpaque())
        X509_STORE_CTX_set_verify_cb(store, collectFault)
        let holds = withExtendedLifetime(found) { X509_verify_cert(store) }
        ERR_clear_error()
        if holds != 1, found.faults.isEmpty {
            return [ChainFault(code: X509_STORE_CTX_get_error(store), depth: 0)]
        }
        return found.faults
    }
}

/// Faults that a verification apart from a handshake collects.
private final class FaultList {
    var faults: [ChainFault] = []
}

private let faultListIndex: Int32 = zegel_X509_STORE_CTX_get_ex_new_index()

private func collectFault(_ holds: Int32, _ store: OpaquePointer?) -> Int32 {
    guard holds != 1 else { return 1 }
    guard let store, let unretained = X509_STORE_CTX_get_ex_data(store, faultListIndex) else { return 0 }
    let list = Unmanaged<FaultList>.fromOpaque(unretained).takeUnretainedValue()
    if list.faults.count < ChainFault.most {
        list.faults.append(
            ChainFault(code: X509_STORE_CTX_get_error(store), depth: X509_STORE_CTX_get_error_depth(store)))
    }
    return 1
}
