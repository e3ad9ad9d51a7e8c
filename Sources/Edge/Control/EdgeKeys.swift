// The sealer of an edge and the key sets it may work under.

import Crypto
import Foundation
import Sealing
import Synchronization

/// Holds the sealer from the moment that there is a key set. It takes no set that the pinned root did not sign, that has expired or
/// that is older than one it has seen.
final class EdgeKeys: Sendable {
    private struct State {
        var sealer: Sealer?
        var highestVersion: Int64 = 0
        var sealableUntil: Date?
    }

    private let root: Curve25519.Signing.PublicKey
    private let limits: Sealer.Limits
    private let state = Mutex(State())

    /// - Throws: when `root` is not an Ed25519 public key.
    init(root: [UInt8], limits: Sealer.Limits) throws {
        self.root = try Curve25519.Signing.PublicKey(rawRepresentation: root)
        self.limits = limits
    }

    /// The sealer; nil while there is no key set.
    var sealer: Sealer? { state.withLock { $0.sealer } }

    /// How long sealing can go on with the set at hand.
    var sealableUntil: Date? { state.withLock { $0.sealableUntil } }

    /// Takes a signed set into use.
    func take(_ signed: [UInt8], now: Date) throws(RegionKeySetError) {
        let atLeast = state.withLock { $0.highestVersion }
        let set = try RegionKeySet.open(signed, root: root, now: now, atLeastVersion: atLeast)
        state.withLock { state in
            guard set.version >= state.highestVersion else { return }
            state.highestVersion = set.version
            state.sealableUntil = set.sealableUntil(from: now)
            if let sealer = state.sealer {
                sealer.replace(keySet: set)
            } else {
                state.sealer = Sealer(keySet: set, limits: limits)
            }
        }
    }

    func takeNewBatchKeys() -> [BatchKeyRecord] { sealer?.takeNewBatchKeys() ?? [] }

    func returnUncommitted(_ records: [BatchKeyRecord]) {
        if !records.isEmpty { sealer?.returnUncommitted(records) }
    }

    /// Erases batch keys whose time is over.
    func eraseExpired(now: Date) { sealer?.eraseExpired(now: now) }
}
