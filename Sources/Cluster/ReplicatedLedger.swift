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

        /// What makes the member of a shard in a region anew.
        func remake(_ shard: String, in region: String) -> String {
            let arguments = "reinit zegel-\(shard) \(region)"
            switch self {
            case .local(let directory):
                return "patronictl -c \(directory)/regions/\(region)/\(shard)/patroni.yaml \(arguments)"
            case .machines:
                return "in \(region): patronictl -c /etc/zegel/postgres/\(shard).yaml \(arguments)"
            }
        }
    }

    /// The shards, the control shard first.
    var shards: [ShardPlan]
    /// The regions that hold a member of each.
    var sites: [String]
    /// By shard.
    var patronis: [String: [String]]
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
        authority = identity.layout.authority
        self.identity = identity.operatorIdentity
        place = .local(identity.layout.directory)
    }

    /// That of a settings file.
    init(_ settings: ReplicationSettings, file: String) {
        shards = settings.shards.map { ShardPlan(name: $0.name, home: $0.home) }
        sites = settings.regions
        patronis = Dictionary(settings.shards.map { ($0.name, $0.patronis) }) { first, _ in first }
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
