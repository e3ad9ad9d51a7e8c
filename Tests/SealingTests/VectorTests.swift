// Test vectors of docs/sealed-format.md. The format may not drift: what is written here once must come out again, byte
// for byte, from the same keys, nonces and salts, and must open. `ZEGEL_WRITE_VECTORS=1` writes the file anew; do that
// only together with a new format version. An independent implementation (Vectors/verify.py, on Python's `cryptography`)
// opens all of it too.

import Crypto
import Foundation
import Testing

@testable import Sealing

/// The file's shape; every value is lower-case hexadecimal unless it is text or a number.
private struct Vectors: Codable, Equatable {
    struct Batch: Codable, Equatable {
        var id: String
        var tenant: String
        var purpose: String
        var epoch: Int32
        var region: String
        var keyID: String
        var algorithm: String
        var privateSeed: String
        var publicKey: String
        var key: String
        var wrapped: String
    }
    struct Message: Codable, Equatable {
        var id: String
        var purpose: String
        var index: Int32
        var chainKey: String
        var wrappingKey: String
        var nextChainKey: String
        var messageKey: String
        var workingKey: String
        var commitment: String
        var wrapped: String
    }
    struct Content: Codable, Equatable {
        var parts: [String]
        var frames: [String]
        var sha256: String
        var digest: String
    }
    struct Field: Codable, Equatable {
        var name: String
        var plaintext: String
        var sealed: String
    }
    struct Tag: Codable, Equatable {
        var dailyKey: String
        var envelope: String
        var tag: String
    }
    struct KeySet: Codable, Equatable {
        var rootPublic: String
        var now: Int64
        var version: Int64
        var signed: String
        var keyIDs: [String]
    }
    var batches: [Batch]
    var messages: [Message]
    var content: Content
    var field: Field
    var replayTag: Tag
    var keySet: KeySet
}

