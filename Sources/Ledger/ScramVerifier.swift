// SCRAM-SHA-256 verifiers (RFC 5802 §3, RFC 7677): how a password becomes what is stored.

import Crypto
import CryptoExtras
import Foundation

extension CredentialRow {
    /// The verifier of a password, with fresh salt.
    /// - Parameters:
    ///   - password: as the client says it; prepared text (RFC 4013) is the caller's duty, ASCII needs none.
    ///   - iterations: PBKDF2 rounds; RFC 7677 §4 asks for at least 4096.
    public init(id: UUID, tenant: String, username: String, password: String, iterations: Int32 = 4096) throws
    {
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let keys = try Self.keys(password: Array(password.utf8), salt: salt, iterations: iterations)
        self.init(
            id: id, tenant: tenant, username: username, salt: salt, iterations: iterations,
            storedKey: keys.stored,
            serverKey: keys.server)
    }

    /// StoredKey and ServerKey of RFC 5802 §3. Costs `iterations` rounds of HMAC: never on an event loop.
    public static func keys(
        password: [UInt8], salt: [UInt8], iterations: Int32
    ) throws -> (stored: [UInt8], server: [UInt8]) {
        let salted = try KDF.Insecure.PBKDF2.deriveKey(
            from: password, salt: salt, using: .sha256, outputByteCount: 32,
            unsafeUncheckedRounds: Int(iterations))
        let clientKey = HMAC<SHA256>.authenticationCode(for: Array("Client Key".utf8), using: salted)
        let serverKey = HMAC<SHA256>.authenticationCode(for: Array("Server Key".utf8), using: salted)
        return (clientKey.withUnsafeBytes { Array(SHA256.hash(data: $0)) }, Array(serverKey))
    }
}
