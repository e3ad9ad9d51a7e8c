// What the tests of sealing share: a region key made on the spot, a key service in memory, a deterministic stream.

import Crypto
import Foundation
import Synchronization

@testable import Sealing

/// The private keys of one region, in memory, and a count of the calls made.
final class MemoryKeyService: KeyService {
    struct State {
        var calls = 0
        var running = 0
        var mostRunning = 0
        var failure: KeyServiceError?
    }

    let region: String
    let privateKeys: [KeyPurpose: XWingMLKEM768X25519.PrivateKey]
    let state = Mutex(State())
    let delay: Duration

    init(region: String = "a", delay: Duration = .zero) throws {
        self.region = region
        self.delay = delay
        self.privateKeys = [.content: try .generate(), .metadata: try .generate()]
    }

    func regionKeys(_ epochs: some Sequence<Int32>) -> [RegionKey] {
        // One private key for all epochs will not do: a key may stand in a set only once. So one epoch per fixture.
        epochs.flatMap { epoch in
            privateKeys.map { purpose, key in
                RegionKey(
                    region: region, purpose: purpose, epoch: epoch, notBefore: KeyEpoch.start(of: epoch),
                    notAfter: KeyEpoch.start(of: epoch + 1), algorithm: .xwing,
                    publicKey: Array(key.publicKey.rawRepresentation))
            }
        }
    }

    func unwrap(
        _ wrapped: WrappedBatchKey, of batch: BatchKeyContext
    ) async throws(KeyServiceError) -> SecretBytes {
        let failure = state.withLock { state in
            state.calls += 1
            state.running += 1
            state.mostRunning = max(state.mostRunning, state.running)
            return state.failure
        }
        defer { state.withLock { $0.running -= 1 } }
        if delay > .zero { try? await Task.sleep(for: delay) }
        if let failure { throw failure }
        guard let key = privateKeys[batch.purpose] else { throw .denied }
        return try wrapped.unwrap(with: key, context: batch)
    }
}

/// A day in the tests' life.
let testEpoch: Int32 = 20417
let testNow = KeyEpoch.start(of: testEpoch).addingTimeInterval(3600)

func keySet(_ services: MemoryKeyService..., version: Int64 = 1) throws -> RegionKeySet {
    try RegionKeySet(
        version: version, issued: testNow.addingTimeInterval(-60),
        expires: testNow.addingTimeInterval(864_000),
        keys: services.flatMap { $0.regionKeys([testEpoch]) })
}

extension SealingContext {
    static func test(
        _ purpose: KeyPurpose, tenant: String = "demo",
        message: UUID = UUID(uuid: (1, 2, 3, 4, 5, 6, 0x77, 8, 0x89, 10, 11, 12, 13, 14, 15, 16))
    ) -> SealingContext {
        SealingContext(tenant: tenant, message: message, purpose: purpose)
    }
}

/// SHA-256 in counter mode: the same bytes at every run.
final class FixedStream: Sendable {
    private let state = Mutex((counter: UInt64(0), rest: [UInt8]()))
    private let seed: [UInt8]

    init(_ seed: String) { self.seed = Array(seed.utf8) }

    var source: RandomSource {
        RandomSource { [self] target in
            state.withLock { state in
                while state.rest.count < target.count {
                    let block = withUnsafeBytes(of: state.counter.bigEndian) {
                        SHA256.hash(data: seed + Array($0))
                    }
                    state.counter += 1
                    state.rest += Array(block)
                }
                target.copyBytes(from: state.rest.prefix(target.count))
                state.rest.removeFirst(target.count)
            }
        }
    }
}

/// A message key for tests of what lies under it.
func testMessageKey(_ context: SealingContext, seed: String = "key") -> MessageKey {
    MessageKey(random: FixedStream(seed).source.secret(32), context: context)
}

extension Array where Element == UInt8 {
    /// The same bytes with one bit turned.
    func flipping(bit: Int) -> [UInt8] {
        var copy = self
        copy[bit / 8] ^= 1 << UInt8(bit % 8)
        return copy
    }
}
