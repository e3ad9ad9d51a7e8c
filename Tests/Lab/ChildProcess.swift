// A program that a test starts and that never outlives it.

import CLinux
import Foundation
import Glibc
import Synchronization

/// A child process that the kernel ends when this process dies, however it dies.
///
/// PR_SET_PDEATHSIG fires when the *thread* that made the child ends, not the process. So each child is made by a thread of
/// its own, which then waits for it.
public final class ChildProcess: Sendable {
    private struct State {
        var processID: pid_t
        /// As `waitpid` gave it, once it ended.
        var exit: Int32?
    }

    private let state: Mutex<State>

    /// Process id; it may have ended already.
    public var processID: pid_t { state.withLock { $0.processID } }
    /// Status as of `waitpid`, nil while it runs.
    public var exitStatus: Int32? { state.withLock { $0.exit } }
    /// Whether it has not ended.
    public var isRunning: Bool { exitStatus == nil }

    private init(processID: pid_t) { state = Mutex(State(processID: processID)) }

    /// Starts a program found in PATH.
    /// - Parameters:
    ///   - arguments: program and arguments.
    ///   - user: OS user to run as, where this process is root; nil for the same.
    ///   - deathSignal: what the kernel sends when this process dies.
    ///   - environment: in place of this process' own, save PATH.
    ///   - directory: working directory.
    ///   - output: file that gets standard output and error.
    public static func start(
        _ arguments: [String], user: String? = nil, deathSignal: String = "KILL",
        environment: [String: String] = [:], directory: String = "/", output: String = "/dev/null"
    ) async throws -> ChildProcess {
        var command = ["env", "-C", directory, "setpriv", "--pdeathsig", deathSignal]
        if let user, getuid() == 0 {
            command += ["--reuid=\(user)", "--regid=\(user)", "--init-groups"]
        }
        command += arguments
        var variables = environment
        variables["PATH"] = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin:/usr/sbin:/sbin"
        variables["LC_ALL"] = variables["LC_ALL"] ?? "C.UTF-8"
        let lines = variables.map { "\($0.key)=\($0.value)" }
        let outcome: Result<ChildProcess, LabError> = await withCheckedContinuation {
            [command] continuation in
            let thread = Thread {
                switch spawn(command, lines, output) {
                case .failure(let error): continuation.resume(returning: .failure(error))
                case .success(let processID):
                    let child = ChildProcess(processID: processID)
                    continuation.resume(returning: .success(child))
                    child.reap(processID)
                }
            }
            thread.stackSize = 256 << 10
            thread.start()
        }
        return try outcome.get()
    }

    /// Runs a program to its end.
    /// - Throws: when it fails or takes longer than `limit`.
    public static func run(
        _ arguments: [String], user: String? = nil, directory: String = "/", limit: Duration = .seconds(60)
    ) async throws {
        let output = NSTemporaryDirectory() + "zegel-lab-\(UUID().uuidString).log"
        defer { try? FileManager.default.removeItem(atPath: output) }
        let child = try await start(arguments, user: user, directory: directory, output: output)
        guard let status = await child.waitForExit(within: limit) else {
            child.signal(SIGKILL)
            throw LabError("\(arguments[0]) took longer than \(limit)")
        }
        guard status == 0 else {
            let text = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
            throw LabError("\(arguments[0]) ended with status \(status): \(text.suffix(2000))")
        }
    }

    /// Sends a signal, if it still runs.
    public func signal(_ number: Int32) {
        state.withLock { if $0.exit == nil { _ = kill($0.processID, number) } }
    }

    /// Waits for its end.
    /// - Returns: status as of `waitpid`, nil when it still runs after `limit`.
    public func waitForExit(within limit: Duration) async -> Int32? {
        let until = ContinuousClock.now + limit
        while ContinuousClock.now < until {
            if let status = exitStatus { return status }
            try? await Task.sleep(for: .milliseconds(10))
        }
        return exitStatus
    }

    /// Waits on the child's own thread. The id is not given away before `exit` is set: no signal can hit a stranger.
    private func reap(_ processID: pid_t) {
        var info = siginfo_t()
        while waitid(P_PID, id_t(processID), &info, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        state.withLock { state in
            var status: Int32 = 0
            waitpid(processID, &status, 0)
            state.exit = status
        }
    }

    private static func spawn(
        _ command: [String], _ environment: [String], _ output: String
    ) -> Result<pid_t, LabError> {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // A socket of a test that a child holds too is never closed for its peer, who then waits for ever.
        zegel_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        var all = sigset_t()
        sigfillset(&all)
        posix_spawnattr_setsigdefault(&attributes, &all)
        // A group of its own: Ctrl-C at the terminal is for the test, which then ends its children.
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))

        var arguments = command.map { strdup($0) } + [nil]
        var variables = environment.map { strdup($0) } + [nil]
        defer { for text in arguments + variables { free(text) } }
        var processID: pid_t = 0
        let code = posix_spawnp(&processID, command[0], &actions, &attributes, &arguments, &variables)
        guard code == 0 else {
            return .failure(LabError("\(command[0]): \(String(cString: strerror(code)))"))
        }
        return .success(processID)
    }
}

/// What went wrong in the lab itself.
public struct LabError: Error, CustomStringConvertible {
    /// What went wrong.
    public let description: String

    /// Makes an error.
    public init(_ description: String) { self.description = description }
}
