// All public region keys of the cluster, as one signed value. Whoever seals trusts nothing but the pinned root: a set
// that is unsigned, signed by another, expired, older than the one already held, or that names a key twice or in an
// algorithm this build does not know, is refused as a whole and the set already held stays in force.
// An unknown algorithm refuses the set rather than being skipped: skipping would quietly seal without that region, and
// a takeover by it could open nothing.

import Crypto
import Foundation

/// Why a region key set was refused.
public enum RegionKeySetError: Error, Sendable, Equatable {
    /// Not a key set, cut short, with trailing bytes, or not in canonical order.
    case malformed
    /// No signature of the pinned root over these bytes.
    case badSignature
    /// A set of format or with a key algorithm that this build does not know.
    case unknownAlgorithm(String)
    /// Past its expiry.
    case expired
    /// Issued in the future (more than five minutes).
    case notYetValid
    /// Its version is below the one already seen.
    case rolledBack(version: Int64, atLeast: Int64)
    /// Two keys for one region, purpose and epoch, or one key twice.
    case duplicateKey
}

/// The cluster's public region keys.
public struct RegionKeySet: Sendable, Equatable {
    /// Grows with every set that the root signs.
    public let version: Int64
    /// When it was made, in whole seconds.
    public let issued: Date
    /// From when nobody may seal under it, in whole seconds.
    public let expires: Date
    /// Length of an epoch, in seconds.
    public let epochSeconds: Int32
    /// Sorted by region, purpose and epoch.
    public let keys: [RegionKey]
    /// The regions that have keys, sorted.
    public let regions: [String]

    private let index: [Slot: RegionKey]

    private struct Slot: Hashable {
        var region: String
        var purpose: KeyPurpose
        var epoch: Int32
    }

    /// Tolerated difference of clocks, in seconds.
    static let clockTolerance: TimeInterval = 300

    /// Makes a set.
    ///
    /// - Throws: `RegionKeySetError.duplicateKey`.
    public init(
        version: Int64, issued: Date, expires: Date, epochSeconds: Int32 = KeyEpoch.defaultSeconds,
        keys: [RegionKey]
    ) throws(RegionKeySetError) {
        var index: [Slot: RegionKey] = [:]
        var ids: Set<RegionKeyID> = []
        for key in keys {
            let slot = Slot(region: key.region, purpose: key.purpose, epoch: key.epoch)
            guard index.updateValue(key, forKey: slot) == nil, ids.insert(key.keyID).inserted else {
                throw .duplicateKey
            }
        }
        self.version = version
        self.issued = issued
        self.expires = expires
        self.epochSeconds = epochSeconds
        self.keys = keys.sorted(by: Self.isOrdered)
        self.regions = Set(keys.map(\.region)).sorted()
        self.index = index
    }

    static func isOrdered(_ left: RegionKey, _ right: RegionKey) -> Bool {
        if left.region != right.region {
            return left.region.utf8.lexicographicallyPrecedes(right.region.utf8)
        }
        return (left.purpose.code, left.epoch) < (right.purpose.code, right.epoch)
    }

    /// The keys that a batch key of this purpose must be wrapped for at `now`: one of every region.
    ///
    /// - Throws: `keySetExpired`; `noUsableKey` if a region lacks a key of the epoch that may be used now.
    public func wrappingKeys(
        _ purpose: KeyPurpose, at now: Date
    ) throws(SealingError) -> (epoch: Int32, keys: [RegionKey]) {
        guard now < expires else { throw .keySetExpired }
        let epoch = KeyEpoch.containing(now, seconds: epochSeconds)
        var usable: [RegionKey] = []
        for region in regions {
            guard let key = index[Slot(region: region, purpose: purpose, epoch: epoch)],
                key.notBefore <= now, now <= key.notAfter
            else { throw .noUsableKey(purpose, epoch: epoch) }
            usable.append(key)
        }
        guard !usable.isEmpty else { throw .noUsableKey(purpose, epoch: epoch) }
        return (epoch, usable)
    }

    /// How long sealing can go on with this set: the end of the last epoch, from the present one without a gap, for
    /// which every region has keys of both purposes, or the set's expiry if that is sooner. `nil` if not even now.
    public func sealableUntil(from now: Date) -> Date? {
        guard !regions.isEmpty, now < expires else { return nil }
        var epoch = KeyEpoch.containing(now, seconds: epochSeconds)
        let first = epoch
        while regions.allSatisfy({ region in
            KeyPurpose.allCases.allSatisfy { index[Slot(region: region, purpose: $0, epoch: epoch)] != nil }
        }) { epoch += 1 }
        return epoch == first ? nil : min(expires, KeyEpoch.start(of: epoch, seconds: epochSeconds))
    }

    /// Equal when all that is signed is equal.
    public static func == (lhs: RegionKeySet, rhs: RegionKeySet) -> Bool {
        lhs.version == rhs.version && lhs.issued == rhs.issued && lhs.expires == rhs.expires
            && lhs.epochSeconds == rhs.epochSeconds && lhs.keys == rhs.keys
    }
}
