// A buffer for key bytes: owned, never copied by Swift, overwritten when the last reference goes.
// It promises that its bytes do not survive it and do not appear in any description, dump or mirror.
// It does not promise anything about copies that a caller makes inside `withUnsafeBytes`.

import CLinux
import Foundation

/// Secret bytes of fixed length, zeroed on release and compared in constant time.
public final class SecretBytes: Sendable, ContiguousBytes {
    // Written only while an initialiser runs, before any other thread can know of the object; read-only after that.
    nonisolated(unsafe) private let storage: UnsafeMutableRawBufferPointer

    /// Number of bytes.
    public var count: Int { storage.count }

    /// Makes a buffer of `count` bytes, zeroed, and lets `fill` write it.
    public init(count: Int, fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
        storage.initializeMemory(as: UInt8.self, repeating: 0)
        self.storage = storage
        try fill(storage)
    }

    /// Copies `bytes`. The caller still owns, and erases, the original.
    public convenience init(copying bytes: some ContiguousBytes) {
        self.init(count: bytes.withUnsafeBytes { $0.count }) { target in
            bytes.withUnsafeBytes { target.copyMemory(from: $0) }
        }
    }

    deinit {
        Erasure.erase(storage)
        storage.deallocate()
    }

    /// Lends the bytes for the time of `body`.
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(storage))
    }
}

extension SecretBytes: Equatable {
    /// Compares in time that depends on the lengths only.
    public static func == (lhs: SecretBytes, rhs: SecretBytes) -> Bool {
        lhs.withUnsafeBytes { left in rhs.withUnsafeBytes { right in ConstantTime.areEqual(left, right) } }
    }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Says how many bytes there are, never which.
    public var description: String { "SecretBytes(\(count) bytes, redacted)" }
    /// As `description`.
    public var debugDescription: String { description }
    /// A mirror without children, so that `dump` shows nothing.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// Comparison whose time does not depend on where the bytes differ.
enum ConstantTime {
    static func areEqual(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard left.count == right.count else { return false }
        var difference: UInt8 = 0
        for index in 0..<left.count { difference |= left[index] ^ right[index] }
        return difference == 0
    }

    static func areEqual(_ left: some ContiguousBytes, _ right: some ContiguousBytes) -> Bool {
        left.withUnsafeBytes { left in right.withUnsafeBytes { right in areEqual(left, right) } }
    }
}
