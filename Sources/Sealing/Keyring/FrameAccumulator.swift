// Cuts the bytes of a stream into length-prefixed frames, with a bound, and erases what it has handed out.

import NIOCore

/// Collects bytes until a frame is whole.
struct FrameAccumulator {
    private var bytes: [UInt8] = []
    private var start = 0

    /// Whether part of a frame is waiting for the rest.
    var isPartial: Bool { start < bytes.count }

    /// Takes bytes in. What lay in the buffer is overwritten there if nobody else holds it.
    mutating func append(_ buffer: inout ByteBuffer) {
        if start > 0 {
            var rest = Array(bytes[start...])
            swap(&bytes, &rest)
            Erasure.erase(&rest)
            start = 0
        }
        bytes.append(contentsOf: buffer.readableBytesView)
        buffer.withUnsafeMutableReadableBytes { Erasure.erase($0) }
        buffer.clear()
    }

    /// The next whole frame without its length; `nil` if it is not all there yet.
    mutating func next() throws(KeyringProtocol.Violation) -> [UInt8]? {
        guard bytes.count - start >= KeyringProtocol.lengthCount else { return nil }
        let length = bytes.withUnsafeBytes {
            Int(UInt32(bigEndian: $0.loadUnaligned(fromByteOffset: start, as: UInt32.self)))
        }
        guard length >= KeyringProtocol.headerCount, length <= KeyringProtocol.maximumFrame else {
            throw KeyringProtocol.Violation()
        }
        let body = start + KeyringProtocol.lengthCount
        guard bytes.count - body >= length else { return nil }
        let frame = Array(bytes[body..<body + length])
        bytes.withUnsafeMutableBytes {
            Erasure.erase(UnsafeMutableRawBufferPointer(rebasing: $0[body..<body + length]))
        }
        start = body + length
        return frame
    }
}
