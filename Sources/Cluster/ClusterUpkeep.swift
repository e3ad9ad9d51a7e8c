// What a local cluster needs from time to time while it runs: keys made ahead, partitions, sweeps, a heartbeat.

import Foundation
import Ledger
import Logging
import Postgres

/// The periodic work of a supervisor.
struct ClusterUpkeep: Sendable {
    let prepared: PreparedCluster
    let logger: Logger

    /// Works until it is cancelled; a failure is logged and tried again at the next turn.
    func run() async {
        let role = "zegel_admin"
        let pool = PostgresPool(
            configuration: PostgresConfiguration(
                prepared.postgres.conninfo(role: role, password: prepared.passwords[role] ?? ""),
                applicationName: "zegel-upkeep"),
            limit: 1, waitLimit: .seconds(10))
        while !Task.isCancelled {
            // The heartbeat in it is what tells nodes how old their picture of the tenants is (a day is too old).
            do { try await Task.sleep(for: .seconds(300)) } catch { break }
            do {
                _ = try await Maintenance(pool: pool).run()
                if let version = try await KeyEpochs(prepared: prepared).extend(
                    ControlAdministration(pool: pool))
                {
                    logger.info("new key epochs", metadata: ["key_set": "\(version)"])
                }
            } catch {
                logger.warning("upkeep failed; again in five minutes", metadata: ["reason": "\(error)"])
            }
        }
        await pool.close()
    }
}
