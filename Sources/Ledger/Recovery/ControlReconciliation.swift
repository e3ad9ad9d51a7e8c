// What a restore must not bring back: credentials that were revoked since, tenants that were disabled, key sets that are old. Carried
// over; what was given out since is not: who restores may do so because of what was given out.

import Foundation
import Postgres

/// The comparison of a restored control schema with another copy of it.
public struct ControlReconciliation: Sendable {
    /// What one source brought.
    public struct Result: Sendable, Equatable, Codable {
        /// Credentials and API keys that do not work any more.
        public var revoked = 0
        /// Tenants that may not send any more.
        public var disabled = 0
        /// Key sets.
        public var keySets = 0
        /// Credentials and API keys that were made since, and are not here: make them anew.
        public var leftOut = 0

        /// Nothing.
        public init() {}

        /// With what another source brought.
        public func adding(_ other: Result) -> Result {
            var sum = self
            sum.revoked += other.revoked
            sum.disabled += other.disabled
            sum.keySets += other.keySets
            sum.leftOut = other.leftOut
            return sum
        }
    }

    /// Where it lies.
    public var link: SourceLink
    /// Whether nobody who knows more was asked before: else only what is taken away counts.
    public var mayReplace: Bool

    /// A comparison.
    public init(link: SourceLink, mayReplace: Bool = true) {
        (self.link, self.mayReplace) = (link, mayReplace)
    }

    /// Compares, in one transaction. Safe to repeat.
    /// - Parameter session: of the owner of the restored first shard.
    public func run(_ session: PostgresSession) throws -> Result {
        try session.transaction(begin: "BEGIN ISOLATION LEVEL REPEATABLE READ") { session in
            try link.open(
                session, ledger: [],
                control: ["tenant", "sender_domain", "credential", "api_key", "key_set", "replay_key"])
            var result = Result()
            // A new salt for the same password is a new verifier: the old one goes, and with it a password that was changed.
            if mayReplace { try session.execute(Self.verifiers) }
            for statement in Self.revocations { result.revoked += try Self.count(session, statement) }
            result.disabled = try Self.count(session, Self.disablings)
            result.keySets = try Self.count(
                session,
                "INSERT INTO control.key_set SELECT * FROM source_control.key_set ON CONFLICT DO NOTHING")
            // Mail of tenants that were made since is brought over, and is sent as them; tags of what came in since stay comparable.
            try session.execute(
                """
                INSERT INTO control.tenant SELECT * FROM source_control.tenant ON CONFLICT DO NOTHING;
                UPDATE control.tenant t SET in_doubt = 'hold' FROM source_control.tenant s
                    WHERE s.id = t.id AND s.in_doubt = 'hold' AND t.in_doubt <> 'hold';
                INSERT INTO control.replay_key SELECT * FROM source_control.replay_key
                    ON CONFLICT (tenant, day) DO UPDATE SET key = excluded.key
                """)
            if mayReplace {
                try session.execute(
                    """
                    DELETE FROM control.sender_domain d
                        WHERE NOT EXISTS (SELECT 1 FROM source_control.sender_domain s
                                          WHERE s.domain = d.domain AND s.tenant = d.tenant);
                    INSERT INTO control.sender_domain SELECT * FROM source_control.sender_domain ON CONFLICT DO NOTHING
                    """)
            }
            result.leftOut = Int(try session.query(Self.leftOut).first?.int4(0) ?? 0)
            try link.close(session)
            return result
        }.0
    }

    private static func count(_ session: PostgresSession, _ sql: String) throws(PostgresError) -> Int {
        Int(
            try session.query("WITH done AS (\(sql) RETURNING 1) SELECT count(*)::int FROM done").first?.int4(
                0) ?? 0)
    }

    private static let verifiers = """
        UPDATE control.credential c SET salt = s.salt, iterations = s.iterations, stored_key = s.stored_key,
                server_key = s.server_key
            FROM source_control.credential s
            WHERE s.id = c.id AND s.revoked_at IS NULL AND s.tenant = c.tenant AND s.stored_key <> c.stored_key
        """

    // What the source does not have any more, or gives other rights, was taken away.
    private static let revocations = [
        """
        UPDATE control.credential c SET revoked_at = coalesce(
                (SELECT s.revoked_at FROM source_control.credential s WHERE s.id = c.id), clock_timestamp())
            WHERE c.revoked_at IS NULL
              AND NOT EXISTS (SELECT 1 FROM source_control.credential s
                  WHERE s.id = c.id AND s.revoked_at IS NULL AND s.tenant = c.tenant AND s.username = c.username)
        """,
        """
        UPDATE control.api_key k SET revoked_at = coalesce(
                (SELECT s.revoked_at FROM source_control.api_key s WHERE s.id = k.id), clock_timestamp())
            WHERE k.revoked_at IS NULL
              AND NOT EXISTS (SELECT 1 FROM source_control.api_key s
                  WHERE s.id = k.id AND s.revoked_at IS NULL AND s.secret_hash = k.secret_hash
                    AND s.tenant IS NOT DISTINCT FROM k.tenant AND s.scopes = k.scopes)
        """,
    ]

    private static let disablings = """
        UPDATE control.tenant t SET disabled_at = coalesce(
                (SELECT s.disabled_at FROM source_control.tenant s WHERE s.id = t.id), clock_timestamp())
            WHERE t.disabled_at IS NULL
              AND NOT EXISTS (SELECT 1 FROM source_control.tenant s WHERE s.id = t.id AND s.disabled_at IS NULL)
        """

    private static let leftOut = """
        SELECT ((SELECT count(*) FROM source_control.credential s WHERE s.revoked_at IS NULL
                    AND NOT EXISTS (SELECT 1 FROM control.credential c WHERE c.id = s.id))
              + (SELECT count(*) FROM source_control.api_key s WHERE s.revoked_at IS NULL
                    AND NOT EXISTS (SELECT 1 FROM control.api_key k WHERE k.id = s.id)))::int
        """

    /// Revokes every credential and API key: nobody knows which were revoked since. Safe to repeat.
    /// - Parameter reissued: a username whose credential is made anew, with another password.
    /// - Returns: how many worked until now.
    public static func revokeAll(
        _ session: PostgresSession, reissued: String
    ) throws -> Int {
        try session.transaction { session in
            var count = 0
            for table in ["credential", "api_key"] {
                count += try Self.count(
                    session,
                    "UPDATE control.\(table) SET revoked_at = clock_timestamp() WHERE revoked_at IS NULL")
            }
            _ = try session.query("DELETE FROM control.credential WHERE username = $1", [.text(reissued)])
            return count
        }.0
    }

    /// Tenants whose deliveries in doubt are held and not sent again.
    public static func heldTenants(_ session: PostgresSession) throws(PostgresError) -> [String] {
        try session.query("SELECT id FROM control.tenant WHERE in_doubt = 'hold'").map {
            row throws(PostgresError) in
            try row.text(0)
        }
    }
}
