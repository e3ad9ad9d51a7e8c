// A worker on a real PostgreSQL with the real schema, a key service that can be taken away, and recipients that do as they are
// told: everything a test of the whole worker needs, on loopback.

import Crypto
import DNS
import Foundation
import Lab
import Ledger
import Logging
import NIOPosix
import Policy
import Postgres
import SMTP
import Sealing
import Settings
import SmartTLS
import Synchronization
import TLS

@testable import Delivery

/// The private keys of region `a`, with a switch that takes them away.
final class LabKeys: KeyService {
    private let inner: LocalKeyService
    private let failure = Mutex<KeyServiceError?>(nil)
    private let directory: String
    let keySet: RegionKeySet
    let root = Curve25519.Signing.PrivateKey()

    init() throws {
        directory =
            FileManager.default.temporaryDirectory.appendingPathComponent("worker-keys-\(UUID())").path
        let keyring = try Keyring(directory: directory, region: "a", create: true)
        let epoch = KeyEpoch.containing(Date())
        try keyring.generate(epochs: epoch...epoch + 1)
        inner = LocalKeyService(
            keyring: keyring, purposes: [.content, .metadata],
            audit: Logger(label: "audit") { _ in SwiftLogNoOpLogHandler() })
        keySet = try RegionKeySet(
            version: 1, issued: Date(), expires: Date() + 86_400, keys: try keyring.publicKeys())
    }

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func fail(_ error: KeyServiceError?) { failure.withLock { $0 = error } }

    func unwrap(
        _ wrapped: WrappedBatchKey, of batch: BatchKeyContext
    ) async throws(KeyServiceError) -> SecretBytes {
        if let failure = failure.withLock({ $0 }) { throw failure }
        return try await inner.unwrap(wrapped, of: batch)
    }
}

/// An event as a test reads it.
struct SeenEvent: Sendable {
    var id: UUID
    var message: UUID
    var recipient: Int32?
    var kind: String
    var reason: String?
    var possibleDuplicate: Bool
    var detail: EventDetail?
}

/// Everything a worker test needs.
final class WorkerLab: Sendable {
    let postgres: TemporaryPostgres
    let database: String
    let admin: PostgresPool
    let keys: LabKeys
    let sealer: Sealer
    let authority: TestAuthority
    let intake: IntakeLedger
    private let metadataKeys = Mutex<[UUID: MessageKey]>([:])
    /// The roots that vouch for policy hosts.
    private let rootFile = FileManager.default.temporaryDirectory.appendingPathComponent(
        "worker-roots-\(UUID()).pem")

    init() async throws {
        postgres = try await TemporaryPostgres.shared()
        database = try await postgres.createDatabase()
        admin = PostgresPool(
            configuration: PostgresConfiguration(postgres.dsn(database: database)), limit: 4,
            waitLimit: .seconds(20))
        _ = try await admin.withConnection { try await Migrator().migrate($0) }
        keys = try LabKeys()
        let control = ControlAdministration(pool: admin)
        try await control.putTenant(id: "demo", name: "demo", defaultRuleset: "secure")
        try await control.putKeySet(version: 1, signed: try keys.keySet.signed(by: keys.root))
        sealer = Sealer(keySet: keys.keySet)
        authority = try TestAuthority()
        try Data(authority.rootPEM).write(to: rootFile)
        intake = IntakeLedger(
            shard: "a",
            pool: PostgresPool(
                configuration: PostgresConfiguration(postgres.dsn(database: database, user: "zegel_edge")),
                limit: 2, waitLimit: .seconds(20)))
    }

    deinit { try? FileManager.default.removeItem(at: rootFile) }

    /// A recipient host for `domain` with a good certificate.
    func host(_ domain: String, _ change: (inout SMTPScript) -> Void = { _ in }) async throws
        -> ScriptedSMTPServer
    {
        var script = try SMTPScript(try authority.issue([domain]))
        change(&script)
        return try await ScriptedSMTPServer.start(script)
    }

