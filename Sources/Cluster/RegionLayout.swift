// Where everything of one region lies inside a local cluster's folder.

/// The files of one region. A cluster of one region keeps them at the top of its folder, as it always did.
public struct RegionLayout: Sendable, Equatable {
    /// The whole cluster's.
    public let cluster: ClusterLayout
    /// The region's name.
    public let region: String
    private let isReplicated: Bool
    private let keyrings: String

    /// The files of `region` in the cluster of `plan`.
    public init(_ cluster: ClusterLayout, _ plan: ClusterPlan, _ region: RegionPlan) {
        self.cluster = cluster
        self.region = region.name
        self.isReplicated = plan.isReplicated
        keyrings = plan.keyring ?? cluster.directory + "/keyring"
    }

    /// The region's folder.
    public var folder: String {
        isReplicated ? cluster.directory + "/regions/" + region : cluster.directory
    }
    /// The folder of its member of a shard: PostgreSQL's data, and in a replicated cluster what Patroni is told.
    public func member(_ shard: String) -> String { folder + "/" + shard }
    /// PostgreSQL's data of a shard.
    public func data(_ shard: String) -> String {
        if isReplicated { return member(shard) + "/data" }
        return cluster.directory + (shard == "a" ? "/postgres" : "/postgres-\(shard)")
    }
    /// The folder of PostgreSQL's sockets.
    public var postgresSockets: String {
        cluster.sockets + (isReplicated ? "/postgres-\(region)" : "/postgres")
    }
    /// The keyring's private keys.
    public var keyring: String { keyrings + (isReplicated ? "/\(region)" : "") }
    /// The keyring's socket for `role`.
    public func keyringSocket(_ role: NodeRole) -> String {
        cluster.sockets + "/keyring-" + (isReplicated ? "\(region)-" : "") + "\(role.rawValue).sock"
    }
    /// Held by the region's supervisor while it lives; contains its process id.
    public var lock: String { folder + "/supervisor.lock" }
    /// The region's process ids, for `endpoints.json`.
    public var processes: String { folder + "/processes.json" }
    /// The name of a log or settings file that is the region's own: `postgres`, or `r1-patroni-a`.
    public func name(_ what: String) -> String { isReplicated ? "\(region)-\(what)" : what }
    /// What etcd keeps.
    public var etcd: String { folder + "/etcd" }
    /// What etcd is told.
    public var etcdConfiguration: String { folder + "/etcd.yaml" }
    /// What Patroni is told of a member.
    public func patroniConfiguration(_ shard: String) -> String { member(shard) + "/patroni.yaml" }
}
