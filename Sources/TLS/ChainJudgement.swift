// A presented chain judged again without its connection, at the moment it was presented: what evidence is verified by.

import CLibSSL

/// What a handshake found of a chain, found again from the certificates alone.
public struct ChainJudgement: Sendable, Equatable {
    /// The moment for which it was judged, in seconds since 1970.
    let time: Int
    /// What checking the chain against the roots found.
    public let verification: ChainVerification
    /// Whether the leaf carries the name; nil: no name was asked about, or there is no certificate.
    public let nameMatched: Bool?
    /// What holding the chain against TLSA records found; nil: there were none.
    public let dane: DANEOutcome?
    /// What the OCSP response that came with it says; nil: there was none.
    public let stapled: StapledStatus?
    /// Whether the leaf demands a staple (RFC 7633).
    public let mustStaple: Bool

    /// Judges a chain as `TLSVerification.record` does in a handshake.
    ///
    /// - Parameters:
    ///   - chain: DER, leaf first, as presented.
    ///   - anchors: the trusted roots, DER.
    ///   - time: the moment of the handshake, in seconds since 1970.
    ///   - name: the name to look for in the leaf.
    ///   - dane: the TLSA records that the server was held against.
    ///   - staple: DER of the OCSP response that came with the chain; nil: none.
    /// - Throws: `TLSError` where a certificate is none.
    public init(
        chain: [[UInt8]], anchors: [[UInt8]], at time: Int, name: String?, dane: DANEReference?,
        staple: [UInt8]? = nil
    ) throws(TLSError) {
        self.time = time
        let context = try TLSContext.client(trust: .der(anchors))
        let connection = try TLSConnection(
            context: context, serverName: nil, verification: .record(name: name, dane: dane), checkedAt: time)
        var certificates: [Certificate] = []
        for der in chain { certificates.append(try Certificate(der: der)) }
        guard let leaf = certificates.first else {
            (verification, nameMatched, stapled, mustStaple) = (.notPresented, nil, nil, false)
            self.dane = connection.usableRecords.map { $0 == 0 ? .noUsableRecords : .notMatched([]) }
            return
        }
        guard let stack = OPENSSL_sk_new_null() else { throw .takingQueue(.internal) }
        defer { OPENSSL_sk_free(stack) }
        for certificate in certificates { OPENSSL_sk_push(stack, UnsafeRawPointer(certificate.pointer)) }
        verification =
            CheckedChain(leaf.pointer, stack, trustedBy: connection.ssl, at: time).verification
        nameMatched = name.map(leaf.matches(name:))
        stapled = staple.map { StapledStatus($0, chain: chain, anchor: anchors.first, at: time) }
        mustStaple = leaf.mustStaple
        self.dane = withExtendedLifetime(certificates) {
            connection.usableRecords.map { usable in
                usable == 0 ? .noUsableRecords : connection.judgeByDANE(leaf.pointer, stack)
            }
        }
    }
}

extension TLSConnection {
    /// Holds a chain against this connection's TLSA records, as its handshake would have.
    fileprivate func judgeByDANE(_ leaf: OpaquePointer, _ presented: OpaquePointer) -> DANEOutcome {
        guard let store = X509_STORE_CTX_new() else {
            return .notMatched([ChainFault(code: X509_V_ERR_OUT_OF_MEM, depth: 0)])
        }
        defer { X509_STORE_CTX_free(store) }
        let roots = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl))
        guard X509_STORE_CTX_init(store, roots, leaf, presented) == 1,
            X509_STORE_CTX_set_ex_data(
                store, SSL_get_ex_data_X509_STORE_CTX_idx(), UnsafeMutableRawPointer(ssl)) == 1,
            X509_STORE_CTX_set_default(store, "ssl_server") == 1
        else { return .notMatched([ChainFault(code: X509_V_ERR_UNSPECIFIED, depth: 0)]) }
        X509_STORE_CTX_set0_dane(store, SSL_get0_dane(ssl))
        let parameters = X509_STORE_CTX_get0_param(store)
        X509_VERIFY_PARAM_set1(parameters, SSL_get0_param(ssl))
        X509_STORE_CTX_set_verify_cb(store, recordFault)
        if X509_verify_cert(store) != 1, faults.isEmpty {
            faults = [ChainFault(code: X509_STORE_CTX_get_error(store), depth: 0)]
        }
        ERR_clear_error()
        return TLSConnection.outcomeOfDANE(ssl, faults: faults)
    }
}
