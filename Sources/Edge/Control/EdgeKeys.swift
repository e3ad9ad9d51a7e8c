// The sealer of an edge and the key sets it may work under.

import Crypto
import Foundation
import Ledger
import Sealing
import Synchronization

/// Holds the sealer from the moment that there is a key set. It takes no set that the pinned root did not sign, that has expired or
/// that is older than one it has seen.
final class EdgeKeys: Sendable {
    private struct State {
        var sealer: Sealer?
        var highestVersion: Int64 = 0
        var sealableUntil: Date?
        /// Wrapped batch keys that messages at hand may need in a shard.
        var records: [UUID: BatchKeyRow] = [:]
    }

    /// How long after a batch key was made a message under it may still be on its way to a shard, beside the key's own life.
    private static let recordLife: TimeInterval = 3600

    private let versionFile: String?
    private let root: Curve25519.Signing.PublicKey
    private let limits: Sealer.Limits
    private let state = Mutex(State())

    /// - Parameter versionFile: Where the highest version is remembered over restarts; nil: nowhere.
    /// - Throws: when `root` is not an Ed25519 public key.
    init(root: [UInt8], limits: Sealer.Limits, versionFile: String? = nil) throws {
        self.root = try Curve25519.Signing.PublicKey(rawRepresentation: root)
        self.limits = limits
        self.versionFile = versionFile
        guard let versionFile, let text = try? String(contentsOfFile: versionFile, encoding: .utf8),
            let version = Int64(text.trimmingCharacters(in: .whitespacesAndNewlines))
        else { return }
        state.withLock { $0.highestVersion = version }
    }

    /// The sealer; nil while there is no key set.
    var sealer: Sealer? { state.withLock { $0.sealer } }

    /// How long sealing can go on with the set at hand.
    var sealableUntil: Date? { state.withLock { $0.sealableUntil } }

    /// Takes a signed set into use.
    func take(_ signed: [UInt8], now: Date) throws(RegionKeySetError) {
        let atLeast = state.withLock { $0.highestVersion }
        let set = try RegionKeySet.open(signed, root: root, now: now, atLeastVersion: atLeast)
        let isNewer = state.withLock { state in
            guard set.version >= state.highestVersion else { return false }
            defer { state.highestVersion = set.version }
            state.sealableUntil = set.sealableUntil(from: now)
            if let sealer = state.sealer {
                sealer.replace(keySet: set)
            } else {
                state.sealer = Sealer(keySet: set, limits: limits)
            }
            return set.version > state.highestVersion
        }
        // A folder that cannot be written to costs the memory over a restart, nothing else.
        if isNewer, let versionFile {
            try? Data("\(set.version)\n".utf8).write(to: URL(fileURLWithPath: versionFile), options: .atomic)
        }
    }

    /// The wrapped batch keys with these ids, for a shard that has not seen them; one that was made too long ago is not among them.
    func batchKeys(_ ids: Set<UUID>) -> [BatchKeyRow] {
        state.withLock { state in
            for record in state.sealer?.takeNewBatchKeys() ?? [] {
                state.records[record.id] = BatchKeyRow(record)
            }
            if state.records.count > limits.uncommitted {
                let kept = state.records.values.sorted { $0.createdAt > $1.createdAt }.prefix(
                    limits.uncommitted / 2)
                state.records = Dictionary(uniqueKeysWithValues: kept.map { ($0.id, $0) })
            }
            return ids.compactMap { state.records[$0] }
        }
    }

    /// Erases batch keys whose time is over.
    func eraseExpired(now: Date) {
        let oldest = now - Double(limits.age.components.seconds) - Self.recordLife
        let sealer = state.withLock { state in
            state.records = state.records.filter { $0.value.createdAt > oldest }
            return state.sealer
        }
        sealer?.eraseExpired(now: now)
    }
}

extension BatchKeyRow {
    init(_ record: BatchKeyRecord) {
        self.init(
            id: record.id, tenant: record.tenant, purpose: record.purpose.rawValue, epoch: record.epoch,
            createdAt: record.createdAt, wrapped: record.wrapped)
    }
}
