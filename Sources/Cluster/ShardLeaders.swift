// Who leads the shards of a local cluster, asked of its Patronis with the cluster's own certificate.

import Foundation
import HTTPClient
import Ledger
import NIOPosix

/// An operator's view of a local cluster's shards.
struct ShardLeaders: Sendable {
    private let site: LedgerSite
    private let region: RegionPlan
    let patroni: PatroniClient

    /// - Throws: `state` when the certificates are not there.
    init(_ identity: ClusterIdentity, _ plan: ClusterPlan, from region: RegionPlan) throws(ClusterError) {
        site = LedgerSite(plan: plan, layout: identity.layout)
        self.region = region
        let layout = identity.layout
        let own = identity.operatorIdentity
        let files = FileManager.default
        guard let authority = files.contents(atPath: layout.authority),
            let certificate = files.contents(atPath: own.certificate),
            let key = files.contents(atPath: own.key)
        else { throw ClusterError(.state, "the certificates in \(layout.certificates) cannot be read") }
        do {
            patroni = try PatroniClient(
                authorityPEM: Array(authority),
                identity: HTTPClientIdentity(
                    certificateChainPEM: Array(certificate), privateKeyPEM: Array(key)),
                group: MultiThreadedEventLoopGroup.singleton)
        } catch {
            throw ClusterError(.state, "the certificates in \(layout.certificates) cannot be used: \(error)")
        }
    }

    init(_ prepared: PreparedRegion) throws(ClusterError) {
        try self.init(prepared.identity, prepared.plan, from: prepared.region)
    }

    func shutDown() { patroni.shutDown() }

    /// How a shard stands; nil: no Patroni answers.
    func view(of shard: String) async -> ShardView? {
        try? await patroni.view(of: shard, from: site.patronis(shard, from: region))
    }

    /// The region that leads a shard; nil: none, or nobody knows.
    func leader(of shard: String) async -> String? {
        guard let leader = await view(of: shard)?.leader, leader.isLive else { return nil }
        return leader.region
    }

    /// The Patronis of a shard, those of this region first.
    func urls(_ shard: String) -> [String] { site.patronis(shard, from: region) }
}
