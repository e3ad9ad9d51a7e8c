// How the members of a local cluster's ledger are reached.

import Foundation

/// Connection texts to the members of every shard.
struct LedgerSite: Sendable {
    /// The name of the database in each.
    static let database = "zegel"
    /// The superuser role.
    static let superuser = "postgres"

    let plan: ClusterPlan
    let layout: ClusterLayout

    /// One region's member, by its Unix socket: from this machine, whatever is cut between regions.
    func socket(
        _ shard: String, in region: RegionPlan, role: String, password: String,
        database: String = LedgerSite.database
    ) -> String {
        let folder = RegionLayout(layout, plan, region).postgresSockets
            .map { "\\'".contains($0) ? "\\\($0)" : "\($0)" }.joined()
        let port = region.member(shard)?.port ?? 0
        return "host='\(folder)' port=\(port) dbname=\(database) user=\(role) password=\(password)"
    }

    /// A shard as a node in `region` reaches it: the only member by its socket, or all members over TLS, its own region's first.
    /// - Parameter target: libpq's `target_session_attrs`.
    func conninfo(_ shard: String, from region: RegionPlan, role: String, password: String, target: String)
        -> String
    {
        guard plan.isReplicated else { return socket(shard, in: region, role: role, password: password) }
        return topology.conninfo(
            shard, from: region.name, role: role, password: password, target: target,
            authority: layout.authority)
    }

    /// One region's member as a URL, by TCP, for tools.
    func url(_ shard: String, in region: RegionPlan, role: String, password: String) -> String {
        "postgresql://\(role):\(password)@\(region.address):\(region.member(shard)?.port ?? 0)/\(Self.database)"
    }

    /// The Patronis of a shard, those of `region` first; empty where there are none.
    func patronis(_ shard: String, from region: RegionPlan) -> [String] {
        topology.patronis(shard, from: region.name)
    }

    /// The topology that members are configured from.
    var topology: ReplicationTopology {
        ReplicationTopology(
            voters: plan.regions.compactMap { region in
                region.etcd.map {
                    .init(region: region.name, address: region.address, client: $0.client, peer: $0.peer)
                }
            },
            shards: plan.shards.map { shard in
                .init(
                    name: shard.name, home: shard.home,
                    members: plan.sites.compactMap { site in
                        guard let member = site.member(shard.name), let rest = member.rest else { return nil }
                        return .init(
                            region: site.name, address: site.address, port: member.port, rest: rest)
                    })
            })
    }
}
