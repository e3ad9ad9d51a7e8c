// An edge from its settings: what it is made of, in order of start.

import Foundation
import Ledger
import Logging
import NIOCore
import NIOPosix
import Observability
import Postgres
import SMTP
import Sealing
import ServiceLifecycle
import Settings
import Synchronization
import TLS

/// The services of an edge node.
public struct EdgeNode: Sendable {
    /// In order of start; they are shut down from the last to the first.
    public let services: [any Service]

    /// Checks the settings that an edge reads.
    ///
    /// - Throws: `SettingsError`.
    public static func validate(_ settings: Settings) throws {
        _ = try EdgeSettings(settings)
        _ = try DatabaseSettings(settings, for: "zegel-edge")
        _ = try KeySettings(settings).requiredRootPublicKey(settings, for: "zegel-edge")
    }

    /// Makes the services; nothing is connected or bound yet.
    ///
    /// - Parameters:
    ///   - onBound: Told the addresses of the listeners once they are bound, those without implicit TLS first.
    /// - Throws: `SettingsError`, or `TLSError` for a certificate or key that cannot be used.
    public init(
        _ context: NodeContext, onBound: @escaping @Sendable ([SocketAddress]) -> Void = { _ in }
    ) async throws {
        let settings = try EdgeSettings(context.settings)
        let databases = try DatabaseSettings(context.settings, for: context.role)
        let keySettings = KeySettings(context.settings)
        let logger = context.logger
        let metrics = EdgeMetrics()
        context.readiness.expect("control", "keys", "listening", "ledger")

        var sealing = Sealer.Limits()
        sealing.age = keySettings.batchLife
        sealing.messages = Int32(clamping: keySettings.batchMessages)
        let keys = try EdgeKeys(
            root: try keySettings.requiredRootPublicKey(context.settings, for: context.role), limits: sealing,
            versionFile: context.node.dataDirectory + "/key-set-version")
        let control = ControlLedger(
            pool: Self.pool(databases.controlDSN, context, limit: 2))
        let view = ControlView(maximumAge: databases.controlMaximumAge / .seconds(1))

        var limits = GroupCommit<IntakeTicket>.Limits()
        limits.batchBytes = settings.batchBytes.bytes
        limits.batchCount = settings.batchCount
        limits.queueBytes = max(32 << 20, 4 * settings.batchBytes.bytes)
        limits.settle = settings.settle
        let readiness = context.readiness
        let health = ShardHealth(readiness)
        let routes = try LeaderRoutes(
            databases, applicationName: "\(context.role) \(context.node.name)",
            group: MultiThreadedEventLoopGroup.singleton, logger: logger)
        if routes.areReplicated { limits.overlap = Committer.overlap }
        // One shard takes a message wholly; each has a committer of its own.
        let region = context.node.region
        let shards = routes.all.map { route in
            let pool = route.pool(limit: 3 + limits.overlap, waitLimit: .seconds(10))
            // Whoever waits for a commit that hangs hears so when the settle time is over, and not when the connection gives up.
            let ledger = IntakeLedger(
                shard: route.shard, pool: pool, demandsQuorum: routes.areReplicated,
                commitLimit: settings.settle)
            let ready = ReadyNotifier(ledger: ledger, logger: logger)
            let committer = Committer(
                ledger: ledger, keys: keys, limits: limits, ready: ready, metrics: metrics, logger: logger,
                leader: {
                    guard routes.areReplicated else { return .only }
                    let (leader, epoch) = route.standing
                    let place: LeaderStanding.Place =
                        leader.region == region ? .here : leader.isLeaderless ? .nowhere : .elsewhere
                    return LeaderStanding(place: place, epoch: epoch)
                }
            ) { isWell in health.note(route.shard, isWell ? nil : "commits fail") }
            let probe = LedgerProbe(committer: committer, pool: pool, health: health, logger: logger)
            return (committer: committer, ready: ready, probe: probe)
        }
        let committers = ShardCommitters(shards.map(\.committer), metrics: metrics, logger: logger)

        let loops = MultiThreadedEventLoopGroup(numberOfThreads: max(1, System.coreCount / 2))
        let threads = NIOThreadPool(numberOfThreads: max(1, System.coreCount / 2))
        threads.start()
        let edge = EdgeContext(
            smtp: SMTPServerOptions(
                hostName: settings.hostName, maximumSize: settings.maximumMessageSize.bytes,
                maximumRecipients: settings.maximumRecipients, requiresTLS: settings.requireTLS,
                offersSTARTTLS: settings.identity != nil),
            tls: try settings.identity.map(Self.tls), networks: settings.tenantNetworks, control: view,
            keys: keys,
            replayKeys: ReplayKeys(
                ledger: control,
                leader: ControlLedger(pool: routes.all[0].pool(limit: 1, waitLimit: .seconds(10)))),
            authenticator: Authenticator(threads: threads), committers: committers, metrics: metrics,
            logger: logger)
        let server = EdgeServer(
            edge: edge, listen: settings.listen, listenTLS: settings.listenTLS,
            maximumConnections: settings.maximumConnections, group: loops, readiness: readiness,
            drainLimit: max(.seconds(1), context.node.shutdownGrace - .seconds(2)), onBound: onBound)
        let watch = ControlWatch(
            ledger: control, view: view, keys: keys, readiness: readiness, metrics: metrics, logger: logger)
        let beat = ControlBeat(
            leader: ControlLedger(pool: routes.all[0].pool(limit: 1, waitLimit: .seconds(10))), logger: logger
        )
        var services: [any Service] = [watch, beat]
        if let leaders = routes.watch { services.append(leaders) }
        services += shards.map { $0.probe as any Service } + shards.map { $0.ready as any Service }
        services += shards.map { $0.committer as any Service } + [committers, server]
        self.services = services
    }

