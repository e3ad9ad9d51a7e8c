// One entry of a batch key record: the key sealed for one region by HPKE. The wrapping is bound to tenant, purpose and
// epoch by HPKE's info, and to batch id, region, key id and algorithm by its associated data.

import Crypto
import Foundation

/// A batch key wrapped for one region key.
public struct WrappedBatchKey: Sendable, Hashable {
    /// The region that can open it.
    public var region: String
    /// The region key that wrapped it.
    public var keyID: RegionKeyID
    /// The algorithm's name (`RegionKeyAlgorithm`).
    public var algorithm: String
    /// HPKE `enc`; X-Wing: 1120 bytes.
    public var encapsulated: [UInt8]
    /// HPKE ciphertext of the 32 bytes: 48 bytes.
    public var ciphertext: [UInt8]

    init(region: String, keyID: RegionKeyID, algorithm: String, encapsulated: [UInt8], ciphertext: [UInt8]) {
        self.region = region
        self.keyID = keyID
        self.algorithm = algorithm
        self.encapsulated = encapsulated
        self.ciphertext = ciphertext
    }

    static let ciphersuite = HPKE.Ciphersuite.XWingMLKEM768X25519_SHA256_AES_GCM_256

    /// Wraps a batch key for a region key.
    static func wrap(
        _ batchKey: SecretBytes, context: BatchKeyContext, for key: RegionKey
    ) throws -> WrappedBatchKey {
        let publicKey = try XWingMLKEM768X25519.PublicKey(rawRepresentation: key.publicKey)
        var sender = try HPKE.Sender(recipientKey: publicKey, ciphersuite: ciphersuite, info: context.info)
        var entry = WrappedBatchKey(
            region: key.region, keyID: key.keyID, algorithm: key.algorithm.rawValue,
            encapsulated: Array(sender.encapsulatedKey), ciphertext: [])
        let associated = entry.associatedData(context)
        entry.ciphertext = try batchKey.withUnsafeBytes { bytes in
            Array(try sender.seal(bytes, authenticating: associated))
        }
        return entry
    }

    /// Opens the entry with the private half. Only key services do.
    ///
    /// - Throws: `KeyServiceError.malformed` whatever is wrong.
    func unwrap(
        with key: XWingMLKEM768X25519.PrivateKey, context: BatchKeyContext
    ) throws(KeyServiceError) -> SecretBytes {
        guard algorithm == RegionKeyAlgorithm.xwing.rawValue else { throw .malformed }
        do {
            var recipient = try HPKE.Recipient(
                privateKey: key, ciphersuite: Self.ciphersuite, info: context.info,
                encapsulatedKey: Data(encapsulated))
            var opened = try recipient.open(ciphertext, authenticating: associatedData(context))
            defer { Erasure.erase(&opened) }
            guard opened.count == 32 else { throw KeyServiceError.malformed }
            return SecretBytes(copying: opened)
        } catch {
            throw .malformed
        }
    }

    private func associatedData(_ context: BatchKeyContext) -> [UInt8] {
        var writer = ByteWriter(reserve: 96)
        writer.uuid(context.id)
        writer.text(region)
        writer.fixed(keyID.bytes)
        writer.text(algorithm)
        return writer.bytes
    }

    func write(to writer: inout ByteWriter) {
        writer.text(region)
        writer.fixed(keyID.bytes)
        writer.text(algorithm)
        writer.variable(encapsulated)
        writer.variable(ciphertext)
    }

    init(from reader: inout ByteReader) throws(ByteReader.Malformed) {
        region = try reader.text(limit: 255)
        keyID = RegionKeyID(bytes: try reader.fixed(RegionKeyID.byteCount))
        algorithm = try reader.text(limit: 255)
        encapsulated = try reader.variable(limit: 4096)
        ciphertext = try reader.variable(limit: 1024)
    }
}
