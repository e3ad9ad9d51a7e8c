// The ways to all shards of a ledger, as a node's settings name them.

import Foundation
import HTTPClient
import Logging
import NIOCore
import Postgres
import Settings

/// A route to the leader of each shard, and whoever keeps them true.
public struct LeaderRoutes: Sendable {
    /// One a shard, the control shard's first.
    public let all: [LeaderRoute]
    /// Whether the shards have members in several regions: a commit counts only with its quorum then.
    public let areReplicated: Bool
    /// Asks Patroni who leads; nil where there is none.
    public let watch: LeaderWatch?

    /// The routes of these settings; nothing is connected yet.
    /// - Parameter asksMembers: every member is asked how it stands, too, for the metrics.
    /// - Throws: `SettingsError` for an authority that cannot be read, `TLSError` for one that cannot be used.
    public init(
        _ settings: DatabaseSettings, applicationName: String, group: any EventLoopGroup,
        asksMembers: Bool = false, logger: Logger
    ) throws {
        let routes = settings.shards.map { shard in
            // A host that was cut off must not hold up the search for the next one.
            LeaderRoute(
                shard: shard.name,
                configuration: PostgresConfiguration(
                    shard.dsn, applicationName: applicationName,
                    connectTimeout: settings.patroni[shard.name] == nil ? .seconds(5) : .seconds(2)))
        }
        all = routes
        areReplicated = !settings.patroni.isEmpty
        guard areReplicated else {
            watch = nil
            return
        }
        let patroni = try PatroniClient(
            authorityPEM: try settings.readPatroniAuthority(), group: group)
        watch = LeaderWatch(
            patroni, routes.map { ($0, settings.patroni[$0.shard] ?? []) }, asksMembers: asksMembers,
            logger: logger)
    }
}
