// The ratchet of a batch key: from K_i come K_{i+1} and the key that wraps message i, and nothing leads back.
//   W_i ‖ K_{i+1} = HKDF-Expand(K_i, "zegel/1 ratchet" ‖ 0 ‖ batch id, 64)

import Crypto
import Foundation

/// A position of a batch key's ratchet.
struct Ratchet: Sendable {
    /// The index of the message that the next step wraps.
    private(set) var index: Int32
    private(set) var chain: SecretBytes
    private let batchKeyID: UUID

    init(batchKeyID: UUID, index: Int32 = 0, chain: SecretBytes) {
        self.batchKeyID = batchKeyID
        self.index = index
        self.chain = chain
    }

    /// Gives the wrapping key of `index` and moves on; the old chain key is erased as its last reference goes.
    mutating func step() -> SymmetricKey {
        var info = ByteWriter(reserve: 32)
        info.fixed("zegel/1 ratchet".utf8)
        info.integer(UInt8(0))
        info.uuid(batchKeyID)
        let wrapping: SymmetricKey
        (wrapping, chain) = KeyDerivation.expand(chain, info: info.bytes)
        index += 1
        return wrapping
    }
}

/// Bounds of a batch key's life.
public enum BatchKeyLimits {
    /// Highest number of messages a batch key may ever wrap; an opener walks no further.
    public static let maximumMessages: Int32 = 65536
}
