// A whole edge on loopback with a real PostgreSQL: tenant `demo`, domain `demo.test`, user `user`, password `secret`.

import Crypto
import Foundation
import Lab
import Ledger
import Logging
import NIOCore
import Postgres
import SMTP
import Sealing
import ServiceLifecycle
import Settings
import Synchronization
import TLS
import Testing

@testable import Edge
@testable import Observability

/// The database, the keys and the certificate of an edge under test.
struct EdgeFixture: Sendable {
    let postgres: TemporaryPostgres
    let database: String
    let admin: PostgresPool
    let authority: TestAuthority
    let directory: String
    let root: Curve25519.Signing.PrivateKey
    let keyring: Keyring

    /// - Parameter ownServer: A PostgreSQL of its own, which the test may kill.
    static func make(ownServer: Bool = false) async throws -> EdgeFixture {
        let postgres = ownServer ? try await TemporaryPostgres.start() : try await TemporaryPostgres.shared()
        let database = try await postgres.createDatabase()
        let admin = PostgresPool(
            configuration: PostgresConfiguration(postgres.dsn(database: database)), limit: 2,
            waitLimit: .seconds(20))
        _ = try await admin.withConnection { try await Migrator().migrate($0) }
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("edge-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let keyring = try Keyring(directory: directory + "/keys", region: "a", create: true)
        let epoch = KeyEpoch.containing(Date())
        try keyring.generate(epochs: epoch...epoch + 1)
        let root = Curve25519.Signing.PrivateKey()
        let keySet = try RegionKeySet(
            version: 1, issued: Date(), expires: Date() + 86_400, keys: try keyring.publicKeys())
        let control = ControlAdministration(pool: admin)
        try await control.putTenant(id: "demo", name: "Demo", defaultRuleset: "secure")
        try await control.putSenderDomain("demo.test", tenant: "demo")
        try await control.putCredential(
            CredentialRow(id: UUID(), tenant: "demo", username: "user", password: "secret"))
        try await control.putKeySet(version: 1, signed: try keySet.signed(by: root))
        return EdgeFixture(
            postgres: postgres, database: database, admin: admin, authority: try TestAuthority(),
            directory: directory, root: root, keyring: keyring)
    }

    func remove() { try? FileManager.default.removeItem(atPath: directory) }

    /// Starts an edge and waits until it is ready.
    func start(_ assignments: [String] = []) async throws -> RunningEdge {
        let identity = try authority.issue(["edge.test"])
        let certificate = directory + "/edge.pem"
        let key = directory + "/edge.key"
        try Data(identity.chainPEM).write(to: URL(fileURLWithPath: certificate))
        try Data(identity.privateKeyPEM).write(to: URL(fileURLWithPath: key))
        let settings = try Settings(
            assignments: [
                "control.dsn=\(postgres.dsn(database: database, user: "zegel_edge"))",
                "edge.listen=127.0.0.1:0", "edge.listen_tls=127.0.0.1:0", "edge.hostname=edge.test",
                "edge.certificate=\(certificate)", "edge.key=\(key)", "edge.settle=10s",
                "node.shutdown_grace=12s",
                "keys.root_public=\(Data(root.publicKey.rawRepresentation).base64EncodedString())",
            ] + assignments)
        try EdgeNode.validate(settings)
        let bound = Mutex<[SocketAddress]>([])
        let readiness = Readiness()
        let quiet = Logger(label: "edge") { _ in SwiftLogNoOpLogHandler() }
        let node = try await EdgeNode(
            NodeContext(
                role: "zegel-edge", settings: settings, node: NodeSettings(settings), logger: quiet,
                readiness: readiness, metrics: MetricsRegistry())
        ) { addresses in bound.withLock { $0 = addresses } }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: node.services.map { .init(service: $0) }, gracefulShutdownSignals: [], logger: quiet
            ))
        let task = Task { try await group.run() }
        try await eventually("the edge is ready", within: .seconds(30)) { readiness.isReady }
        let ports = bound.withLock { $0.compactMap(\.port) }
        let trust = try TLSContext.client(trust: .pem(authority.rootPEM))
        return RunningEdge(
            plainPort: ports[0], tlsPort: ports[1], readiness: readiness, group: group, task: task,
            trust: trust)
    }

    /// A connection of the owner's, for a test that holds a lock.
    func connection() async throws -> PostgresConnection {
        try await PostgresConnection.connect(PostgresConfiguration(postgres.dsn(database: database)))
    }

    /// One number from the database, asked by the owner.
    func count(_ sql: String) async throws -> Int64 {
        try await admin.withConnection { connection in
            try await connection.perform { try $0.query(sql).first?.int8(0) ?? -1 }
        }
    }

    struct Stored {
        var envelope: Envelope
        var recipients: [EnvelopeRecipient]
        var content: [UInt8]
    }

    /// A message as a worker would open it.
    func open(_ id: UUID) async throws -> Stored {
        let (message, frames, recipients) = try await admin.withConnection { connection in
            try await connection.perform { session in
                (
                    try session.query("SELECT * FROM ledger.message WHERE id = $1", [.uuid(id)]).first.map {
                        _ in
                        try session.query(
                            """
                            SELECT m.batch_key_id, m.batch_key_index, m.wrapped_message_key, c.tenant, c.epoch, c.created_at, c.wrapped,
                                   m.metadata_key_id, m.metadata_key_index, m.wrapped_metadata_key, d.epoch, d.created_at, d.wrapped,
                                   m.sealed_envelope
                            FROM ledger.message m JOIN ledger.batch_key c ON c.id = m.batch_key_id
                            JOIN ledger.batch_key d ON d.id = m.metadata_key_id WHERE m.id = $1
                            """, [.uuid(id)]
                        ).first
                    },
                    try session.query(
                        """
                        SELECT string_agg(sealed, ''::bytea ORDER BY part) FROM ledger.content WHERE message_id = $1
                        GROUP BY frame_no ORDER BY frame_no
                        """,
                        [.uuid(id)]
                    ).map { try $0.bytes(0) },
                    try session.query(
                        "SELECT sealed_address FROM ledger.recipient WHERE message_id = $1 ORDER BY rcpt_no",
                        [.uuid(id)]
                    ).map { try $0.bytes(0) }
                )
            }
        }
        guard let row = message ?? nil else { throw LabError("no message \(id)") }
        let service = LocalKeyService(
            keyring: keyring, purposes: [.content, .metadata],
            audit: Logger(label: "audit") { _ in SwiftLogNoOpLogHandler() })
        let opener = BatchKeyOpener(service: service, region: "a", capacity: 16)
        let tenant = try row.text(3)
        func key(_ purpose: KeyPurpose, _ column: Int, _ record: Int) async throws -> MessageKey {
            try await opener.messageKey(
                record: BatchKeyRecord(
                    id: try row.uuid(column), tenant: tenant, purpose: purpose, epoch: try row.int4(record),
                    createdAt: try row.timestamp(record + 1), wrapped: try row.bytes(record + 2)),
                wrapped: WrappedMessageKey(
                    batchKeyID: try row.uuid(column), index: try row.int4(column + 1),
                    bytes: try row.bytes(column + 2)),
                context: SealingContext(tenant: tenant, message: id, purpose: purpose))
        }
        let contentKey = try await key(.content, 0, 4)
        let metadataKey = try await key(.metadata, 7, 10)
        var content: [UInt8] = []
        var frameOpener = FrameOpener(key: contentKey, context: contentKey.context)
        for frame in frames { content += try frameOpener.open(frame).bytes }
        try frameOpener.finish()
        return Stored(
            envelope: try Envelope(
                decoding: try SealedField.open(
                    try row.bytes(13), key: metadataKey, context: metadataKey.context,
                    field: SealedField.envelope)),
            recipients: try recipients.enumerated().map { number, sealed in
                try EnvelopeRecipient(
                    decoding: try SealedField.open(
                        sealed, key: metadataKey, context: metadataKey.context,
                        field: SealedField.address(Int32(number))))
            }, content: content)
    }
}

/// An edge that runs in this process.
struct RunningEdge: Sendable {
    let plainPort: Int
    let tlsPort: Int
    let readiness: Readiness
    let group: ServiceGroup
    let task: Task<Void, any Error>
    let trust: TLSContext

    func stop() async throws {
        await group.triggerGracefulShutdown()
        try await task.value
    }

    /// A client over implicit TLS that has said EHLO and who it is.
    func client(password: String = "secret") async throws -> SMTPTestClient {
        let client = try await SMTPTestClient.connect(tlsPort, tls: trust)
        #expect(try await client.reply().hasPrefix("220 edge.test"))
        try await client.send("EHLO c.test\r\n")
        _ = try await client.reply()
        try await client.send("AUTH PLAIN \(Data("\0user\0\(password)".utf8).base64EncodedString())\r\n")
        let reply = try await client.reply()
        guard reply.hasPrefix("235") else { throw LabError("not authenticated: \(reply)") }
        return client
    }
}
