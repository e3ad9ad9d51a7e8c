// Forward secrecy at the edge: what the process holds after a message does not lead back to that message's key.

import Crypto
import Foundation
import Testing

@testable import Sealing

@Suite("Ratchet and sealer")
struct RatchetTests {
    private func bytes(_ key: SymmetricKey) -> [UInt8] { key.withUnsafeBytes { [UInt8]($0) } }

    @Test("the whole state after message i opens message i + 1 and later, never i or earlier")
    func forwardSecrecy() throws {
        let batch = UUID()
        let start = FixedStream("K0").source.secret(32)
        let total: Int32 = 20
        var ratchet = Ratchet(batchKeyID: batch, chain: start)
        let context = SealingContext.test(.content)
        var wrapped: [WrappedMessageKey] = []
        var states: [Ratchet] = []
        for index in 0..<total {
            let key = ratchet.step()
            wrapped.append(
                try WrappedMessageKey.make(
                    batchKeyID: batch, index: index, wrappingKey: key, context: context, random: .system
                ).1)
            states.append(ratchet)
        }
        for taken in 0..<Int(total) {
            // Whoever has the state can run it as far as they like, and use each chain key as a wrapping key too.
            var attacker = states[taken]
            #expect(attacker.index == Int32(taken) + 1)
            var keys: [SymmetricKey] = []
            for _ in 0..<total { keys.append(attacker.step()) }
            for earlier in 0...taken {
                for key in keys {
                    #expect(throws: SealingError.integrityFailure) {
                        try wrapped[earlier].open(wrappingKey: key, context: context)
                    }
                }
            }
            if taken + 1 < Int(total) {
                _ = try wrapped[taken + 1].open(wrappingKey: keys[0], context: context)
            }
        }
    }

    @Test("the bytes of K_i are gone from memory once message i is sealed")
    func erased() {
        // SecretBytes overwrites its buffer when it goes, so it is enough that nothing holds the object any more. The
        // freed buffer itself may already be someone else's and cannot be looked at.
        let chain = FixedStream("chain").source.secret(32)
        weak let watched = chain
        var ratchet = Ratchet(batchKeyID: UUID(), chain: chain)
        _ = consume chain
        #expect(watched != nil)
        _ = ratchet.step()
        #expect(watched == nil)
    }

    @Test("an opener gets the key of any index, in any order, with a bounded walk")
    func opening() {
        let batch = UUID()
        let start = FixedStream("K0").source.secret(32)
        var ratchet = Ratchet(batchKeyID: batch, chain: start)
        let expected = (0..<700).map { _ in bytes(ratchet.step()) }
        var opened = OpenedBatchKey(batchKeyID: batch, key: start)
        let orders: [[Int]] = [
            [699, 0, 64, 63, 65, 128, 127, 640, 1], Array(0..<700), Array((0..<700).reversed()),
            (0..<700).map { $0 * 337 % 700 },
        ]
        for order in orders {
            for index in order { #expect(opened.wrappingKey(Int32(index)).map(bytes) == expected[index]) }
        }
        #expect(opened.wrappingKey(-1) == nil)
        #expect(opened.wrappingKey(BatchKeyLimits.maximumMessages) == nil)
    }

    @Test("a batch key lives for so long and so many messages, one tenant, one purpose and one epoch")
    func life() throws {
        let service = try MemoryKeyService()
        var limits = Sealer.Limits()
        limits.messages = 4
        let sealer = Sealer(keySet: try keySet(service), limits: limits)
        func batch(_ context: SealingContext, _ seconds: TimeInterval) throws -> (UUID, Int32) {
            let (_, wrapped) = try sealer.messageKey(context, now: testNow.addingTimeInterval(seconds))
            return (wrapped.batchKeyID, wrapped.index)
        }
        let first = try batch(.test(.content), 0)
        #expect(first.1 == 0)
        #expect(try batch(.test(.content), 299) == (first.0, 1))
        let late = try batch(.test(.content), 301)
        #expect(late.0 != first.0 && late.1 == 0)
        #expect(try batch(.test(.metadata), 301).0 != late.0)
        #expect(try batch(.test(.content, tenant: "other"), 301).0 != late.0)
        for index in 1..<4 { #expect(try batch(.test(.content), 302) == (late.0, Int32(index))) }
        #expect(try batch(.test(.content), 303).0 != late.0)
        // A clock that falls far back does not stretch a life.
        let before = try batch(.test(.content), 304)
        #expect(try batch(.test(.content), -304).0 != before.0)
        #expect(sealer.takeNewBatchKeys().count == 6)
    }

    @Test("records go out once, and are bounded")
    func uncommitted() throws {
        let service = try MemoryKeyService()
        var limits = Sealer.Limits()
        limits.uncommitted = 2
        let sealer = Sealer(keySet: try keySet(service), limits: limits)
        _ = try sealer.messageKey(.test(.content), now: testNow)
        _ = try sealer.messageKey(.test(.metadata), now: testNow)
        #expect(throws: SealingError.self) {
            try sealer.messageKey(.test(.content, tenant: "third"), now: testNow)
        }
        let all = sealer.takeNewBatchKeys()
        #expect(all.map(\.purpose) == [.content, .metadata])
        _ = try sealer.messageKey(.test(.content, tenant: "third"), now: testNow)
    }

    @Test("a key set without a key for every region, or past its expiry, seals nothing")
    func unusable() throws {
        let a = try MemoryKeyService(region: "a")
        let b = try MemoryKeyService(region: "b")
        let keys = a.regionKeys([testEpoch]) + b.regionKeys([testEpoch]).filter { $0.purpose == .metadata }
        let partial = try RegionKeySet(
            version: 1, issued: testNow, expires: testNow.addingTimeInterval(10_000), keys: keys)
        let sealer = Sealer(keySet: partial)
        #expect(throws: SealingError.noUsableKey(.content, epoch: testEpoch)) {
            try sealer.messageKey(.test(.content), now: testNow)
        }
        _ = try sealer.messageKey(.test(.metadata), now: testNow)
        #expect(throws: SealingError.keySetExpired) {
            try sealer.messageKey(.test(.metadata), now: testNow.addingTimeInterval(10_001))
        }
        #expect(throws: SealingError.noUsableKey(.metadata, epoch: testEpoch - 1)) {
            try sealer.messageKey(.test(.metadata), now: testNow.addingTimeInterval(-86400))
        }
        #expect(partial.sealableUntil(from: testNow) == nil)
        // A newer set takes over, an older one is ignored.
        sealer.replace(keySet: try keySet(a, b, version: 2))
        sealer.replace(keySet: partial)
        #expect(sealer.keySetVersion == 2)
        _ = try sealer.messageKey(.test(.content), now: testNow)
        #expect(try keySet(a, b).sealableUntil(from: testNow) == KeyEpoch.start(of: testEpoch + 1))
    }

    @Test("many threads sealing at once never share an index of a batch key")
    func concurrency() async throws {
        let sealer = Sealer(keySet: try keySet(MemoryKeyService()))
        let all = try await withThrowingTaskGroup(of: [WrappedMessageKey].self) { group in
            for _ in 0..<8 {
                group.addTask {
                    try (0..<300).map { _ in try sealer.messageKey(.test(.content), now: testNow).1 }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(all.count == 2400)
        #expect(Set(all.map { "\($0.batchKeyID) \($0.index)" }).count == 2400)
        #expect(sealer.takeNewBatchKeys().count == 3)
    }

    @Test(
        "batch keys whose time is over are erased, and the least recently used goes when there are too many")
    func erasing() throws {
        var limits = Sealer.Limits()
        limits.batchKeys = 2
        let sealer = Sealer(keySet: try keySet(MemoryKeyService()), limits: limits)
        func batch(_ tenant: String, _ seconds: TimeInterval) throws -> UUID {
            try sealer.messageKey(.test(.content, tenant: tenant), now: testNow.addingTimeInterval(seconds)).1
                .batchKeyID
        }
        let a = try batch("a", 0)
        let b = try batch("b", 1)
        #expect(try batch("a", 2) == a)
        _ = try batch("c", 3)
        #expect(try batch("a", 4) == a)
        #expect(try batch("b", 5) != b)
        sealer.eraseExpired(now: testNow.addingTimeInterval(1000))
        #expect(try batch("a", 6) != a)
    }
}
