// Who can tell what happened to a restored shard's mail.

import Foundation
import Ledger
import Postgres

/// Somebody who knows what happened to a shard's mail.
struct HistorySource: Sendable {
    /// For people.
    var name: String
    /// Where it is.
    var link: SourceLink
    /// How it stands.
    var standing: RestoredLedger.Source
    /// Whether nothing can have happened behind it.
    var isFinal: Bool
}

/// The cluster that a restore comes from, as far as it lives.
struct OldCluster: Sendable {
    let cluster: LocalCluster
    let plan: ClusterPlan
    private let password: String

    init(_ directory: String) async throws(ClusterError) {
        cluster = try LocalCluster(directory: directory)
        guard let plan = try ClusterPlan.load(cluster.layout.plan) else {
            throw ClusterError(.usage, "--from \(directory): there is no local cluster")
        }
        self.plan = plan
        password = try ClusterFiles.text(cluster.layout.password(of: LedgerSite.superuser)) ?? ""
    }

    private func connect(_ shard: String, in region: RegionPlan) async -> PostgresConnection? {
        let site = LedgerSite(plan: plan, layout: cluster.layout)
        return try? await PostgresConnection.connect(
            PostgresConfiguration(
                site.socket(shard, in: region, role: LedgerSite.superuser, password: password),
                applicationName: "zegel-recovery", connectTimeout: .seconds(3)))
    }

    /// Its members that answer, with how they stand.
    /// - Throws: `state` when one lets us in and does not say how it stands, and no other does.
    private func members(_ shard: RestoreState.Shard) async throws(ClusterError) -> [HistorySource] {
        var found: [HistorySource] = []
        var trouble: String?
        for region in plan.sites {
            guard let member = region.member(shard.name),
                let connection = await connect(shard.name, in: region)
            else { continue }
            let name = "the member of shard \(shard.name) in \(region.name) of \(cluster.layout.directory)"
            do {
                let standing = try await connection.perform(deadline: .seconds(600)) {
                    try RestoredLedger.source($0)
                }
                let link = SourceLink(
                    sockets: RegionLayout(cluster.layout, plan, region).postgresSockets, port: member.port,
                    database: LedgerSite.database, role: LedgerSite.superuser)
                found.append(HistorySource(name: name, link: link, standing: standing, isFinal: false))
            } catch {
                trouble = "\(name) does not say how it stands: \(error)"
            }
            await connection.close()
        }
        if found.isEmpty, let trouble { throw ClusterError(.state, trouble) }
        return found
    }

    /// Whether a member of a shard lets anybody in.
    func isThere(_ shard: RestoreState.Shard) async -> Bool {
        for region in plan.sites where region.member(shard.name) != nil {
            if let connection = await connect(shard.name, in: region) {
                await connection.close()
                return true
            }
        }
        return false
    }

    /// The member of a shard that knows most: of the newest timeline the one that leads, else the one that has most.
    /// - Parameter mayWork: also while workers and edges go on: what it tells is old a moment later.
    /// - Throws: `state` when none lives, or when workers go on delivering from one.
    func member(
        _ shard: RestoreState.Shard, mayWork: Bool = false
    ) async throws(ClusterError) -> HistorySource {
        let all = try await members(shard)
        func rank(_ source: HistorySource) -> (Int, Int, Date) {
            let standing = source.standing
            return (standing.timeline, standing.follows ? 0 : 1, standing.newest ?? .distantPast)
        }
        guard var best = all.max(by: { rank($0) < rank($1) }) else {
            throw ClusterError(
                .state,
                "no member of shard \(shard.name) in \(cluster.layout.directory) answers: start one (zegel local up --dir "
                    + "\(cluster.layout.directory) --workers 0 --edges 0), or ask the archive (--archive)")
        }
        if mayWork { return best }
        let busy = all.filter { !$0.standing.follows }
        let workers = busy.map(\.standing.livingWorkers).max() ?? 0
        let edges = busy.map(\.standing.edges).max() ?? 0
        guard workers == 0, edges == 0 else {
            throw ClusterError(
                .state,
                "\(workers) workers and \(edges) sessions of edges still work with shard \(shard.name) in \(cluster.layout.directory): what they "
                    + "deliver from now on would be sent twice, what they take in would be lost. Stop them first (zegel local down, "
                    + "then up --workers 0 --edges 0), and wait until the workers' leases are over, 15 s")
        }
        // One that leads, of no older timeline than the archive's: nothing happened behind it.
        best.isFinal = !best.standing.follows && best.standing.timeline >= Int(shard.timeline)
        return best
    }
}
