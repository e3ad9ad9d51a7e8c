// The first content of every shard on machines of its own: database, schema, passwords of the nodes' roles.

import Ledger
import Postgres
import Settings

/// Prepares the shards that a configuration names.
public struct LedgerSetup: Sendable {
    private let databases: DatabaseSettings
    private let passwords: [String: String]

    /// The shards of `databases`, reached as their owner.
    /// - Parameter folder: holds `ROLE.password` for each role of the nodes.
    /// - Throws: `configuration` when one of them is not there, or a shard is named by a URL.
    public init(_ databases: DatabaseSettings, passwords folder: String) throws(ClusterError) {
        var passwords: [String: String] = [:]
        for role in ClusterIdentity.roles {
            let path = "\(folder)/\(role).password"
            guard let password = try ClusterFiles.text(path), !password.isEmpty else {
                throw ClusterError(
                    .configuration, "shard.password_dir: \(path) is not there: zegel region init writes it")
            }
            passwords[role] = password
        }
        for shard in databases.shards where shard.dsn.contains("://") {
            throw ClusterError(
                .configuration,
                "shard.dsns: shard \(shard.name) is named by a URL; write it as host=… port=… dbname=…")
        }
        self.passwords = passwords
        self.databases = databases
    }

    /// Prepares one after the other; the first that fails ends it.
    public func run() async throws(ClusterError) -> [SchemaMigration.Outcome] {
        var outcomes: [SchemaMigration.Outcome] = []
        for shard in databases.shards {
            let preparation = ShardPreparation(
                shard: shard.name, isReplicated: !databases.patroni.isEmpty, passwords: passwords,
                // Of two words of libpq's the later one counts.
                owner: { database in
                    PostgresConfiguration(
                        "\(shard.dsn) dbname=\(database)", applicationName: "zegel-setup")
                })
            outcomes.append(SchemaMigration.Outcome(shard: shard.name, applied: try await preparation.run()))
        }
        return outcomes
    }
}
