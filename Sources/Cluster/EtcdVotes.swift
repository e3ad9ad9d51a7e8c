// Whether etcd has its quorum: without it nobody may lead that does not lead already, and no planned change can be written down.

import Foundation
import Ledger

/// What the voters of a cluster answered, and what its Patronis say of them.
struct EtcdVotes: Sendable, Equatable {
    /// How long ago a Patroni may have reached etcd for its word to count: it looks every 5 s.
    static let freshness: TimeInterval = 12

    /// By region; empty: nobody told where they are.
    var voters: [String: EtcdClient.Health]
    /// Whether a Patroni reached etcd lately; asked only where no voter answers here.
    var isReached: Bool
    /// The cluster, for the commands.
    let place: ReplicatedLedger.Place

    /// Voters that must agree.
    private var majority: Int { voters.count / 2 + 1 }
    /// Those that do not answer.
    var silent: [String] { voters.filter { $0.value == .silent }.keys.sorted() }
    /// Whether this machine reaches none of them: it may be that it is not let in, so only the Patronis' word counts.
    private var isShutOut: Bool { silent.count == voters.count }

    /// Whether a majority agrees.
    ///
    /// A Patroni counts what one lone voter answers as reaching etcd: so a voter that this machine reaches knows better.
    var hasQuorum: Bool { voters.values.contains(.voting) || (isShutOut && isReached) }

    /// In words; nil: all is well.
    var trouble: String? {
        let silent = silent
        let mend = silent.map(place.startVoter).joined(separator: "; ")
        let names = silent.joined(separator: ", ")
        let follows =
            "A leader goes on while its members answer, nobody takes over, and nothing can be handed over"
        if hasQuorum {
            guard !isShutOut, !silent.isEmpty else { return nil }
            return "etcd of \(names) does not answer: "
                + (voters.count - silent.count == majority ? "one more lost, and nobody takes over: " : "")
                + mend
        }
        if voters.isEmpty { return "no Patroni reaches etcd: it has no quorum. \(follows)" }
        let alarms = Set(
            voters.values.compactMap { health -> String? in
                if case .alarmed(let words) = health { words } else { nil }
            })
        if let alarm = alarms.sorted().first {
            return
                "etcd takes nothing in: it says \(alarm). \(follows): etcdctl alarm list, and the disks of its machines"
        }
        if silent.isEmpty {
            return
                "etcd has no quorum: its \(voters.count) voters answer, and do not agree on who leads them: look again in a "
                + "few seconds; if it stays so, the lines between the regions are cut"
        }
        return
            "etcd has no quorum: \(voters.count - silent.count) of \(voters.count) voters answer, \(majority) are needed; "
            + "silent: \(names). \(follows): \(mend)"
    }

    /// - Throws: `state` when there is no quorum, with what to do.
    func demandQuorum() throws(ClusterError) {
        guard !hasQuorum, let trouble else { return }
        throw ClusterError(.state, trouble)
    }
}

extension ShardLeaders {
    /// How etcd stands.
    func votes() async -> EtcdVotes {
        let voters = await voters()
        let isReached = voters.values.allSatisfy { $0 == .silent } ? await isReached() : false
        return EtcdVotes(voters: voters, isReached: isReached, place: ledger.place)
    }

    private func isReached() async -> Bool {
        let reports = await withTaskGroup(of: [MemberReport].self) { group in
            for shard in ledger.shards { group.addTask { await patroni.reports(from: urls(shard.name)) } }
            var all: [MemberReport] = []
            for await some in group { all += some }
            return all
        }
        let now = Date()
        return reports.contains { report in
            report.consensusSeen.map { now.timeIntervalSince($0) < EtcdVotes.freshness } ?? false
        }
    }

    private func voters() async -> [String: EtcdClient.Health] {
        await withTaskGroup(of: (String, EtcdClient.Health).self) { group in
            for (region, url) in ledger.voters { group.addTask { (region, await etcd.health(at: url)) } }
            var voters: [String: EtcdClient.Health] = [:]
            for await (region, health) in group { voters[region] = health }
            return voters
        }
    }
}
