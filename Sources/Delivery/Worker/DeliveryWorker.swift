// The worker's service: builds what its settings say, waits for the database, works on every shard until it is told to stop.

import Crypto
import DNS
import Foundation
import Ledger
import Logging
import NIOCore
import NIOPosix
import Observability
import Policy
import Postgres
import Sealing
import ServiceLifecycle
import Settings
import SmartTLS
import TLS

/// Everything a worker reads from its settings.
public struct DeliveryWorkerSettings: Sendable {
    /// The node.
    public var node: NodeSettings
    /// Where the ledger is.
    public var database: DatabaseSettings
    /// How much at once.
    public var worker: WorkerSettings
    /// How mail leaves.
    public var delivery: DeliverySettings
    /// How NTA 7516 is applied.
    public var nta: NTASettings
    /// The rulesets that messages may have been taken in under.
    public var rulesets: RulesetBook
    /// How names are looked up.
    public var dns: DNSSettings
    /// How MTA-STS policies are fetched.
    public var policy: PolicySettings
    /// Which recipient hosts are scanned, and how long that holds.
    public var scan: ScanSettings
    /// The key service's socket.
    public var keyringSocket: String
    /// The cluster's root.
    public var root: Curve25519.Signing.PublicKey
    /// How long a batch key for notifications is used, and for how many.
    public var keys: KeySettings

    /// Reads them.
    /// - Throws: `SettingsError` for what is missing or wrong.
    public init(_ settings: Settings) throws {
        node = NodeSettings(settings)
        database = try DatabaseSettings(settings, for: "zegel-worker")
        worker = WorkerSettings(settings)
        delivery = DeliverySettings(settings)
        nta = try NTASettings(settings)
        rulesets = try RulesetBook(RulesetSettings(settings))
        dns = DNSSettings(settings)
        policy = PolicySettings(settings)
        scan = try ScanSettings(settings)
        keys = KeySettings(settings)
        keyringSocket = try keys.requiredKeyringSocket(settings, for: "zegel-worker")
        root = try Curve25519.Signing.PublicKey(
            rawRepresentation: keys.requiredRootPublicKey(settings, for: "zegel-worker"))
    }
}

/// Judges and delivers: the worker as a service.
public struct DeliveryWorker: Service, CustomStringConvertible {
    private let settings: DeliveryWorkerSettings
    private let readiness: Readiness
    private let logger: Logger

    /// A worker with these settings; nothing is opened yet.
    public init(_ settings: DeliveryWorkerSettings, readiness: Readiness, logger: Logger) {
        self.settings = settings
        self.readiness = readiness
        self.logger = logger
        readiness.expect("database")
    }

    /// Its name in the log.
    public var description: String { "delivery" }

