// Migrates every shard that a configuration names.

import Ledger
import Postgres
import Settings

/// A migration of all shards.
public struct SchemaMigration: Sendable {
    /// What was done on one shard.
    public struct Outcome: Sendable, Codable, Equatable {
        /// The shard.
        public var shard: String
        /// The versions that were applied now, in order.
        public var applied: [Int32]
    }

    private let databases: DatabaseSettings

    /// A migration of the shards in `databases`, as their owner.
    public init(_ databases: DatabaseSettings) { self.databases = databases }

    /// Migrates one after the other; the first that fails ends it.
    public func run() async throws -> [Outcome] {
        var outcomes: [Outcome] = []
        for shard in databases.shards {
            let connection = try await PostgresConnection.connect(
                PostgresConfiguration(shard.dsn, applicationName: "zegel-migrate"))
            do {
                outcomes.append(Outcome(shard: shard.name, applied: try await Migrator().migrate(connection)))
            } catch {
                await connection.close()
                throw error
            }
            await connection.close()
        }
        return outcomes
    }
}
