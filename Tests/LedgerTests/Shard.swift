// What every test of the ledger starts from: a migrated database of its own, and hands of every role on it.

import Foundation
import Lab
import Ledger
import Postgres

/// One shard on a real server.
struct Shard: Sendable {
    let server: TemporaryPostgres
    let database: String
    let owner: PostgresPool
    let edge: PostgresPool
    let worker: PostgresPool
    let api: PostgresPool

    /// A fresh database with the schema and the tenant `demo`.
    static func make(on server: TemporaryPostgres? = nil) async throws -> Shard {
        let server = if let server { server } else { try await TemporaryPostgres.shared() }
        let database = try await server.createDatabase()
        func pool(_ user: String, _ limit: Int) -> PostgresPool {
            PostgresPool(
                configuration: PostgresConfiguration(server.dsn(database: database, user: user)),
                limit: limit,
                waitLimit: .seconds(60))
        }
        let shard = Shard(
            server: server, database: database, owner: pool("postgres", 3), edge: pool("zegel_edge", 4),
            worker: pool("zegel_worker", 6), api: pool("zegel_api", 2))
        _ = try await shard.owner.withConnection { try await Migrator().migrate($0) }
        try await ControlAdministration(pool: shard.owner)
            .putTenant(id: "demo", name: "Demo", defaultRuleset: "opportunistic")
        return shard
    }

    var intake: IntakeLedger { IntakeLedger(shard: "a", pool: edge) }
    var work: WorkLedger { WorkLedger(shard: "a", pool: worker) }
    var events: EventLedger { EventLedger(shard: "a", pool: api) }

    /// Runs SQL as the owner.
    func execute(_ sql: String) async throws {
        try await owner.withConnection { connection in
            _ = try await connection.perform { try $0.execute(sql) }
        }
    }

    /// Rows of a query by the owner.
    func rows(_ sql: String, _ parameters: [PostgresValue] = []) async throws -> PostgresRows {
        try await owner.withConnection { connection in
            try await connection.perform { try $0.query(sql, parameters) }
        }
    }

    func number(_ sql: String, _ parameters: [PostgresValue] = []) async throws -> Int {
        Int(try await rows("SELECT (\(sql))::bigint", parameters)[0].int8(0))
    }

    /// Commits messages as an edge does.
    func accept(_ messages: [MessageRow]) async throws {
        var batch = IntakeBatch()
        batch.messages = messages
        let outcome = await intake.commit(batch)
        guard case .durable = outcome else { throw LabError("not accepted: \(outcome)") }
    }

    /// A registered worker with a lease.
    func newWorker(lease: Duration = .seconds(60)) async throws -> UUID {
        let id = UUID()
        try await work.register(worker: id, name: "w", region: "a", lease: lease)
        return id
    }

    func close() async {
        for pool in [owner, edge, worker, api] { await pool.close() }
        try? await server.dropDatabase(database)
    }
}

enum Mail {
    /// UUIDv7 (RFC 9562 §5.7).
    static func id(at date: Date = Date()) -> UUID {
        var bytes = UUID().uuid
        let milliseconds = UInt64(date.timeIntervalSince1970 * 1000)
        withUnsafeMutableBytes(of: &bytes) { raw in
            for index in 0..<6 {
                raw[index] = UInt8(truncatingIfNeeded: milliseconds >> (40 - 8 * UInt64(index)))
            }
            raw[6] = raw[6] & 0x0F | 0x70
        }
        return UUID(uuid: bytes)
    }

    static func tag() -> [UInt8] { (0..<32).map { _ in UInt8.random(in: 0...255) } }

    /// A message with one delivery a lane.
    static func make(
        lanes: [String] = ["peer.test"], recipientsPerLane: Int32 = 1, at: Date = Date(), tag: [UInt8]? = nil,
        secret: [UInt8] = [1, 2, 3], frames: [[UInt8]]? = nil
    ) -> MessageRow {
        let frames = frames ?? [secret]
        let key = KeyReference(batchKeyID: UUID(), index: 0, wrapped: secret)
        var recipients: [RecipientRow] = []
        for delivery in lanes.indices {
            for _ in 0..<recipientsPerLane {
                recipients.append(
                    RecipientRow(
                        number: Int32(recipients.count), delivery: Int32(delivery), sealedAddress: secret))
            }
        }
        return MessageRow(
            id: id(at: at), tenant: "demo", acceptedAt: at, ruleset: "opportunistic", size: 10,
            keyedDigest: secret, contentKey: key, metadataKey: key, sealedEnvelope: secret, frames: frames,
            frameCount: Int32(frames.count),
            deliveries: lanes.enumerated().map { DeliveryRow(number: Int32($0), lane: $1) },
            recipients: recipients, replayTag: tag)
    }

    /// What a worker reports when it is done with a claim.
    static func completion(
        _ claim: ClaimedDelivery, _ state: EndedRecipient.State = .delivered, step: DeliveryStep = .ends,
        kind: EventKind = .delivered
    ) -> Completion {
        Completion(
            reference: claim.reference, deliveriesOfMessage: claim.deliveries, tenant: claim.tenant,
            ended: { if case .ends = step { true } else { false } }()
                ? claim.recipients.map { EndedRecipient(number: $0.number, state: state) } : [],
            step: step,
            events: claim.recipients.map {
                EventRow(
                    id: id(), tenant: claim.tenant, message: claim.reference.message, recipient: $0.number,
                    kind: kind, at: Date())
            }, shreddedEventID: id())
    }
}

/// Reproducible randomness.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    /// A generator whose seed is printed, and can be given back in ZEGEL_SEED.
    static func seeded(_ test: String = #function) -> SplitMix {
        let given = ProcessInfo.processInfo.environment["ZEGEL_SEED"].flatMap { UInt64($0) }
        let seed = given ?? UInt64.random(in: 0...UInt64.max)
        print("\(test): seed \(seed)")
        return SplitMix(state: seed)
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
