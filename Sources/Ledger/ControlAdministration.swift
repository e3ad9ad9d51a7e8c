// Writes to the control schema: by an operator's command, as role `zegel_admin` or the owner.

import Foundation
import Postgres

/// Makes tenants, credentials, API keys and key sets. Each call is one transaction; all are safe to repeat.
public struct ControlAdministration: Sendable {
    let pool: PostgresPool

    /// Needs a connection of role `zegel_admin` or of the owner.
    public init(pool: PostgresPool) { self.pool = pool }

    /// Adds a tenant, or changes its name and default ruleset.
    public func putTenant(id: String, name: String, defaultRuleset: String) async throws {
        try await run(
            """
            INSERT INTO control.tenant (id, name, default_ruleset) VALUES ($1, $2, $3)
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, default_ruleset = excluded.default_ruleset
            """, [.text(id), .text(name), .text(defaultRuleset)])
    }

    /// Lets a tenant send as a domain (lower case, A-labels). A domain belongs to one tenant.
    public func putSenderDomain(_ domain: String, tenant: String) async throws {
        try await run(
            """
            INSERT INTO control.sender_domain (domain, tenant) VALUES ($1, $2)
            ON CONFLICT (domain) DO UPDATE SET tenant = excluded.tenant
            """, [.text(domain), .text(tenant)])
    }

    /// Adds an SMTP credential, or replaces the verifier of its username.
    public func putCredential(_ credential: CredentialRow) async throws {
        try await run(
            """
            INSERT INTO control.credential (id, tenant, username, salt, iterations, stored_key, server_key)
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (username) DO UPDATE SET salt = excluded.salt,
                iterations = excluded.iterations, stored_key = excluded.stored_key, server_key = excluded.server_key
            """,
            [
                .uuid(credential.id), .text(credential.tenant), .text(credential.username),
                .bytes(credential.salt),
                .int4(credential.iterations), .bytes(credential.storedKey), .bytes(credential.serverKey),
            ])
    }

    /// Adds an API key by the hash of its secret.
    public func putAPIKey(id: UUID, tenant: String?, label: String, scopes: [String], secretHash: [UInt8])
        async throws
    {
        try await run(
            """
            INSERT INTO control.api_key (id, tenant, label, scopes, secret_hash) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (id) DO NOTHING
            """,
            [
                .uuid(id), tenant.map { .text($0) } ?? .null, .text(label), .textArray(scopes.map { $0 }),
                .bytes(secretHash),
            ])
    }

    /// Adds a signed region key set under its version; a version that is there already stays as it is.
    public func putKeySet(version: Int64, signed: [UInt8]) async throws {
        try await run(
            "INSERT INTO control.key_set (version, signed) VALUES ($1, $2) ON CONFLICT (version) DO NOTHING",
            [.int8(version), .bytes(signed)])
    }

    /// The newest key set's version and bytes.
    public func newestKeySet() async throws -> (version: Int64, signed: [UInt8])? {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                guard
                    let row = try session.query(
                        "SELECT version, signed FROM control.key_set ORDER BY version DESC LIMIT 1"
                    ).first
                else { return nil }
                return (try row.int8(0), try row.bytes(1))
            }
        }
    }

    /// Gives a role its password (a SCRAM verifier or clear text that the server hashes), so that nodes can log in.
    public func setPassword(ofRole role: String, to password: String) async throws {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                // ALTER ROLE takes no parameters; format() quotes both parts on the server.
                let rows = try session.query(
                    "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)",
                    [.text(role), .text(password)])
                guard let row = rows.first else { return }
                try session.execute(try row.text(0))
            }
        }
    }

    private func run(_ sql: String, _ parameters: [PostgresValue]) async throws {
        try await pool.withConnection { connection in
            try await connection.perform { session in _ = try session.query(sql, parameters) }
        }
    }
}
