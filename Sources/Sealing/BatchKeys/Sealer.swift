// The side that seals: edges, and workers for the notifications they write. It holds public region keys and, per tenant,
// purpose and epoch, the present position of one ratchet. What was sealed before is out of its reach: whoever takes the
// process over finds K_{i+1}, never K_i. A key service is never called.

import Crypto
import Foundation
import Synchronization

/// Makes and wraps message keys.
public final class Sealer: Sendable {
    /// How long, and for how many messages, a batch key is used.
    public struct Limits: Sendable {
        /// Longest life of a batch key.
        public var age: Duration = .seconds(300)
        /// Messages a batch key wraps, 1 … `BatchKeyLimits.maximumMessages`.
        public var messages: Int32 = 1024
        /// Batch keys in use at once (tenants × purposes); the one used longest ago goes first.
        public var batchKeys: Int = 8192
        /// Records that may wait for their commit.
        public var uncommitted: Int = 8192

        /// Defaults: 5 minutes, 1024 messages, 8192 keys in use and 8192 waiting.
        public init() {}
    }

    private struct Slot: Hashable {
        var tenant: String
        var purpose: KeyPurpose
    }

    /// A batch key in use. It lives in the mutex and nowhere else.
    private final class Batch {
        let id: UUID
        let validFrom: Date
        let validUntil: Date
        var usedAt: Date
        var ratchet: Ratchet

        init(id: UUID, validFrom: Date, validUntil: Date, usedAt: Date, ratchet: Ratchet) {
            self.id = id
            self.validFrom = validFrom
            self.validUntil = validUntil
            self.usedAt = usedAt
            self.ratchet = ratchet
        }
    }

    private struct State {
        var keySet: RegionKeySet
        var batches: [Slot: Batch] = [:]
        var uncommitted: [BatchKeyRecord] = []
    }

    private let state: Mutex<State>
    private let limits: Limits
    private let random: RandomSource

    /// Starts with a verified key set.
    public convenience init(keySet: RegionKeySet, limits: Limits = Limits()) {
        self.init(keySet: keySet, limits: limits, random: .system)
    }

    init(keySet: RegionKeySet, limits: Limits, random: RandomSource) {
        self.state = Mutex(State(keySet: keySet))
        self.limits = limits
        self.random = random
    }

    /// The version of the key set in use.
    public var keySetVersion: Int64 { state.withLock { $0.keySet.version } }

    /// Takes a newer key set into use; batch keys made under the old one are not used again. An older one is ignored.
    public func replace(keySet: RegionKeySet) {
        state.withLock { state in
            guard keySet.version >= state.keySet.version else { return }
            if keySet.version > state.keySet.version { state.batches.removeAll() }
            state.keySet = keySet
        }
    }

    /// Makes the message key of a context and wraps it under the next step of its batch key.
    ///
    /// A new batch key costs about 0.3 ms per region; its record then waits in `takeNewBatchKeys`.
    ///
    /// - Throws: `SealingError` when there is no usable region key for every region, or a bound is reached: the edge
    ///   answers 451 then.
    public func messageKey(
        _ context: SealingContext, now: Date
    ) throws(SealingError) -> (MessageKey, WrappedMessageKey) {
        let slot = Slot(tenant: context.tenant, purpose: context.purpose)
        let step = state.withLock {
            state -> Result<(id: UUID, index: Int32, key: SymmetricKey), SealingError> in
            do throws(SealingError) {
                let batch = try usableBatch(slot, now: now, state: &state)
                batch.usedAt = now
                return .success((batch.id, batch.ratchet.index, batch.ratchet.step()))
            } catch {
                return .failure(error)
            }
        }
        let (id, index, key) = try step.get()
        return try WrappedMessageKey.make(
            batchKeyID: id, index: index, wrappingKey: key, context: context, random: random)
    }

    /// The records made since the last call. They must be committed before, or in the same transaction as, the first
    /// row that uses them; whoever takes them keeps them until one has.
    public func takeNewBatchKeys() -> [BatchKeyRecord] {
        state.withLock { state in
            defer { state.uncommitted = [] }
            return state.uncommitted
        }
    }

    /// Erases batch keys whose time is over. Call it about once a minute: a tenant that sends nothing more should not
    /// leave its last ratchet in memory.
    public func eraseExpired(now: Date) {
        state.withLock { state in
            state.batches = state.batches.filter { isUsable($0.value, now: now) }
        }
    }

    private func isUsable(_ batch: Batch, now: Date) -> Bool {
        batch.validFrom < now && now < batch.validUntil
            && batch.ratchet.index < min(max(1, limits.messages), BatchKeyLimits.maximumMessages)
    }

    private func usableBatch(_ slot: Slot, now: Date, state: inout State) throws(SealingError) -> Batch {
        if let batch = state.batches[slot] {
            if isUsable(batch, now: now) { return batch }
            state.batches.removeValue(forKey: slot)
        }
        let (epoch, keys) = try state.keySet.wrappingKeys(slot.purpose, at: now)
        guard state.uncommitted.count < limits.uncommitted else {
            throw .limitReached("batch keys that wait for their commit")
        }
        let context = BatchKeyContext(
            id: UUIDv7.make(at: now), tenant: slot.tenant, purpose: slot.purpose, epoch: epoch)
        let secret = random.secret(32)
        var entries: [WrappedBatchKey] = []
        for key in keys {
            guard let entry = try? WrappedBatchKey.wrap(secret, context: context, for: key) else {
                throw .noUsableKey(slot.purpose, epoch: epoch)
            }
            entries.append(entry)
        }
        state.uncommitted.append(
            BatchKeyRecord(
                id: context.id, tenant: context.tenant, purpose: context.purpose, epoch: epoch,
                createdAt: now,
                wrapped: BatchKeyRecord.encode(entries)))
        if state.batches.count >= limits.batchKeys,
            let oldest = state.batches.min(by: { $0.value.usedAt < $1.value.usedAt })?.key
        {
            state.batches.removeValue(forKey: oldest)
        }
        let age = limits.age.timeInterval
        let epochEnd = KeyEpoch.start(of: epoch + 1, seconds: state.keySet.epochSeconds)
        let batch = Batch(
            id: context.id,
            // A clock that steps back past this ends the batch too.
            validFrom: max(
                now.addingTimeInterval(-age), KeyEpoch.start(of: epoch, seconds: state.keySet.epochSeconds)),
            validUntil: ([now.addingTimeInterval(age), epochEnd, state.keySet.expires] + keys.map(\.notAfter))
                .min()
                ?? now,
            usedAt: now, ratchet: Ratchet(batchKeyID: context.id, chain: secret))
        state.batches[slot] = batch
        return batch
    }
}

extension Duration {
    /// Seconds as Foundation counts them.
    var timeInterval: TimeInterval {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}
