// The end of a key epoch: in all regions, never by mistake, and also where it was broken off.

import Foundation
import Sealing
import Testing

@testable import Cluster

@Suite struct KeyringEpochsTests {
    private static let now = Date(timeIntervalSince1970: 20_784.5 * 86_400)

    /// A cluster's folder with keyrings, and nothing else.
    private static func cluster(regions: Int) throws -> (TemporaryFolder, KeyringEpochs, [String]) {
        let folder = try TemporaryFolder()
        var port = 20_000
        let plan = try ClusterPlan.answering(ClusterRequest(regions: regions), before: nil) {
            (_) throws(ClusterError) in
            port += 1
            return port
        }
        let layout = ClusterLayout(directory: folder.path)
        try plan.save(layout.plan)
        var keyrings: [String] = []
        for region in plan.sites {
            let path = RegionLayout(layout, plan, region).keyring
            try FileManager.default.createDirectory(
                atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
            try Keyring(directory: path, region: region.name, create: true).generate(epochs: 20_783...20_785)
            keyrings.append(path)
        }
        return (folder, try KeyringEpochs(localClusterIn: folder.path), keyrings)
    }

    @Test(arguments: [1, 3])
    func `an epoch that is over ends in every region`(regions: Int) throws {
        let (folder, epochs, _) = try Self.cluster(regions: regions)
        defer { withExtendedLifetime(folder) {} }
        #expect(try epochs.list().count == 6)
        #expect(try epochs.list().allSatisfy { $0.regions.count == regions })
        try epochs.destroy("content", epoch: 20_783, now: Self.now)
        let left = try epochs.list()
        #expect(!left.contains { $0.epoch == 20_783 && $0.purpose == "content" })
        #expect(left.contains { $0.epoch == 20_783 && $0.purpose == "metadata" })
    }

    @Test(arguments: [
        ("content", Int32(20_784), "not over"), ("content", 20_785, "not over"),
        ("content", 20_700, "no region has"),
        ("all", 20_783, "content or metadata"),
    ])
    func `an epoch that is not over, or not there, is not ended`(purpose: String, epoch: Int32, words: String)
        throws
    {
        let (folder, epochs, _) = try Self.cluster(regions: 1)
        defer { withExtendedLifetime(folder) {} }
        let error = #expect(throws: ClusterError.self) {
            try epochs.destroy(purpose, epoch: epoch, now: Self.now)
        }
        #expect(error?.message.contains(words) == true)
        #expect(try epochs.list().count == 6)
        // Edges whose clocks are behind seal with yesterday's a while longer.
        let midnight = Date(timeIntervalSince1970: 20_784 * 86_400)
        #expect(throws: ClusterError.self) {
            try epochs.destroy("content", epoch: 20_783, now: midnight + 60)
        }
        try epochs.destroy("content", epoch: 20_784, evenCurrent: true, now: Self.now)
    }

    @Test func `an erasure that was broken off is finished by whoever looks`() throws {
        let (folder, epochs, keyrings) = try Self.cluster(regions: 1)
        defer { withExtendedLifetime(folder) {} }
        let key = "\(keyrings[0])/content-20783.key"
        let size = try #require(FileManager.default.contents(atPath: key)).count
        // The tombstone is there, the key is zeros, and its name is not gone yet.
        _ = FileManager.default.createFile(
            atPath: "\(keyrings[0])/content-20783.destroyed", contents: Data(),
            attributes: [.posixPermissions: 0o600])
        try Data(count: size).write(to: URL(fileURLWithPath: key))
        #expect(try epochs.list().count == 5)
        #expect(access(key, F_OK) != 0)
        try epochs.destroy("content", epoch: 20_784, evenCurrent: true, now: Self.now)
    }
}
