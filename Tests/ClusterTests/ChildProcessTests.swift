// Real child processes, supervised.

import Foundation
import Logging
import Testing

@testable import Cluster

@Suite("Child processes")
struct ChildProcessTests {
    static func shell(_ script: String) -> ChildSpecification {
        ChildSpecification("/bin/sh", ["-c", script], output: .captured)
    }

    @Test("what it printed and how it ended")
    func run() async throws {
        #expect(
            try await ChildProcess.run(Self.shell("echo out; echo err >&2"), limit: .seconds(10))
                == "out\nerr\n")
        await #expect {
            try await ChildProcess.run(Self.shell("echo why; exit 3"), limit: .seconds(10))
        } throws: { "\($0)".contains("exit status 3") && "\($0)".contains("why") }
        await #expect {
            try await ChildProcess.run(Self.shell("sleep 60"), limit: .milliseconds(100))
        } throws: { ($0 as? ClusterError)?.code == .timeout }
        await #expect {
            try await ChildProcess.start(ChildSpecification("/no/such/program", [], output: .captured))
        } throws: { "\($0)".contains("/no/such/program") && "\($0)".contains("No such file") }
    }

    @Test("it inherits nothing: no descriptor, no environment, no core, its own process group")
    func inheritance() async throws {
        let said = try await ChildProcess.run(
            Self.shell(
                "ls /proc/self/fd | wc -l; ulimit -c; echo ${HOME-none}; ps -o pgid= -p $$ | tr -d ' '; echo $$"
            ),
            limit: .seconds(10)
        ).split(separator: "\n").map(String.init)
        // 0, 1, 2 and the folder that ls reads.
        #expect(said[0] == "4")
        #expect(said[1] == "0")
        #expect(said[2] == "none")
        #expect(said[3] == said[4])
    }

    @Test("supervised: killed, it is back with another pid; stopped, it stays away", .timeLimit(.minutes(1)))
    func supervised() async throws {
        let program = SupervisedProgram(
            name: "sleeper", role: .edge, specification: Self.shell("exec sleep 1000"), grace: .seconds(5))
        let child = SupervisedChild(program, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        {}
        try await withThrowingDiscardingTaskGroup { group in
            group.addTask { await child.run() }
            child.start()
            let first = try #require(await eventually { child.pid })
            kill(first, SIGKILL)
            let second = try #require(await eventually { child.pid.flatMap { $0 != first ? $0 : nil } })
            #expect(child.starts == 2)
            #expect(child.lastExit == .signal(SIGKILL))
            await child.stop()
            #expect(child.pid == nil)
            #expect(kill(second, 0) != 0)
        }
    }

    @Test("deaf to SIGTERM: killed once its grace is over", .timeLimit(.minutes(1)))
    func deaf() async throws {
        let program = SupervisedProgram(
            name: "deaf", role: .edge, specification: Self.shell("trap '' TERM; while :; do sleep 1; done"),
            grace: .milliseconds(300))
        let child = SupervisedChild(program, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        {}
        await withDiscardingTaskGroup { group in
            group.addTask { await child.run() }
            child.start()
            _ = await eventually { child.pid }
            try? await Task.sleep(for: .milliseconds(200))
            let start = ContinuousClock.now
            await child.stop()
            #expect(ContinuousClock.now - start < .seconds(5))
            #expect(child.lastExit == .signal(SIGKILL))
        }
    }
}

/// Asks until there is an answer, at most `limit`.
func eventually<T>(_ limit: Duration = .seconds(20), _ ask: () async -> T?) async -> T? {
    let deadline = ContinuousClock.now + limit
    while ContinuousClock.now < deadline {
        if let answer = await ask() { return answer }
        try? await Task.sleep(for: .milliseconds(20))
    }
    return nil
}
