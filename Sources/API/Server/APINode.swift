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
        let control = pool(configuration(databases.controlDSN, api), api)
        // A pool for each member: which of them answers is ours to choose, not libpq's.
        let shards = databases.shards.map { shard in
            (name: shard.name, members: configuration(shard.dsn, api).members.map { pool($0, api) })
        }
        let tls = try tlsContext(api, context)
        let ledgers = shards.map { EventLedger(shard: $0.name, members: $0.members) }
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
            control: control, controlMaximumAge: databases.controlMaximumAge, shards: shards,
            ledgers: ledgers, readiness: context.readiness, logger: context.logger)
        return [watch] + servers
    }

    private static func configuration(_ dsn: String, _ api: APISettings) -> PostgresConfiguration {
        var configuration = PostgresConfiguration(
            dsn, applicationName: "zegel-api", connectTimeout: .seconds(2))
        // A server that is frozen ends no statement.
        configuration.defaultDeadline = api.statementTimeout + .seconds(1)
        return configuration
    }

    private static func pool(_ configuration: PostgresConfiguration, _ api: APISettings) -> PostgresPool {
        let milliseconds = Int(api.statementTimeout / .milliseconds(1))
        return PostgresPool(
            configuration: configuration, limit: 8,
            // After a minute the member of this region is looked for again, should another have answered meanwhile.
            waitLimit: .seconds(2), lifetime: .seconds(60)
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
        metrics.describe(
            "zegel_api_control_age_seconds",
            "Age of the control leader's last heartbeat that reached this region.")
        metrics.describe("zegel_api_database_up", "Whether the last probe of the database was answered.")
    }
}
