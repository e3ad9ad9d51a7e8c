// What a cluster was restored from and how far that has come, remembered in its folder: a step that was broken off is done again, one
// that is over is not.

import Foundation

/// The state of a restored cluster.
public struct RestoreState: Sendable, Codable, Equatable {
    /// How far it is. Mail moves only after the last.
    public enum Stage: String, Sendable, Codable {
        /// Shards are being copied and recovered.
        case restoring
        /// All shards are as they were at the moment; what happened to their mail since is not known here.
        case restored
        /// What happened since was told.
        case reconciled
        /// It is a cluster like any other.
        case promoted
    }

    /// One shard.
    public struct Shard: Sendable, Codable, Equatable {
        /// Its name.
        public var name: String
        /// The backup that it is made from.
        public var set: String
        /// The timeline that recovery follows.
        public var timeline: UInt32
        /// PostgreSQL's number of the cluster: nothing of another one is taken over.
        public var system: UInt64
        /// Octets that the backup holds.
        public var size: Int
        /// Whether it stands as it was at the moment.
        public var isDone = false
        /// Its incarnation since; nil: not done yet.
        public var incarnation: UUID?
        /// Seconds that it took.
        public var seconds: Double?
        /// How the mail stood at the member that told for certain what happened since; nil: none did.
        public var told: String?
    }

    /// The version of this file's shape that is written.
    static let format = 1

    var format = RestoreState.format
    /// The folder of the cluster that it was restored from.
    public var source: String
    /// The moment.
    public var moment: Date
    /// How far it is.
    public var stage: Stage
    /// The shards.
    public var shards: [Shard]
    /// The first shard, where it is not among these: tenants and credentials are taken from it; nil: it is one of these.
    public var control: Shard?
    /// Whether a drill made it, and may remove it; nil: it did not.
    public var isDrill: Bool?
    /// The folder of the cluster whose members told what happened since; nil: none did.
    public var asked: String?
    /// Whether somebody told which credentials were revoked since; nil: nobody.
    public var isControlTold: Bool?

    /// The state kept at `path`; nil: the cluster was not restored.
    static func load(_ path: String) throws(ClusterError) -> RestoreState? {
        guard let bytes = try ClusterFiles.read(path) else { return nil }
        guard let state = try? JSONDecoder().decode(RestoreState.self, from: Data(bytes)),
            state.format == format
        else { throw ClusterError(.state, "\(path) is not of this version") }
        return state
    }

    /// Keeps the state at `path`.
    func save(_ path: String) throws(ClusterError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else {
            throw ClusterError(.state, "cannot encode the state of the restore")
        }
        try ClusterFiles.write(Array(data) + [0x0A], to: path)
    }

    /// Refuses to start nodes on what is not promoted.
    static func demandPromoted(_ layout: ClusterLayout) throws(ClusterError) {
        guard let state = try load(RecoveryLayout(cluster: layout).restore), state.stage != .promoted else {
            return
        }
        let option = "--dir \(layout.directory)"
        let next =
            switch state.stage {
            case .restoring: "the restore is not over: give zegel recovery restore again"
            case .restored: "next: zegel recovery reconcile \(option), then zegel recovery promote \(option)"
            case .reconciled, .promoted: "next: zegel recovery promote \(option)"
            }
        throw ClusterError(
            .state,
            "the cluster in \(layout.directory) was restored and does not deliver before it is promoted; \(next)"
        )
    }
}
