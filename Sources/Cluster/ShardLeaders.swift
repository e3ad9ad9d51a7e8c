// Who leads the shards of a ledger, asked of its Patronis with the operator's own certificate.

import Foundation
import Ledger

/// An operator's view of the shards.
struct ShardLeaders: Sendable {
    let ledger: ReplicatedLedger
    let patroni: PatroniClient
    let etcd: EtcdClient

    /// - Throws: `state` when the certificates are not there.
    init(_ ledger: ReplicatedLedger) throws(ClusterError) {
        self.ledger = ledger
        let own = ledger.identity
        let http = try MemberHTTP(
            MemberIdentity(certificate: own.certificate, key: own.key, authority: ledger.authority),
            orElse: .state)
        patroni = PatroniClient(http)
        etcd = EtcdClient(http)
    }

    func shutDown() { patroni.shutDown() }

    /// How a shard stands; nil: no Patroni answers.
    func view(of shard: String) async -> ShardView? {
        try? await patroni.view(of: shard, from: urls(shard))
    }

    /// The region that leads a shard; nil: none, or nobody knows.
    func leader(of shard: String) async -> String? {
        await view(of: shard)?.liveLeader?.region
    }

    /// The Patronis of a shard, the nearest first.
    func urls(_ shard: String) -> [String] { ledger.patronis[shard] ?? [] }

    /// How a shard stands, to etcd and to its members themselves. Where somebody is behind, a second look a second later tells who stands
    /// still.
    func standing(of shard: String) async -> (view: ShardView?, standing: ShardStanding) {
        let known = Set(ledger.sites)
        let first = await patroni.standing(of: shard, from: urls(shard), known: known)
        guard first.standing.isSomebodyBehind else { return first }
        try? await Task.sleep(for: .seconds(1))
        var second = await patroni.standing(of: shard, from: urls(shard), known: known)
        second.standing.compare(with: first.standing)
        return second
    }
}
