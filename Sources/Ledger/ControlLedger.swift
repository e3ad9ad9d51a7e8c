// Reads of the control schema: by every node, from the first shard.

import Foundation
import Postgres

/// Tenants, credentials and key sets as the nodes see them.
public struct ControlLedger: Sendable {
    let pool: PostgresPool

    /// Any role may ask; only an edge's sees credentials, only the api's sees API keys.
    public init(pool: PostgresPool) { self.pool = pool }

    // The age is counted on the member's own clock; one that is behind its leader's counts as no age.
    private static let versionQuery = """
        SELECT number, greatest(extract(epoch FROM clock_timestamp() - heartbeat_at), 0)::float8 FROM control.version
        """

    /// The version alone: cheap enough for every second.
    public func version() async throws -> ControlVersion {
        try await pool.withConnection { connection in
            // A member that stands still is left soon: another one may answer.
            try await connection.perform(deadline: .seconds(5)) { try Self.version($0) }
        }
    }

    private static func version(_ session: PostgresSession) throws -> ControlVersion {
        guard let row = try session.query(versionQuery).first else {
            throw PostgresError(.protocolViolation, "control.version is empty")
        }
        return ControlVersion(number: try row.int8(0), age: try row.double(1))
    }

    /// Says that the leader lives and that its quorum has what it writes: tells members' readers how old what they see is. On the leader,
    /// as an edge.
    public func beat() async throws {
        try await pool.withConnection { connection in
            _ = try await connection.perform { try $0.query("SELECT control.beat()") }
        }
    }

    /// Everything, in one consistent picture.
    /// - Parameter credentials: whether to read SMTP credentials (edges).
    public func snapshot(credentials: Bool) async throws -> ControlSnapshot {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                defer { _ = try? session.execute("COMMIT") }
                let version = try Self.version(session)
                var tenants: [String: TenantRow] = [:]
                for row in try session.query(
                    "SELECT id, default_ruleset, in_doubt = 'resend', disabled_at IS NOT NULL FROM control.tenant"
                ) {
                    let id = try row.text(0)
                    tenants[id] = TenantRow(
                        id: id, defaultRuleset: try row.text(1), resendsInDoubt: try row.bool(2),
                        isDisabled: try row.bool(3))
                }
                var domains: [String: String] = [:]
                for row in try session.query("SELECT domain, tenant FROM control.sender_domain") {
                    domains[try row.text(0)] = try row.text(1)
                }
                let keySet = try session.query(
                    "SELECT signed FROM control.key_set ORDER BY version DESC LIMIT 1"
                ).first
                return ControlSnapshot(
                    version: version.number, age: version.age, tenants: tenants,
                    senderDomains: domains, credentials: credentials ? try Self.credentials(session) : [:],
                    signedKeySet: try keySet?.bytes(0))
            }
        }
    }

    private static func credentials(_ session: PostgresSession) throws -> [String: CredentialRow] {
        var found: [String: CredentialRow] = [:]
        for row in try session.query(
            """
            SELECT c.id, c.tenant, c.username, c.salt, c.iterations, c.stored_key
            FROM control.credential c JOIN control.tenant t ON t.id = c.tenant
            WHERE c.revoked_at IS NULL AND t.disabled_at IS NULL
            """)
        {
            let username = try row.text(2)
            found[username] = CredentialRow(
                id: try row.uuid(0), tenant: try row.text(1), username: username, salt: try row.bytes(3),
                iterations: try row.int4(4), storedKey: try row.bytes(5), serverKey: [])
        }
        return found
    }

    /// The replay-tag keys of a tenant that are there already: today's first, then yesterday's; nil when today's is not made yet. Edges
    /// only; a member answers as well as the leader.
    public func knownReplayKeys(tenant: String, day: String) async throws -> [[UInt8]]? {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                let rows = try session.query(
                    "SELECT day = $2::text::date, key FROM control.known_replay_keys($1, $2::text::date)",
                    [.text(tenant), .text(day)])
                guard let newest = rows.first, try newest.bool(0) else { return nil }
                return try rows.map { try $0.bytes(1) }
            }
        }
    }

    /// The replay-tag keys of a tenant: today's first, then yesterday's if there was one. `candidate` (32 random bytes) becomes
    /// today's when nobody was quicker. Edges only.
    public func replayKeys(tenant: String, day: String, candidate: [UInt8]) async throws -> [[UInt8]] {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    "SELECT key FROM control.replay_keys($1, $2::text::date, $3)",
                    [.text(tenant), .text(day), .bytes(candidate)]
                ).map { try $0.bytes(0) }
            }
        }
    }

    /// One API key by its id. The api only.
    public func apiKey(_ id: UUID) async throws -> APIKeyRow? {
        try await pool.withConnection { connection in
            try await connection.perform { session in
                guard
                    let row = try session.query(
                        """
                        SELECT k.tenant, k.scopes, k.secret_hash, k.revoked_at IS NOT NULL OR coalesce(t.disabled_at IS NOT NULL, false)
                        FROM control.api_key k LEFT JOIN control.tenant t ON t.id = k.tenant WHERE k.id = $1
                        """, [.uuid(id)]
                    ).first
                else { return nil }
                return APIKeyRow(
                    id: id, tenant: try row.optionalText(0), scopes: try row.textArray(1).compactMap { $0 },
                    secretHash: try row.bytes(2), isRevoked: try row.bool(3))
            }
        }
    }
}
