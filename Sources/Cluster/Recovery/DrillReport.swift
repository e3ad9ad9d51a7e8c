// What a drill found, for machines and as a page for people.

import Foundation
import Ledger

/// The report of one drill.
public struct DrillReport: Sendable, Codable, Equatable {
    /// Seals of a sample that were opened through the key service.
    public struct Seals: Sendable, Codable, Equatable {
        /// Envelopes and contents that were tried.
        public var tried = 0
        /// That are what was sealed.
        public var opened = 0
        /// Of these, contents.
        public var contents = 0
        /// Whose key is destroyed.
        public var destroyed = 0

        init() {}
    }

    /// One shard.
    public struct Shard: Sendable, Codable, Equatable {
        /// Its name.
        public var shard: String
        /// The backup that it was made from.
        public var set: String
        /// Octets that this holds.
        public var size: Int
        /// The newest point that there was.
        public var point: Date
        /// What would be lost, in seconds: the age of the newest point.
        public var rpo: Double
        /// What restoring took, in seconds.
        public var rto: Double
        /// What is there.
        public var rows = Examination()
        /// Whether PostgreSQL's checksums of all pages are right.
        public var checksumsHold = false
        /// What was opened.
        public var seals = Seals()
        /// What its leader told of what happened to its open deliveries since; nil: nobody could be asked.
        public var reconciled: Rehearsal?
        /// What is wrong, each in a sentence.
        public var faults: [String] = []
    }

    /// The cluster.
    public var cluster: String
    /// When it began.
    public var at: Date
    /// What it took, in seconds.
    public var took: Double = 0
    /// The moment that all shards were restored to.
    public var moment: Date?
    /// Whether everything was as it should be.
    public var passed = false
    /// The shards.
    public var shards: [Shard] = []
    /// What is wrong with the whole.
    public var faults: [String] = []

    /// All that is wrong.
    public var everyFault: [String] {
        faults + shards.flatMap { shard in shard.faults.map { "shard \(shard.shard): \($0)" } }
    }

    /// Seconds until the last shard stood again, one after the other.
    public var rto: Double { shards.map(\.rto).reduce(0, +) }
    /// Seconds that the worst shard would lose.
    public var rpo: Double { shards.map(\.rpo).max() ?? 0 }

    // MARK: The page

    /// One page of HTML that needs nothing else.
    var page: String {
        let rows = shards.map { shard in
            let seals = "\(shard.seals.opened) of \(shard.seals.tried)"
            let told = shard.reconciled.map {
                "\($0.ended) ended, \($0.open) open, \($0.unknown) unknown"
            }
            let cells = [
                shard.shard, shard.set, ClusterRecovery.octets(shard.size), RestorePoint.text(shard.point),
                Self.seconds(shard.rpo), Self.seconds(shard.rto),
                "\(shard.rows.messages) / \(shard.rows.openDeliveries) / \(shard.rows.events)",
                shard.checksumsHold ? "right" : "wrong", seals, told ?? "nobody to ask",
            ]
            return "<tr>" + cells.map { "<td>\(Self.escaped($0))</td>" }.joined() + "</tr>"
        }
        let heads = [
            "shard", "backup", "size", "newest point", "RPO", "RTO", "messages / open / events", "checksums",
            "seals opened", "what happened since",
        ]
        let faults = everyFault.map { "<li>\(Self.escaped($0))</li>" }.joined(separator: "\n")
        return """
            <!doctype html>
            <html lang="en"><head><meta charset="utf-8"><title>Recovery drill \(RestorePoint.text(at))</title>
            <style>
            body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; max-width: 75rem; color: #1b1b1b; background: #fff; }
            table { border-collapse: collapse; } th, td { text-align: left; padding: .3rem .8rem; border-bottom: 1px solid #ccc; }
            .passed { color: #006b3c; } .failed { color: #b00020; }
            </style></head><body>
            <h1>Recovery drill: <span class="\(passed ? "passed" : "failed")">\(passed ? "passed" : "failed")</span></h1>
            <p>\(Self.escaped(cluster)), \(RestorePoint.text(at)), \(Self.seconds(took)).
            Restored to \(moment.map { RestorePoint.precise($0) } ?? "nothing").
            \(shards.isEmpty ? "" : "RTO \(Self.seconds(rto)), RPO \(Self.seconds(rpo)).")</p>
            <table><thead><tr>\(heads.map { "<th scope=\"col\">\($0)</th>" }.joined())</tr></thead>
            <tbody>
            \(rows.joined(separator: "\n"))
            </tbody></table>
            \(faults.isEmpty ? "" : "<h2>What is wrong</h2>\n<ul>\n\(faults)\n</ul>")
            </body></html>

            """
    }

    private static func seconds(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) s"
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }

    // MARK: Files

    /// Reports that are kept in a folder.
    static let kept = 100

    /// Writes it as JSON and as a page, and lets go of the oldest ones.
    /// - Returns: the two files.
    func write(into folder: String) throws(ClusterError) -> [String] {
        try ClusterFiles.folder(folder)
        let prefix = "drill-\((cluster as NSString).lastPathComponent)-"
        let name = prefix + RestorePoint.text(at).filter { $0 != ":" && $0 != "-" }
        let files = ["\(folder)/\(name).json", "\(folder)/\(name).html"]
        try ClusterFiles.write(RestorePoint.json(self) + "\n", to: files[0])
        try ClusterFiles.write(page, to: files[1])
        let all = ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
            .filter { $0.hasPrefix(prefix) && ($0.hasSuffix("Z.json") || $0.hasSuffix("Z.html")) }.sorted()
        for old in all.dropLast(Self.kept * 2) { unlink("\(folder)/\(old)") }
        return files
    }
}
