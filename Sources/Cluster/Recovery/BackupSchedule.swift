// When a backup is due.

import Foundation

/// Full backups once a week, incremental ones once a day. A value without I/O.
enum BackupSchedule {
    /// What is due.
    enum Kind: Sendable, Equatable { case full, incremental }

    /// Whether a backup of a shard is due, and which kind; nil: none.
    /// - Parameter backups: what there is.
    static func due(_ backups: [RepositoryInformation.Backup], now: Date) -> Kind? {
        func isOlder(_ moment: Date?, than interval: Duration) -> Bool {
            guard let moment else { return true }
            return now.timeIntervalSince(moment) >= TimeInterval(interval.components.seconds)
        }
        // By their beginnings, so that one that takes long does not put all later ones off.
        if isOlder(backups.filter(\.isFull).map(\.began).max(), than: RecoveryPlan.fullInterval) {
            return .full
        }
        if isOlder(backups.map(\.began).max(), than: RecoveryPlan.interval) { return .incremental }
        return nil
    }
}
