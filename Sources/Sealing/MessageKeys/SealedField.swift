// Small sealed values of a message: envelope, addresses, details of events.
// version 1 ‖ algorithm 1 ‖ nonce 12 ‖ ciphertext ‖ tag 16; associated data: header, context, field name.
// A field needs no commitment of its own: it is only ever opened under the one message key that the wrapping, which does
// commit, stands for.

import Crypto
import Foundation

/// Sealing of a named value under the metadata key of its message.
public enum SealedField {
    static let version: UInt8 = 1
    static let algorithm: UInt8 = 1
    /// Bytes a sealed field is longer than its plaintext.
    public static let overhead = 2 + AuthenticatedEncryption.nonceCount + AuthenticatedEncryption.tagCount
    /// Largest plaintext, in bytes.
    public static let maximumCount = 1 << 20

    /// Seals `plaintext` as the field `field` (`envelope`, `address/<n>`, `event/<uuid>`).
    ///
    /// - Throws: `SealingError.misuse` if the key is not the metadata key of this context.
    public static func seal(
        _ plaintext: [UInt8], key: MessageKey, context: SealingContext, field: String
    ) throws(SealingError) -> [UInt8] {
        try seal(plaintext, key: key, context: context, field: field, random: .system)
    }

    static func seal(
        _ plaintext: [UInt8], key: MessageKey, context: SealingContext, field: String, random: RandomSource
    ) throws(SealingError) -> [UInt8] {
        guard key.context == context, context.purpose == .metadata else {
            throw .misuse("fields are sealed under the metadata key of their own message")
        }
        guard plaintext.count <= maximumCount else { throw .limitReached("plaintext of a field") }
        let nonce = random.bytes(AuthenticatedEncryption.nonceCount)
        var sealed: [UInt8] = []
        sealed.reserveCapacity(plaintext.count + overhead)
        sealed.append(version)
        sealed.append(algorithm)
        sealed.append(contentsOf: nonce)
        try AuthenticatedEncryption.seal(
            plaintext, key: key.working, nonce: nonce, associated: associatedData(context, field),
            into: &sealed)
        return sealed
    }

    /// Opens a field. An altered bit, another message, tenant, purpose or field name: `integrityFailure`.
    public static func open(
        _ sealed: [UInt8], key: MessageKey, context: SealingContext, field: String
    ) throws(SealingError) -> [UInt8] {
        guard key.context == context, context.purpose == .metadata, sealed.count >= overhead,
            sealed[0] == version, sealed[1] == algorithm
        else { throw .integrityFailure }
        let body = 2 + AuthenticatedEncryption.nonceCount
        return try AuthenticatedEncryption.open(
            sealed[body...], key: key.working, nonce: sealed[2..<body],
            associated: associatedData(context, field)
        ) { [UInt8]($0) }
    }

    private static func associatedData(_ context: SealingContext, _ field: String) -> [UInt8] {
        var writer = ByteWriter(reserve: 32)
        writer.integer(version)
        writer.integer(algorithm)
        writer.text(field)
        return context.associatedData("zegel/1 field", writer.bytes)
    }
}