@Suite("Test vectors")
struct VectorTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent(
            "Vectors")
    private static let file = folder.appendingPathComponent("sealed-format-1.json")

    private static func hex(_ bytes: some ContiguousBytes) -> String {
        bytes.withUnsafeBytes { raw in
            raw.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
    }

    private static func bytes(_ hex: String) throws -> [UInt8] {
        let digits = try hex.map { try #require($0.hexDigitValue) }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    private static func uuid(_ text: String) throws -> UUID { try #require(UUID(uuidString: text)) }

    private static let messageID = "01922f2e-5c3a-7b11-9d42-a1b2c3d4e5f6"
    private static let batchIDs = [
        "01922f2e-0000-7000-8000-000000000001", "01922f2e-0000-7000-8000-000000000002",
    ]

    /// Everything that follows from fixed inputs. Nonces, salts and keys are fixed streams; only HPKE's encapsulation
    /// cannot be fixed, so the wrapped batch keys are those of the file.
    private static func make(wrapped: [String]) throws -> Vectors {
        var batches: [Vectors.Batch] = []
        var messages: [Vectors.Message] = []
        var keys: [MessageKey] = []
        for (number, purpose) in KeyPurpose.allCases.enumerated() {
            let seed = FixedStream("region key \(purpose.rawValue)").source.bytes(32)
            let privateKey = try XWingMLKEM768X25519.PrivateKey(seedRepresentation: seed, publicKey: nil)
            let publicKey = Array(privateKey.publicKey.rawRepresentation)
            let regionKey = RegionKey(
                region: "north", purpose: purpose, epoch: testEpoch, notBefore: KeyEpoch.start(of: testEpoch),
                notAfter: KeyEpoch.start(of: testEpoch + 1), algorithm: .xwing, publicKey: publicKey)
            let batch = BatchKeyContext(
                id: try uuid(batchIDs[number]), tenant: "demo", purpose: purpose, epoch: testEpoch)
            let batchKey = FixedStream("batch key \(purpose.rawValue)").source.secret(32)
            var record = ""
            if wrapped.isEmpty {
                record = hex(
                    BatchKeyRecord.encode([try WrappedBatchKey.wrap(batchKey, context: batch, for: regionKey)]
                    ))
            } else {
                record = wrapped[number]
            }
            batches.append(
                Vectors.Batch(
                    id: batchIDs[number], tenant: "demo", purpose: purpose.rawValue, epoch: testEpoch,
                    region: "north", keyID: "\(regionKey.keyID)", algorithm: regionKey.algorithm.rawValue,
                    privateSeed: hex(seed), publicKey: hex(publicKey), key: hex(batchKey), wrapped: record))

            let context = SealingContext(tenant: "demo", message: try uuid(messageID), purpose: purpose)
            var ratchet = Ratchet(batchKeyID: batch.id, chain: batchKey)
            for _ in 0..<3 { _ = ratchet.step() }
            let chain = ratchet.chain
            let wrappingKey = ratchet.step()
            let stream = FixedStream("message \(purpose.rawValue)")
            let messageKey = FixedStream("message \(purpose.rawValue)").source.bytes(32)
            let (key, sealed) = try WrappedMessageKey.make(
                batchKeyID: batch.id, index: 3, wrappingKey: wrappingKey, context: context,
                random: stream.source)
            keys.append(key)
            messages.append(
                Vectors.Message(
                    id: messageID, purpose: purpose.rawValue, index: 3, chainKey: hex(chain),
                    wrappingKey: hex(wrappingKey), nextChainKey: hex(ratchet.chain),
                    messageKey: hex(messageKey), workingKey: hex(key.working),
                    commitment: hex(key.commitment),
                    wrapped: hex(sealed.bytes)))
        }

        let parts = ["From: a@demo.test\r\n\r\n", "Hello, ", "world.\r\n", ""].map { Array($0.utf8) }
        var sealer = try FrameSealer(
            key: keys[0], context: keys[0].context, frameSize: 32, random: FixedStream("salt").source)
        var frames: [String] = []
        var hasher = ContentHasher()
        for (number, part) in parts.enumerated() {
            hasher.update(part)
            frames.append(hex(try sealer.seal(part, isLast: number == parts.count - 1)))
        }
        let hash = hasher.finish()
        let envelope = Array("<a@demo.test> <b@example.test>".utf8)
        let dailyKey = FixedStream("daily key").source.bytes(32)
        let root = try Curve25519.Signing.PrivateKey(
            rawRepresentation: FixedStream("root").source.bytes(32))
        let set = try RegionKeySet(
            version: 42, issued: testNow, expires: testNow.addingTimeInterval(86400 * 15),
            keys: batches.map { batch in
                RegionKey(
                    region: batch.region, purpose: try #require(KeyPurpose(rawValue: batch.purpose)),
                    epoch: batch.epoch, notBefore: KeyEpoch.start(of: batch.epoch),
                    notAfter: KeyEpoch.start(of: batch.epoch + 1), algorithm: .xwing,
                    publicKey: try bytes(batch.publicKey))
            })
        return Vectors(
            batches: batches, messages: messages,
            content: Vectors.Content(
                parts: parts.map { hex($0) }, frames: frames, sha256: hex(hash.bytes),
                digest: hex(try KeyedDigest.content(hash, key: keys[0], context: keys[0].context))),
            field: Vectors.Field(
                name: SealedField.address(1), plaintext: hex(Array("b@example.test".utf8)),
                sealed: hex(
                    try SealedField.seal(
                        Array("b@example.test".utf8), key: keys[1], context: keys[1].context,
                        field: SealedField.address(1), random: FixedStream("field").source))),
            replayTag: Vectors.Tag(
                dailyKey: hex(dailyKey), envelope: hex(envelope),
                tag: hex(ReplayTag.make(dailyKey: dailyKey, envelope: envelope, content: hash))),
            keySet: Vectors.KeySet(
                rootPublic: hex(root.publicKey.rawRepresentation), now: Int64(testNow.timeIntervalSince1970),
                version: 42, signed: hex(try set.signed(by: root)), keyIDs: set.keys.map { "\($0.keyID)" }))
    }

    private static func read() throws -> Vectors {
        try JSONDecoder().decode(Vectors.self, from: Data(contentsOf: file))
    }

    @Test("the same keys, nonces and salts give the same bytes as ever")
    func reproduced() throws {
        if ProcessInfo.processInfo.environment["ZEGEL_WRITE_VECTORS"] == "1" {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
            try encoder.encode(Self.make(wrapped: [])).write(to: Self.file)
        }
        let stored = try Self.read()
        #expect(try Self.make(wrapped: stored.batches.map(\.wrapped)) == stored)
    }

    @Test("the vectors open, from the private region key down to the plaintext")
    func opened() throws {
        let vectors = try Self.read()
        var keys: [MessageKey] = []
        for (batch, message) in zip(vectors.batches, vectors.messages) {
            let purpose = try #require(KeyPurpose(rawValue: batch.purpose))
            let record = BatchKeyRecord(
                id: try Self.uuid(batch.id), tenant: batch.tenant, purpose: purpose, epoch: batch.epoch,
                createdAt: testNow, wrapped: try Self.bytes(batch.wrapped))
            let key = try XWingMLKEM768X25519.PrivateKey(
                seedRepresentation: try Self.bytes(batch.privateSeed), publicKey: nil)
            let batchKey = try record.entry(for: batch.region).unwrap(with: key, context: record.context)
            #expect(Self.hex(batchKey) == batch.key)
            var opened = OpenedBatchKey(batchKeyID: record.id, key: batchKey)
            let wrappingKey = opened.wrappingKey(message.index)
            let wrapped = WrappedMessageKey(
                batchKeyID: record.id, index: message.index, bytes: try Self.bytes(message.wrapped))
            keys.append(
                try wrapped.open(
                    wrappingKey: try #require(wrappingKey),
                    context: SealingContext(
                        tenant: "demo", message: try Self.uuid(message.id), purpose: purpose)))
        }
        var opener = FrameOpener(key: keys[0], context: keys[0].context)
        for (part, frame) in zip(vectors.content.parts, vectors.content.frames) {
            #expect(Self.hex(try opener.open(Self.bytes(frame)).bytes) == part)
        }
        try opener.finish()
        let field = try SealedField.open(
            Self.bytes(vectors.field.sealed), key: keys[1], context: keys[1].context,
            field: vectors.field.name)
        #expect(Self.hex(field) == vectors.field.plaintext)
        let set = try RegionKeySet.open(
            Self.bytes(vectors.keySet.signed),
            root: .init(rawRepresentation: Self.bytes(vectors.keySet.rootPublic)),
            now: Date(timeIntervalSince1970: Double(vectors.keySet.now)),
            atLeastVersion: vectors.keySet.version)
        #expect(set.keys.map { "\($0.keyID)" } == vectors.keySet.keyIDs)
    }

    /// Whether `python3` has a `cryptography` with ML-KEM.
    static let hasPython: Bool =
        run(["-c", "from cryptography.hazmat.primitives.asymmetric import mlkem"])?.status == 0

    private static func run(_ arguments: [String]) -> (status: Int32, output: String)? {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["timeout", "30", "python3"] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = pipe
        guard (try? process.run()) != nil else { return nil }
        let output = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: output, as: UTF8.self))
    }

    @Test("an independent implementation opens the vectors", .enabled(if: hasPython))
    func independent() throws {
        let result = try #require(
            Self.run([Self.folder.appendingPathComponent("verify.py").path, Self.file.path]))
        #expect(result.status == 0, "\(result.output)")
    }
}
