// What zegel-api runs: pools to its region's members, a watch on them, and a server per address.

import Foundation
import Ledger
import Logging
import NIOPosix
import Observability
import Policy
import Postgres
import Sealing
import ServiceLifecycle
import Settings
import TLS

import struct SmartTLS.DomainJudge

/// The services of an API node.
public enum APINode {
    /// The settings it cannot do without; for `--check`.
    ///
    /// - Throws: `SettingsError`.
    public static func validate(_ settings: Settings) throws {
        _ = try APISettings(settings)
        _ = try RulesetBook(RulesetSettings(settings))
        _ = try ScanSettings(settings)
        _ = try DatabaseSettings(settings, for: "zegel-api")
        _ = try KeySettings(settings).requiredKeyringSocket(settings, for: "zegel-api")
    }

    /// Makes the services of one node; nothing connects before they run.
    ///
    /// - Throws: `SettingsError` for settings and certificate files that cannot be used.
    public static func services(_ context: NodeContext) async throws -> [any Service] {
        let api = try APISettings(context.settings)
        let databases = try DatabaseSettings(context.settings, for: context.role)
        let socket = try KeySettings(context.settings).requiredKeyringSocket(
            context.settings, for: context.role)
        describe(context.metrics)
        context.readiness.expect("database")
        let control = pool(databases.controlDSN, api)
        let shards = databases.shards.map { shard in
            let members = PostgresConfiguration(
                shard.dsn, applicationName: "zegel-api", connectTimeout: .seconds(2)
            )
            .members
            return (
                name: shard.name, pool: pool(shard.dsn, api),
                members: members.count > 1 ? members.map { pool($0, api, limit: 2) } : []
            )
        }
        let tls = try tlsContext(api, context)
        let ledgers = shards.map { EventLedger(shard: $0.name, pool: $0.pool, members: $0.members) }
        let keys = try await KeyringClient(path: socket, group: MultiThreadedEventLoopGroup.singleton)
        let scan = try ScanSettings(context.settings)
        let judge =
            api.judges
            ? try DomainJudge(
                DeliverySettings(context.settings), DNSSettings(context.settings),
                PolicySettings(context.settings), NTASettings(context.settings),
                group: MultiThreadedEventLoopGroup.singleton,
                probes: scan.hosts != .off, from: scan.sourceAddress,
                scans: KeptScans(cache: HostScanCache(pool: control))) : nil
        let rulesets = try RulesetBook(RulesetSettings(context.settings)).all
        let servers = api.listen.map { address in
            APIServer(
                listen: address, settings: api, tls: tls, ledgers: ledgers,
                control: ControlLedger(pool: control),
                keys: keys, region: context.node.region, judge: judge, rulesets: rulesets,
                readiness: context.readiness,
                logger: context.logger)
        }
        let watch = DatabaseWatch(
            pools: [("control", control)] + shards.map { ("shard \($0.name)", $0.pool) },
            ledgers: ledgers, others: shards.flatMap(\.members), readiness: context.readiness,
            logger: context.logger)
        return [watch] + servers
    }

    private static func pool(_ dsn: String, _ api: APISettings) -> PostgresPool {
        pool(
            PostgresConfiguration(dsn, applicationName: "zegel-api", connectTimeout: .seconds(2)), api,
            limit: 8)
    }

    private static func pool(_ configuration: PostgresConfiguration, _ api: APISettings, limit: Int)
        -> PostgresPool
    {
        let milliseconds = Int(api.statementTimeout / .milliseconds(1))
        return PostgresPool(
            configuration: configuration, limit: limit,
            // After a minute the member of this region is looked for again, should another have answered meanwhile.
            waitLimit: .seconds(5), lifetime: .seconds(60)
        ) { session in
            // A long snapshot on a member bloats its leader (hot_standby_feedback); the role's own limit is the net below.
            try session.execute(
                "SET statement_timeout = \(milliseconds); SET default_transaction_read_only = on")
        }
    }

    private static func tlsContext(_ api: APISettings, _ context: NodeContext) throws -> TLSContext {
        func read(_ path: String, _ key: String) throws -> [UInt8] {
            do {
                return Array(try Data(contentsOf: URL(fileURLWithPath: path)))
            } catch {
                throw SettingsError(
                    place: context.settings.file ?? "configuration", key: key,
                    problem: "'\(path)' cannot be read",
                    fix: "name a PEM file that this user may read")
            }
        }
        let certificate = try read(api.identity.certificate, "api.certificate")
        do {
            return try TLSContext.server(
                certificateChainPEM: certificate, privateKeyPEM: try read(api.identity.key, "api.key"),
                alpn: ["http/1.1"])
        } catch let error as TLSError {
            throw SettingsError(
                place: context.settings.file ?? "configuration", key: "api.certificate",
                problem: "certificate and key cannot be used: \(error)",
                fix: "give a PEM chain, leaf first, and the leaf's key")
        }
    }

    private static func describe(_ metrics: MetricsRegistry) {
        metrics.describe("zegel_api_requests", "Requests answered, by route and status.")
        metrics.describe("zegel_api_request", "Time from request to answer, long polls included.")
        metrics.describe(
            "zegel_api_feed_lag_seconds",
            "Age of the oldest committed event that an older transaction holds back.")
        metrics.describe("zegel_api_database_up", "Whether the last probe of the database was answered.")
    }
}
