// Brings a shard's schema to the version that these executables know, and tells whether it is there.

import Crypto
import Foundation
import Migrations
import Postgres

/// A schema that these executables cannot work on, in words that say what to run.
public struct SchemaError: Error, Sendable, CustomStringConvertible {
    /// One line.
    public let description: String
}

/// Applies migrations under an advisory lock, checksummed: an edited past or an unknown future is refused.
public struct Migrator: Sendable {
    let migrations: [Migration]

    /// The migrations compiled into this executable.
    public init() { migrations = MigrationCatalog.all }

    /// Other migrations, for tests of the migrator itself.
    public init(_ migrations: [Migration]) { self.migrations = migrations }

    /// Applies what is missing, as the database's owner. Answers the versions applied now.
    public func migrate(_ connection: PostgresConnection) async throws -> [Int32] {
        let migrations = migrations
        return try await connection.perform { session in
            // One number for all of Zegel: "ZEGEL" in ASCII.
            try session.execute("SELECT pg_advisory_lock(x'5a4547454c'::bigint)")
            defer { _ = try? session.execute("SELECT pg_advisory_unlock(x'5a4547454c'::bigint)") }
            try session.execute(
                """
                CREATE SCHEMA IF NOT EXISTS ledger;
                CREATE TABLE IF NOT EXISTS ledger.schema_migration (
                    version int PRIMARY KEY, name text NOT NULL, checksum bytea NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now())
                """)
            let applied = try Self.applied(session)
            try Self.check(applied, against: migrations)
            var now: [Int32] = []
            for migration in migrations where applied[migration.version] == nil {
                let text = String(decoding: migration.sql, as: UTF8.self)
                do {
                    try session.execute("BEGIN")
                    try session.execute(text)
                    _ = try session.query(
                        "INSERT INTO ledger.schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
                        [.int4(migration.version), .text(migration.name), .bytes(Self.checksum(migration))])
                    try session.execute("COMMIT")
                } catch {
                    _ = try? session.execute("ROLLBACK")
                    throw SchemaError(
                        description:
                            "migration \(migration.version) (\(migration.name)) failed, nothing of it stays: \(error)"
                    )
                }
                now.append(migration.version)
            }
            return now
        }
    }

    /// Throws unless the schema is exactly the one that these executables know. For every node's start.
    public func verify(_ connection: PostgresConnection) async throws {
        let migrations = migrations
        try await connection.perform { session in
            let present = try session.query("SELECT to_regclass('ledger.schema_migration') IS NOT NULL")
                .first?.bool(0)
            guard present == true else {
                throw SchemaError(
                    description: "the database has no Zegel schema yet: run `zegel migrate` on its leader")
            }
            let applied = try Self.applied(session)
            try Self.check(applied, against: migrations)
            if let missing = migrations.first(where: { applied[$0.version] == nil }) {
                throw SchemaError(
                    description:
                        "the schema lacks migration \(missing.version) (\(missing.name)): run `zegel migrate`"
                )
            }
        }
    }

    private static func applied(_ session: PostgresSession) throws -> [Int32: [UInt8]] {
        var found: [Int32: [UInt8]] = [:]
        for row in try session.query("SELECT version, checksum FROM ledger.schema_migration") {
            found[try row.int4(0)] = try row.bytes(1)
        }
        return found
    }

    private static func check(_ applied: [Int32: [UInt8]], against migrations: [Migration]) throws {
        for (version, checksum) in applied.sorted(by: { $0.key < $1.key }) {
            guard let known = migrations.first(where: { $0.version == version }) else {
                throw SchemaError(
                    description:
                        "the schema has migration \(version), which this version of Zegel does not know: update Zegel"
                )
            }
            if self.checksum(known) != checksum {
                throw SchemaError(
                    description:
                        "migration \(version) (\(known.name)) is not the one that was applied: its file was edited"
                )
            }
        }
    }

    private static func checksum(_ migration: Migration) -> [UInt8] {
        Array(SHA256.hash(data: migration.sql))
    }
}
