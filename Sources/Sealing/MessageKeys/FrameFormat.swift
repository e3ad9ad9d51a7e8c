// Framing of sealed content. A content is frames 0…n, each stored by itself:
//   version 1 ‖ algorithm 1 ‖ flags 1 (bit 0: last) ‖ number 4 ‖ [frame 0 only: salt 32 ‖ commitment 32]
//   ‖ ciphertext ‖ tag 16
// Key and commitment = HKDF-Expand(working key, context and salt); nonce = 7 zero bytes ‖ number ‖ last flag (the STREAM
// construction of Hoang, Reyhanitabar, Rogaway and Vizár), associated data = the frame's header and the context.

import Crypto
import Foundation

/// Constants and derivations that sealer and opener share.
enum FrameFormat {
    static let version: UInt8 = 1
    static let algorithm: UInt8 = 1
    static let lastFlag: UInt8 = 1
    static let saltCount = 32
    static let commitmentCount = 32
    static let shortHeaderCount = 7
    static let firstHeaderCount = shortHeaderCount + saltCount + commitmentCount
    static let maximumFrameSize = 16 << 20

    /// The frame key and its commitment.
    static func derive(
        _ key: MessageKey, salt: [UInt8], context: SealingContext
    ) -> (key: SymmetricKey, commitment: SecretBytes) {
        let (key, commitment) = KeyDerivation.expand(
            key.working, info: context.associatedData("zegel/1 frame key", [version, algorithm] + salt))
        return (key, commitment)
    }

    static func header(number: UInt32, isLast: Bool) -> ByteWriter {
        var writer = ByteWriter(reserve: firstHeaderCount)
        writer.integer(version)
        writer.integer(algorithm)
        writer.integer(isLast ? lastFlag : 0)
        writer.integer(number)
        return writer
    }

    static func nonce(number: UInt32, isLast: Bool) -> [UInt8] {
        var writer = ByteWriter(reserve: AuthenticatedEncryption.nonceCount)
        writer.fixed([0, 0, 0, 0, 0, 0, 0])
        writer.integer(number)
        writer.integer(isLast ? lastFlag : 0)
        return writer.bytes
    }
}
