// The keyring's store and its sockets: who may open what, what a fault does, what is left on record.

import Foundation
import Logging
import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import Sealing

/// A fresh private directory, removed when the value goes.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path =
            FileManager.default.temporaryDirectory.appendingPathComponent(
                "zegel-sealing-\(UUID().uuidString.prefix(8))"
            ).path
        try FileManager.default.createDirectory(
            atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Keeps what is logged.
final class LogStore: Sendable {
    struct Line: Sendable {
        var level: Logger.Level
        var message: String
        var metadata: [String: String]
    }

    private let lines = Mutex<[Line]>([])

    var all: [Line] { lines.withLock { $0 } }

    struct Handler: LogHandler {
        let store: LogStore
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func log(event: LogEvent) {
            let line = Line(
                level: event.level, message: "\(event.message)",
                metadata: (event.metadata ?? [:]).mapValues { "\($0)" })
            store.lines.withLock { $0.append(line) }
        }
    }

    var logger: Logger { Logger(label: "test") { _ in Handler(store: self) } }
}

/// A keyring of region `a` with keys for today, and a sealer that uses them.
struct KeyringFixture {
    let directory: TemporaryDirectory
    let keyring: Keyring
    let epoch = KeyEpoch.containing(Date())

    init() throws {
        directory = try TemporaryDirectory()
        keyring = try Keyring(directory: directory.path + "/keyring", region: "a", create: true)
        try keyring.generate(epochs: epoch...epoch + 1)
    }

    func sealer() throws -> Sealer {
        let now = Date()
        return try Sealer(
            keySet: RegionKeySet(
                version: 1, issued: now, expires: now.addingTimeInterval(86400), keys: keyring.publicKeys()))
    }

    /// A wrapped message key and its record.
    func sealed(
        _ purpose: KeyPurpose
    ) throws -> (record: BatchKeyRecord, wrapped: WrappedMessageKey, context: SealingContext) {
        let sealer = try sealer()
        let context = SealingContext.test(purpose)
        let (_, wrapped) = try sealer.messageKey(context, now: Date())
        return (try #require(sealer.takeNewBatchKeys().first), wrapped, context)
    }

    func server(
        _ audit: LogStore, userIDs: Set<UInt32> = [geteuid()],
        limits: KeyringServer.Limits = KeyringServer.Limits()
    ) -> (KeyringServer, worker: String, api: String) {
        let worker = directory.path + "/worker.sock"
        let api = directory.path + "/api.sock"
        let server = KeyringServer(
            keyring: keyring,
            sockets: [
                .init(path: worker, name: "worker", purposes: [.content, .metadata], userIDs: userIDs),
                .init(path: api, name: "api", purposes: [.metadata], userIDs: userIDs),
            ], audit: audit.logger, group: MultiThreadedEventLoopGroup.singleton, limits: limits)
        return (server, worker, api)
    }
}

func client(_ path: String, deadline: Duration = .seconds(5)) async throws -> KeyringClient {
    var limits = KeyringClient.Limits()
    limits.deadline = deadline
    return try await KeyringClient(path: path, group: MultiThreadedEventLoopGroup.singleton, limits: limits)
}

@Suite("Keyring on disk")
struct KeyringStoreTests {
    @Test("files are 0600 in a directory of 0700, and keys survive a restart")
    func permissions() async throws {
        let fixture = try KeyringFixture()
        let path = fixture.directory.path + "/keyring"
        for name in try FileManager.default.contentsOfDirectory(atPath: path) {
            let mode =
                try FileManager.default.attributesOfItem(atPath: "\(path)/\(name)")[.posixPermissions] as? Int
            #expect(mode == 0o600, "\(name)")
        }
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o700)
        let (record, wrapped, context) = try fixture.sealed(.content)
        let again = try Keyring(directory: path, region: "a")
        #expect(try again.publicKeys() == fixture.keyring.publicKeys())
        let opener = BatchKeyOpener(
            service: LocalKeyService(keyring: again, purposes: [.content], audit: LogStore().logger),
            region: "a")
        _ = try await opener.messageKey(record: record, wrapped: wrapped, context: context)
    }

    @Test("a directory that others may enter is refused, and so is another region's")
    func refusals() throws {
        let fixture = try KeyringFixture()
        let path = fixture.directory.path + "/keyring"
        #expect(throws: KeyringError.self) { try Keyring(directory: path, region: "b") }
        chmod(path, 0o750)
        #expect { try Keyring(directory: path, region: "a") } throws: {
            ($0 as? KeyringError)?.code == .insecurePermissions
        }
        chmod(path, 0o700)
        chmod(path + "/region", 0o644)
        #expect { try Keyring(directory: path, region: "a") } throws: {
            ($0 as? KeyringError)?.code == .insecurePermissions
        }
    }

    @Test("generating twice makes nothing new; a destroyed epoch stays destroyed and says so")
    func destruction() async throws {
        let fixture = try KeyringFixture()
        #expect(try fixture.keyring.generate(epochs: fixture.epoch...fixture.epoch + 1) == 0)
        let (record, wrapped, context) = try fixture.sealed(.content)
        let service = LocalKeyService(
            keyring: fixture.keyring, purposes: [.content], audit: LogStore().logger)
        _ = try await BatchKeyOpener(service: service, region: "a").messageKey(
            record: record, wrapped: wrapped, context: context)
        // Another process destroys it: the one that holds the key in memory obeys at once.
        try Keyring(directory: fixture.directory.path + "/keyring", region: "a").destroy(
            .content, epoch: fixture.epoch)
        await #expect(throws: KeyServiceError.destroyed) {
            try await BatchKeyOpener(service: service, region: "a").messageKey(
                record: record, wrapped: wrapped, context: context)
        }
        #expect(try fixture.keyring.generate(epochs: fixture.epoch...fixture.epoch + 1) == 0)
        #expect(
            !FileManager.default.fileExists(
                atPath: "\(fixture.directory.path)/keyring/content-\(fixture.epoch).key"))
    }

    @Test("what was sealed in a destroyed epoch opens with none of the keys that are left")
    func shredded() throws {
        let fixture = try KeyringFixture()
        let (record, _, _) = try fixture.sealed(.content)
        let entry = try record.entry(for: "a")
        let all = try fixture.keyring.publicKeys()
        try fixture.keyring.destroy(.content, epoch: fixture.epoch)
        let left = try fixture.keyring.publicKeys()
        #expect(left.count == all.count - 1 && left.count >= 3)
        for key in left {
            let loaded = try #require(try fixture.keyring.load(.init(key.purpose, key.epoch)))
            for purpose in [KeyPurpose.content, .metadata] {
                for epoch in Set(all.map(\.epoch)) {
                    let context = BatchKeyContext(
                        id: record.id, tenant: record.tenant, purpose: purpose, epoch: epoch)
                    #expect(throws: KeyServiceError.malformed) {
                        try entry.unwrap(with: loaded.key, context: context)
                    }
                }
            }
        }
    }

    @Test("a key that the keyring does not have is unavailable, never destroyed")
    func absent() async throws {
        let fixture = try KeyringFixture()
        let (record, _, _) = try fixture.sealed(.content)
        let other = try TemporaryDirectory()
        let empty = try Keyring(directory: other.path + "/k", region: "a", create: true)
        #expect {
            try empty.open(record.entry(for: "a"), of: record.context)
        } throws: { error in
            if case .unavailable = error as? KeyServiceError { true } else { false }
        }
    }

    @Test("a damaged key file opens nothing")
    func corrupt() async throws {
        let fixture = try KeyringFixture()
        let (record, _, _) = try fixture.sealed(.content)
        let file = "\(fixture.directory.path)/keyring/content-\(fixture.epoch).key"
        let good = try [UInt8](Data(contentsOf: URL(fileURLWithPath: file)))
        for bit in stride(from: 0, to: good.count * 8, by: 7) {
            try Data(good.flipping(bit: bit)).write(to: URL(fileURLWithPath: file))
            chmod(file, 0o600)
            let keyring = try Keyring(directory: fixture.directory.path + "/keyring", region: "a")
            // Bits 80…207 are the times of its use, which matter to sealers only and are signed for in the key set.
            if (80..<208).contains(bit) { continue }
            #expect(throws: KeyServiceError.self, "bit \(bit)") {
                try keyring.open(record.entry(for: "a"), of: record.context)
            }
        }
    }
}

