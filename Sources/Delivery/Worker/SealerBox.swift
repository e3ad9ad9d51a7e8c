// The sealer that notifications are sealed with, once a signed key set is known. Without one nothing ends that needs a
// notification: it is deferred (design §6, key outage).

import Foundation
import Ledger
import Sealing
import Synchronization

/// Holds the sealer; keeps it in step with the newest key set.
final class SealerBox: Sendable {
    private let limits: Sealer.Limits
    private let sealer = Mutex<Sealer?>(nil)

    init(limits: Sealer.Limits = Sealer.Limits()) { self.limits = limits }

    /// Takes a verified key set into use.
    func replace(keySet: RegionKeySet) {
        sealer.withLock { sealer in
            if let sealer {
                sealer.replace(keySet: keySet)
            } else {
                sealer = Sealer(keySet: keySet, limits: limits)
            }
        }
    }

    /// The version of the key set in use.
    var keySetVersion: Int64? { sealer.withLock { $0?.keySetVersion } }

    /// A message key; throws without a usable key set.
    func messageKey(_ context: SealingContext, now: Date) throws(SealingError) -> (
        MessageKey, WrappedMessageKey
    ) {
        guard let sealer = sealer.withLock({ $0 }) else { throw .keySetExpired }
        return try sealer.messageKey(context, now: now)
    }

    /// The batch keys made since the last call, as rows.
    func takeNewBatchKeys() -> [BatchKeyRow] {
        guard let sealer = sealer.withLock({ $0 }) else { return [] }
        return sealer.takeNewBatchKeys().map { record in
            BatchKeyRow(
                id: record.id, tenant: record.tenant, purpose: record.purpose.rawValue, epoch: record.epoch,
                createdAt: record.createdAt, wrapped: record.wrapped)
        }
    }

    /// Erases batch keys whose time is over.
    func eraseExpired(now: Date) { sealer.withLock { $0 }?.eraseExpired(now: now) }
}

extension KeyReference {
    init(_ wrapped: WrappedMessageKey) {
        self.init(batchKeyID: wrapped.batchKeyID, index: wrapped.index, wrapped: wrapped.bytes)
    }
}

extension WrappedMessageKey {
    init(_ reference: KeyReference) {
        self.init(batchKeyID: reference.batchKeyID, index: reference.index, bytes: reference.wrapped)
    }
}
