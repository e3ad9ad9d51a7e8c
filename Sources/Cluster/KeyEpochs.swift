// Makes the regions' keys ahead of time and signs the set of their public halves.

import Crypto
import Foundation
import Ledger
import Sealing

/// The key epochs of a local cluster. Design: keys are there 14 days ahead, so that nothing stops when nobody looks for a week.
struct KeyEpochs: Sendable {
    /// Days for which there must be keys.
    static let daysAhead = 14

    let identity: ClusterIdentity
    let plan: ClusterPlan

    /// Makes what is missing, and signs and stores a new set when the stored one does not reach far enough.
    /// - Returns: the version of the new set; nil when the stored one does.
    @discardableResult
    func extend(_ control: ControlAdministration, now: Date = Date()) async throws -> Int64? {
        let stored = try await control.newestKeySet()
        let horizon = now + TimeInterval(Self.daysAhead * 86_400)
        var version: Int64 = 1
        if let stored {
            version = stored.version + 1
            if let set = try? RegionKeySet.open(
                stored.signed, root: identity.root.publicKey, now: now, atLeastVersion: stored.version),
                let until = set.sealableUntil(from: now), until > horizon
            {
                return nil
            }
        }
        let today = KeyEpoch.containing(now)
        // Three days more than asked for, so that a new set is needed every few days and not every day.
        let last = today + Int32(Self.daysAhead) + 3
        // A batch key is wrapped for every region, so that any of them opens it after a takeover.
        var keys: [RegionKey] = []
        for region in plan.sites {
            let folder = RegionLayout(identity.layout, plan, region).keyring
            try ClusterFiles.folder(folder, mode: 0o700)
            let keyring = try Keyring(directory: folder, region: region.name, create: true)
            try keyring.generate(epochs: today...last)
            keys += try keyring.publicKeys().filter { $0.epoch >= today && $0.epoch <= last }
        }
        let set = try RegionKeySet(
            version: version, issued: now, expires: KeyEpoch.start(of: last + 1), keys: keys)
        try await control.putKeySet(version: version, signed: try set.signed(by: identity.root))
        return version
    }
}