@Suite("Keyring behind its sockets")
struct KeyringServerTests {
    @Test("the worker's socket opens content and metadata, the API's only metadata; every use is on record")
    func purposes() async throws {
        let fixture = try KeyringFixture()
        let audit = LogStore()
        let (server, worker, api) = fixture.server(audit)
        try await server.start()
        let workerClient = try await client(worker)
        let apiClient = try await client(api)
        let content = try fixture.sealed(.content)
        let metadata = try fixture.sealed(.metadata)
        for (client, sealed) in [(workerClient, content), (workerClient, metadata), (apiClient, metadata)] {
            _ = try await BatchKeyOpener(service: client, region: "a").messageKey(
                record: sealed.record, wrapped: sealed.wrapped, context: sealed.context)
        }
        await #expect(throws: KeyServiceError.denied) {
            try await BatchKeyOpener(service: apiClient, region: "a").messageKey(
                record: content.record, wrapped: content.wrapped, context: content.context)
        }
        let lines = audit.all
        #expect(lines.map { $0.metadata["outcome"] } == ["opened", "opened", "opened", "denied"])
        let denied = try #require(lines.last)
        #expect(denied.metadata["socket"] == "api")
        #expect(denied.metadata["uid"] == "\(geteuid())")
        #expect(denied.metadata["pid"] == "\(getpid())")
        #expect(denied.metadata["purpose"] == "content")
        #expect(denied.metadata["epoch"] == "\(content.record.epoch)")
        #expect(denied.metadata["tenant"] == "demo")
        #expect(denied.metadata["batch"] == "\(content.record.id)")
        #expect(denied.metadata["key"] == "\(try content.record.entry(for: "a").keyID)")
        #expect(denied.metadata["request"] != nil)
        await workerClient.close()
        await apiClient.close()
        await server.stop()
    }

    @Test("a user that is not on the socket's list is turned away before it says anything")
    func peerCredentials() async throws {
        let fixture = try KeyringFixture()
        let audit = LogStore()
        let (server, worker, _) = fixture.server(audit, userIDs: [geteuid() + 1])
        try await server.start()
        let stranger = try await client(worker, deadline: .milliseconds(300))
        let sealed = try fixture.sealed(.content)
        await #expect(throws: KeyServiceError.self) {
            try await stranger.unwrap(sealed.record.entry(for: "a"), of: sealed.record.context)
        }
        #expect(audit.all.allSatisfy { $0.message == "peer refused" })
        #expect(!audit.all.isEmpty)
        await stranger.close()
        await server.stop()
    }

    @Test("one process serves a keyring; a second is refused and leaves the first's sockets alone")
    func exclusive() async throws {
        let fixture = try KeyringFixture()
        let (server, worker, _) = fixture.server(LogStore())
        try await server.start()
        let (second, _, _) = fixture.server(LogStore())
        await #expect(throws: KeyringError.self) { try await second.start() }
        let client = try await client(worker)
        let sealed = try fixture.sealed(.content)
        _ = try await client.unwrap(sealed.record.entry(for: "a"), of: sealed.record.context)
        await client.close()
        await server.stop()
    }

    @Test("a client rides over a restart of the keyring, and says unavailable past its deadline")
    func restart() async throws {
        let fixture = try KeyringFixture()
        let sealed = try fixture.sealed(.content)
        let (first, worker, _) = fixture.server(LogStore())
        let client = try await client(worker)
        let entry = try sealed.record.entry(for: "a")
        async let early = client.unwrap(entry, of: sealed.record.context)
        try await first.start()
        _ = try await early
        await first.stop()
        async let during = client.unwrap(entry, of: sealed.record.context)
        let (second, _, _) = fixture.server(LogStore())
        try await second.start()
        _ = try await during
        await second.stop()
        let impatient = try await impatientClient(worker)
        #expect(await unavailable(impatient, entry, sealed.record.context))
        await impatient.close()
        await client.close()
    }

    private func impatientClient(_ path: String) async throws -> KeyringClient {
        try await client(path, deadline: .milliseconds(150))
    }

    private func unavailable(_ client: KeyringClient, _ entry: WrappedBatchKey, _ batch: BatchKeyContext)
        async -> Bool
    {
        do {
            _ = try await client.unwrap(entry, of: batch)
            return false
        } catch {
            if case .unavailable = error { return true }
            return false
        }
    }

    @Test("500 requests of 20 tasks over one connection are all answered")
    func concurrency() async throws {
        let fixture = try KeyringFixture()
        var limits = KeyringServer.Limits()
        limits.requestsPerConnection = 32
        let (server, worker, _) = fixture.server(LogStore(), limits: limits)
        try await server.start()
        let client = try await client(worker, deadline: .seconds(30))
        let sealed = try fixture.sealed(.content)
        let entry = try sealed.record.entry(for: "a")
        let counts = await withTaskGroup(of: (opened: Int, refused: Int).self) { group in
            for _ in 0..<20 {
                group.addTask {
                    var counts = (opened: 0, refused: 0)
                    for _ in 0..<25 {
                        do {
                            _ = try await client.unwrap(entry, of: sealed.record.context)
                            counts.opened += 1
                        } catch {
                            counts.refused += 1
                        }
                    }
                    return counts
                }
            }
            return await group.reduce((opened: 0, refused: 0)) {
                ($0.opened + $1.opened, $0.refused + $1.refused)
            }
        }
        #expect(counts.opened == 500)
        await client.close()
        await server.stop()
    }

    @Test("garbage ends the connection that sent it and nothing else")
    func garbage() async throws {
        let fixture = try KeyringFixture()
        let audit = LogStore()
        let (server, worker, _) = fixture.server(audit)
        try await server.start()
        let sealed = try fixture.sealed(.content)
        let good = UnwrapRequest(batch: sealed.record.context, wrapped: try sealed.record.entry(for: "a"))
        let frame = KeyringProtocol.frame(.unwrap, UUID(), body: good.encoded)
        let seed = UInt64.random(in: .min ... .max)
        print("keyring garbage seed \(seed)")
        var random = SeededGenerator(seed: seed)
        for round in 0..<200 {
            var bytes: [UInt8]
            switch round % 4 {
            case 0:
                bytes = (0..<Int.random(in: 0..<3000, using: &random)).map { _ in
                    .random(in: 0...255, using: &random)
                }
            case 1: bytes = frame.flipping(bit: .random(in: 0..<frame.count * 8, using: &random))
            case 2: bytes = Array(frame.prefix(.random(in: 0..<frame.count, using: &random)))
            default:
                bytes = [0, 0] + [UInt8](repeating: 0xFF, count: 64)
            }
            try Self.sendRaw(bytes, to: worker)
        }
        let client = try await client(worker)
        _ = try await client.unwrap(good.wrapped, of: good.batch)
        await client.close()
        await server.stop()
    }

    @Test("connections past the bound are closed; those before it work on")
    func connectionBound() async throws {
        let fixture = try KeyringFixture()
        var limits = KeyringServer.Limits()
        limits.connections = 2
        let (server, worker, _) = fixture.server(LogStore(), limits: limits)
        try await server.start()
        let sealed = try fixture.sealed(.content)
        let entry = try sealed.record.entry(for: "a")
        let first = try await client(worker)
        let second = try await client(worker)
        _ = try await first.unwrap(entry, of: sealed.record.context)
        _ = try await second.unwrap(entry, of: sealed.record.context)
        let third = try await client(worker, deadline: .milliseconds(200))
        #expect(await unavailable(third, entry, sealed.record.context))
        _ = try await first.unwrap(entry, of: sealed.record.context)
        await first.close()
        let fourth = try await client(worker)
        _ = try await fourth.unwrap(entry, of: sealed.record.context)
        for client in [second, third, fourth] { await client.close() }
        await server.stop()
    }

    /// Connects, writes the bytes and hangs up.
    private static func sendRaw(_ bytes: [UInt8], to path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(connected == 0)
        _ = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    }
}

/// A generator that can be run again with its seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
