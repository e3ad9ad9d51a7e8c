// What a drill keeps of what it found, and which folders it may remove.

import Foundation
import Testing

@testable import Cluster

@Suite struct DrillTests {
    private static func report(_ cluster: String = "/var/tmp/a<b>", at: TimeInterval = 1_795_773_600)
        -> DrillReport
    {
        var report = DrillReport(cluster: cluster, at: Date(timeIntervalSince1970: at))
        var shard = DrillReport.Shard(
            shard: "a", set: "20261127-100000F", size: 40_000_000,
            point: Date(timeIntervalSince1970: at - 12), rpo: 12.04,
            rto: 3.46)
        shard.faults = ["2 messages & more"]
        report.shards = [shard]
        return report
    }

    @Test func `the page shows the figures and every fault, and nothing of it is markup`() {
        let page = Self.report().page
        for part in [
            "<span class=\"failed\">failed", "/var/tmp/a&lt;b&gt;", "RTO 3.5 s, RPO 12.0 s",
            "20261127-100000F", "40 MB",
            "shard a: 2 messages &amp; more", "nobody to ask",
        ] { #expect(page.contains(part), "\(part)") }
        #expect(!page.contains("a<b>"))
        // Nothing was restored: there are no figures.
        var empty = Self.report()
        (empty.shards, empty.faults) = ([], ["no room"])
        #expect(!empty.page.contains("RTO 0") && empty.page.contains("<li>no room</li>"))
    }

    @Test func `reports are kept beside what others keep in the folder, and its rights stay`() throws {
        let folder = try TemporaryFolder()
        chmod(folder.path, 0o750)
        for name in ["drill-other-20200101T000000Z.json", "drill-z-notes", "syslog"] {
            _ = FileManager.default.createFile(atPath: "\(folder.path)/\(name)", contents: Data())
        }
        for number in 0..<(DrillReport.kept + 3) {
            let files = try Self.report("/tmp/z", at: 1_795_773_600 + Double(number)).write(into: folder.path)
            #expect(files.allSatisfy { access($0, R_OK) == 0 })
        }
        let names = Set(try FileManager.default.contentsOfDirectory(atPath: folder.path))
        #expect(names.isSuperset(of: ["drill-other-20200101T000000Z.json", "drill-z-notes", "syslog"]))
        #expect(names.count == 3 + 2 * DrillReport.kept)
        #expect(!names.contains("drill-z-20261127T100000Z.json"))
        let rights = try FileManager.default.attributesOfItem(atPath: folder.path)[.posixPermissions] as? Int
        #expect(rights == 0o750)
    }

    @Test(
        arguments: [(nil, nil), (64 << 20, nil), ((64 << 20) - 1, "67 MB"), (0, "0 MB")] as [(Int?, String?)])
    func `a repository whose disk has no room for a few segments is in trouble`(room: Int?, words: String?) {
        let found = ShardPoints.lackOfRoom(room)
        #expect(found.map { $0.contains(words ?? "?") } ?? (words == nil))
    }

    @Test func `a restore says whether a drill made it`() throws {
        let folder = try TemporaryFolder()
        var state = RestoreState(
            source: "/z", moment: Date(timeIntervalSince1970: 1), stage: .restoring, shards: [])
        try state.save("\(folder.path)/restore.json")
        #expect(try RestoreState.load("\(folder.path)/restore.json")?.isDrill != true)
        state.isDrill = true
        try state.save("\(folder.path)/restore.json")
        #expect(try RestoreState.load("\(folder.path)/restore.json") == state)
    }
}
