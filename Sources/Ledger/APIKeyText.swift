// The text of an API key: shown once, never stored.

import Crypto
import Foundation

/// `zegel_<id>_<secret>`: a prefix that secret scanners recognise, the id of the row in `control.api_key`, and 256 random
/// bits in URL-safe base64. Only the SHA-256 of the secret's text is stored.
public struct APIKeyText: Sendable {
    /// The row's id.
    public let id: UUID
    private let secret: String

    /// A key with this id and secret.
    public init(id: UUID, secret: String) {
        self.id = id
        self.secret = secret
    }

    /// Reads what a client sent; nil when it is no key.
    public init?(_ text: String) {
        let parts = text.split(separator: "_", maxSplits: 2, omittingEmptySubsequences: false)
        guard text.utf8.count <= 200, parts.count == 3, parts[0] == "zegel", parts[1].utf8.count == 36,
            let id = UUID(uuidString: String(parts[1])), parts[2].utf8.count >= 22
        else { return nil }
        self.init(id: id, secret: String(parts[2]))
    }

    /// What the client sends as its bearer token.
    public var text: String { "zegel_\(id.uuidString.lowercased())_\(secret)" }

    /// What is stored: SHA-256 of the secret's text.
    public var secretHash: [UInt8] { Array(SHA256.hash(data: Data(secret.utf8))) }

    /// Whether this is the key whose secret has `hash`, in a time that does not depend on where they differ.
    public func matches(hash: [UInt8]) -> Bool {
        let own = secretHash
        guard own.count == hash.count else { return false }
        return zip(own, hash).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

extension APIKeyText: CustomStringConvertible, CustomReflectable {
    /// The id alone.
    public var description: String { "APIKeyText(\(id.uuidString.lowercased()))" }
    /// Nothing: the secret does not reach a log.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
