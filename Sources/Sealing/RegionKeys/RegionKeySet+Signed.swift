// The signed form of a region key set:
//   "ZGKS" ‖ format 1 ‖ version 8 ‖ issued 8 ‖ expires 8 ‖ epoch seconds 4 ‖ number of keys 4
//   ‖ keys (region, purpose 1, epoch 4, not before 8, not after 8, algorithm, public key) ‖ Ed25519 signature 64
// Signed are the label "zegel/1 region key set", a zero byte and everything before the signature.

import Crypto
import Foundation

extension RegionKeySet {
    private static let magic = Array("ZGKS".utf8)
    private static let format: UInt8 = 1
    private static let signatureCount = 64
    private static let maximumKeys = 65536

    /// The canonical bytes with the root's signature.
    ///
    /// - Throws: only if the key cannot sign.
    public func signed(by root: Curve25519.Signing.PrivateKey) throws -> [UInt8] {
        let payload = encoded()
        return try payload + Array(root.signature(for: Self.signedBytes(payload)))
    }

    /// Verifies and decodes a signed set.
    ///
    /// - Parameters:
    ///   - root: the pinned root of the cluster.
    ///   - now: the present, against which issue and expiry are held.
    ///   - atLeastVersion: the highest version seen so far; a lower one is a rollback.
    public static func open(
        _ signed: [UInt8], root: Curve25519.Signing.PublicKey, now: Date, atLeastVersion: Int64
    ) throws(RegionKeySetError) -> RegionKeySet {
        guard signed.count > signatureCount else { throw .malformed }
        let payload = Array(signed.dropLast(signatureCount))
        guard root.isValidSignature(signed.suffix(signatureCount), for: signedBytes(payload)) else {
            throw .badSignature
        }
        let set = try decode(payload)
        guard set.version >= atLeastVersion else {
            throw .rolledBack(version: set.version, atLeast: atLeastVersion)
        }
        guard now < set.expires else { throw .expired }
        guard set.issued <= now.addingTimeInterval(clockTolerance) else { throw .notYetValid }
        return set
    }

    private static func signedBytes(_ payload: [UInt8]) -> [UInt8] {
        Array("zegel/1 region key set".utf8) + [0] + payload
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(reserve: 64 + keys.count * 1400)
        writer.fixed(Self.magic)
        writer.integer(Self.format)
        writer.integer(version)
        writer.integer(Int64(issued.timeIntervalSince1970))
        writer.integer(Int64(expires.timeIntervalSince1970))
        writer.integer(epochSeconds)
        writer.integer(UInt32(keys.count))
        for key in keys {
            writer.text(key.region)
            writer.integer(key.purpose.code)
            writer.integer(key.epoch)
            writer.integer(Int64(key.notBefore.timeIntervalSince1970))
            writer.integer(Int64(key.notAfter.timeIntervalSince1970))
            writer.text(key.algorithm.rawValue)
            writer.variable(key.publicKey)
        }
        return writer.bytes
    }

    private static func decode(_ payload: [UInt8]) throws(RegionKeySetError) -> RegionKeySet {
        do {
            var reader = ByteReader(payload)
            guard try reader.fixed(4) == magic else { throw RegionKeySetError.malformed }
            let format = try reader.integer(UInt8.self)
            guard format == Self.format else {
                throw RegionKeySetError.unknownAlgorithm("key set format \(format)")
            }
            let version = try reader.integer(Int64.self)
            let issued = try reader.date()
            let expires = try reader.date()
            let epochSeconds = try reader.integer(Int32.self)
            let count = try reader.integer(UInt32.self)
            guard count <= maximumKeys, epochSeconds > 0 else { throw RegionKeySetError.malformed }
            var keys: [RegionKey] = []
            for _ in 0..<count { keys.append(try decodeKey(&reader)) }
            try reader.end()
            let set = try RegionKeySet(
                version: version, issued: issued, expires: expires, epochSeconds: epochSeconds, keys: keys)
            guard set.keys == keys else { throw RegionKeySetError.malformed }
            return set
        } catch let error as RegionKeySetError {
            throw error
        } catch {
            throw .malformed
        }
    }

    private static func decodeKey(_ reader: inout ByteReader) throws -> RegionKey {
        let region = try reader.text(limit: 255)
        guard let purpose = KeyPurpose(code: try reader.integer(UInt8.self)) else {
            throw RegionKeySetError.unknownAlgorithm("key purpose")
        }
        let epoch = try reader.integer(Int32.self)
        let notBefore = try reader.date()
        let notAfter = try reader.date()
        let name = try reader.text(limit: 255)
        guard let algorithm = RegionKeyAlgorithm(rawValue: name) else {
            throw RegionKeySetError.unknownAlgorithm(name)
        }
        return RegionKey(
            region: region, purpose: purpose, epoch: epoch, notBefore: notBefore, notAfter: notAfter,
            algorithm: algorithm, publicKey: try reader.variable(limit: 8192))
    }
}

extension ByteReader {
    /// Whole seconds since 1970.
    fileprivate mutating func date() throws(Malformed) -> Date {
        Date(timeIntervalSince1970: Double(try integer(Int64.self)))
    }
}
