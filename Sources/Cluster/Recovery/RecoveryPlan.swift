// What recovery points a cluster was told to keep, remembered in its folder.

import Foundation

/// How a cluster's recovery points are kept.
public struct RecoveryPlan: Sendable, Codable, Equatable {
    /// The version of this file's shape that is written.
    static let format = 1
    /// Between full backups.
    static let fullInterval = Duration.seconds(7 * 86_400)
    /// Between backups of any kind.
    static let interval = Duration.seconds(86_400)
    /// An idle leader ends a WAL segment after so long: what is newer is in no archive.
    static let archiveTimeout = Duration.seconds(30)

    /// The version of this file's shape.
    var format = RecoveryPlan.format
    /// pgBackRest's repository: an absolute path.
    public var repository: String
    /// How far back any second can be restored, in days.
    public var retentionDays: Int

    /// Recovery points in `repository`.
    /// - Throws: `usage` for days that nobody can mean.
    public init(repository: String, retentionDays: Int = 35) throws(ClusterError) {
        guard (1...3650).contains(retentionDays) else {
            throw ClusterError(.usage, "--retention \(retentionDays): between 1 and 3650 days")
        }
        self.repository = repository
        self.retentionDays = retentionDays
    }

    /// The plan kept at `path`; nil: none.
    public static func load(_ path: String) throws(ClusterError) -> RecoveryPlan? {
        guard let bytes = try ClusterFiles.read(path) else { return nil }
        guard let plan = try? JSONDecoder().decode(RecoveryPlan.self, from: Data(bytes)),
            plan.format == format
        else { throw ClusterError(.state, "\(path) is not a recovery plan of this version") }
        return plan
    }

    /// Keeps the plan at `path`.
    func save(_ path: String) throws(ClusterError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else {
            throw ClusterError(.state, "cannot encode the recovery plan")
        }
        try ClusterFiles.write(Array(data) + [0x0A], to: path)
    }
}
