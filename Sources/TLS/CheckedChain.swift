// Checking a chain against trusted roots apart from a handshake: where TLSA records were what the handshake was checked
// against, and later, when evidence is judged again.

import CLibSSL

/// A chain and what checking it found.
struct CheckedChain {
    /// What was found.
    var verification: ChainVerification
    /// The trusted root that it led to, whatever else is wrong with it, DER.
    var anchor: [UInt8]?

    init(verification: ChainVerification, anchor: [UInt8]? = nil) {
        self.verification = verification
        self.anchor = anchor
    }

    /// Checks a chain.
    ///
    /// - Parameters:
    ///   - presented: what came with the leaf; it may hold the leaf too.
    ///   - ssl: its context has the trusted roots.
    ///   - time: the moment at which the certificates must be valid, in seconds since 1970.
    init(
        _ leaf: OpaquePointer, _ presented: OpaquePointer?, trustedBy ssl: OpaquePointer, at time: Int
    ) {
        guard let store = X509_STORE_CTX_new() else {
            self.init(verification: .failed([ChainFault(code: X509_V_ERR_OUT_OF_MEM, depth: 0)]))
            return
        }
        defer { X509_STORE_CTX_free(store) }
        let roots = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl))
        guard X509_STORE_CTX_init(store, roots, leaf, presented) == 1,
            X509_STORE_CTX_set_default(store, "ssl_server") == 1
        else {
            self.init(verification: .failed([ChainFault(code: X509_V_ERR_UNSPECIFIED, depth: 0)]))
            return
        }
        X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store), TLSContext.chainSecurityLevel)
        X509_STORE_CTX_set_time(store, 0, time)
        let found = FaultList()
        X509_STORE_CTX_set_ex_data(store, faultListIndex, Unmanaged.passUnretained(found).toOpaque())
        X509_STORE_CTX_set_verify_cb(store, collectFault)
        let holds = withExtendedLifetime(found) { X509_verify_cert(store) }
        ERR_clear_error()
        if holds != 1, found.faults.isEmpty {
            found.faults = [ChainFault(code: X509_STORE_CTX_get_error(store), depth: 0)]
        }
        let built = X509_STORE_CTX_get0_chain(store)
        let isAnchored =
            built.map { zegel_sk_X509_num($0) > X509_STORE_CTX_get_num_untrusted(store) } ?? false
        self.init(
            verification: ChainFault.verdict(found.faults),
            anchor: isAnchored ? CheckedChain.last(of: built) : nil)
    }

    /// DER of the last certificate of a stack.
    static func last(of stack: OpaquePointer?) -> [UInt8]? {
        guard let stack else { return nil }
        return zegel_sk_X509_value(stack, zegel_sk_X509_num(stack) - 1).map(Certificate.der)
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
