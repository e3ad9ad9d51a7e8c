// One child process: started, awaited and signalled without ever touching a pid that is no longer its own.

import CLinux
import Foundation
import Synchronization

/// A user of this machine that a child runs as.
public struct MachineUser: Sendable, Equatable {
    /// The name.
    public var name: String
    /// The user id.
    public var uid: UInt32
    /// The primary group's id.
    public var gid: UInt32

    /// The user called `name`, or nil when there is none.
    public init?(named name: String) {
        guard let entry = getpwnam(name) else { return nil }
        self.name = name
        self.uid = entry.pointee.pw_uid
        self.gid = entry.pointee.pw_gid
    }
}

/// What a child is started with.
public struct ChildSpecification: Sendable {
    /// Where its standard output and error go.
    public enum Output: Sendable, Equatable {
        /// Appended to that file.
        case file(String)
        /// Kept by the parent, at most 64 KiB of it.
        case captured
    }

    /// The program's path.
    public var executable: String
    /// Its arguments, without the program's name.
    public var arguments: [String]
    /// Its whole environment.
    public var environment: [String: String]
    /// Its working folder.
    public var directory = "/"
    /// The user it runs as; nil: the one at hand.
    public var user: MachineUser?
    /// Where what it prints goes.
    public var output: Output
    /// The signal it gets when its parent dies; 0: none.
    public var deathSignal: Int32 = SIGKILL
    /// A session of its own, for a daemon.
    public var ownSession = false
    /// A descriptor that becomes its number 3.
    public var report: Int32 = -1

    /// A child that runs `executable`.
    public init(
        _ executable: String, _ arguments: [String],
        environment: [String: String] = ChildSpecification.plainEnvironment,
        output: Output
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.output = output
    }

    /// A minimal environment: paths and an unlocalised C locale, and no backtraces (they print memory).
    public static var plainEnvironment: [String: String] {
        var environment = [
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
            "TZ": "UTC", "SWIFT_BACKTRACE": "enable=no",
        ]
        for name in ["LD_LIBRARY_PATH", "TMPDIR"] {
            if let value = ProcessInfo.processInfo.environment[name] { environment[name] = value }
        }
        return environment
    }
}

/// How a child ended.
public enum ChildExit: Sendable, Equatable, CustomStringConvertible {
    /// It returned that status.
    case status(Int32)
    /// That signal ended it.
    case signal(Int32)

    /// In words.
    public var description: String {
        switch self {
        case .status(let status): "exit status \(status)"
        case .signal(let signal): "signal \(signal)"
        }
    }
}

/// A running child process.
///
/// A thread of its own starts it and waits for it: the kernel ties "die with the parent" to the thread that started the child.
public final class ChildProcess: Sendable {
    /// Its process id; its own until ``exit()`` has returned.
    public let pid: Int32
    private let shared: Shared

    private final class Shared: Sendable {
        struct State {
            var ended: ChildExit?
            var waiters: [CheckedContinuation<ChildExit, Never>] = []
            var captured: [UInt8] = []
        }
        let state = Mutex(State())
    }

    private init(pid: Int32, shared: Shared) {
        self.pid = pid
        self.shared = shared
    }

    /// Starts a child.
    /// - Throws: `ClusterError` (`process`) that names the program and the system's reason.
    public static func start(_ specification: ChildSpecification) async throws(ClusterError) -> ChildProcess {
        let shared = Shared()
        let result: Result<ChildProcess, ClusterError> = await withCheckedContinuation { continuation in
            let thread = Thread {
                run(specification, shared: shared) { continuation.resume(returning: $0) }
            }
            thread.stackSize = 256 * 1024
            thread.name = "child"
            thread.start()
        }
        return try result.get()
    }

    /// Waits for the end of the process.
    public func exit() async -> ChildExit {
        await withCheckedContinuation { continuation in
            let ended = shared.state.withLock { state -> ChildExit? in
                if state.ended == nil { state.waiters.append(continuation) }
                return state.ended
            }
            if let ended { continuation.resume(returning: ended) }
        }
    }

    /// Whether it has ended.
    public var hasEnded: Bool { shared.state.withLock { $0.ended != nil } }

    /// What it printed, when its output is captured. Complete once ``exit()`` has returned.
    public var capturedText: String { shared.state.withLock { String(decoding: $0.captured, as: UTF8.self) } }

