// What a process that sees plaintext does first: leave nothing of its memory anywhere else (design, law 4).
import CLinux
import Foundation

/// Process-wide protections. What they cannot reach (swap of a host that has it, hibernation) is for the host.
public enum ProcessHardening {
    /// Forbids core dumps and tracing, overwrites freed memory, silences the crash handler that prints memory, and
    /// ignores SIGPIPE. Call before the first byte of mail or key is read.
    ///
    /// - Returns: what could not be applied, for the log; empty when all was.
    @discardableResult
    public static func apply() -> [String] {
        var missing: [String] = []
        if zegel_forbid_dumps() != 0 { missing.append("core dumps could not be forbidden") }
        if zegel_overwrites_freed_memory() != 1 { missing.append("freed memory is not overwritten") }
        if zegel_return_large_blocks() != 1 { missing.append("the allocator keeps large blocks") }
        // Swift's backtracer prints registers and memory of a crash to stderr: back to the kernel's default.
        for number in [SIGQUIT, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP] { signal(number, SIG_DFL) }
        signal(SIGPIPE, SIG_IGN)
        return missing
    }

    /// Raises the soft limit of open files to the hard one: an edge holds a file per connection.
    static func raiseOpenFileLimit() {
        var limit = rlimit()
        let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(resource, &limit)
    }
}
