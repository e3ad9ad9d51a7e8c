// Overwriting memory that held plaintext or keys, in a way the optimiser may not drop (explicit_bzero).

import CLinux
import Foundation

/// Erases buffers that held plaintext or key bytes.
public enum Erasure {
    /// Overwrites the memory with zeros.
    public static func erase(_ bytes: UnsafeMutableRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        zegel_zero(base, bytes.count)
    }

    /// Overwrites the array's own storage and empties it. If another copy of the array shares that storage, Swift makes
    /// a new one first and the other copy keeps its bytes: call it on the only owner.
    public static func erase(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { erase($0) }
        bytes.removeAll(keepingCapacity: false)
    }

    /// Overwrites the data's own storage and empties it; sole owner as for arrays.
    public static func erase(_ data: inout Data) {
        data.withUnsafeMutableBytes { erase($0) }
        data = Data()
    }
}