    /// Works until graceful shutdown: then it stops claiming, finishes what is under way, gives the rest back.
    public func run() async throws {
        let tls = try TLSContext.examining(trustRoots: settings.delivery.trustRoots)
        let resolver = try UnboundResolver(DNSConfiguration(settings.dns))
        let group = MultiThreadedEventLoopGroup.singleton
        let keyring = try await KeyringClient(path: settings.keyringSocket, group: group)
        let controlPool = PostgresPool(
            configuration: PostgresConfiguration(
                settings.database.controlDSN, applicationName: applicationName),
            limit: 2, waitLimit: .seconds(10), lifetime: Self.memberPatience)
        let routes = try LeaderRoutes(
            settings.database, applicationName: applicationName, group: group, asksMembers: true,
            logger: logger)
        // What all workers share is on the control shard, and only its leader writes.
        let policyPool = routes.all[0].pool(limit: 2, waitLimit: .seconds(10))
        let scanPool = routes.all[0].pool(limit: 2, waitLimit: .seconds(10))
        let scans = HostScans(settings.scan, settings.delivery, group: group, pool: scanPool)
        let fetcher = try MTASTSFetcher(settings.policy, resolver: resolver, group: group)
        let policies = MTASTSPolicies(fetcher, resolver: resolver, cache: PolicyCache(pool: policyPool))
        var limits = Sealer.Limits()
        limits.age = settings.keys.batchLife
        limits.messages = Int32(clamping: settings.keys.batchMessages)
        let sealer = SealerBox(limits: limits)
        let control = ControlWatch(
            ledger: ControlLedger(pool: controlPool), root: settings.root, sealer: sealer, logger: logger)
        let opener = BatchKeyOpener(service: keyring, region: settings.node.region)
        let readiness = readiness
        let conditions = ShardConditions(
            ledgerIs: { why in
                if let why { readiness.fail("database", why) } else { readiness.hold("database") }
            },
            keysAre: { why in if let why { readiness.fail("keys", why) } else { readiness.hold("keys") } })
        let shards = routes.all.map { route in
            (
                name: route.shard, route: route, pool: route.pool(limit: 4, waitLimit: .seconds(10)),
                reading: route.pool(limit: 4, waitLimit: .seconds(10))
            )
        }
        try await waitForDatabases(shards.map(\.pool), control)
        // A ledger of one shard has nobody to ask.
        let asked = (shards.count > 1 ? routes.all : []).map { route in
            let leader = route.pool(limit: 3, waitLimit: .seconds(2))
            let members = route.memberPools(limit: 2, waitLimit: .seconds(2))
            let desk = ReplayDesk(
                leader: WorkLedger(shard: route.shard, pool: leader, demandsQuorum: routes.areReplicated),
                members: members.map(ReplayMember.init), logger: logger,
                hasLeader: { !routes.areReplicated || route.knowledge.region != nil })
            return (desk: desk, pools: [leader] + members)
        }
        let workers = shards.map { shard in
            ShardWorker(
                ShardAssembly(
                    ledger: WorkLedger(
                        shard: shard.name, pool: shard.pool, demandsQuorum: routes.areReplicated),
                    reading: WorkLedger(shard: shard.name, pool: shard.reading),
                    listening: shard.route,
                    name: settings.node.name, region: settings.node.region, worker: settings.worker,
                    delivery: settings.delivery, nta: settings.nta, rulesets: settings.rulesets, group: group,
                    tls: tls,
                    router: Router(
                        resolver: resolver, staticRoutes: settings.delivery.routes,
                        port: settings.delivery.port, policies: policies,
                        ownName: settings.delivery.hostName),
                    control: control, sealer: sealer, keys: opener,
                    scans: ScanDesk(scans, hosts: settings.scan.hosts),
                    replays: asked.map(\.desk).filter { $0.shard != shard.name }, conditions: conditions,
                    logger: logger))
        }
        logger.info("delivering", metadata: ["shards": "\(shards.map(\.name).joined(separator: ","))"])
        await withGracefulShutdownHandler {
            await withTaskGroup(of: Void.self) { tasks in
                tasks.addTask { await control.run() }
                if let leaders = routes.watch { tasks.addTask { await leaders.run() } }
                tasks.addTask { await policies.refreshContinually() }
                for desk in asked.map(\.desk) { tasks.addTask { await desk.run() } }
                if settings.scan.hosts != .off { tasks.addTask { await scans.run() } }
                await withTaskGroup(of: Void.self) { working in
                    for worker in workers { working.addTask { await worker.run() } }
                }
                tasks.cancelAll()
            }
        } onGracefulShutdown: {
            for worker in workers { worker.stop() }
        }
        await scans.resign()
        fetcher.shutDown()
        await keyring.close()
        for pool in asked.flatMap(\.pools) { await pool.close() }
        for shard in shards {
            await shard.pool.close()
            await shard.reading.close()
        }
        await scanPool.close()
        await policyPool.close()
        await controlPool.close()
    }

    /// How long a connection to a member is used before the nearest one is looked for again.
    private static let memberPatience = Duration.seconds(60)

    private var applicationName: String { "zegel-worker \(settings.node.name)" }

    /// Ready only when the databases are: waits for them with back-off. A schema that this executable does not know ends it.
    private func waitForDatabases(_ pools: [PostgresPool], _ control: ControlWatch) async throws {
        var wait = Duration.milliseconds(200)
        while !Task.isCancelled, !Task.isShuttingDownGracefully {
            do {
                try await verifyAny(of: pools)
                _ = try await control.refresh()
                return
            } catch let error as SchemaError {
                throw error
            } catch {
                readiness.fail("database", "not reachable")
                logger.warning("waiting for the database", metadata: ["error": "\(error)"])
            }
            try? await Task.sleep(for: wait)
            wait = min(wait * 2, .seconds(5))
        }
    }

    /// Returns when one shard's leader answers with a schema that this program knows. The others are waited for by their own workers.
    private func verifyAny(of pools: [PostgresPool]) async throws {
        var failure: (any Error)?
        for pool in pools {
            do {
                return try await pool.withConnection { try await Migrator().verify($0) }
            } catch let error as SchemaError {
                throw error
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}
