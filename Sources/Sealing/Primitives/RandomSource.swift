// Where nonces, salts and keys come from: the kernel. Tests inject a fixed stream to make vectors; nothing else can.

import CLinux

/// A source of random bytes.
struct RandomSource: Sendable {
    let fill: @Sendable (UnsafeMutableRawBufferPointer) -> Void

    /// `getrandom(2)`; ends the process if the kernel has none to give.
    static let system = RandomSource { bytes in
        if let base = bytes.baseAddress { zegel_random(base, bytes.count) }
    }

    func bytes(_ count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            fill(UnsafeMutableRawBufferPointer(buffer))
            initialized = count
        }
    }

    func secret(_ count: Int) -> SecretBytes { SecretBytes(count: count, fill: fill) }
}
