// When a backup is due.

import Foundation

/// Full backups once a week, incremental ones once a day. A value without I/O.
enum BackupSchedule {
    /// What is due.
    enum Kind: Sendable, Equatable { case full, incremental }

    /// Whether a backup of a shard is due, and which kind; nil: none.
    /// - Parameters:
    ///   - backups: what there is.
    ///   - timeline: the newest in the archive. What a leader that was lost had not archived yet may be in no archive for ever: a backup of
    ///     the next one stands behind that.
    static func due(_ backups: [RepositoryInformation.Backup], timeline: UInt32, now: Date) -> Kind? {
        func isOlder(_ moment: Date?, than interval: Duration) -> Bool {
            guard let moment else { return true }
            return now.timeIntervalSince(moment) >= TimeInterval(interval.components.seconds)
        }
        // By their beginnings, so that one that takes long does not put all later ones off.
        if isOlder(backups.filter(\.isFull).map(\.began).max(), than: RecoveryPlan.fullInterval) {
            return .full
        }
        if isOlder(backups.map(\.began).max(), than: RecoveryPlan.interval) { return .incremental }
        if let last = backups.last, last.lastSegment.timeline < timeline { return .incremental }
        return nil
    }
}
