// What the database of a shard holds before anything else: the schema, and passwords of the roles that nodes log in as.

import Ledger
import Postgres

/// Brings the leader of a shard up to date. Safe to repeat, and for several to do at once.
struct ShardPreparation: Sendable {
    /// The shard.
    let shard: String
    /// Whether members follow this server.
    let isReplicated: Bool
    /// By database role; those not named keep theirs.
    let passwords: [String: String]
    /// The leader's database of that name, as the server's owner.
    let owner: @Sendable (_ database: String) -> PostgresConfiguration

    /// Makes the database if there is none, migrates it, and gives the roles their passwords.
    /// - Parameter filling: what belongs into it besides.
    /// - Returns: the migrations that were applied now.
    /// - Throws: `state` that says what could not be done.
    @discardableResult
    func run(
        filling: (ControlAdministration) async throws -> Void = { _ in }
    ) async throws(ClusterError) -> [Int32] {
        do {
            let turn = try await PostgresConnection.connect(owner("postgres"))
            do {
                let isReplicated = isReplicated
                // Until this connection ends: regions that come up together take turns.
                try await turn.perform(deadline: .seconds(60)) { session in
                    try LedgerDatabase.takeTurn(session)
                    try LedgerDatabase.create(LedgerSite.database, session)
                    try LedgerDatabase.closeOthers(session)
                    if isReplicated { try LedgerDatabase.admit(PatroniConfiguration.rewindRole, session) }
                }
                let applied = try await prepare(filling)
                await turn.close()
                return applied
            } catch {
                await turn.close()
                throw error
            }
        } catch let error as ClusterError {
            throw error
        } catch {
            throw ClusterError(.state, "cannot prepare the database of shard \(shard): \(error)")
        }
    }

    private func prepare(
        _ filling: (ControlAdministration) async throws -> Void
    ) async throws -> [Int32] {
        let connection = try await PostgresConnection.connect(owner(LedgerSite.database))
        let applied: [Int32]
        do {
            applied = try await Migrator().migrate(connection)
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
        let pool = PostgresPool(
            configuration: owner(LedgerSite.database), limit: 1, waitLimit: .seconds(10))
        do {
            let control = ControlAdministration(pool: pool)
            for (role, password) in passwords.sorted(by: { $0.key < $1.key }) {
                try await control.setPassword(ofRole: role, to: password)
            }
            try await filling(control)
            _ = try await Maintenance(pool: pool).run()
        } catch {
            await pool.close()
            throw error
        }
        await pool.close()
        return applied
    }
}
