// OCSP responses (RFC 6960) about test certificates, by OpenSSL's own responder.

import Foundation

/// Makes responses.
public enum OCSPResponder {
    /// What the responder's book says of a certificate.
    public enum Entry: Sendable {
        /// It holds.
        case good
        /// It was revoked.
        case revoked
        /// It is not in the book.
        case unknown
    }

    /// A response about a certificate, DER, of this moment and valid for a day.
    ///
    /// - authority: who issued it.
    /// - signer: who signs, and its key (PEM); nil: the authority.
    public static func response(
        about identity: TestIdentity, by authority: TestAuthority, _ entry: Entry,
        signedBy signer: (certificate: [UInt8], key: [UInt8])? = nil
    ) async throws -> [UInt8] {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ocsp-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func write(_ octets: [UInt8], _ name: String) throws {
            try Data(octets).write(to: folder.appending(path: name))
        }
        try write(authority.rootPEM, "ca.pem")
        try write(identity.chainPEM, "leaf.pem")
        try write(signer?.certificate ?? authority.rootPEM, "signer.pem")
        try write(signer?.key ?? authority.privateKeyPEM, "key.pem")
        let serial = identity.certificate.serialNumber.bytes.map { octet in
            (octet < 16 ? "0" : "") + String(octet, radix: 16).uppercased()
        }.joined()
        let line =
            switch entry {
            case .good: "V\t350101000000Z\t\t\(serial)\tunknown\t/CN=leaf\n"
            case .revoked: "R\t350101000000Z\t250101000000Z\t\(serial)\tunknown\t/CN=leaf\n"
            case .unknown: ""
            }
        try write(Array(line.utf8), "index.txt")
        let openssl = ["openssl", "ocsp", "-issuer", "ca.pem"]
        try await ChildProcess.run(
            openssl + ["-cert", "leaf.pem", "-no_nonce", "-reqout", "request"], directory: folder.path)
        try await ChildProcess.run(
            [
                "openssl", "ocsp", "-index", "index.txt", "-CA", "ca.pem", "-rsigner", "signer.pem", "-rkey",
                "key.pem", "-reqin", "request", "-respout", "response", "-ndays", "1",
            ], directory: folder.path)
        return Array(try Data(contentsOf: folder.appending(path: "response")))
    }
}
