// Opens the frames of one content in order. A frame that is altered, missing, repeated, out of order or of another
// content is an integrityFailure, and after one the opener opens nothing more.

import Crypto
import Foundation

/// Opens one content, frame by frame.
public struct FrameOpener: ~Copyable {
    private let messageKey: MessageKey
    private let context: SealingContext
    private var frameKey: SymmetricKey?
    private var next: UInt32 = 0
    private var isBroken = false

    /// Whether the last frame was opened: only then is the content whole.
    public private(set) var isComplete = false

    /// Starts to open the content of `context`.
    public init(key: MessageKey, context: SealingContext) {
        self.messageKey = key
        self.context = context
    }

    /// Opens the next frame.
    ///
    /// - Returns: its plaintext, which the caller erases when done, and whether the content ends here. A reader that
    ///   runs out of frames before `isLast` holds a truncated content and must treat it as an integrity failure.
    public mutating func open(
        _ frame: [UInt8]
    ) throws(SealingError) -> (bytes: [UInt8], isLast: Bool) {
        guard !isBroken, !isComplete else { throw .integrityFailure }
        do throws(SealingError) {
            return try openNext(frame)
        } catch {
            isBroken = true
            frameKey = nil
            throw error
        }
    }

    /// Throws unless the last frame was opened.
    public consuming func finish() throws(SealingError) {
        guard isComplete else { throw .integrityFailure }
    }

    private mutating func openNext(_ frame: [UInt8]) throws(SealingError) -> (bytes: [UInt8], isLast: Bool) {
        let headerCount = next == 0 ? FrameFormat.firstHeaderCount : FrameFormat.shortHeaderCount
        guard messageKey.context == context, context.purpose == .content,
            frame.count >= headerCount + AuthenticatedEncryption.tagCount,
            frame.count <= headerCount + FrameFormat.maximumFrameSize + AuthenticatedEncryption.tagCount
        else { throw .integrityFailure }
        let isLast = frame[2] == FrameFormat.lastFlag
        // Version, algorithm, flags and number must be the ones expected here, bit for bit.
        guard frame.starts(with: FrameFormat.header(number: next, isLast: isLast).bytes) else {
            throw .integrityFailure
        }
        let key: SymmetricKey
        if let frameKey { key = frameKey } else { key = try deriveFrameKey(frame) }
        frameKey = key
        let bytes = try AuthenticatedEncryption.open(
            frame[headerCount...], key: key, nonce: FrameFormat.nonce(number: next, isLast: isLast),
            associated: context.associatedData("zegel/1 frame", frame[..<headerCount])
        ) { [UInt8]($0) }
        next += 1
        isComplete = isLast
        return (bytes, isLast)
    }

    /// Derives the key from frame 0 and checks its commitment before anything is decrypted.
    private func deriveFrameKey(_ frame: [UInt8]) throws(SealingError) -> SymmetricKey {
        let saltStart = FrameFormat.shortHeaderCount
        let commitmentStart = saltStart + FrameFormat.saltCount
        let (key, commitment) = FrameFormat.derive(
            messageKey, salt: Array(frame[saltStart..<commitmentStart]), context: context)
        guard ConstantTime.areEqual(commitment, frame[commitmentStart..<FrameFormat.firstHeaderCount]) else {
            throw .integrityFailure
        }
        return key
    }
}
