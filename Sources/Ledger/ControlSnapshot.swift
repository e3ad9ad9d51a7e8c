// What nodes know of tenants: one consistent picture, cached under its version number.

import Foundation

/// A customer organisation.
public struct TenantRow: Sendable {
    /// Its id: lower case letters, digits, hyphens.
    public let id: String
    /// Its ruleset when no label raises it.
    public let defaultRuleset: String
    /// Whether a delivery whose final dot nobody answered is sent again (marked) rather than held.
    public let resendsInDoubt: Bool
    /// Whether it may send.
    public let isDisabled: Bool
}

/// A SCRAM-SHA-256 verifier (RFC 5802 §3, RFC 7677).
public struct CredentialRow: Sendable {
    /// The row's id.
    public let id: UUID
    /// Whose it is.
    public let tenant: String
    /// As the client says it.
    public let username: String
    /// Random bytes.
    public let salt: [UInt8]
    /// PBKDF2 rounds, at least 4096.
    public let iterations: Int32
    /// SHA-256 of the client key.
    public let storedKey: [UInt8]
    /// HMAC of the salted password over "Server Key". Empty in what an edge reads: PLAIN and LOGIN need none.
    public let serverKey: [UInt8]

    /// One verifier.
    public init(
        id: UUID, tenant: String, username: String, salt: [UInt8], iterations: Int32, storedKey: [UInt8],
        serverKey: [UInt8]
    ) {
        self.id = id
        self.tenant = tenant
        self.username = username
        self.salt = salt
        self.iterations = iterations
        self.storedKey = storedKey
        self.serverKey = serverKey
    }
}

/// Which configuration a member has, and how old it may be.
public struct ControlVersion: Sendable, Equatable {
    /// Grows with every change.
    public let number: Int64
    /// Seconds since the leader's last heartbeat that the member has.
    public let age: Double
}

/// Tenants, their domains and credentials, and the newest signed key set.
public struct ControlSnapshot: Sendable {
    /// Grows with every change.
    public let version: Int64
    /// Seconds since the leader's last heartbeat that the member had when it was asked: it may lack what was written since.
    public let age: Double
    /// By id.
    public let tenants: [String: TenantRow]
    /// Sender domain (lower case, A-labels) to tenant.
    public let senderDomains: [String: String]
    /// By username; empty for roles that may not read them.
    public let credentials: [String: CredentialRow]
    /// The newest region key set, signed; nil when there is none yet.
    public let signedKeySet: [UInt8]?
}

/// A key of the HTTPS API.
public struct APIKeyRow: Sendable {
    /// Part of the key's text.
    public let id: UUID
    /// Whose data it shows; nil: all tenants'.
    public let tenant: String?
    /// What it may do, e.g. `events:read`.
    public let scopes: [String]
    /// SHA-256 of the secret part (256 random bits).
    public let secretHash: [UInt8]
    /// Whether it was revoked.
    public let isRevoked: Bool
}
