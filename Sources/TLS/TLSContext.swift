// The owner of an SSL_CTX: what one side presents, whom it trusts, what it allows. Made once, shared by many
// connections on any thread, never changed after.

import CLibSSL

/// The settings of one side of TLS: certificate and key, trusted roots, versions, suites, ALPN. Immutable once made, and
/// OpenSSL counts references to it and locks its own insides: so it may be shared between threads.
public final class TLSContext: Sendable {
    /// Whom a client trusts.
    public enum TrustRoots: Sendable {
        /// The roots of the operating system.
        case system
        /// These PEM certificates and no others.
        case pem([UInt8])
        /// These certificates in DER and no others.
        case der([[UInt8]])
        /// Nobody: no chain is ever valid.
        case none
    }

    /// Where PEM text comes from.
    public enum PEMSource: Sendable {
        /// Bytes in memory. Those of a private key are overwritten after loading; keep no copy.
        case bytes([UInt8])
        /// A file that OpenSSL reads by itself: a key never passes through Swift.
        case file(String)
    }

    /// OpenSSL's level 2: every key and digest of a chain has 112 bits of security.
    static let chainSecurityLevel: Int32 = 2

    enum Role { case server, client }

    let role: Role
    /// ALPN names, by preference.
    let protocols: [[UInt8]]
    /// `OpaquePointer` is not Sendable; the SSL_CTX behind it is safe to share once set up.
    nonisolated(unsafe) let pointer: OpaquePointer

    private init(role: Role, alpn: [String]) throws(TLSError) {
        self.role = role
        self.protocols = alpn.map { Array($0.utf8) }
        guard protocols.allSatisfy({ (1...255).contains($0.count) }) else {
            throw TLSError(.invalidConfiguration, "an ALPN name has 1 to 255 octets")
        }
        ERR_clear_error()
        guard let pointer = SSL_CTX_new(role == .server ? TLS_server_method() : TLS_client_method()) else {
            throw .takingQueue(.internal)
        }
        self.pointer = pointer
        _ = zegel_SSL_CTX_harden(pointer, role == .server ? 1 : 0)
    }

    deinit { SSL_CTX_free(pointer) }

    /// A server's context.
    /// - certificateChainPEM: leaf first, then intermediates.
    /// - privateKeyPEM: the leaf's key, not encrypted. Overwritten after loading: hand over the only copy.
    /// - minimumVersion: older clients are refused.
    /// - clientAuthoritiesPEM: who may issue client certificates; a client is asked for one but need not have one, and
    ///   `PeerEvidence.verification` says what it was worth. nil: clients are not asked.
    /// - alpn: protocols by preference; a client that offers only others is refused (RFC 7301 §3.2).
    /// - ciphers: allowed suites of TLS 1.2 and older.
    /// - maximumVersion: newer protocols are not spoken.
    public static func server(
        certificateChainPEM: [UInt8], privateKeyPEM: consuming [UInt8], minimumVersion: TLSVersion = .tls12,
        clientAuthoritiesPEM: [UInt8]? = nil, alpn: [String] = [], ciphers: CipherPolicy = .forwardSecret,
        maximumVersion: TLSVersion = .tls13
    ) throws(TLSError) -> TLSContext {
        try server(
            certificateChain: .bytes(certificateChainPEM), privateKey: .bytes(privateKeyPEM),
            minimumVersion: minimumVersion, clientAuthoritiesPEM: clientAuthoritiesPEM, alpn: alpn,
            ciphers: ciphers, maximumVersion: maximumVersion)
    }

