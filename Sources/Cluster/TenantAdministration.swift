// Edits of tenants by an operator's command: kept by the control shard's quorum, or refused with the reason.

import Ledger
import Postgres
import Settings

/// What becomes of a tenant; nil leaves a part as it is.
public struct TenantChange: Sendable {
    fileprivate let edit: TenantEdit

    /// - Parameters:
    ///   - id: the tenant's; made when it is not there, unless `mustExist`.
    ///   - name: for people; of a new tenant its id.
    ///   - ruleset: when no label raises it; of a new tenant `secure`.
    ///   - domains: that it may send as, besides those that it has (lower case, A-labels).
    ///   - isDisabled: whether it may not send.
    public init(
        id: String, name: String? = nil, ruleset: String? = nil, domains: [String] = [],
        isDisabled: Bool? = nil, mustExist: Bool = false
    ) {
        edit = TenantEdit(
            id: id, name: name, defaultRuleset: ruleset, domains: domains, isDisabled: isDisabled,
            mustExist: mustExist)
    }
}

/// Changes tenants of the cluster that settings name, as the owner of its control shard.
public struct TenantAdministration: Sendable {
    /// How long an edit waits for the control shard's leader and its quorum.
    public static let patience = Duration.seconds(30)

    private let dsn: String

    /// - Parameter databases: `control.dsn` names every member, and finds the one that leads.
    public init(_ databases: DatabaseSettings) { dsn = databases.controlDSN }

    /// Makes a tenant or changes it: all of it, or nothing.
    /// - Throws: `ClusterError`: `usage` for what cannot be, `timeout` when it was not kept in time.
    public func apply(_ change: TenantChange, patience: Duration = Self.patience) async throws {
        let configuration = PostgresConfiguration(
            dsn, applicationName: "zegel-tenant", connectTimeout: .seconds(2))
        let pool = PostgresPool(configuration: configuration, limit: 1, waitLimit: .seconds(5))
        let administration = ControlAdministration(
            pool: pool, demandsQuorum: configuration.members.count > 1, patience: patience)
        do {
            try await administration.apply(change.edit)
        } catch {
            await pool.close()
            switch error {
            case let error as ControlEditInvalid: throw ClusterError(.usage, error.description)
            case let error as ControlEditRefused: throw ClusterError(.timeout, error.description)
            default: throw error
            }
        }
        await pool.close()
    }
}
