// Held deliveries of a running cluster: shown, and let go by an operator's word.

import Foundation
import Ledger
import Postgres

extension ClusterRecovery {
    /// Held deliveries of one shard.
    public struct Held: Sendable, Codable, Equatable {
        /// The shard.
        public var shard: String
        /// By tenant and domain.
        public var groups: [HeldGroup]
    }

    /// The held deliveries of each shard.
    public func held(_ selection: HeldSelection) async throws(ClusterError) -> [Held] {
        var all: [Held] = []
        for shard in plan.shards {
            let groups = try await atLeader(of: shard) { try HeldDeliveries.list(selection, $0) }
            all.append(Held(shard: shard.name, groups: groups))
        }
        return all
    }

    /// Has held deliveries be tried again, or ended with word to their senders: a worker does that.
    /// - Returns: how many, by shard.
    public func decide(
        _ decision: HeldDeliveries.Decision, _ selection: HeldSelection
    ) async throws(ClusterError) -> [String: Int] {
        var counts: [String: Int] = [:]
        for shard in plan.shards {
            counts[shard.name] = try await atLeader(of: shard) {
                try HeldDeliveries.decide(decision, selection, $0)
            }
        }
        return counts
    }

    /// Does something at whoever leads a shard.
    func atLeader<T: Sendable>(
        of shard: ShardPlan, _ body: @escaping @Sendable (PostgresSession) throws -> T
    ) async throws(ClusterError) -> T {
        guard let name = await leader(of: shard) else {
            throw ClusterError(.state, "shard \(shard.name) has no leader: zegel shard status \(option)")
        }
        let role = "zegel_admin"
        let password = try ClusterFiles.text(cluster.layout.password(of: role)) ?? ""
        let site = LedgerSite(plan: plan, layout: cluster.layout)
        do {
            let connection = try await PostgresConnection.connect(
                PostgresConfiguration(
                    site.socket(shard.name, in: try plan.region(name), role: role, password: password),
                    applicationName: "zegel-recovery", connectTimeout: .seconds(10)))
            do {
                let result = try await connection.perform(deadline: .seconds(120), body)
                await connection.close()
                return result
            } catch {
                await connection.close()
                throw error
            }
        } catch {
            throw ClusterError(.state, "shard \(shard.name): \(error)")
        }
    }
}
