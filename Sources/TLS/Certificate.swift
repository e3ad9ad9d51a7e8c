// The owner of an X509, and reading certificates and keys from PEM.

import CLibSSL

/// One X.509 certificate.
final class Certificate {
    /// Valid as long as this object lives; OpenSSL functions named `…1…` or `add` take references of their own.
    let pointer: OpaquePointer

    /// Takes over one reference to `pointer`.
    init(owning pointer: OpaquePointer) { self.pointer = pointer }

    deinit { X509_free(pointer) }

    /// Reads one DER certificate.
    convenience init(der: [UInt8]) throws(TLSError) {
        let parsed = der.withUnsafeBufferPointer { bytes in
            var cursor = bytes.baseAddress
            return d2i_X509(nil, &cursor, bytes.count)
        }
        guard let parsed else { throw .takingQueue(.invalidCertificate) }
        self.init(owning: parsed)
    }

    /// DER of a certificate that something else owns.
    static func der(_ certificate: OpaquePointer) -> [UInt8] {
        let length = i2d_X509(certificate, nil)
        guard length > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: Int(length)) { bytes, count in
            var cursor = bytes.baseAddress
            count = Int(max(0, i2d_X509(certificate, &cursor)))
        }
    }

    /// Whether it demands that an OCSP response comes with it (RFC 7633).
    var mustStaple: Bool { zegel_X509_must_staple(pointer) == 1 }

    /// Whether the subject alternative names carry `name`; never the common name, no partial wildcards.
    func matches(name: String) -> Bool { Certificate.matches(pointer, name: name) }

    static func matches(_ certificate: OpaquePointer, name: String) -> Bool {
        if isIPAddress(name) { return X509_check_ip_asc(certificate, name, 0) == 1 }
        let host = withoutTrailingDot(name)
        guard !host.isEmpty else { return false }
        return X509_check_host(certificate, host, host.utf8.count, nameFlags, nil) == 1
    }

    static let nameFlags = UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)

    static func withoutTrailingDot(_ name: String) -> String {
        name.hasSuffix(".") ? String(name.dropLast()) : name
    }

    static func isIPAddress(_ name: String) -> Bool {
        guard let address = a2i_IPADDRESS(name) else { return false }
        ASN1_OCTET_STRING_free(address)
        return true
    }
}

/// PEM text in memory or in a file, as OpenSSL reads it. Never asks for a pass phrase.
final class PEMReader {
    private let bio: OpaquePointer

    /// Reads from `bytes`, which must outlive this object's use inside `body`.
    static func reading<T>(
        _ bytes: [UInt8], _ body: (PEMReader) throws(TLSError) -> T
    ) throws(TLSError) -> T {
        // BIO_new_mem_buf keeps the pointer: everything happens inside the closure.
        let outcome: Result<T, TLSError> = bytes.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress, let length = Int32(exactly: buffer.count),
                let bio = BIO_new_mem_buf(base, length)
            else { return .failure(TLSError(.invalidCertificate, "empty PEM")) }
            let reader = PEMReader(owning: bio)
            do throws(TLSError) { return .success(try body(reader)) } catch { return .failure(error) }
        }
        return try outcome.get()
    }

    /// Opens a file. Throws `code` if it cannot be opened.
    convenience init(path: String, failing code: TLSError.Code) throws(TLSError) {
        guard let bio = BIO_new_file(path, "r") else {
            let cause = TLSError.takingQueue(code)
            throw TLSError(code, "\(path): \(cause.reason)")
        }
        self.init(owning: bio)
    }

    private init(owning bio: OpaquePointer) { self.bio = bio }

    deinit { BIO_free(bio) }

    /// All certificates; throws if there is none or one is broken.
    func certificates() throws(TLSError) -> [Certificate] {
        ERR_clear_error()
        var certificates: [Certificate] = []
        while let pointer = PEM_read_bio_X509(bio, nil, refusePassPhrase, nil) {
            certificates.append(Certificate(owning: pointer))
        }
        let last = ERR_peek_last_error()
        let reachedEnd =
            zegel_ERR_library(last) == ERR_LIB_PEM && zegel_ERR_reason(last) == PEM_R_NO_START_LINE
        guard reachedEnd, !certificates.isEmpty else {
            var error = TLSError.takingQueue(.invalidCertificate)
            if certificates.isEmpty, reachedEnd { error.reason = "no certificate in PEM" }
            throw error
        }
        ERR_clear_error()
        return certificates
    }

    /// The first private key.
    func privateKey() throws(TLSError) -> PrivateKey {
        ERR_clear_error()
        guard let pointer = PEM_read_bio_PrivateKey(bio, nil, refusePassPhrase, nil) else {
            throw .takingQueue(.invalidPrivateKey)
        }
        return PrivateKey(owning: pointer)
    }
}

/// A private key inside OpenSSL's memory.
final class PrivateKey {
    let pointer: OpaquePointer
    init(owning pointer: OpaquePointer) { self.pointer = pointer }
    deinit { EVP_PKEY_free(pointer) }
}

/// An encrypted key is an error, never a prompt on the terminal.
private func refusePassPhrase(
    _: UnsafeMutablePointer<CChar>?, _: Int32, _: Int32, _: UnsafeMutableRawPointer?
) -> Int32 { 0 }
