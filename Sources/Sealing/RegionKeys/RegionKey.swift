// The first level: the public half of a region's key for one purpose and epoch. The private half never leaves that
// region's key service.

import Crypto
import Foundation

/// How a batch key is wrapped for a region key. The name is stored in every record.
public enum RegionKeyAlgorithm: String, Sendable, Codable, CaseIterable {
    /// HPKE (RFC 9180) base mode with X-Wing (ML-KEM-768 and X25519), HKDF-SHA256, AES-256-GCM.
    case xwing = "xwing-mlkem768-x25519/aes-256-gcm"
}

/// Names a region key: the first 16 bytes of SHA-256 over its algorithm and public half.
public struct RegionKeyID: Sendable, Hashable, CustomStringConvertible {
    /// 16 bytes.
    public let bytes: [UInt8]

    /// The id of a public key.
    public init(algorithm: RegionKeyAlgorithm, publicKey: [UInt8]) {
        var writer = ByteWriter(reserve: publicKey.count + 64)
        writer.fixed("zegel/1 region key id".utf8)
        writer.integer(UInt8(0))
        writer.text(algorithm.rawValue)
        writer.fixed(publicKey)
        bytes = Array(SHA256.hash(data: writer.bytes).prefix(Self.byteCount))
    }

    init(bytes: [UInt8]) { self.bytes = bytes }

    static let byteCount = 16

    /// Lower-case hexadecimal.
    public var description: String {
        bytes.map { byte in String(byte >> 4, radix: 16) + String(byte & 15, radix: 16) }.joined()
    }
}

/// A region's public key for one purpose and epoch.
public struct RegionKey: Sendable, Hashable {
    /// The region whose key service holds the private half.
    public let region: String
    /// What may be wrapped for it.
    public let purpose: KeyPurpose
    /// The epoch it serves (`KeyEpoch`).
    public let epoch: Int32
    /// First moment at which it may wrap, in whole seconds.
    public let notBefore: Date
    /// Last moment at which it may wrap, in whole seconds; opening has no such limit.
    public let notAfter: Date
    /// How to wrap.
    public let algorithm: RegionKeyAlgorithm
    /// X-Wing: 1216 bytes.
    public let publicKey: [UInt8]
    /// Its id.
    public let keyID: RegionKeyID

    /// Makes a value; the id follows from the key.
    public init(
        region: String, purpose: KeyPurpose, epoch: Int32, notBefore: Date, notAfter: Date,
        algorithm: RegionKeyAlgorithm, publicKey: [UInt8]
    ) {
        self.region = region
        self.purpose = purpose
        self.epoch = epoch
        self.notBefore = notBefore
        self.notAfter = notAfter
        self.algorithm = algorithm
        self.publicKey = publicKey
        self.keyID = RegionKeyID(algorithm: algorithm, publicKey: publicKey)
    }
}

/// Epochs number fixed spans of time since 1970 UTC; by default one is a day.
public enum KeyEpoch {
    /// A day, in seconds.
    public static let defaultSeconds: Int32 = 86400

    /// The epoch in which `date` lies.
    public static func containing(_ date: Date, seconds: Int32 = defaultSeconds) -> Int32 {
        Int32(clamping: Int64((date.timeIntervalSince1970 / Double(max(1, seconds))).rounded(.down)))
    }

    /// The first moment of an epoch.
    public static func start(of epoch: Int32, seconds: Int32 = defaultSeconds) -> Date {
        Date(timeIntervalSince1970: Double(epoch) * Double(seconds))
    }
}
