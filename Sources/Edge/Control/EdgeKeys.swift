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

    func takeNewBatchKeys() -> [BatchKeyRecord] { sealer?.takeNewBatchKeys() ?? [] }

    func returnUncommitted(_ records: [BatchKeyRecord]) {
        if !records.isEmpty { sealer?.returnUncommitted(records) }
    }

    /// Erases batch keys whose time is over.
    func eraseExpired(now: Date) { sealer?.eraseExpired(now: now) }
}
