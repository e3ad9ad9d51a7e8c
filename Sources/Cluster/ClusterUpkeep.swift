// What a local cluster needs from time to time while it runs: keys made ahead, partitions, sweeps, a heartbeat, leaders at home.

import Foundation
import Ledger
import Logging
import Postgres

/// The periodic work of a region's supervisor: for the shards that its region leads.
struct ClusterUpkeep: Sendable {
    /// Between rounds.
    static let interval = Duration.seconds(300)

    let prepared: PreparedRegion
    let logger: Logger

    /// Works until it is cancelled; a failure is logged and tried again at the next turn.
    func run() async {
        while !Task.isCancelled {
            // The heartbeat in it is what tells nodes how old their picture of the tenants is (a day is too old).
            do { try await Task.sleep(for: Self.interval) } catch { break }
            for member in prepared.region.members { await round(member.shard) }
        }
    }

    private func round(_ shard: String) async {
        let role = "zegel_admin"
        let pool = PostgresPool(
            configuration: PostgresConfiguration(
                prepared.site.socket(
                    shard, in: prepared.region, role: role, password: prepared.identity.password(role)),
                applicationName: "zegel-upkeep"),
            limit: 1, waitLimit: .seconds(10))
        do {
            if try await pool.withConnection({ connection in
                try await connection.perform { try LedgerDatabase.leads($0) }
            }) {
                _ = try await Maintenance(pool: pool).run()
                if shard == prepared.plan.shards.first?.name,
                    let version = try await KeyEpochs(identity: prepared.identity, plan: prepared.plan)
                        .extend(ControlAdministration(pool: pool))
                {
                    logger.info("new key epochs", metadata: ["key_set": "\(version)"])
                }
            }
        } catch {
            logger.warning(
                "upkeep failed; again in five minutes",
                metadata: ["shard": "\(shard)", "reason": "\(error)"])
        }
        await pool.close()
    }
}
