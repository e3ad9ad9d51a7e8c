// A message key as it is stored: sealed under the wrapping key that the batch key's ratchet gave for its index.
// version 1 ‖ algorithm 1 ‖ commitment 32 ‖ nonce 12 ‖ ciphertext 32 ‖ tag 16 (94 bytes).
// The commitment fixes the message key and its context, so one stored wrapping cannot mean one key in one region and
// another in the next (AES-GCM alone would allow that to whoever made the batch key).

import Crypto
import Foundation

/// A wrapped message key and where its wrapping key comes from.
public struct WrappedMessageKey: Sendable, Hashable {
    /// The batch key that wraps it.
    public var batchKeyID: UUID
    /// The step of that batch key's ratchet, from 0.
    public var index: Int32
    /// The sealed format above.
    public var bytes: [UInt8]

    /// Length of `bytes`.
    public static let byteCount = 94

    static let version: UInt8 = 1
    static let algorithm: UInt8 = 1

    /// Makes a value from what the ledger holds.
    public init(batchKeyID: UUID, index: Int32, bytes: [UInt8]) {
        self.batchKeyID = batchKeyID
        self.index = index
        self.bytes = bytes
    }

    /// Makes a random message key and wraps it.
    static func make(
        batchKeyID: UUID, index: Int32, wrappingKey: SymmetricKey, context: SealingContext,
        random: RandomSource
    ) throws(SealingError) -> (MessageKey, WrappedMessageKey) {
        let secret = random.secret(32)
        let key = MessageKey(random: secret, context: context)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(byteCount)
        bytes.append(version)
        bytes.append(algorithm)
        key.commitment.withUnsafeBytes { bytes.append(contentsOf: $0) }
        let associated = associatedData(batchKeyID, index, header: bytes, context)
        let nonce = random.bytes(AuthenticatedEncryption.nonceCount)
        bytes.append(contentsOf: nonce)
        try AuthenticatedEncryption.seal(
            secret, key: wrappingKey, nonce: nonce, associated: associated, into: &bytes)
        return (key, WrappedMessageKey(batchKeyID: batchKeyID, index: index, bytes: bytes))
    }

    /// Opens the wrapping. Every altered bit, index, batch key or context is an `integrityFailure`.
    func open(wrappingKey: SymmetricKey, context: SealingContext) throws(SealingError) -> MessageKey {
        guard bytes.count == Self.byteCount, bytes[0] == Self.version, bytes[1] == Self.algorithm else {
            throw .integrityFailure
        }
        let secret = try AuthenticatedEncryption.open(
            bytes[46...], key: wrappingKey, nonce: bytes[34..<46],
            associated: Self.associatedData(batchKeyID, index, header: Array(bytes[..<34]), context)
        ) { SecretBytes(copying: $0) }
        let key = MessageKey(random: secret, context: context)
        guard ConstantTime.areEqual(key.commitment, bytes[2..<34]) else { throw .integrityFailure }
        return key
    }

    private static func associatedData(
        _ batchKeyID: UUID, _ index: Int32, header: [UInt8], _ context: SealingContext
    ) -> [UInt8] {
        var writer = ByteWriter(reserve: 64)
        writer.uuid(batchKeyID)
        writer.integer(index)
        writer.fixed(header)
        return context.associatedData("zegel/1 message key wrapping", writer.bytes)
    }
}