    /// Takes a message in as an edge does; one delivery per recipient domain.
    func accept(
        from sender: String? = "a@demo.test", to recipients: [String], ruleset: String = "secure",
        content: [UInt8] = Array("Subject: test\r\n\r\nhello\r\n".utf8), acceptedAt now: Date = Date(),
        frameSize: Int = 65536, notify: DSNNotify? = nil, requireTLS: Bool = false,
        replayTag: [UInt8]? = nil
    ) async throws -> UUID {
        let id = UUIDv7.make(at: Date())
        func key(_ purpose: KeyPurpose) throws -> (MessageKey, KeyReference) {
            let (key, wrapped) = try sealer.messageKey(
                SealingContext(tenant: "demo", message: id, purpose: purpose), now: Date())
            return (key, KeyReference(wrapped))
        }
        let (contentKey, contentReference) = try key(.content)
        let (metadataKey, metadataReference) = try key(.metadata)
        var frameSealer = try FrameSealer(key: contentKey, context: contentKey.context, frameSize: frameSize)
        var frames: [[UInt8]] = []
        var index = 0
        repeat {
            let end = min(index + frameSize, content.count)
            frames.append(try frameSealer.seal(Array(content[index..<end]), isLast: end == content.count))
            index = end
        } while index < content.count
        let envelope = Envelope(
            reversePath: try sender.map { .mailbox(try MailAddress($0)) } ?? .null, body: .eightBitMIME,
            requireTLS: requireTLS,
            receivedLine: Array("Received: from test by lab; Tue, 24 Nov 2026 10:00:00 +0000\r\n".utf8))
        let addresses = try recipients.map { try MailAddress($0) }
        let lanes = addresses.reduce(into: [String]()) { if !$0.contains($1.lane) { $0.append($1.lane) } }
        var batch = IntakeBatch()
        batch.batchKeys = sealer.takeNewBatchKeys().map {
            BatchKeyRow(
                id: $0.id, tenant: $0.tenant, purpose: $0.purpose.rawValue, epoch: $0.epoch,
                createdAt: $0.createdAt,
                wrapped: $0.wrapped)
        }
        batch.messages = [
            MessageRow(
                id: id, tenant: "demo", acceptedAt: now, ruleset: ruleset, size: Int64(content.count),
                keyedDigest: [UInt8](repeating: 0, count: 32), contentKey: contentReference,
                metadataKey: metadataReference,
                sealedEnvelope: try SealedField.seal(
                    envelope.encoded(), key: metadataKey, context: metadataKey.context,
                    field: SealedField.envelope),
                frames: frames, frameCount: Int32(frames.count),
                deliveries: lanes.enumerated().map { DeliveryRow(number: Int32($0), lane: $1) },
                recipients: try addresses.enumerated().map { number, address in
                    RecipientRow(
                        number: Int32(number), delivery: Int32(lanes.firstIndex(of: address.lane) ?? 0),
                        sealedAddress: try SealedField.seal(
                            EnvelopeRecipient(address: address, notify: notify).encoded(), key: metadataKey,
                            context: metadataKey.context, field: SealedField.address(Int32(number))))
                }, replayTag: replayTag)
        ]
        let outcome = await intake.commit(batch)
        guard case .durable = outcome else { throw LabError("intake: \(outcome)") }
        metadataKeys.withLock { $0[id] = metadataKey }
        try await intake.notifyReady()
        return id
    }

    /// A worker with static routes to hosts on loopback.
    /// - Parameter pool: role `zegel_worker`, unless a test brings its own.
    func worker(
        name: String = "worker-1", routes: [String: ScriptedSMTPServer], settings more: [String] = [],
        resolver: any DNSResolving = NoNames(), rulesets: RulesetBook = RulesetBook(), scans: ScanDesk? = nil,
        timeouts: SessionTimeouts = SessionTimeouts(
            connect: .seconds(5), greeting: .seconds(10), quit: .seconds(1)),
        patience: Duration = DeliveryAttempt.longestWay, replays: [ReplayDesk] = [],
        logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    ) async throws -> ShardWorker {
        let routeText = try routes.map { "\($0)=127.0.0.1:\(try $1.address.port ?? 0)" }.joined(
            separator: ",")
        let settings = try Settings(
            assignments: [
                "delivery.routes=\(routeText)", "delivery.retry=300ms", "delivery.hostname=zegel.test",
                "worker.concurrency=20", "worker.lease=5s",
            ] + more)
        let delivery = DeliverySettings(settings)
        let dsn = postgres.dsn(database: database, user: "zegel_worker")
        let pool = PostgresPool(
            configuration: PostgresConfiguration(dsn), limit: 6, waitLimit: .seconds(10))
        let sealer = SealerBox()
        let policies = try policies(settings, resolver: resolver, pool: pool)
        let control = ControlWatch(
            ledger: ControlLedger(pool: pool), root: keys.root.publicKey, sealer: sealer, logger: logger)
        _ = try await control.refresh()
        return ShardWorker(
            ShardAssembly(
                ledger: WorkLedger(shard: "a", pool: pool), reading: WorkLedger(shard: "a", pool: pool),
                listening: LeaderRoute(shard: "a", configuration: PostgresConfiguration(dsn)), name: name,
                region: "a", worker: WorkerSettings(settings), delivery: delivery,
                nta: try NTASettings(settings),
                rulesets: rulesets, group: MultiThreadedEventLoopGroup.singleton,
                tls: try TLSContext.examining(trust: .pem(authority.rootPEM)),
                router: Router(
                    resolver: resolver, staticRoutes: delivery.routes, port: delivery.port, policies: policies
                ),
                control: control,
                sealer: sealer,
                keys: BatchKeyOpener(service: keys, region: "a"), scans: scans,
                replays: replays,
                conditions: ShardConditions(ledgerIs: { _ in }, keysAre: { _ in }), logger: logger,
                timeouts: timeouts, patience: patience))
    }