    /// Sends a signal; false when the process is gone.
    /// - Parameter toGroup: also to what it started itself.
    @discardableResult
    public func send(signal: Int32, toGroup: Bool = false) -> Bool {
        shared.state.withLock { $0.ended == nil && kill(toGroup ? -pid : pid, signal) == 0 }
    }

    /// Runs a command to its end.
    /// - Parameter limit: after this it is killed.
    /// - Throws: `process` when it cannot start or fails, with what it printed; `timeout` when it was killed.
    @discardableResult
    public static func run(_ specification: ChildSpecification, limit: Duration) async throws(ClusterError)
        -> String
    {
        let child = try await start(specification)
        let timer = Task {
            try await Task.sleep(for: limit)
            child.send(signal: SIGKILL, toGroup: true)
        }
        let ended = await child.exit()
        timer.cancel()
        let name = (specification.executable as NSString).lastPathComponent
        switch ended {
        case .status(0): return child.capturedText
        case .signal(SIGKILL): throw ClusterError(.timeout, "\(name) did not end within \(limit)")
        default:
            let said = child.capturedText.trimmingCharacters(in: .whitespacesAndNewlines)
            throw ClusterError(.process, "\(name) failed (\(ended))\(said.isEmpty ? "" : ": \(said)")")
        }
    }

    private static func run(
        _ specification: ChildSpecification, shared: Shared,
        started: (Result<ChildProcess, ClusterError>) -> Void
    ) {
        func fail(_ what: String) {
            let reason = String(cString: strerror(errno))
            started(
                .failure(
                    ClusterError(.process, "cannot start \(specification.executable): \(what): \(reason)")))
        }
        let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard input >= 0 else { return fail("/dev/null") }
        defer { close(input) }
        var output: Int32 = -1
        var reader: Int32 = -1
        switch specification.output {
        case .file(let path):
            output = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
            guard output >= 0 else { return fail(path) }
        case .captured:
            var ends: [Int32] = [-1, -1]
            guard zegel_pipe(&ends) == 0 else { return fail("pipe") }
            (reader, output) = (ends[0], ends[1])
        }
        let pid = spawn(specification, input: input, output: output)
        let reason = errno
        close(output)
        guard pid > 0 else {
            if reader >= 0 { close(reader) }
            errno = reason
            return fail("exec")
        }
        started(.success(ChildProcess(pid: pid, shared: shared)))
        if reader >= 0 {
            capture(from: reader, into: shared)
            close(reader)
        }
        _ = zegel_await_end(pid)
        let waiters = shared.state.withLock { state in
            // Reaped under the lock that signals are sent under: the pid is never another's.
            let status = zegel_reap(pid)
            let ended: ChildExit = status < 0 ? .signal(-status) : .status(status)
            state.ended = ended
            defer { state.waiters = [] }
            return state.waiters.map { ($0, ended) }
        }
        for (waiter, ended) in waiters { waiter.resume(returning: ended) }
    }

    private static func spawn(_ specification: ChildSpecification, input: Int32, output: Int32) -> Int32 {
        var arguments: [UnsafeMutablePointer<CChar>?] = ([specification.executable] + specification.arguments)
            .map { strdup($0) }
        var environment: [UnsafeMutablePointer<CChar>?] = specification.environment
            .map { strdup("\($0.key)=\($0.value)") }
        defer { for text in arguments + environment { free(text) } }
        arguments.append(nil)
        environment.append(nil)
        return specification.executable.withCString { path in
            specification.directory.withCString { directory in
                arguments.withUnsafeBufferPointer { argv in
                    environment.withUnsafeBufferPointer { envp in
                        var spawn = zegel_spawn(
                            path: path, argv: argv.baseAddress, envp: envp.baseAddress, directory: directory,
                            input: input, output: output, error: output, report: specification.report,
                            death_signal: specification.deathSignal,
                            new_session: specification.ownSession ? 1 : 0,
                            change_user: specification.user == nil ? 0 : 1,
                            uid: specification.user?.uid ?? 0, gid: specification.user?.gid ?? 0)
                        return zegel_spawn(&spawn)
                    }
                }
            }
        }
    }

    private static func capture(from reader: Int32, into shared: Shared) {
        var buffer = [UInt8](repeating: 0, count: 8192)
        while true {
            let count = read(reader, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return }
            shared.state.withLock { state in
                let room = 65_536 - state.captured.count
                state.captured += buffer.prefix(min(count, max(0, room)))
            }
        }
    }
}