    /// A server's context from files or bytes; else as `server(certificateChainPEM:privateKeyPEM:…)`.
    public static func server(
        certificateChain: PEMSource, privateKey: consuming PEMSource, minimumVersion: TLSVersion = .tls12,
        clientAuthoritiesPEM: [UInt8]? = nil, alpn: [String] = [], ciphers: CipherPolicy = .forwardSecret,
        maximumVersion: TLSVersion = .tls13
    ) throws(TLSError) -> TLSContext {
        let context = try TLSContext(role: .server, alpn: alpn)
        try context.allow(minimumVersion, maximumVersion, ciphers)
        try context.present(certificateChain, privateKey)
        // OpenSSL's own list has ffdhe2048, which NCSC-NL 2025-05 calls insufficient.
        if ciphers == .forwardSecret {
            guard zegel_SSL_CTX_set_groups(context.pointer, "X25519:P-256:X448:P-521:P-384") == 1 else {
                throw .takingQueue(.invalidConfiguration)
            }
        }
        _ = zegel_SSL_CTX_set_dh_auto(context.pointer)
        SSL_CTX_set_num_tickets(context.pointer, 0)
        if let clientAuthoritiesPEM {
            let authorities = try PEMReader.reading(clientAuthoritiesPEM) { reader throws(TLSError) in
                try reader.certificates()
            }
            try context.trust(authorities)
            for authority in authorities { SSL_CTX_add_client_CA(context.pointer, authority.pointer) }
            SSL_CTX_set_verify(context.pointer, SSL_VERIFY_PEER, recordFault)
        }
        if !alpn.isEmpty {
            // The context outlives its SSL_CTX's use: every connection holds the context.
            let unretained = Unmanaged.passUnretained(context).toOpaque()
            SSL_CTX_set_alpn_select_cb(context.pointer, selectProtocol, unretained)
        }
        return context
    }

    /// A client's context. It offers no session for resumption: every connection proves the peer anew.
    /// - trust: who may vouch for a server.
    /// - minimumVersion: older servers fail the handshake.
    /// - alpn: protocols to offer, by preference.
    /// - ciphers: suites to offer for TLS 1.2 and older; `.encrypted` leaves the judgement to who reads the evidence.
    /// - certificateChainPEM, privateKeyPEM: the client's own certificate; the key bytes are overwritten after loading.
    /// - maximumVersion: newer protocols are not offered.
    /// - asksForStaple: whether the server is asked for an OCSP response (RFC 6066 §8), which is then in the evidence.
    /// - renegotiates: whether `TLSRenegotiationRequest` is obeyed, and so the server's own wish for another handshake.
    public static func client(
        trust: TrustRoots, minimumVersion: TLSVersion = .tls12, alpn: [String] = [],
        ciphers: CipherPolicy = .encrypted, certificateChainPEM: [UInt8]? = nil,
        privateKeyPEM: consuming [UInt8]? = nil, maximumVersion: TLSVersion = .tls13,
        asksForStaple: Bool = false, renegotiates: Bool = false
    ) throws(TLSError) -> TLSContext {
        let context = try TLSContext(role: .client, alpn: alpn)
        if renegotiates { zegel_SSL_CTX_allow_renegotiation(context.pointer) }
        if asksForStaple, zegel_SSL_CTX_ask_for_staple(context.pointer) != 1 { throw .takingQueue(.internal) }
        try context.allow(minimumVersion, maximumVersion, ciphers)
        switch trust {
        case .none: break
        case .system:
            guard SSL_CTX_set_default_verify_paths(context.pointer) == 1 else {
                throw .takingQueue(.invalidCertificate)
            }
        case .pem(let bytes):
            let roots = try PEMReader.reading(bytes) { reader throws(TLSError) in try reader.certificates() }
            try context.trust(roots)
        case .der(let certificates):
            var roots: [Certificate] = []
            for certificate in certificates { roots.append(try Certificate(der: certificate)) }
            try context.trust(roots)
        }
        // The security level of the cipher list must not decide what is a weak chain.
        X509_VERIFY_PARAM_set_auth_level(SSL_CTX_get0_param(context.pointer), chainSecurityLevel)
        guard SSL_CTX_dane_enable(context.pointer) == 1 else { throw .takingQueue(.internal) }
        SSL_CTX_set_verify(context.pointer, SSL_VERIFY_PEER, recordFault)
        if !context.protocols.isEmpty {
            // Wire format of RFC 7301 §3.1: each name behind its length.
            let wire = context.protocols.flatMap { [UInt8(truncatingIfNeeded: $0.count)] + $0 }
            guard SSL_CTX_set_alpn_protos(context.pointer, wire, UInt32(wire.count)) == 0 else {
                throw .takingQueue(.invalidConfiguration)
            }
        }
        if let certificateChainPEM, let privateKeyPEM {
            try context.present(.bytes(certificateChainPEM), .bytes(privateKeyPEM))
        }
        return context
    }