    /// Policies from hosts on loopback with certificates of the lab.
    private func policies(
        _ settings: Settings, resolver: any DNSResolving, pool: PostgresPool
    ) throws -> MTASTSPolicies {
        var policy = PolicySettings(settings)
        policy.trustRoots = rootFile.path
        policy.allowedNetworks = [NetworkBlock("127.0.0.0/8")].compactMap { $0 }
        let fetcher = try MTASTSFetcher(
            policy, resolver: resolver, group: MultiThreadedEventLoopGroup.singleton)
        return MTASTSPolicies(fetcher, resolver: resolver, cache: PolicyCache(pool: pool))
    }

    /// Policies for a report, of its own connections.
    func policies(settings: [String] = [], resolver: any DNSResolving) throws -> MTASTSPolicies {
        try policies(Settings(assignments: settings), resolver: resolver, pool: admin)
    }

    /// Runs workers while `body` runs, and ends them as SIGTERM does.
    func working<T: Sendable>(_ workers: [ShardWorker], _ body: @Sendable () async throws -> T) async throws
        -> T
    {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in workers { group.addTask { await worker.run() } }
            do {
                let value = try await body()
                for worker in workers { worker.stop() }
                try await group.waitForAll()
                return value
            } catch {
                group.cancelAll()
                for worker in workers { worker.stop() }
                throw error
            }
        }
    }

    /// Every event, in order of time, with the details of messages that this lab accepted.
    func events() async throws -> [SeenEvent] {
        let keys = metadataKeys.withLock { $0 }
        return try await admin.withConnection { connection in
            try await connection.perform { session in
                try session.query(
                    """
                    SELECT message_id, rcpt_no, kind, reason_code, possible_duplicate, sealed_detail, id FROM ledger.event
                    WHERE message_id IS NOT NULL ORDER BY at, id
                    """
                ).map { row in
                    let message = try row.uuid(0)
                    let id = try row.uuid(6)
                    var detail: EventDetail?
                    if let sealed = try row.optionalBytes(5), let key = keys[message] {
                        detail = try EventDetail(
                            decoding: SealedField.open(
                                sealed, key: key, context: key.context, field: SealedField.event(id)))
                    }
                    return SeenEvent(
                        id: id, message: message, recipient: try row.optionalInt4(1), kind: try row.text(2),
                        reason: try row.optionalText(3), possibleDuplicate: try row.bool(4), detail: detail)
                }
            }
        }
    }

    /// Waits until the events satisfy `condition`, and answers them.
    func events(
        within limit: Duration = .seconds(20), where condition: @Sendable ([SeenEvent]) -> Bool
    ) async throws -> [SeenEvent] {
        let end = ContinuousClock.now + limit
        var seen: [SeenEvent] = []
        while ContinuousClock.now < end {
            seen = try await events()
            if condition(seen) { return seen }
            try await Task.sleep(for: .milliseconds(20))
        }
        let counts = Dictionary(seen.map { ("\($0.kind) \($0.reason ?? "")", 1) }, uniquingKeysWith: +)
        throw WaitExpired(description: "after \(limit): \(counts)")
    }

    /// One number from the database.
    func count(_ sql: String) async throws -> Int {
        try await admin.withConnection { connection in
            try await connection.perform { session in Int(try session.query(sql).first?.int8(0) ?? 0) }
        }
    }

    /// Changes rows behind everybody's back.
    func tamper(_ sql: String) async throws {
        _ = try await admin.withConnection { connection in
            try await connection.perform { session in try session.execute(sql) }
        }
    }
}

/// A resolver that knows no name: every domain without a static route does not exist.
struct NoNames: DNSResolving {
    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        DNSAnswer(name: name, type: type, outcome: .nxdomain, security: .insecure, ttl: 60)
    }
}
