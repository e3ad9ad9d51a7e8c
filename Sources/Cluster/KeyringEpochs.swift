// The key epochs that the keyrings of a local cluster hold, and the end of one: what was sealed in it is closed for ever, in every backup
// too.

import Foundation
import Sealing

/// The private keys of a local cluster's regions, by epoch.
public struct KeyringEpochs: Sendable {
    /// One epoch of one purpose.
    public struct Epoch: Sendable, Codable, Equatable {
        /// `content` or `metadata`.
        public var purpose: String
        /// Its number: days since 1970.
        public var epoch: Int32
        /// When it begins, a day in UTC.
        public var from: Date
        /// The regions that hold its private key.
        public var regions: [String]
    }

    private let plan: ClusterPlan
    private let layout: ClusterLayout

    /// Those of the cluster in `directory`.
    /// - Throws: `state` when there is none.
    public init(localClusterIn directory: String) throws(ClusterError) {
        layout = ClusterLayout(directory: directory)
        guard let plan = try ClusterPlan.load(layout.plan) else {
            throw ClusterError(.state, "there is no local cluster in \(layout.directory)")
        }
        self.plan = plan
    }

    private func keyrings() throws(ClusterError) -> [Keyring] {
        var all: [Keyring] = []
        for region in plan.sites {
            let folder = RegionLayout(layout, plan, region).keyring
            do { all.append(try Keyring(directory: folder, region: region.name)) } catch {
                throw ClusterError(.state, "the keyring in \(folder): \(error)")
            }
        }
        return all
    }

    /// What is there, the oldest first.
    public func list() throws(ClusterError) -> [Epoch] {
        var found: [String: Epoch] = [:]
        for keyring in try keyrings() {
            do {
                for key in try keyring.publicKeys() {
                    let name = "\(key.epoch) \(key.purpose.rawValue)"
                    let new = Epoch(
                        purpose: key.purpose.rawValue, epoch: key.epoch,
                        from: KeyEpoch.start(of: key.epoch), regions: [])
                    found[name, default: new].regions.append(keyring.region)
                }
            } catch {
                throw ClusterError(.state, "the keyring of \(keyring.region): \(error)")
            }
        }
        return found.values.sorted { ($0.epoch, $0.purpose) < ($1.epoch, $1.purpose) }
    }

    /// Ends an epoch in every region.
    /// - Parameter evenCurrent: also one that mail is sealed in today or will be: it cannot be delivered then.
    /// - Throws: `usage` for an epoch that no region has.
    public func destroy(
        _ purpose: String, epoch: Int32, evenCurrent: Bool = false, now: Date = Date()
    ) throws(ClusterError) {
        guard let kind = KeyPurpose(rawValue: purpose) else {
            throw ClusterError(.usage, "--purpose \(purpose): content or metadata")
        }
        guard try list().contains(where: { $0.epoch == epoch && $0.purpose == purpose }) else {
            throw ClusterError(
                .usage,
                "no region has the \(purpose) key of epoch \(epoch): zegel keyring list --dir \(layout.directory)"
            )
        }
        // Edges whose clocks are behind seal with it for a while.
        guard evenCurrent || epoch < KeyEpoch.containing(now - 3600) else {
            throw ClusterError(
                .usage,
                "epoch \(epoch) is not over: mail that is sealed in it could not be delivered; --even-current ends it all the same"
            )
        }
        for keyring in try keyrings() {
            do { try keyring.destroy(kind, epoch: epoch) } catch {
                throw ClusterError(
                    .state, "the keyring of \(keyring.region): \(error); give the command again")
            }
        }
    }
}
