// Digests that tell nothing to who lacks their key. The content is hashed once, while it streams in; the plain hash stays
// in memory, zeroed when done, and only its HMACs are stored: one under a key of the message (evidence of what was
// accepted), one under the tenant's daily key (the replay tag).

import Crypto
import Foundation

/// Hashes content as it streams in.
public struct ContentHasher: Sendable {
    private var hasher = SHA256()

    /// Starts a hash.
    public init() {}

    /// Adds bytes, read in place.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) { hasher.update(bufferPointer: bytes) }

    /// Adds bytes of an array.
    public mutating func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { update($0) } }

    /// The hash of what was added.
    public func finish() -> ContentHash { ContentHash(SecretBytes(copying: hasher.finalize())) }
}

/// The SHA-256 of a content: secret, because it tells by trial what passed.
public struct ContentHash: Sendable, Equatable, CustomStringConvertible {
    let bytes: SecretBytes

    init(_ bytes: SecretBytes) { self.bytes = bytes }

    /// Redacted.
    public var description: String { "ContentHash(redacted)" }
}

/// HMAC-SHA256 of a content under the message's content key.
public enum KeyedDigest {
    /// The digest of the content, 32 bytes.
    public static func content(
        _ hash: ContentHash, key: MessageKey, context: SealingContext
    ) throws(SealingError) -> [UInt8] {
        guard key.context == context, context.purpose == .content else {
            throw .misuse("the digest of a content is made with its own content key")
        }
        var hmac = KeyedHash(key.working)
        hmac.update(context.associatedData("zegel/1 content digest"))
        hash.bytes.withUnsafeBytes { hmac.update($0) }
        return hmac.finalize().withUnsafeBytes { Array($0) }
    }
}

/// The tag that recognises the very same transaction sent again.
public enum ReplayTag {
    /// HMAC-SHA256 under the tenant's key of the day, over the envelope and the hash of the content.
    ///
    /// - Parameters:
    ///   - dailyKey: 32 random bytes that belong to one tenant and day.
    ///   - envelope: a canonical encoding of the envelope and its recipients, as the client sent them.
    ///   - content: the hash of the content as the client sent it.
    /// - Returns: 32 bytes.
    public static func make(dailyKey: [UInt8], envelope: [UInt8], content: ContentHash) -> [UInt8] {
        var hmac = dailyKey.withUnsafeBytes { KeyedHash($0) }
        var prefix = ByteWriter(reserve: 32)
        prefix.fixed("zegel/1 replay tag".utf8)
        prefix.integer(UInt8(0))
        prefix.integer(UInt32(envelope.count))
        hmac.update(prefix.bytes)
        hmac.update(envelope)
        content.bytes.withUnsafeBytes { hmac.update($0) }
        return hmac.finalize().withUnsafeBytes { Array($0) }
    }
}
