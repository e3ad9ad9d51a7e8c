// SCRAM-SHA-256 verifiers (RFC 5802 §3, RFC 7677): made from a password, and held against one.

import Crypto
import CryptoExtras
import Foundation

extension CredentialRow {
    /// The verifier of a password, with fresh salt.
    /// - Parameters:
    ///   - password: as the client says it; prepared text (RFC 4013) is the caller's duty, ASCII needs none.
    ///   - iterations: PBKDF2 rounds; RFC 7677 §4 asks for at least 4096.
    public init(
        id: UUID, tenant: String, username: String, password: String, salt: [UInt8]? = nil,
        iterations: Int32 = 4096
    ) throws {
        var generator = SystemRandomNumberGenerator()
        let salt = salt ?? (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        let salted = try Self.saltedPassword(password, salt: salt, iterations: iterations)
        let clientKey = HMAC<SHA256>.authenticationCode(for: Data("Client Key".utf8), using: salted)
        self.init(
            id: id, tenant: tenant, username: username, salt: salt, iterations: iterations,
            storedKey: Array(SHA256.hash(data: Data(clientKey))),
            serverKey: Array(HMAC<SHA256>.authenticationCode(for: Data("Server Key".utf8), using: salted)))
    }

    /// Whether this is the verifier of `password`. Costs ``iterations`` rounds of HMAC: never on an event loop.
    public func accepts(password: String) -> Bool {
        guard let salted = try? Self.saltedPassword(password, salt: salt, iterations: iterations) else {
            return false
        }
        return HMAC<SHA256>.isValidAuthenticationCode(
            Data(serverKey), authenticating: Data("Server Key".utf8), using: salted)
    }

    /// Hi() of RFC 5802 §2.2.
    private static func saltedPassword(_ password: String, salt: [UInt8], iterations: Int32) throws
        -> SymmetricKey
    {
        try KDF.Insecure.PBKDF2.deriveKey(
            from: Data(password.utf8), salt: Data(salt), using: .sha256, outputByteCount: 32,
            unsafeUncheckedRounds: Int(iterations))
    }
}