    private func allow(
        _ minimum: TLSVersion, _ maximum: TLSVersion, _ ciphers: CipherPolicy
    ) throws(TLSError) {
        guard zegel_SSL_CTX_set_min_proto_version(pointer, minimum.wireNumber) == 1,
            zegel_SSL_CTX_set_max_proto_version(pointer, maximum.wireNumber) == 1,
            SSL_CTX_set_cipher_list(pointer, ciphers.openSSLList) == 1
        else { throw .takingQueue(.invalidConfiguration) }
    }

    private func present(_ chain: PEMSource, _ key: consuming PEMSource) throws(TLSError) {
        let certificates: [Certificate]
        switch chain {
        case .bytes(let bytes):
            certificates = try PEMReader.reading(bytes) { reader throws(TLSError) in try reader.certificates()
            }
        case .file(let path):
            certificates = try PEMReader(path: path, failing: .invalidCertificate).certificates()
        }
        let privateKey: PrivateKey
        switch consume key {
        case .bytes(var bytes):
            defer { bytes.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) } }
            privateKey = try PEMReader.reading(bytes) { reader throws(TLSError) in try reader.privateKey() }
        case .file(let path):
            privateKey = try PEMReader(path: path, failing: .invalidPrivateKey).privateKey()
        }
        guard SSL_CTX_use_certificate(pointer, certificates[0].pointer) == 1 else {
            throw .takingQueue(.invalidCertificate)
        }
        for issuer in certificates.dropFirst() {
            guard zegel_SSL_CTX_add1_chain_cert(pointer, issuer.pointer) == 1 else {
                throw .takingQueue(.invalidCertificate)
            }
        }
        guard SSL_CTX_use_PrivateKey(pointer, privateKey.pointer) == 1,
            SSL_CTX_check_private_key(pointer) == 1
        else { throw .takingQueue(.keyMismatch) }
    }

    private func trust(_ roots: [Certificate]) throws(TLSError) {
        let store = SSL_CTX_get_cert_store(pointer)
        for root in roots {
            guard X509_STORE_add_cert(store, root.pointer) == 1 else {
                throw .takingQueue(.invalidCertificate)
            }
        }
    }
}

/// The server's choice among the protocols a client offers, by our preference; none in common is fatal (RFC 7301 §3.2).
private func selectProtocol(
    _: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ chosenLength: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?, _ offeredLength: UInt32,
    _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let argument, let chosen, let chosenLength, let offered else { return SSL_TLSEXT_ERR_ALERT_FATAL }
    let context = Unmanaged<TLSContext>.fromOpaque(argument).takeUnretainedValue()
    let theirs = UnsafeBufferPointer(start: offered, count: Int(offeredLength))
    for name in context.protocols {
        var at = 0
        while at < theirs.count {
            let length = Int(theirs[at])
            guard at + 1 + length <= theirs.count else { return SSL_TLSEXT_ERR_ALERT_FATAL }
            if theirs[(at + 1)..<(at + 1 + length)].elementsEqual(name) {
                chosen.pointee = offered + at + 1
                chosenLength.pointee = UInt8(length)
                return SSL_TLSEXT_ERR_OK
            }
            at += 1 + length
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL
}
