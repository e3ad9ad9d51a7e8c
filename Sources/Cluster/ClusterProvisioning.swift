// What the databases of a local cluster hold before the first node starts: schema, passwords, keys, the tenant `demo`.

import Foundation
import Ledger
import Postgres

/// Brings the leader of a shard up to date. Safe to repeat, and for several regions to do at once.
struct ClusterProvisioning: Sendable {
    let prepared: PreparedRegion

    /// Why the database of a shard cannot be spoken to yet; nil when it can.
    func obstacle(_ shard: String, in region: RegionPlan) async -> String? {
        do {
            let connection = try await PostgresConnection.connect(
                owner(of: "postgres", shard, in: region, patience: .seconds(2)))
            await connection.close()
            return nil
        } catch {
            return error.message
        }
    }

    /// Does everything at the leader of a shard.
    /// - Parameter region: the region that leads it.
    /// - Throws: `state` that says what could not be done.
    func run(_ shard: String, in region: RegionPlan) async throws(ClusterError) {
        let isControl = shard == prepared.plan.shards.first?.name
        let preparation = ShardPreparation(
            shard: shard, isReplicated: prepared.plan.isReplicated,
            passwords: prepared.identity.passwords.filter { ClusterIdentity.roles.contains($0.key) },
            owner: { owner(of: $0, shard, in: region) })
        try await preparation.run { control in if isControl { try await fill(control) } }
    }

    private func owner(
        of database: String, _ shard: String, in region: RegionPlan, patience: Duration = .seconds(10)
    ) -> PostgresConfiguration {
        PostgresConfiguration(
            prepared.site.socket(
                shard, in: region, role: LedgerSite.superuser,
                password: prepared.identity.password(LedgerSite.superuser), database: database),
            applicationName: "zegel-local", connectTimeout: patience)
    }

    private func fill(_ control: ControlAdministration) async throws {
        try await KeyEpochs(identity: prepared.identity, plan: prepared.plan).extend(control)
        let demo = prepared.identity.demo
        try await control.putTenant(id: DemoTenant.id, name: "Demo", defaultRuleset: demo.ruleset)
        try await control.putSenderDomain(DemoTenant.domain, tenant: DemoTenant.id)
        try await control.putCredential(
            CredentialRow(
                id: UUID(), tenant: DemoTenant.id, username: DemoTenant.user, password: demo.password))
        try await control.putAPIKey(
            id: demo.key.id, tenant: DemoTenant.id, label: "zegel local", scopes: ["*"],
            secretHash: demo.key.secretHash)
    }
}
