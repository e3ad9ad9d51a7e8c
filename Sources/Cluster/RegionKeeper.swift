// What a region on machines of its own has running beside its members, as a local cluster's supervisor does it: leaders are brought home,
// members that do not come back are made anew, and the shards that it leads are kept in order.

import Ledger
import Logging
import Postgres
import Settings

/// The jobs of one region.
public struct RegionKeeper: Sendable {
    private let ledger: ReplicatedLedger
    private let region: String
    private let databases: DatabaseSettings

    /// The jobs of the region that `settings` are of.
    /// - Parameters:
    ///   - databases: the shards, as `zegel_admin` or their owner.
    ///   - file: where the settings come from, for messages.
    /// - Throws: `usage` for a region without members.
    public init(
        _ settings: ReplicationSettings, databases: DatabaseSettings, file: String
    ) throws(ClusterError) {
        ledger = ReplicatedLedger(settings, file: file)
        region = settings.region
        self.databases = databases
        try ledger.checkSite(region)
    }

    /// Works until cancelled; a failure is logged and tried again at the next turn.
    /// - Throws: `state` when the certificates cannot be used.
    public func run(logger: Logger) async throws(ClusterError) {
        let leaders = try ShardLeaders(ledger)
        defer { leaders.shutDown() }
        await withDiscardingTaskGroup { group in
            group.addTask { await HomeKeeper(ledger: ledger, region: region, logger: logger).run() }
            group.addTask { await MemberKeeper(ledger: ledger, region: region, logger: logger).run() }
            group.addTask {
                while !Task.isCancelled {
                    for shard in databases.shards where await leaders.leader(of: shard.name) == region {
                        await keepHouse(shard, logger)
                    }
                    do { try await Task.sleep(for: ClusterUpkeep.interval) } catch { return }
                }
            }
        }
    }

    private func keepHouse(_ shard: ShardDSN, _ logger: Logger) async {
        let pool = PostgresPool(
            configuration: PostgresConfiguration(shard.dsn, applicationName: "zegel-keeper"), limit: 1,
            waitLimit: .seconds(10))
        do {
            _ = try await Maintenance(pool: pool).run()
        } catch {
            logger.warning(
                "upkeep failed; again in five minutes",
                metadata: ["shard": "\(shard.name)", "reason": "\(error)"])
        }
        await pool.close()
    }
}
