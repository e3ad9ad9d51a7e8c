// What sealing costs, in microseconds. Run by hand with optimisation on:
//   ZEGEL_BENCH=1 swift test -c release -Xswiftc -enable-testing --filter BenchmarkTests
// Budget: all parts of a 10 KB message with one recipient in about 25 µs.

import Foundation
import Testing

@testable import Sealing

@Suite(
    "Cost of sealing", .enabled(if: ProcessInfo.processInfo.environment["ZEGEL_BENCH"] != nil), .serialized)
struct BenchmarkTests {
    private func measure(_ name: String, count: Int = 20_000, _ body: () throws -> Void) rethrows {
        for _ in 0..<count / 10 { try body() }
        let clock = ContinuousClock()
        let elapsed = try clock.measure { for _ in 0..<count { try body() } }
        print("\(name): \((elapsed / count).timeInterval * 1e6) µs")
    }

    @Test("parts and whole of a 10 KB message")
    func message() throws {
        let sealer = Sealer(keySet: try keySet(MemoryKeyService()))
        let body = [UInt8](repeating: 0x61, count: 10_240)
        let envelope = [UInt8](repeating: 0x62, count: 300)
        let address = [UInt8](repeating: 0x63, count: 40)
        let daily = [UInt8](repeating: 7, count: 32)
        let content = SealingContext.test(.content)
        let metadata = SealingContext.test(.metadata)
        let (contentKey, _) = try sealer.messageKey(content, now: testNow)
        let (metadataKey, _) = try sealer.messageKey(metadata, now: testNow)

        try measure("message key, wrapped") { _ = try sealer.messageKey(content, now: testNow) }
        try measure("frame of 10 KB") {
            var frames = try FrameSealer(key: contentKey, context: content)
            _ = try frames.seal(body, isLast: true)
        }
        try measure("field") {
            _ = try SealedField.seal(address, key: metadataKey, context: metadata, field: "address/0")
        }
        try measure("hash, digest and replay tag") {
            var hasher = ContentHasher()
            hasher.update(body)
            let hash = hasher.finish()
            _ = try KeyedDigest.content(hash, key: contentKey, context: content)
            _ = ReplayTag.make(dailyKey: daily, envelope: envelope, content: hash)
        }
        measure("UUIDv7") { _ = UUIDv7.make(at: testNow) }
        try measure("all of a message") {
            let (contentKey, _) = try sealer.messageKey(content, now: testNow)
            let (metadataKey, _) = try sealer.messageKey(metadata, now: testNow)
            var frames = try FrameSealer(key: contentKey, context: content)
            _ = try frames.seal(body, isLast: true)
            _ = try SealedField.seal(
                envelope, key: metadataKey, context: metadata, field: SealedField.envelope)
            _ = try SealedField.seal(
                address, key: metadataKey, context: metadata, field: SealedField.address(0))
            var hasher = ContentHasher()
            hasher.update(body)
            let hash = hasher.finish()
            _ = try KeyedDigest.content(hash, key: contentKey, context: content)
            _ = ReplayTag.make(dailyKey: daily, envelope: envelope, content: hash)
        }
    }

    @Test("a region key's work: wrapping and unwrapping a batch key")
    func batchKey() throws {
        let service = try MemoryKeyService()
        let key = try #require(service.regionKeys([testEpoch]).first { $0.purpose == .content })
        let batch = BatchKeyContext(id: UUID(), tenant: "demo", purpose: .content, epoch: testEpoch)
        let secret = RandomSource.system.secret(32)
        try measure("wrap", count: 1000) { _ = try WrappedBatchKey.wrap(secret, context: batch, for: key) }
        let wrapped = try WrappedBatchKey.wrap(secret, context: batch, for: key)
        let privateKey = try #require(service.privateKeys[.content])
        try measure("unwrap", count: 1000) { _ = try wrapped.unwrap(with: privateKey, context: batch) }
    }
}
