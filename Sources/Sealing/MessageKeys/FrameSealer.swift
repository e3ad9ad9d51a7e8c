// Seals content into frames while it streams in: it holds no plaintext, only the frame key.

import Crypto
import Foundation

/// Seals one content, frame by frame, in order.
public struct FrameSealer: ~Copyable {
    /// Largest plaintext of one frame, in bytes.
    public let frameSize: Int
    private let context: SealingContext
    private let key: SymmetricKey
    private let salt: [UInt8]
    private let commitment: SecretBytes
    private var next: UInt32 = 0
    private var isFinished = false

    /// Starts a content under its message key.
    ///
    /// - Parameter frameSize: plaintext bytes a frame may hold, 1 … 16 MiB; 64 KiB by default.
    /// - Throws: `SealingError.misuse` if the key is not a content key of this context.
    public init(key: MessageKey, context: SealingContext, frameSize: Int = 65536) throws(SealingError) {
        try self.init(key: key, context: context, frameSize: frameSize, random: .system)
    }

    init(
        key: MessageKey, context: SealingContext, frameSize: Int, random: RandomSource
    ) throws(SealingError) {
        guard key.context == context, context.purpose == .content else {
            throw .misuse("frames are sealed under the content key of their own message")
        }
        guard (1...FrameFormat.maximumFrameSize).contains(frameSize) else { throw .misuse("frame size") }
        self.frameSize = frameSize
        self.context = context
        self.salt = random.bytes(FrameFormat.saltCount)
        (self.key, self.commitment) = FrameFormat.derive(key, salt: salt, context: context)
    }

    /// Seals the next frame. The plaintext is read in place.
    ///
    /// - Parameters:
    ///   - plaintext: at most `frameSize` bytes; may be empty.
    ///   - isLast: whether the content ends with this frame. Exactly one frame, the last, says so.
    /// - Returns: the sealed frame: plaintext length + 23 bytes, frame 0 another 64.
    public mutating func seal(
        _ plaintext: UnsafeRawBufferPointer, isLast: Bool
    ) throws(SealingError) -> [UInt8] {
        guard !isFinished else { throw .misuse("a frame after the last") }
        guard plaintext.count <= frameSize else { throw .limitReached("plaintext of a frame") }
        guard next < UInt32.max else { throw .limitReached("frames of a content") }
        var header = FrameFormat.header(number: next, isLast: isLast)
        if next == 0 {
            header.fixed(salt)
            commitment.withUnsafeBytes { header.fixed($0) }
        }
        let associated = context.associatedData("zegel/1 frame", header.bytes)
        var frame: [UInt8] = []
        frame.reserveCapacity(header.bytes.count + plaintext.count + AuthenticatedEncryption.tagCount)
        frame.append(contentsOf: header.bytes)
        try AuthenticatedEncryption.seal(
            plaintext, key: key, nonce: FrameFormat.nonce(number: next, isLast: isLast),
            associated: associated,
            into: &frame)
        next += 1
        isFinished = isLast
        return frame
    }

    /// Seals the next frame from an array.
    public mutating func seal(_ plaintext: [UInt8], isLast: Bool) throws(SealingError) -> [UInt8] {
        let frame = plaintext.withUnsafeBytes { bytes -> Result<[UInt8], SealingError> in
            do throws(SealingError) {
                return .success(try seal(bytes, isLast: isLast))
            } catch {
                return .failure(error)
            }
        }
        return try frame.get()
    }
}
