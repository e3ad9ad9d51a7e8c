// A replicated ledger as its Patronis know it: what operators' commands and the job that brings leaders home work with, whether the
// cluster is a local one or has machines of its own.

import Foundation
import Ledger
import Settings

/// The shards of a ledger, where their Patronis are, and how to ask them.
struct ReplicatedLedger: Sendable {
    /// Where the cluster is, for the commands that are named to whoever reads a message.
    enum Place: Sendable, Equatable {
        /// `zegel local`, in this folder.
        case local(String)
        /// Machines of its own, described by this settings file.
        case machines(String)

        /// How a command names it.
        var option: String {
            switch self {
            case .local(let directory): "--dir \(directory)"
            case .machines(let file): "--config \(file)"
            }
        }

        /// What brings the member of a shard in a region back.
        func start(_ shard: String, in region: String) -> String {
            switch self {
            case .local: "zegel local start --region \(region) \(option)"
            case .machines: "in \(region): systemctl start zegel-patroni-\(shard)"
            }
        }

        /// What starts all of them.
        func startAll(_ shard: String) -> String {
            switch self {
            case .local: "zegel local up \(option)"
            case .machines: "on its machines: systemctl status zegel-etcd zegel-patroni-\(shard)"
            }
        }

        /// What brings a region's etcd back.
        func startVoter(in region: String) -> String {
            switch self {
            case .local: "zegel local start --region \(region) \(option)"
            case .machines: "in \(region): systemctl start zegel-etcd"
            }
        }

        /// What tells how a region's processes are.
        func look(_ shard: String, in region: String) -> String {
            switch self {
            case .local: "zegel local status \(option)"
            case .machines: "in \(region): systemctl status zegel-patroni-\(shard) zegel-guard-\(shard)"
            }
        }

        /// What lets Patroni work again that somebody has paused.
        func resume(_ shard: ShardPlan) -> String {
            switch self {
            case .local(let directory):
                "patronictl -c \(directory)/regions/\(shard.home)/\(shard.name)/patroni.yaml resume zegel-\(shard.name)"
            case .machines:
                "in \(shard.home): patronictl -c /etc/zegel/postgres/\(shard.name).yaml resume zegel-\(shard.name)"
            }
        }

        /// `zegel shard WHAT` of one member.
        func mend(_ what: String, _ shard: String, in region: String) -> String {
            "zegel shard \(what) \(shard) --region \(region) \(option)"
        }

        /// A planned change of leader.
        func switchover(_ shard: String, to region: String? = nil) -> String {
            "zegel shard switchover \(shard)\(region.map { " --to \($0)" } ?? "") \(option)"
        }
    }

    /// The shards, the control shard first.
    var shards: [ShardPlan]
    /// The regions that hold a member of each.
    var sites: [String]
    /// By shard.
    var patronis: [String: [String]]
    /// Each region's etcd; none: not told.
    var voters: [String: String]
    /// How the superuser reaches all members of each shard, if that is told. Secret.
    var owner: [String: String]
    /// PEM file: who may vouch for the Patronis.
    var authority: String
    /// Who asks.
    var identity: LocalAuthority.Identity
    /// Where the cluster is.
    var place: Place

    /// That of a local cluster, as seen from one of its regions.
    init(_ identity: ClusterIdentity, _ plan: ClusterPlan, from region: RegionPlan) {
        let site = LedgerSite(plan: plan, layout: identity.layout)
        shards = plan.shards
        sites = plan.sites.map(\.name)
        patronis = Dictionary(
            uniqueKeysWithValues: plan.shards.map { ($0.name, site.patronis($0.name, from: region)) })
        voters = Dictionary(uniqueKeysWithValues: site.topology.voters.map { ($0.region, $0.url) })
        owner = Dictionary(
            uniqueKeysWithValues: plan.shards.map { shard in
                let password = identity.password(LedgerSite.superuser)
                return (
                    shard.name,
                    site.conninfo(
                        shard.name, from: region, role: LedgerSite.superuser, password: password,
                        target: "any")
                )
            })
        authority = identity.layout.authority
        self.identity = identity.operatorIdentity
        place = .local(identity.layout.directory)
    }

    /// That of a settings file.
    /// - Parameter databases: how its databases are reached, if that is told.
    init(_ settings: ReplicationSettings, databases: DatabaseSettings? = nil, file: String) {
        shards = settings.shards.map { ShardPlan(name: $0.name, home: $0.home) }
        sites = settings.regions
        patronis = Dictionary(settings.shards.map { ($0.name, $0.patronis) }) { first, _ in first }
        voters = Dictionary(settings.voters.map { ($0.region, $0.url) }) { first, _ in first }
        owner = Dictionary(databases?.shards.map { ($0.name, $0.dsn) } ?? []) { first, _ in first }
        authority = settings.authority
        identity = LocalAuthority.Identity(
            certificate: settings.identity.certificate, key: settings.identity.key)
        place = .machines(file)
    }

    /// The shard called `name`.
    /// - Throws: `usage` when there is none.
    func shard(_ name: String) throws(ClusterError) -> ShardPlan {
        guard let shard = shards.first(where: { $0.name == name }) else {
            let names = shards.map(\.name).joined(separator: ", ")
            throw ClusterError(.usage, "there is no shard \(name); there are \(names)")
        }
        return shard
    }

    /// Makes sure that a region holds members.
    /// - Throws: `usage` when it does not.
    func checkSite(_ name: String) throws(ClusterError) {
        guard sites.contains(name) else {
            throw ClusterError(
                .usage, "there is no region \(name) with data; there are \(sites.joined(separator: ", "))")
        }
    }
}
