// An unwrapped batch key in a worker's memory: K₀ and positions along its ratchet, so that the wrapping key of any index
// costs a bounded walk, and those of a run of indices cost one step each.

import Crypto
import Foundation

/// K₀ and checkpoints of its ratchet. Not thread-safe by itself.
struct OpenedBatchKey {
    /// Steps between checkpoints.
    static let stride: Int32 = 64

    private var checkpoints: [Ratchet]
    private var last: Ratchet

    init(batchKeyID: UUID, key: SecretBytes) {
        let start = Ratchet(batchKeyID: batchKeyID, chain: key)
        checkpoints = [start]
        last = start
    }

    /// The key that wraps message `index`; `nil` outside 0 … `BatchKeyLimits.maximumMessages` − 1.
    mutating func wrappingKey(_ index: Int32) -> SymmetricKey? {
        guard index >= 0, index < BatchKeyLimits.maximumMessages else { return nil }
        var ratchet = last
        if last.index > index || index - last.index > Self.stride {
            let nearest = min(Int(index / Self.stride), checkpoints.count - 1)
            if last.index > index || checkpoints[nearest].index > last.index {
                ratchet = checkpoints[nearest]
            }
        }
        while ratchet.index < index {
            _ = ratchet.step()
            if ratchet.index == Int32(checkpoints.count) * Self.stride { checkpoints.append(ratchet) }
        }
        last = ratchet
        return ratchet.step()
    }
}