    private static func pool(_ dsn: String, _ context: NodeContext, limit: Int) -> PostgresPool {
        PostgresPool(
            configuration: PostgresConfiguration(
                dsn, applicationName: "\(context.role) \(context.node.name)"),
            limit: limit, waitLimit: .seconds(10))
    }

    private static func tls(_ identity: IdentityFiles) throws -> TLSContext {
        try TLSContext.server(
            certificateChain: .file(identity.certificate), privateKey: .file(identity.key))
    }
}

/// Whether intake goes on: it does while any shard takes messages.
private final class ShardHealth: Sendable {
    private let readiness: Readiness
    /// What each shard lacks; nil: nothing.
    private let troubles = Mutex<[String: String?]>([:])

    init(_ readiness: Readiness) { self.readiness = readiness }

    /// A shard takes messages, or does not, and why.
    func note(_ shard: String, _ trouble: String?) {
        let all = troubles.withLock { troubles in
            troubles.updateValue(trouble, forKey: shard)
            return troubles
        }
        if all.values.contains(nil) { return readiness.hold("ledger") }
        let words = all.sorted { $0.key < $1.key }.map { "shard \($0.key): \($0.value ?? "")" }
        readiness.fail("ledger", words.joined(separator: "; "))
    }
}

/// Refuses a schema that this program does not know, and says whether the ledger answers while no mail comes: a node must not
/// stay unready because nobody sends, nor a shard that was in trouble be passed over because nothing is sent to it any more.
private struct LedgerProbe: Service, CustomStringConvertible {
    let committer: Committer
    let pool: PostgresPool
    let health: ShardHealth
    let logger: Logger

    private var ledger: IntakeLedger { committer.ledger }

    var description: String { "ledger probe \(ledger.shard)" }

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            var incarnation: UUID?
            while !Task.isCancelled {
                do {
                    if incarnation == nil {
                        try await pool.withConnection { try await Migrator().verify($0) }
                    }
                    let now = try await ledger.currentIncarnation()
                    if incarnation != now {
                        logger.info(
                            "ledger is there",
                            metadata: ["shard": "\(ledger.shard)", "incarnation": "\(now)"])
                    }
                    incarnation = now
                    health.note(ledger.shard, await committer.proveWell() ? nil : "commits fail")
                } catch let error as SchemaError {
                    throw error
                } catch {
                    health.note(ledger.shard, "the leader does not answer")
                    logger.debug("ledger probe failed", metadata: ["error": "\(error)"])
                }
                try? await Task.sleep(for: .seconds(2))
            }
        }
    }
}
