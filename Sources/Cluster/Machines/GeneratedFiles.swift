// Files that are written from a plan and may be edited afterwards: what an operator changed is never overwritten unasked.

import Crypto
import Foundation

/// The files below one folder, with a record of what was written there last.
struct GeneratedFiles {
    /// The folder.
    let folder: String
    /// Also what somebody changed is written anew.
    let force: Bool
    /// Written now, as they were not there or were ours and are other ones now.
    private(set) var written: [String] = []
    /// Changed by somebody; what would have been written lies beside them, as `NAME.new`.
    private(set) var kept: [String] = []
    /// By path inside of the folder: the digest of what was written last.
    private var digests: [String: String]
    private var named: Set<String> = []

    private var record: String { folder + "/.written" }

    /// The files in `folder`, which need not be there yet.
    init(_ folder: String, force: Bool) throws(ClusterError) {
        self.folder = folder
        self.force = force
        var digests: [String: String] = [:]
        for line in (try ClusterFiles.text(folder + "/.written") ?? "").split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
            if parts.count == 2 { digests[parts[1]] = parts[0] }
        }
        self.digests = digests
    }

    /// Writes a file, unless somebody changed it since it was written last.
    /// - Parameter name: its path inside of the folder.
    mutating func write(_ text: String, to name: String, mode: mode_t = 0o644) throws(ClusterError) {
        let path = folder + "/" + name
        named.insert(name)
        let wanted = Self.digest(Array(text.utf8))
        let found = try ClusterFiles.read(path).map(Self.digest)
        if found == wanted {
            digests[name] = wanted
            unlink(path + ".new")
            return
        }
        if let found, found != digests[name], !force {
            try ClusterFiles.write(text, to: path + ".new", mode: mode)
            kept.append(name)
            return
        }
        try ClusterFiles.folder((path as NSString).deletingLastPathComponent)
        try ClusterFiles.write(text, to: path, mode: mode)
        digests[name] = wanted
        written.append(name)
    }

    /// Keeps the record.
    /// - Returns: files that were written once and that the plan no longer asks for.
    mutating func finish() throws(ClusterError) -> [String] {
        let left = digests.keys.filter { !named.contains($0) }.sorted()
        let strangers = left.filter { FileManager.default.fileExists(atPath: folder + "/" + $0) }
        for name in left where !strangers.contains(name) { digests[name] = nil }
        let lines = digests.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)\n" }
        try ClusterFiles.write(lines.joined(), to: record, mode: 0o644)
        return strangers
    }

    private static func digest(_ bytes: [UInt8]) -> String {
        SHA256.hash(data: bytes).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
