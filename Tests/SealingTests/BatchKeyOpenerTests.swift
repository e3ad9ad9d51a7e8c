// The opening side: one call for many, bounded memory and calls, and every fault told apart.

import Foundation
import Testing

@testable import Sealing

@Suite("Opening batch keys")
struct BatchKeyOpenerTests {
    private struct Sealed {
        var record: BatchKeyRecord
        var wrapped: WrappedMessageKey
        var context: SealingContext
    }

    private func seal(_ sealer: Sealer, _ context: SealingContext = .test(.content)) throws -> Sealed {
        let (_, wrapped) = try sealer.messageKey(context, now: testNow)
        let record = try #require(sealer.takeNewBatchKeys().last)
        return Sealed(record: record, wrapped: wrapped, context: context)
    }

    private func open(_ opener: BatchKeyOpener, _ sealed: Sealed) async throws -> MessageKey {
        try await opener.messageKey(record: sealed.record, wrapped: sealed.wrapped, context: sealed.context)
    }

    @Test("a hundred tasks that want one batch key make one call")
    func singleFlight() async throws {
        let service = try MemoryKeyService(delay: .milliseconds(30))
        let opener = BatchKeyOpener(service: service, region: "a")
        let sealed = try seal(Sealer(keySet: keySet(service)))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<100 { group.addTask { _ = try await open(opener, sealed) } }
            try await group.waitForAll()
        }
        #expect(service.state.withLock { $0.calls } == 1)
    }

    @Test("when the one call fails, all that waited get that failure, and the next asks anew")
    func sharedFailure() async throws {
        let service = try MemoryKeyService(delay: .milliseconds(30))
        service.state.withLock { $0.failure = .unavailable("test") }
        let opener = BatchKeyOpener(service: service, region: "a")
        let sealed = try seal(Sealer(keySet: keySet(service)))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<20 {
                group.addTask {
                    await #expect(throws: KeyServiceError.unavailable("test")) {
                        _ = try await open(opener, sealed)
                    }
                }
            }
        }
        #expect(service.state.withLock { $0.calls } <= 3)
        service.state.withLock { $0.failure = nil }
        _ = try await open(opener, sealed)
    }

    @Test("calls at once are bounded; past the queue's bound a request is unavailable")
    func boundedCalls() async throws {
        let service = try MemoryKeyService(delay: .milliseconds(20))
        let opener = BatchKeyOpener(service: service, region: "a", concurrency: 3, queueLimit: 5)
        let sealer = Sealer(keySet: try keySet(service))
        let all = try (0..<20).map { try seal(sealer, .test(.content, tenant: "t\($0)")) }
        let opened = await withTaskGroup(of: Bool.self) { group in
            for sealed in all {
                group.addTask { (try? await open(opener, sealed)) != nil }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(opened >= 8 && opened <= 20)
        #expect(service.state.withLock { $0.mostRunning } <= 3)
        for sealed in all { _ = try await open(opener, sealed) }
    }

    @Test("the cache holds so many batch keys; the least recently used is asked for again")
    func eviction() async throws {
        let service = try MemoryKeyService()
        let opener = BatchKeyOpener(service: service, region: "a", capacity: 2)
        let sealer = Sealer(keySet: try keySet(service))
        let all = try (0..<3).map { try seal(sealer, .test(.content, tenant: "t\($0)")) }
        for index in [0, 1, 0, 2, 0, 0] { _ = try await open(opener, all[index]) }
        #expect(service.state.withLock { $0.calls } == 3)
        _ = try await open(opener, all[1])
        #expect(service.state.withLock { $0.calls } == 4)
        opener.eraseAll()
        _ = try await open(opener, all[1])
        #expect(service.state.withLock { $0.calls } == 5)
    }

    @Test("an altered record never opens: every bit of it and of its wrapped bytes")
    func everyBit() async throws {
        let service = try MemoryKeyService()
        let sealed = try seal(Sealer(keySet: keySet(service)))
        let bytes = sealed.record.wrapped
        // The encapsulated key is long and every unwrap costs: all bits of what is around it, a prime step within.
        let bits =
            Array(0..<1200) + Array(stride(from: 1200, to: bytes.count * 8 - 600, by: 97))
            + Array((bytes.count * 8 - 600)..<bytes.count * 8)
        for bit in bits {
            var altered = sealed
            altered.record.wrapped = bytes.flipping(bit: bit)
            await #expect(throws: SealingError.integrityFailure, "bit \(bit)") {
                _ = try await open(BatchKeyOpener(service: service, region: "a"), altered)
            }
        }
        for count in stride(from: 0, to: bytes.count, by: 13) {
            var altered = sealed
            altered.record.wrapped = Array(bytes.prefix(count))
            await #expect(throws: SealingError.integrityFailure) {
                _ = try await open(BatchKeyOpener(service: service, region: "a"), altered)
            }
        }
    }

    @Test("a record under another tenant, purpose, epoch or id does not open")
    func swaps() async throws {
        let service = try MemoryKeyService()
        let sealer = Sealer(keySet: try keySet(service))
        let sealed = try seal(sealer)
        let other = try seal(sealer, .test(.content, tenant: "other"))
        var cases: [Sealed] = []
        var altered = sealed
        altered.record.epoch += 1
        cases.append(altered)
        altered = sealed
        altered.record.id = other.record.id
        altered.wrapped.batchKeyID = other.record.id
        cases.append(altered)
        altered = sealed
        altered.record.tenant = "other"
        altered.context.tenant = "other"
        cases.append(altered)
        altered = sealed
        altered.record.wrapped = other.record.wrapped
        cases.append(altered)
        altered = sealed
        altered.wrapped.index = 1
        cases.append(altered)
        altered.wrapped.index = -1
        cases.append(altered)
        altered.wrapped.index = .max
        cases.append(altered)
        altered = sealed
        altered.context.message = UUID()
        cases.append(altered)
        altered = sealed
        altered.context.purpose = .metadata
        cases.append(altered)
        for (number, sealed) in cases.enumerated() {
            await #expect(throws: SealingError.integrityFailure, "case \(number)") {
                _ = try await open(BatchKeyOpener(service: service, region: "a"), sealed)
            }
        }
        await #expect(throws: SealingError.integrityFailure, "no entry for this region") {
            _ = try await open(BatchKeyOpener(service: service, region: "c"), sealed)
        }
    }

    @Test("denied and destroyed reach the caller as they are")
    func faults() async throws {
        let service = try MemoryKeyService()
        let sealed = try seal(Sealer(keySet: keySet(service)))
        let opener = BatchKeyOpener(service: service, region: "a")
        for failure in [KeyServiceError.denied, .destroyed, .unavailable("x")] {
            service.state.withLock { $0.failure = failure }
            await #expect(throws: failure) { _ = try await open(opener, sealed) }
        }
    }
}
