// The owner of an SSL and of the two memory BIOs beneath it: one connection's TLS without any I/O. Ciphertext goes in
// by `feed` and out by `takeCiphertext`; every other method says in an enum what OpenSSL made of it.

import CLibSSL
import Glibc
import NIOCore

/// One TLS connection. Used from one thread at a time.
final class TLSConnection {
    enum HandshakeResult { case complete, incomplete, failed(TLSError) }
    enum ReadResult { case bytes, incomplete, closed, failed(TLSError) }

    /// Kept, because OpenSSL calls back into it.
    private let context: TLSContext
    let ssl: OpaquePointer
    /// Both belong to `ssl`, which frees them.
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    private let verification: TLSVerification
    /// What the verify callback saw.
    var faults: [ChainFault] = []
    fileprivate var mustHold = false
    /// The moment at which certificates must be valid, in seconds since 1970: one for all that is checked of a connection.
    private let checkedAt: Int
    /// Usable TLSA records; nil: none were given.
    private(set) var usableRecords: Int?

    /// - serverName: what a client asks for by SNI; IP addresses are not sent (RFC 6066 §3).
    /// - checkedAt: the moment at which certificates must be valid, in seconds since 1970.
    init(
        context: TLSContext, serverName: String?, verification: TLSVerification, checkedAt: Int = time(nil)
    ) throws(TLSError) {
        ERR_clear_error()
        guard let ssl = SSL_new(context.pointer) else { throw .takingQueue(.internal) }
        guard let incoming = BIO_new(BIO_s_mem()), let outgoing = BIO_new(BIO_s_mem()) else {
            SSL_free(ssl)
            throw .takingQueue(.internal)
        }
        zegel_BIO_never_ends(incoming)
        zegel_BIO_never_ends(outgoing)
        SSL_set_bio(ssl, incoming, outgoing)
        self.context = context
        self.ssl = ssl
        self.incoming = incoming
        self.outgoing = outgoing
        self.verification = verification
        self.checkedAt = checkedAt
        X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), checkedAt)
        SSL_set_ex_data(ssl, exDataIndex, Unmanaged.passUnretained(self).toOpaque())
        switch context.role {
        case .server: SSL_set_accept_state(ssl)
        case .client:
            SSL_set_connect_state(ssl)
            if let serverName, !Certificate.isIPAddress(serverName) {
                let name = Certificate.withoutTrailingDot(serverName)
                guard (1...255).contains(name.utf8.count), zegel_SSL_set_tlsext_host_name(ssl, name) == 1
                else {
                    throw TLSError(.invalidConfiguration, "server name has not 1 to 255 octets")
                }
            }
            switch verification {
            case .record(_, nil): break
            case .record(_, let dane?): usableRecords = try TLSConnection.enableDANE(ssl, dane)
            case .require(let name): try require(name)
            }
        }
    }

    private func require(_ name: String) throws(TLSError) {
        mustHold = true
        let parameters = SSL_get0_param(ssl)
        if Certificate.isIPAddress(name) {
            guard X509_VERIFY_PARAM_set1_ip_asc(parameters, name) == 1 else {
                throw .takingQueue(.invalidConfiguration)
            }
            return
        }
        X509_VERIFY_PARAM_set_hostflags(parameters, Certificate.nameFlags)
        let host = Certificate.withoutTrailingDot(name)
        guard !host.isEmpty, X509_VERIFY_PARAM_set1_host(parameters, host, host.utf8.count) == 1 else {
            throw TLSError(.invalidConfiguration, "required name is empty")
        }
    }

    deinit { SSL_free(ssl) }

    // MARK: Ciphertext

    /// Takes received ciphertext; false: out of memory.
    func feed(_ ciphertext: ByteBuffer) -> Bool {
        ciphertext.withUnsafeReadableBytes { bytes in
            guard let base = bytes.baseAddress, !bytes.isEmpty else { return true }
            return BIO_write(incoming, base, Int32(truncatingIfNeeded: bytes.count)) == Int32(bytes.count)
        }
    }

    /// Bytes of plaintext that one `read` may find, at most; a guess from what was fed.
    var expectedPlaintext: Int { BIO_ctrl_pending(incoming) + Int(SSL_pending(ssl)) }

    /// Ciphertext that waits to be sent; nil: none.
    func takeCiphertext(_ allocator: ByteBufferAllocator) -> ByteBuffer? {
        let waiting = BIO_ctrl_pending(outgoing)
        guard waiting > 0 else { return nil }
        var ciphertext = allocator.buffer(capacity: waiting)
        ciphertext.writeWithUnsafeMutableBytes(minimumWritableBytes: waiting) { bytes in
            max(0, Int(BIO_read(outgoing, bytes.baseAddress, Int32(truncatingIfNeeded: waiting))))
        }
        return ciphertext
    }

    // MARK: Handshake

    func handshake() -> HandshakeResult {
        ERR_clear_error()
        let result = SSL_do_handshake(ssl)
        if result == 1 { return .complete }
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .incomplete
        case SSL_ERROR_ZERO_RETURN: return .failed(TLSError(.closedInHandshake, "the peer sent close_notify"))
        default:
            var error = TLSError.takingQueue(.handshakeFailed)
            if error.code == .certificateRejected, let fault = faults.first {
                error.reason = "\(fault)"
            }
            return .failed(error)
        }
    }

    // MARK: Plaintext

    /// Fills the writable part of `plaintext` as far as there is something to read.
    func read(into plaintext: inout ByteBuffer) -> ReadResult {
        ERR_clear_error()
        var result: Int32 = 0
        plaintext.writeWithUnsafeMutableBytes(minimumWritableBytes: 1) { bytes in
            result = SSL_read(ssl, bytes.baseAddress, Int32(truncatingIfNeeded: bytes.count))
            return max(0, Int(result))
        }
        if result > 0 { return .bytes }
        switch SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .incomplete
        case SSL_ERROR_ZERO_RETURN: return .closed
        default: return .failed(.takingQueue(.badRecord))
        }
    }

    /// Encrypts all of `bytes`. A memory BIO takes everything, so anything but success is a failure.
    func write(_ bytes: UnsafeRawBufferPointer) -> TLSError? {
        guard let base = bytes.baseAddress, !bytes.isEmpty else { return nil }
        ERR_clear_error()
        let result = SSL_write(ssl, base, Int32(truncatingIfNeeded: bytes.count))
        return result == Int32(bytes.count) ? nil : .takingQueue(.internal)
    }

    /// Puts our close_notify among the ciphertext, once.
    func sendCloseNotify() {
        ERR_clear_error()
        if SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN == 0 { SSL_shutdown(ssl) }
        ERR_clear_error()
    }

    // MARK: Evidence

    /// What the completed handshake proved.
    func evidence() -> PeerEvidence {
        let cipher = SSL_get_current_cipher(ssl)
        let exchange = SSL_CIPHER_get_kx_nid(cipher)
        let leaf = SSL_get0_peer_certificate(ssl)
        var name: String?
        switch verification {
        case .record(let asked, _): name = asked
        case .require(let required): name = required
        }
        var matched: Bool?
        if let leaf, let name { matched = Certificate.matches(leaf, name: name) }
        let checked = checkedChain(leaf)
        let presented = presentedChain(leaf)
        let staple = staple()
        return PeerEvidence(
            version: TLSVersion(wireNumber: SSL_version(ssl)) ?? .tls10,
            cipherSuite: text(SSL_CIPHER_standard_name(cipher)) ?? text(SSL_CIPHER_get_name(cipher)) ?? "",
            isForwardSecret: [NID_kx_any, NID_kx_ecdhe, NID_kx_dhe].contains(exchange) && !hasShortField,
            cipherBits: Int(SSL_CIPHER_get_bits(cipher, nil)),
            keyExchangeGroup: group(exchange),
            signatureAlgorithm: signature(),
            serverName: text(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)),
            alpn: applicationProtocol(),
            chain: presented,
            checkedAt: checkedAt,
            verification: checked.verification,
            anchor: checked.anchor,
            nameMatched: matched,
            dane: usableRecords.map {
                $0 == 0 ? .noUsableRecords : TLSConnection.outcomeOfDANE(ssl, faults: faults)
            },
            staple: staple,
            stapled: staple.map {
                StapledStatus($0, chain: presented, anchor: checked.anchor, at: checkedAt)
            },
            mustStaple: leaf.map { zegel_X509_must_staple($0) == 1 } ?? false)
    }

    /// The OCSP response that came with the certificate, where it is of a size to be read.
    private func staple() -> [UInt8]? {
        var octets: UnsafePointer<UInt8>?
        let length = zegel_SSL_get_staple(ssl, &octets)
        guard let octets, (1...StapledStatus.largest).contains(length) else { return nil }
        return Array(UnsafeBufferPointer(start: octets, count: length))
    }

    private func checkedChain(_ leaf: OpaquePointer?) -> CheckedChain {
        guard let leaf else { return CheckedChain(verification: .notPresented) }
        if usableRecords != nil {
            // The handshake asked the TLSA records, or, without a usable one, asked for a name too.
            return CheckedChain(leaf, SSL_get_peer_cert_chain(ssl), trustedBy: ssl, at: checkedAt)
        }
        let result = Int32(truncatingIfNeeded: SSL_get_verify_result(ssl))
        if faults.isEmpty, result != X509_V_OK {
            return CheckedChain(verification: .failed([ChainFault(code: result, depth: 0)]))
        }
        return CheckedChain(
            verification: ChainFault.verdict(faults),
            // OpenSSL keeps no record of where a faulty chain led: it is built once more.
            anchor: faults.isEmpty
                ? CheckedChain.last(of: SSL_get0_verified_chain(ssl))
                : CheckedChain(leaf, SSL_get_peer_cert_chain(ssl), trustedBy: ssl, at: checkedAt).anchor)
    }

    private func text(_ string: UnsafePointer<CChar>?) -> String? { string.map { String(cString: $0) } }

    private func applicationProtocol() -> String? {
        var name: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &length)
        guard let name, length > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: name, count: Int(length)), as: UTF8.self)
    }

    /// Whether the key exchange is in a finite field below 2048 bits, which can be broken later: RFC 9325 §4.1 forbids it.
    private var hasShortField: Bool {
        guard let key = zegel_SSL_get1_peer_tmp_key(ssl) else { return false }
        defer { EVP_PKEY_free(key) }
        return EVP_PKEY_get_base_id(key) == EVP_PKEY_DH && EVP_PKEY_get_bits(key) < 2048
    }

    private func group(_ exchange: Int32) -> String? {
        guard exchange != NID_kx_rsa else { return nil }
        if let key = zegel_SSL_get1_peer_tmp_key(ssl) {
            defer { EVP_PKEY_free(key) }
            if EVP_PKEY_get_base_id(key) == EVP_PKEY_DH {
                return TLSConnection.groupName(key) ?? "dh-\(EVP_PKEY_get_bits(key))"
            }
            if let name = TLSConnection.groupName(key) { return TLSConnection.tlsName(name) }
            return text(EVP_PKEY_get0_type_name(key)).map { $0.lowercased() }
        }
        let number = zegel_SSL_get_negotiated_group(ssl)
        // A group that OpenSSL has no NID for is given by its number on the wire with a flag.
        guard number > 0, number & 0x0100_0000 == 0 else { return nil }
        return text(OBJ_nid2sn(number)).map { TLSConnection.tlsName($0) }
    }

    /// The names of the IANA registry of TLS groups.
    static func tlsName(_ name: String) -> String {
        name == "prime256v1" ? "secp256r1" : name.lowercased()
    }

    static func groupName(_ key: OpaquePointer) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
            var length = 0
            guard let base = buffer.baseAddress,
                EVP_PKEY_get_group_name(key, base, buffer.count, &length) == 1
            else { return nil }
            return String(cString: base)
        }
    }

    private func signature() -> String? {
        var type: Int32 = 0
        guard SSL_get_peer_signature_type_nid(ssl, &type) == 1, type != NID_undef else { return nil }
        let family: String
        switch type {
        case EVP_PKEY_RSA: family = "RSA"
        case EVP_PKEY_RSA_PSS: family = "RSA-PSS"
        case EVP_PKEY_EC: family = "ECDSA"
        default: return text(OBJ_nid2sn(type))
        }
        var digest: Int32 = 0
        guard zegel_SSL_get_peer_signature_nid(ssl, &digest) == 1, let name = text(OBJ_nid2sn(digest)) else {
            return family
        }
        return "\(family)+\(name)"
    }

    private func presentedChain(_ leaf: OpaquePointer?) -> [[UInt8]] {
        var chain: [[UInt8]] = []
        // On a server the stack does not hold the leaf.
        if context.role == .server, let leaf { chain.append(Certificate.der(leaf)) }
        if let stack = SSL_get_peer_cert_chain(ssl) {
            for index in 0..<max(0, zegel_sk_X509_num(stack)) {
                if let certificate = zegel_sk_X509_value(stack, index) {
                    chain.append(Certificate.der(certificate))
                }
            }
        }
        return chain
    }
}

/// Where an SSL keeps the pointer back to its `TLSConnection`.
private let exDataIndex: Int32 = zegel_SSL_get_ex_new_index()

/// OpenSSL's verify callback: keeps every fault and goes on, so that all of them are known at the end; only a
/// connection that requires a valid chain fails at the first.
func recordFault(_ holds: Int32, _ store: OpaquePointer?) -> Int32 {
    guard holds != 1 else { return 1 }
    guard let store,
        let ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
        let unretained = SSL_get_ex_data(OpaquePointer(ssl), exDataIndex)
    else { return 0 }
    let connection = Unmanaged<TLSConnection>.fromOpaque(unretained).takeUnretainedValue()
    // A hostile chain has a bounded number of certificates, but each may have several faults.
    if connection.faults.count < ChainFault.most {
        let fault = ChainFault(
            code: X509_STORE_CTX_get_error(store), depth: X509_STORE_CTX_get_error_depth(store))
        connection.faults.append(fault)
    }
    return connection.mustHold ? 0 : 1
}
