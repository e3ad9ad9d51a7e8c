// A database with the real schema, a key service in memory, and an API server on TLS: what the API's tests run against.
import Foundation
import Lab
import Ledger
import Logging
import Observability
import Policy
import Postgres
import SMTP
import Sealing
import ServiceLifecycle
import Settings
import SmartTLS
import Synchronization
import TLS

@testable import API

/// The private metadata key of region `a`, with a switch that takes it away.
final class SwitchedKeys: KeyService {
    private let inner: LocalKeyService
    private let failure = Mutex<KeyServiceError?>(nil)
    let keyring: Keyring
    let keySet: RegionKeySet
    private let directory: String

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("api-keys-\(UUID())").path
        keyring = try Keyring(directory: directory, region: "a", create: true)
        let epoch = KeyEpoch.containing(Date())
        try keyring.generate(epochs: epoch...epoch + 1)
        inner = LocalKeyService(
            keyring: keyring, purposes: [.metadata],
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

/// Everything an API test needs.
struct APIFixture: Sendable {
    let postgres: TemporaryPostgres
    let database: String
    let keys: SwitchedKeys
    let sealer: Sealer
    let authority: TestAuthority
    let intake: IntakeLedger
    let admin: PostgresPool

    /// - Parameter server: nil: the one that all tests share.
    static func make(on server: TemporaryPostgres? = nil) async throws -> APIFixture {
        let postgres = if let server { server } else { try await TemporaryPostgres.shared() }
        let database = try await postgres.createDatabase()
        let admin = PostgresPool(
            configuration: PostgresConfiguration(postgres.dsn(database: database)), limit: 4,
            waitLimit: .seconds(20))
        _ = try await admin.withConnection { try await Migrator().migrate($0) }
        let keys = try SwitchedKeys()
        let control = ControlAdministration(pool: admin)
        for tenant in ["demo", "other"] {
            try await control.putTenant(id: tenant, name: tenant, defaultRuleset: "secure")
        }
        return APIFixture(
            postgres: postgres, database: database, keys: keys, sealer: Sealer(keySet: keys.keySet),
            authority: try TestAuthority(),
            intake: IntakeLedger(
                shard: "a",
                pool: PostgresPool(
                    configuration: PostgresConfiguration(
                        postgres.dsn(database: database, user: "zegel_edge")), limit: 2,
                    waitLimit: .seconds(20))),
            admin: admin)
    }

    func pool(_ role: String) -> PostgresPool {
        PostgresPool(
            configuration: PostgresConfiguration(postgres.dsn(database: database, user: role)), limit: 4,
            waitLimit: .seconds(10))
    }

    /// Adds an API key and answers its text.
    func apiKey(tenant: String?, scopes: [String] = ["*"]) async throws -> APIKeyText {
        let key = APIKeyText(
            id: UUID(), secret: (UUID().uuidString + UUID().uuidString).lowercased().replacing("-", with: ""))
        try await ControlAdministration(pool: admin).putAPIKey(
            id: key.id, tenant: tenant, label: "test", scopes: scopes, secretHash: key.secretHash)
        return key
    }

    /// Takes a message in as an edge does, and answers its id.
    func accept(
        tenant: String = "demo", from sender: String = "a@demo.test", to recipients: [String] = ["b@bar.test"]
    ) async throws -> UUID {
        let now = Date()
        let id = UUIDv7.make(at: now)
        func key(_ purpose: KeyPurpose) throws -> (MessageKey, KeyReference) {
            let (key, wrapped) = try sealer.messageKey(
                SealingContext(tenant: tenant, message: id, purpose: purpose), now: now)
            return (
                key,
                KeyReference(batchKeyID: wrapped.batchKeyID, index: wrapped.index, wrapped: wrapped.bytes)
            )
        }
        let (contentKey, content) = try key(.content)
        let (metadataKey, metadata) = try key(.metadata)
        var frames = try FrameSealer(key: contentKey, context: contentKey.context)
        let envelope = Envelope(reversePath: .mailbox(try MailAddress(sender)), body: .eightBitMIME)
        var batch = IntakeBatch()
        batch.batchKeys = sealer.takeNewBatchKeys().map {
            BatchKeyRow(
                id: $0.id, tenant: $0.tenant, purpose: $0.purpose.rawValue, epoch: $0.epoch,
                createdAt: $0.createdAt,
                wrapped: $0.wrapped)
        }
        batch.messages = [
            MessageRow(
                id: id, tenant: tenant, acceptedAt: now, ruleset: "secure", size: 5,
                keyedDigest: [UInt8](repeating: 0, count: 32), contentKey: content, metadataKey: metadata,
                sealedEnvelope: try SealedField.seal(
                    envelope.encoded(), key: metadataKey, context: metadataKey.context,
                    field: SealedField.envelope),
                frames: [try frames.seal(Array("hello".utf8), isLast: true)], frameCount: 1,
                deliveries: [DeliveryRow(number: 0, lane: "bar.test")],
                recipients: try recipients.enumerated().map { number, address in
                    RecipientRow(
                        number: Int32(number), delivery: 0,
                        sealedAddress: try SealedField.seal(
                            EnvelopeRecipient(address: try MailAddress(address)).encoded(), key: metadataKey,
                            context: metadataKey.context, field: SealedField.address(Int32(number))))
                }, replayTag: nil)
        ]
        let outcome = await intake.commit(batch)
        guard case .durable = outcome else { throw FixtureError(description: "\(outcome)") }
        metadataKeys.withLock { $0[id] = metadataKey }
        return id
    }

    private let metadataKeys = MetadataKeys()

    /// Adds an event with a sealed detail, as a worker does.
    func event(
        _ kind: String, of message: UUID, tenant: String = "demo", recipient: Int32? = 0,
        reason: String? = nil,
        detail: String? = nil, possibleDuplicate: Bool = false
    ) async throws {
        let id = UUIDv7.make(at: Date())
        var sealed: [UInt8]?
        if let detail, let key = metadataKeys.withLock({ $0[message] }) {
            sealed = try SealedField.seal(
                Array(detail.utf8), key: key, context: key.context, field: SealedField.event(id))
        }
        let parameters: [PostgresValue] = [
            .uuid(id), .text(tenant), .uuid(message), .optional(recipient), .text(kind), .timestamp(Date()),
            .optional(reason), .bool(possibleDuplicate), .optional(sealed),
        ]
        try await admin.withConnection { connection in
            try await connection.perform { session in
                _ = try session.query(
                    """
                    INSERT INTO ledger.event (id, tenant, message_id, rcpt_no, kind, at, reason_code, possible_duplicate,
                        sealed_detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                    """, parameters)
            }
        }
    }

    /// Runs a server while `body` runs.
    /// - Parameter members: of shard `a`, the follower last; empty: the one server there is.
    func serving<T: Sendable>(
        _ settings: [String] = [], readiness: Readiness = Readiness(), judge: DomainJudge? = nil,
        rulesets: [Ruleset] = RulesetBook().all, members: [PostgresPool] = [],
        _ body: @escaping @Sendable (ServedAPI) async throws -> T
    ) async throws -> T {
        let identity = try authority.issue(["localhost"])
        let settings = try APISettings(
            Settings(assignments: ["api.certificate=in memory", "api.key=in memory"] + settings))
        let (ports, port) = AsyncStream<Int>.makeStream()
        let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let apiPool = pool("zegel_api")
        let server = APIServer(
            listen: HostPort(host: "127.0.0.1", port: 0), settings: settings,
            tls: try TLSContext.server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM,
                alpn: ["http/1.1"]),
            ledgers: [EventLedger(shard: "a", members: members.isEmpty ? [apiPool] : members)],
            control: ControlLedger(pool: members.last ?? apiPool),
            keys: keys,
            region: "a", judge: judge, rulesets: rulesets, readiness: readiness, logger: quiet
        ) { port.yield($0) }
        let group = ServiceGroup(configuration: .init(services: [server], logger: quiet))
        let rootPEM = Array(try authority.certificate.serializeAsPEM().pemString.utf8)
        return try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            var bound = ports.makeAsyncIterator()
            guard let port = await bound.next() else {
                throw FixtureError(description: "the server did not start")
            }
            let result: T
            do {
                result = try await body(ServedAPI(port: port, rootPEM: rootPEM, group: group))
            } catch {
                await group.triggerGracefulShutdown()
                throw error
            }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
            await apiPool.close()
            return result
        }
    }
}

/// Metadata keys of the messages that the test accepted.
private final class MetadataKeys: Sendable {
    private let keys = Mutex<[UUID: MessageKey]>([:])
    func withLock<T: Sendable>(_ body: (inout sending [UUID: MessageKey]) -> sending T) -> T {
        keys.withLock(body)
    }
}

struct FixtureError: Error, CustomStringConvertible { var description: String }

/// A running server.
struct ServedAPI: Sendable {
    let port: Int
    let rootPEM: [UInt8]
    let group: ServiceGroup

    func client(_ key: APIKeyText, deadline: Duration = .seconds(15)) throws -> APIClient {
        try APIClient(
            url: "https://localhost:\(port)", key: key.text, authoritiesPEM: rootPEM, deadline: deadline)
    }
}

extension APIClient {
    /// A page once it has at least `count` events. Transactions of other tests' databases in the same cluster hold every
    /// feed back for a moment.
    func events(after cursor: String = "", atLeast count: Int) async throws -> EventPageBody {
        let end = ContinuousClock.now + .seconds(30)
        while true {
            let page = try await events(after: cursor, limit: 1000)
            if page.events.count >= count || ContinuousClock.now > end { return page }
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}
