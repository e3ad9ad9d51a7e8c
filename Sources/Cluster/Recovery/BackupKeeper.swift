// Makes a region's backups when they are due, and says in its log when the archive does not follow.

import Foundation
import Ledger
import Logging
import Postgres

/// The backups of the shards that a region leads.
struct BackupKeeper: Sendable {
    /// Between marks.
    static let interval = Duration.seconds(10)
    /// Between looks at the repository.
    static let lookInterval = Duration.seconds(60)

    let prepared: PreparedRegion
    let logger: Logger

    /// Works until cancelled; what fails is logged and tried again at the next turn. A backup may take hours: marks do not wait for it.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await each(Self.interval) { shard, _ in await mark(shard) } }
            group.addTask {
                await each(Self.lookInterval) { shard, recovery in
                    do { try await keep(shard, recovery) } catch {
                        logger.warning(
                            "recovery points are not kept; again in a minute",
                            metadata: ["shard": "\(shard.name)", "reason": "\(error)"])
                    }
                }
            }
        }
    }

    /// Does something now and then with each shard that the region leads, once recovery is switched on.
    private func each(
        _ interval: Duration, _ body: (ShardPlan, ClusterRecovery) async -> Void
    ) async {
        let files = RecoveryLayout(cluster: prepared.layout.cluster)
        while !Task.isCancelled {
            do { try await Task.sleep(for: interval) } catch { return }
            guard FileManager.default.fileExists(atPath: files.plan),
                let recovery = try? await ClusterRecovery(
                    directory: prepared.layout.cluster.directory, executables: prepared.executables)
            else { continue }
            for shard in prepared.plan.shards
            where await recovery.leader(of: shard) == prepared.region.name {
                await body(shard, recovery)
            }
        }
    }

    /// A moment can be restored only when something was committed after it: a shard that nobody uses is written to all the same.
    private func mark(_ shard: ShardPlan) async {
        let role = "zegel_admin"
        let configuration = PostgresConfiguration(
            prepared.site.socket(
                shard.name, in: prepared.region, role: role, password: prepared.identity.password(role)),
            applicationName: "zegel-recovery", connectTimeout: .seconds(2))
        do {
            let connection = try await PostgresConnection.connect(configuration)
            do {
                try await connection.perform(deadline: .seconds(5)) { try LedgerDatabase.mark($0) }
            } catch { logger.debug("no mark", metadata: ["shard": "\(shard.name)", "reason": "\(error)"]) }
            await connection.close()
        } catch {
            logger.debug("no mark", metadata: ["shard": "\(shard.name)", "reason": "\(error)"])
        }
    }

    private func keep(_ shard: ShardPlan, _ recovery: ClusterRecovery) async throws(ClusterError) {
        let repository = try BackupRepository(recovery.layout, recovery.programs)
        let found = try await recovery.points(shard, repository)
        for trouble in found.points.troubles {
            logger.warning(
                "recovery points", metadata: ["shard": "\(shard.name)", "trouble": "\(trouble)"])
        }
        guard found.information.trouble == nil,
            let due = BackupSchedule.due(
                found.information.backups, timeline: found.archive?.timelines.newest ?? 1, now: Date())
        else { return }
        logger.info("backing up", metadata: ["shard": "\(shard.name)", "kind": "\(due)"])
        try await repository.backUp(
            shard.name, recovery.source(shard), full: due == .full)
    }
}
