// The server process of a PostgreSQL that somebody else started, found by the file that it keeps while it lives.

import Foundation

/// The postmaster of a data folder.
struct Postmaster: Sendable {
    /// PostgreSQL's data folder.
    let data: String

    /// Its process id while it lives. The file outlives a server that was killed, and its number may be another's by then: only a
    /// process that works in this folder counts.
    var pid: Int32? {
        guard let text = try? String(contentsOfFile: data + "/postmaster.pid", encoding: .utf8),
            let line = text.split(separator: "\n").first, let pid = Int32(line), pid > 1,
            let folder = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/cwd"),
            folder == (data as NSString).resolvingSymlinksInPath
        else { return nil }
        return pid
    }

    /// Whether it lives, and lets nobody in yet.
    var isStarting: Bool {
        guard pid != nil, let text = try? String(contentsOfFile: data + "/postmaster.pid", encoding: .utf8)
        else { return false }
        return Self.isStarting(text)
    }

    /// What the last line of its file says.
    static func isStarting(_ file: String) -> Bool {
        file.split(separator: "\n").last.map { $0.hasPrefix("starting") } ?? false
    }

    /// Its processes: the postmaster and what it started, which a SIGKILL to it alone would leave for a while.
    var processes: [Int32] {
        guard let pid else { return [] }
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return [pid] + all.compactMap(Int32.init).filter { Self.parent(of: $0) == pid }
    }

    private static func parent(of pid: Int32) -> Int32? {
        guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8),
            let end = stat.lastIndex(of: ")")
        else { return nil }
        // Behind the name, which may hold anything: state, then the parent.
        let fields = stat[stat.index(after: end)...].split(separator: " ")
        return fields.count > 1 ? Int32(fields[1]) : nil
    }
}
