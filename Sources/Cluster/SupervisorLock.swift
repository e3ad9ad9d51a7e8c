// One supervisor a cluster: a lock that dies with its holder, and that tells who holds it.

import Foundation

/// The lock of a local cluster's folder.
public final class SupervisorLock: Sendable {
    private let descriptor: Int32

    private init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    /// Takes the lock and writes this process's id into it; nil when another process holds it.
    public static func take(_ path: String) throws(ClusterError) -> SupervisorLock? {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else {
            throw ClusterError(.environment, "cannot open \(path): \(String(cString: strerror(errno)))")
        }
        // Somebody who only looks (`holder`) has it for a moment.
        var tries = 20
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            tries -= 1
            guard tries > 0 else {
                close(descriptor)
                return nil
            }
            usleep(5_000)
        }
        let text = "\(getpid())\n"
        ftruncate(descriptor, 0)
        _ = text.withCString { pwrite(descriptor, $0, strlen($0), 0) }
        return SupervisorLock(descriptor: descriptor)
    }

    /// The process that holds the lock, or nil when nobody does. As long as it is held, the id is that process's own.
    public static func holder(_ path: String) -> Int32? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        if flock(descriptor, LOCK_SH | LOCK_NB) == 0 { return nil }
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &bytes, bytes.count, 0)
        guard count > 0 else { return nil }
        return Int32(
            String(decoding: bytes.prefix(count), as: UTF8.self).trimmingCharacters(
                in: .whitespacesAndNewlines))
    }
}
