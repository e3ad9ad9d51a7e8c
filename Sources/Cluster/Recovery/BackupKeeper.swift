// Makes a region's backups when they are due, and says in its log when the archive does not follow.

import Foundation
import Logging

/// The backups of the shards that a region leads.
struct BackupKeeper: Sendable {
    /// Between looks.
    static let interval = Duration.seconds(60)

    let prepared: PreparedRegion
    let logger: Logger

    /// Works until cancelled; what fails is logged and tried again at the next turn.
    func run() async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.interval) } catch { return }
            let directory = prepared.layout.cluster.directory
            let files = RecoveryLayout(cluster: prepared.layout.cluster)
            guard FileManager.default.fileExists(atPath: files.plan) else { continue }
            do {
                let recovery = try await ClusterRecovery(
                    directory: directory, executables: prepared.executables)
                for shard in prepared.plan.shards
                where await recovery.leader(of: shard) == prepared.region.name {
                    try await keep(shard, recovery)
                }
            } catch {
                logger.warning("backups are not kept; again in a minute", metadata: ["reason": "\(error)"])
            }
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
            let due = BackupSchedule.due(found.information.backups, now: Date())
        else { return }
        logger.info("backing up", metadata: ["shard": "\(shard.name)", "kind": "\(due)"])
        try await repository.backUp(
            shard.name, recovery.source(shard), full: due == .full)
    }
}
