// Files that only their owner may read: directory 0700, files 0600, written whole or not at all, on the disk before the
// call returns. Every file is small and every buffer that held one is erased.

import Foundation

#if canImport(Glibc)
    import Glibc
#endif

/// Why the keyring's directory could not be used.
public struct KeyringError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure.
    public enum Code: Sendable, Equatable {
        /// A system call failed.
        case inputOutput
        /// Others than the owner may read or write it, or it belongs to someone else.
        case insecurePermissions
        /// A file is not what the keyring writes.
        case corrupt
        /// It is in use by another process, or already there.
        case inUse
        /// The directory belongs to another region.
        case wrongRegion
    }

    /// The kind.
    public let code: Code
    /// A sentence that names the file, never its content.
    public let message: String

    /// The message.
    public var description: String { message }

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    static func system(_ call: String, _ path: String) -> KeyringError {
        KeyringError(.inputOutput, "\(call) \(path): \(String(cString: strerror(errno)))")
    }
}

/// A directory of private files.
struct PrivateDirectory: Sendable {
    let path: String

    /// Opens the directory, making it (but not its parents) if it is not there.
    init(_ path: String, create: Bool) throws(KeyringError) {
        self.path = path
        if create, mkdir(path, 0o700) != 0, errno != EEXIST { throw .system("mkdir", path) }
        var status = stat()
        guard lstat(path, &status) == 0 else { throw .system("stat", path) }
        guard status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid(), status.st_mode & 0o077 == 0
        else {
            throw KeyringError(
                .insecurePermissions,
                "\(path): must be a directory of user \(geteuid()) with mode 0700; run: chmod 0700 \(path)")
        }
    }

    /// The names of all files.
    func names() throws(KeyringError) -> [String] {
        do {
            return try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        } catch {
            throw KeyringError(.inputOutput, "list \(path): not possible")
        }
    }

    func exists(_ name: String) -> Bool { access("\(path)/\(name)", F_OK) == 0 }

    /// The file's bytes; `nil` if it is not there.
    func read(_ name: String, limit: Int = 4096) throws(KeyringError) -> SecretBytes? {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw .system("open", file)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system("stat", file) }
        guard status.st_uid == geteuid(), status.st_mode & 0o077 == 0 else {
            throw KeyringError(.insecurePermissions, "\(file): must have mode 0600 and be its user's own")
        }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= limit else {
            throw KeyringError(.corrupt, "\(file): not a file of the keyring")
        }
        var isWhole = true
        let bytes = SecretBytes(count: Int(status.st_size)) { buffer in
            var done = 0
            while done < buffer.count {
                let count = Glibc.read(
                    descriptor, buffer.baseAddress?.advanced(by: done), buffer.count - done)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else {
                    isWhole = false
                    return
                }
                done += count
            }
        }
        guard isWhole else { throw KeyringError(.inputOutput, "read \(file): cut short") }
        return bytes
    }

    /// Writes a file whole: temporary name, fsync, rename. `synchronize()` makes the name itself durable.
    func write(_ name: String, _ bytes: SecretBytes) throws(KeyringError) {
        let file = "\(path)/\(name)"
        let temporary = "\(path)/.\(name).new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .system("create", temporary) }
        defer { close(descriptor) }
        guard bytes.withUnsafeBytes({ Self.writeAll(descriptor, $0) }), fsync(descriptor) == 0,
            rename(temporary, file) == 0
        else {
            let error = KeyringError.system("write", file)
            unlink(temporary)
            throw error
        }
    }

    /// Overwrites a file with zeros on the disk, then removes it.
    func destroy(_ name: String) throws(KeyringError) {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else {
            if errno == ENOENT { return }
            throw .system("open", file)
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system("stat", file) }
        let zeros = [UInt8](repeating: 0, count: Int(status.st_size))
        guard zeros.withUnsafeBytes({ Self.writeAll(descriptor, $0) }), fsync(descriptor) == 0,
            // Another process may have come first.
            unlink(file) == 0 || errno == ENOENT
        else { throw .system("erase", file) }
        try synchronize()
    }

    /// Makes names durable.
    func synchronize() throws(KeyringError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system("open", path) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw .system("fsync", path) }
    }

    /// Holds an exclusive lock until the value goes, or until the process ends.
    final class Lock: Sendable {
        private let descriptor: Int32
        fileprivate init(_ descriptor: Int32) { self.descriptor = descriptor }
        deinit { close(descriptor) }
    }

    /// Takes the lock `name`.
    ///
    /// - Throws: `inUse` if another process holds it and `wait` is false.
    func lock(_ name: String, wait: Bool) throws(KeyringError) -> Lock {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard descriptor >= 0 else { throw .system("open", file) }
        let lock = Lock(descriptor)
        while flock(descriptor, wait ? LOCK_EX : LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            if errno == EWOULDBLOCK { throw KeyringError(.inUse, "\(file): another process holds it") }
            throw .system("lock", file)
        }
        return lock
    }

    private static func writeAll(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = Glibc.write(descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            done += count
        }
        return true
    }
}
