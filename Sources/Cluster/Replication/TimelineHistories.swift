// The timelines' histories of one member, as PostgreSQL keeps them in its folder of WAL.

import Foundation

/// The history files of a data folder: `pg_wal/0000000A.history` tells where timeline 10 came from.
struct TimelineHistories: Sendable {
    /// The first words of a history that says nothing.
    private static let mark = "# zegel: "
    /// Seconds that one must have been there to be taken away: a follower fetches one after the other, the real one last.
    static let age: TimeInterval = 10

    private let folder: String

    /// Those of the PostgreSQL in `data`.
    init(data: String) { folder = data + "/pg_wal" }

    /// The timelines that have one.
    /// - Throws: `environment` when the folder cannot be read.
    func numbers() throws(ClusterError) -> Set<UInt32> {
        do {
            return Set(try FileManager.default.contentsOfDirectory(atPath: folder).compactMap(Self.number))
        } catch {
            throw ClusterError(.environment, "\(folder) cannot be read: \(error)")
        }
    }

    /// Makes PostgreSQL pass over timelines of which this member knows nothing: each gets a history that says nothing, which it takes for
    /// one that did not come from its own.
    /// - Throws: `environment` when one cannot be written.
    func skip(_ numbers: [UInt32]) throws(ClusterError) {
        do throws(ClusterError) {
            for number in numbers {
                let words =
                    "\(Self.mark)timeline \(number) was claimed by another member, and not followed here\n"
                try write(words, to: path(number))
            }
            if !numbers.isEmpty { try synchronize(folder, O_RDONLY | O_DIRECTORY) }
        } catch {
            // The member does not lead, and goes on following.
            for number in numbers where saysNothing(path(number)) { unlink(path(number)) }
            throw error
        }
    }

    /// Removes what ``skip(_:)`` wrote above the newest timeline that has a real history: a PostgreSQL that starts would take it for its
    /// goal, and wait for it, or end.
    /// - Parameters:
    ///   - age: seconds that each must have been there.
    ///   - isAllowed: asked before each: never while a server runs that may be about to lead.
    /// - Returns: the timelines.
    /// - Throws: `environment` when one cannot be removed.
    func clearSkipped(
        olderThan age: TimeInterval = Self.age, while isAllowed: () -> Bool
    ) throws(ClusterError) -> [UInt32] {
        // No data yet, or none any more.
        guard let numbers = try? numbers() else { return [] }
        var cleared: [UInt32] = []
        for number in numbers.sorted(by: >) {
            guard saysNothing(path(number)), isOlder(path(number), than: age), isAllowed() else { break }
            guard unlink(path(number)) == 0 || errno == ENOENT else { throw failure(path(number)) }
            cleared.append(number)
        }
        return cleared.reversed()
    }

    private func path(_ number: UInt32) -> String {
        let hex = String(number, radix: 16, uppercase: true)
        return "\(folder)/\(String(repeating: "0", count: 8 - hex.count))\(hex).history"
    }

    private static func number(_ name: String) -> UInt32? {
        guard name.hasSuffix(".history"), name.utf8.count == 16 else { return nil }
        return UInt32(name.prefix(8), radix: 16)
    }

    /// PostgreSQL passes over a line of comment; a real history has another one.
    private func saysNothing(_ path: String) -> Bool {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else { return false }
        return text.hasPrefix(Self.mark) && text.split(separator: "\n").count == 1
    }

    private func isOlder(_ path: String, than age: TimeInterval) -> Bool {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        guard let written = attributes?[.modificationDate] as? Date else { return false }
        return Date().timeIntervalSince(written) >= age
    }

    /// Whole or not at all; one that is there by now stays as it is.
    private func write(_ words: String, to path: String) throws(ClusterError) {
        let aside = folder + "/zegel-timeline-\(getpid()).tmp"
        unlink(aside)
        let file = open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw failure(aside) }
        defer {
            close(file)
            unlink(aside)
        }
        let octets = Array(words.utf8)
        guard Foundation.write(file, octets, octets.count) == octets.count, fsync(file) == 0 else {
            throw failure(aside)
        }
        guard link(aside, path) == 0 || errno == EEXIST else { throw failure(path) }
    }

    private func synchronize(_ path: String, _ flags: Int32) throws(ClusterError) {
        let file = open(path, flags | O_CLOEXEC)
        guard file >= 0 else { throw failure(path) }
        defer { close(file) }
        guard fsync(file) == 0 else { throw failure(path) }
    }

    private func failure(_ path: String) -> ClusterError {
        ClusterError(.environment, "\(path) cannot be changed: \(String(cString: strerror(errno)))")
    }
}
