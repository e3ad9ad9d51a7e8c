// Writes to the control schema: by an operator's command, as role `zegel_admin` or the owner.

import Foundation
import Postgres

/// An edit that was not kept for certain, and what to do.
public struct ControlEditRefused: Error, Sendable, CustomStringConvertible {
    /// Some leader has it, which may lose it yet; false: nothing was changed.
    public let mayHold: Bool
    /// In words.
    public let description: String

    init(_ reason: String, mayHold: Bool, after patience: Duration) {
        self.mayHold = mayHold
        description =
            "not done within \(patience.components.seconds) s: \(reason). "
            + (mayHold
                ? "A leader may have it that loses it again" : "Nothing was changed")
            + ". Bring the control shard's leader and another member of it back (zegel shard status), and give the same command "
            + "again: it is safe to repeat"
    }
}

/// An edit that cannot be: the sentence says why.
public struct ControlEditInvalid: Error, Sendable, CustomStringConvertible {
    /// In words.
    public let description: String
}

/// What becomes of a tenant; nil leaves a part as it is.
public struct TenantEdit: Sendable {
    /// Its id: made when it is not there.
    public var id: String
    /// The name for people; of a new tenant its id.
    public var name: String?
    /// The ruleset when no label raises it; of a new tenant `secure`.
    public var defaultRuleset: String?
    /// Domains that it may send as besides those that it has (lower case, A-labels).
    public var domains: [String]
    /// Whether it may not send.
    public var isDisabled: Bool?
    /// A tenant that is not there is not made.
    public var mustExist: Bool

    /// An edit.
    public init(
        id: String, name: String? = nil, defaultRuleset: String? = nil, domains: [String] = [],
        isDisabled: Bool? = nil, mustExist: Bool = false
    ) {
        self.id = id
        self.name = name
        self.defaultRuleset = defaultRuleset
        self.domains = domains
        self.isDisabled = isDisabled
        self.mustExist = mustExist
    }
}

/// Makes tenants, credentials, API keys and key sets. Each call is one transaction, waits for the leader and its quorum, and ends with
/// `ControlEditRefused` when they do not come; all are safe to repeat.
public struct ControlAdministration: Sendable {
    let pool: PostgresPool
    let demandsQuorum: Bool
    let patience: Duration

    /// Needs connections of role `zegel_admin` or of the owner, to the leader.
    /// - Parameters:
    ///   - demandsQuorum: several regions: a commit with no synchronous standby named is not durable.
    ///   - patience: how long an edit may take.
    public init(pool: PostgresPool, demandsQuorum: Bool = false, patience: Duration = .seconds(30)) {
        self.pool = pool
        self.demandsQuorum = demandsQuorum
        self.patience = patience
    }

    /// Makes a tenant or changes it: all of it, or nothing.
    /// - Throws: `ControlEditInvalid` for a domain of another tenant and for an id that is none, `ControlEditRefused`.
    public func apply(_ edit: TenantEdit) async throws {
        try await change { session in
            if edit.mustExist,
                try session.query("SELECT 1 FROM control.tenant WHERE id = $1", [.text(edit.id)]).isEmpty
            {
                throw ControlEditInvalid(description: "there is no tenant '\(edit.id)'")
            }
            do {
                _ = try session.query(
                    """
                    INSERT INTO control.tenant AS t (id, name, default_ruleset, disabled_at)
                    VALUES ($1, coalesce($2, $1), coalesce($3, 'secure'), CASE WHEN $4::bool THEN now() END)
                    ON CONFLICT (id) DO UPDATE SET name = coalesce($2, t.name),
                        default_ruleset = coalesce($3, t.default_ruleset),
                        disabled_at = CASE WHEN $4::bool IS NULL THEN t.disabled_at
                            WHEN $4::bool THEN coalesce(t.disabled_at, now()) END
                    """,
                    [
                        .text(edit.id), .optional(edit.name), .optional(edit.defaultRuleset),
                        edit.isDisabled.map { .bool($0) } ?? .null,
                    ])
            } catch let error as PostgresError where error.sqlState == "23514" {
                throw ControlEditInvalid(
                    description:
                        "'\(edit.id)' is no tenant's id: lower case letters, digits and hyphens, at most 63")
            }
            for domain in edit.domains {
                let taken = try session.query(
                    """
                    INSERT INTO control.sender_domain AS d (domain, tenant) VALUES ($1, $2)
                    ON CONFLICT (domain) DO UPDATE SET tenant = excluded.tenant WHERE d.tenant = excluded.tenant
                    RETURNING domain
                    """, [.text(domain), .text(edit.id)])
                guard !taken.isEmpty else {
                    throw ControlEditInvalid(
                        description: "\(domain) is another tenant's domain; nothing was changed")
                }
            }
        }
    }

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
        try await change { session in
            // ALTER ROLE takes no parameters; format() quotes both parts on the server.
            let rows = try session.query(
                "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)",
                [.text(role), .text(password)])
            guard let row = rows.first else { return }
            try session.execute(try row.text(0))
        }
    }

    private func run(_ sql: String, _ parameters: [PostgresValue]) async throws {
        try await change { session in _ = try session.query(sql, parameters) }
    }

    // MARK: One edit

    /// Between tries.
    private static let pause = Duration.milliseconds(200)
    // A transaction that changed nothing waits for nobody: what an earlier try left on the leader alone would pass for kept.
    private static let mark = "UPDATE control.version SET heartbeat_at = clock_timestamp()"

    /// Runs an edit in one transaction until it has committed with the quorum, again and again within `patience`.
    private func change(_ work: @escaping @Sendable (PostgresSession) throws -> Void) async throws {
        let end = ContinuousClock.now + patience
        var mayHold = false
        while true {
            let reason: String
            do {
                let left = max(.milliseconds(500), end - .now)
                return try await pool.withConnection { connection in
                    try await connection.perform(deadline: left) { try commit(work, $0) }
                }
            } catch let error as NotDurable {
                mayHold = true
                reason = "no other member has what the leader wrote (\(error))"
            } catch let error as PostgresError where error.isTransient || error.code == .closed {
                mayHold = mayHold || error.inDoubt
                reason = "the control shard's leader does not answer (\(error))"
            }
            guard ContinuousClock.now + Self.pause < end else {
                throw ControlEditRefused(reason, mayHold: mayHold, after: patience)
            }
            try await Task.sleep(for: Self.pause)
        }
    }

    private func commit(
        _ work: (PostgresSession) throws -> Void, _ session: PostgresSession
    ) throws {
        let (_, outcome) = try session.transaction { session in
            try work(session)
            try session.execute(Self.mark)
        }
        if case .warned(let warning) = outcome { throw NotDurable(description: warning) }
        if demandsQuorum, try !SynchronousNames.areThere(session) {
            throw NotDurable(description: SynchronousNames.none)
        }
    }
}
