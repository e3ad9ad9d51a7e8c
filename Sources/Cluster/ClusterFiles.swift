// Writing the cluster's files: whole or not at all, and readable by no more than must.

import Foundation

/// Files and folders with the rights that they need.
enum ClusterFiles {
    /// Replaces the file at `path` in one step.
    /// - Parameter mode: its rights, in force before the first byte is in it.
    /// - Parameter owner: whose it is, before it stands at its place; nil: the user at hand.
    static func write(
        _ text: String, to path: String, mode: mode_t = 0o600, durable: Bool = true,
        owner: MachineUser? = nil
    ) throws(ClusterError) {
        try write(Array(text.utf8), to: path, mode: mode, durable: durable, owner: owner)
    }

    /// Replaces the file at `path` in one step.
    /// - Parameter owner: whose it is, before it stands at its place; nil: the user at hand.
    static func write(
        _ bytes: [UInt8], to path: String, mode: mode_t = 0o600, durable: Bool = true,
        owner: MachineUser? = nil
    ) throws(ClusterError) {
        let temporary = path + ".new"
        unlink(temporary)
        let file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard file >= 0 else { throw failure("cannot write \(path)") }
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { Foundation.write(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                let error = failure("cannot write \(path)")
                close(file)
                throw error
            }
            offset += count
        }
        fchmod(file, mode)
        if let owner, fchown(file, owner.uid, owner.gid) != 0 {
            let error = failure("cannot give \(path) to \(owner.name)")
            close(file)
            unlink(temporary)
            throw error
        }
        if durable { fsync(file) }
        close(file)
        guard rename(temporary, path) == 0 else { throw failure("cannot write \(path)") }
    }

    /// The file's content, or nil when there is no such file.
    static func read(_ path: String) throws(ClusterError) -> [UInt8]? {
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        do {
            return Array(try Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw ClusterError(.state, "cannot read \(path)")
        }
    }

    /// The file's text without the line end, or nil when there is no such file.
    static func text(_ path: String) throws(ClusterError) -> String? {
        guard let bytes = try read(path) else { return nil }
        return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Makes sure that a folder is there with these rights, and that it belongs to `owner` (nil: the user at hand).
    static func folder(_ path: String, mode: mode_t, owner: MachineUser? = nil) throws(ClusterError) {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw ClusterError(.environment, "cannot make the folder \(path): \(error.localizedDescription)")
        }
        if let owner, chown(path, owner.uid, owner.gid) != 0 {
            throw failure("cannot give \(path) to \(owner.name)")
        }
        guard chmod(path, mode) == 0 else { throw failure("cannot set the rights of \(path)") }
    }

    /// Octets that the disk has left where a path is or will be; nil: nobody knows.
    static func freeSpace(at path: String) -> Int? {
        var folder = path as NSString
        while !FileManager.default.fileExists(atPath: folder as String), folder.length > 1 {
            folder = folder.deletingLastPathComponent as NSString
        }
        var information = statvfs()
        guard statvfs(folder as String, &information) == 0 else { return nil }
        return Int(information.f_bavail) * Int(information.f_frsize)
    }

    /// Makes sure that a folder is there; the rights of one that is stay as they are.
    static func folder(_ path: String) throws(ClusterError) {
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw ClusterError(.environment, "cannot make the folder \(path): \(error.localizedDescription)")
        }
    }

    /// Makes sure that a folder with a name that others could guess is ours and no link: it may lie in /tmp.
    static func ownFolder(_ path: String) throws(ClusterError) {
        var information = stat()
        guard lstat(path, &information) == 0, information.st_mode & S_IFMT == S_IFDIR,
            information.st_uid == geteuid()
        else { throw ClusterError(.environment, "\(path) is not a folder of this user: remove it") }
    }

    /// The last `count` lines of a file, for a message about what went wrong.
    static func tail(_ path: String, lines count: Int) -> String {
        guard let file = FileHandle(forReadingAtPath: path) else { return "" }
        defer { try? file.close() }
        let size = (try? file.seekToEnd()) ?? 0
        try? file.seek(toOffset: size > 16_384 ? size - 16_384 : 0)
        let text = String(decoding: (try? file.readToEnd()) ?? Data(), as: UTF8.self)
        return text.split(separator: "\n", omittingEmptySubsequences: true).suffix(count).joined(
            separator: "\n")
    }

    /// A random secret of `bytes` bytes as URL-safe text without padding.
    static func secret(bytes count: Int = 24) -> String {
        var generator = SystemRandomNumberGenerator()
        let bytes = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        return Data(bytes).base64EncodedString().replacingOccurrences(of: "+", with: "-")
            .replacingOccurrences(of: "/", with: "_").replacingOccurrences(of: "=", with: "")
    }

    /// The secret kept at `path`, made on first use.
    static func keptSecret(_ path: String) throws(ClusterError) -> String {
        if let kept = try text(path), !kept.isEmpty { return kept }
        let fresh = secret()
        try write(fresh + "\n", to: path)
        return fresh
    }

    private static func failure(_ what: String) -> ClusterError {
        ClusterError(.environment, "\(what): \(String(cString: strerror(errno)))")
    }
}
