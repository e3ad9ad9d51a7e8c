// What a local cluster's database holds before the first node starts: schema, passwords, keys, the tenant `demo`.

import Foundation
import Ledger
import Postgres

/// Brings the database of a local cluster up to date. Safe to repeat.
struct ClusterProvisioning: Sendable {
    let prepared: PreparedCluster

    /// Why the database cannot be spoken to yet; nil when it can.
    func obstacle() async -> String? {
        do {
            let connection = try await PostgresConnection.connect(
                owner(of: "postgres", patience: .seconds(2)))
            await connection.close()
            return nil
        } catch {
            return error.message
        }
    }

    /// Does everything.
    /// - Throws: `state` that says what could not be done.
    func run() async throws(ClusterError) {
        do {
            try await createDatabase()
            try await migrate()
            let pool = PostgresPool(
                configuration: owner(of: PostgresInstance.database), limit: 1, waitLimit: .seconds(10))
            do {
                try await fill(ControlAdministration(pool: pool))
                _ = try await Maintenance(pool: pool).run()
            } catch {
                await pool.close()
                throw error
            }
            await pool.close()
        } catch let error as ClusterError {
            throw error
        } catch {
            throw ClusterError(.state, "cannot prepare the database: \(error)")
        }
    }

    private func owner(of database: String, patience: Duration = .seconds(10)) -> PostgresConfiguration {
        PostgresConfiguration(
            prepared.postgres.conninfo(
                role: PostgresInstance.superuser,
                password: prepared.passwords[PostgresInstance.superuser] ?? "",
                database: database),
            applicationName: "zegel-local", connectTimeout: patience)
    }

    private func createDatabase() async throws {
        let connection = try await PostgresConnection.connect(owner(of: "postgres"))
        try await connection.perform { session in
            try LedgerDatabase.create(PostgresInstance.database, session)
            try LedgerDatabase.closeOthers(session)
        }
        await connection.close()
    }

    private func migrate() async throws {
        let connection = try await PostgresConnection.connect(owner(of: PostgresInstance.database))
        do {
            _ = try await Migrator().migrate(connection)
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }

    private func fill(_ control: ControlAdministration) async throws {
        for role in PreparedCluster.roles {
            try await control.setPassword(ofRole: role, to: prepared.passwords[role] ?? "")
        }
        try await KeyEpochs(prepared: prepared).extend(control)
        let demo = prepared.demo
        try await control.putTenant(id: DemoTenant.id, name: "Demo", defaultRuleset: demo.ruleset)
        try await control.putSenderDomain(DemoTenant.domain, tenant: DemoTenant.id)
        try await control.putCredential(
            CredentialRow(id: UUID(), tenant: DemoTenant.id, username: demo.user, password: demo.password))
        try await control.putAPIKey(
            id: demo.key.id, tenant: DemoTenant.id, label: "zegel local", scopes: ["*"],
            secretHash: demo.key.secretHash)
    }
}
