// Where everything of a local cluster lies inside its folder.

import Crypto
import Foundation

/// The files of one local cluster.
///
/// Unix socket names have at most 107 bytes, and a cluster may lie deep: then its sockets lie in `/tmp/zegel-<hash>`.
public struct ClusterLayout: Sendable, Equatable {
    /// The cluster's folder, absolute.
    public let directory: String

    /// The cluster in `directory`, which need not exist yet.
    public init(directory: String) {
        let absolute =
            directory.hasPrefix("/")
            ? directory : FileManager.default.currentDirectoryPath + "/" + directory
        var path = (absolute as NSString).standardizingPath
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        self.directory = path
    }

    /// What is remembered: ports, counts, settings.
    public var plan: String { directory + "/cluster.json" }
    /// What tools read: where everything listens, and its process ids.
    public var endpoints: String { directory + "/endpoints.json" }
    /// The nodes' settings.
    public var config: String { directory + "/config" }
    /// Passwords, the API key, the root key.
    public var secrets: String { directory + "/secrets" }
    /// The local authority and the nodes' certificates.
    public var certificates: String { directory + "/certificates" }
    /// The authority's certificate, which clients trust.
    public var authority: String { certificates + "/ca.pem" }
    /// What the processes print.
    public var logs: String { directory + "/logs" }
    /// Held by whoever makes the plan and starts a supervisor.
    public var startLock: String { directory + "/start.lock" }

    /// The folder of the sockets.
    public var sockets: String {
        let inside = directory + "/sockets"
        // The longest name below it is postgres-witness/.s.PGSQL.65535.lock, which PostgreSQL makes beside its socket.
        if inside.utf8.count + 38 <= 107 { return inside }
        let digest = SHA256.hash(data: Array(directory.utf8)).prefix(8)
        return "/tmp/zegel-" + digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
    /// The settings of a node.
    public func configuration(of node: String) -> String { config + "/\(node).yaml" }
    /// The log of a node.
    public func log(of node: String) -> String { logs + "/\(node).log" }
    /// The password of a database role.
    public func password(of role: String) -> String { secrets + "/\(role).password" }
}

/// What a process of the cluster does.
public enum NodeRole: String, Sendable, Codable, CaseIterable {
    /// Takes mail in.
    case edge
    /// Judges and delivers.
    case worker
    /// Shows.
    case api
    /// Opens keys for those that may.
    case keyring
    /// The database.
    case postgres
    /// Keeps a member of a shard in its place: leader, or following one.
    case patroni
    /// Votes on who leads.
    case etcd
    /// Ends a PostgreSQL whose Patroni is stuck.
    case `guard`
    /// Runs the others.
    case supervisor
}
