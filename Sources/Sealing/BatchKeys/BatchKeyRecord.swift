// The second level as it is stored: one batch key, wrapped once for every region's key.
// wrapped = version 1 ‖ number of entries 2 ‖ entries (region, key id 16, algorithm, encapsulated key, ciphertext).

import Crypto
import Foundation

/// What a batch key belongs to; bound into its wrapping.
public struct BatchKeyContext: Sendable, Hashable {
    /// The batch key's id.
    public var id: UUID
    /// The tenant's stable name.
    public var tenant: String
    /// Content or metadata.
    public var purpose: KeyPurpose
    /// The epoch of the region keys that wrap it.
    public var epoch: Int32

    /// Makes a context.
    public init(id: UUID, tenant: String, purpose: KeyPurpose, epoch: Int32) {
        self.id = id
        self.tenant = tenant
        self.purpose = purpose
        self.epoch = epoch
    }

    /// HPKE info: domain separation, tenant, purpose, epoch.
    var info: Data {
        var writer = ByteWriter(reserve: 96)
        writer.fixed("zegel/1 batch key".utf8)
        writer.integer(UInt8(0))
        writer.text(tenant)
        writer.integer(purpose.code)
        writer.integer(epoch)
        return Data(writer.bytes)
    }
}

/// A row of `batch_key`.
public struct BatchKeyRecord: Sendable, Hashable {
    /// The batch key's id.
    public var id: UUID
    /// The tenant's stable name.
    public var tenant: String
    /// Content or metadata.
    public var purpose: KeyPurpose
    /// The epoch of the region keys that wrap it.
    public var epoch: Int32
    /// When the sealer made it.
    public var createdAt: Date
    /// One entry per region key, in the format above.
    public var wrapped: [UInt8]

    /// Makes a value from what the ledger holds.
    public init(
        id: UUID, tenant: String, purpose: KeyPurpose, epoch: Int32, createdAt: Date, wrapped: [UInt8]
    ) {
        self.id = id
        self.tenant = tenant
        self.purpose = purpose
        self.epoch = epoch
        self.createdAt = createdAt
        self.wrapped = wrapped
    }

    /// What the wrapping is bound to.
    public var context: BatchKeyContext {
        BatchKeyContext(id: id, tenant: tenant, purpose: purpose, epoch: epoch)
    }

    private static let version: UInt8 = 1
    private static let maximumEntries = 256

    static func encode(_ entries: [WrappedBatchKey]) -> [UInt8] {
        var writer = ByteWriter(reserve: 16 + entries.count * 1300)
        writer.integer(version)
        writer.integer(UInt16(entries.count))
        for entry in entries { entry.write(to: &writer) }
        return writer.bytes
    }

    /// The entry for a region.
    ///
    /// - Throws: `KeyServiceError.malformed` if the record cannot be read or has no entry for the region.
    public func entry(for region: String) throws(KeyServiceError) -> WrappedBatchKey {
        do {
            var reader = ByteReader(wrapped)
            guard try reader.integer(UInt8.self) == Self.version else { throw ByteReader.Malformed() }
            let count = try reader.integer(UInt16.self)
            guard count <= Self.maximumEntries else { throw ByteReader.Malformed() }
            var found: WrappedBatchKey?
            for _ in 0..<count {
                let entry = try WrappedBatchKey(from: &reader)
                if entry.region == region, found == nil { found = entry }
            }
            try reader.end()
            guard let found else { throw ByteReader.Malformed() }
            return found
        } catch {
            throw .malformed
        }
    }
}
