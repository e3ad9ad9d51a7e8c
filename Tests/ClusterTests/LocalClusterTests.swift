// A real local cluster in a folder of its own: real PostgreSQL, real nodes, real kills.

import Foundation
import Logging
import Synchronization
import Testing

@testable import Cluster

/// Programs lie beside the tests; PostgreSQL's are found as `zegel local up` finds them.
private let programs = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path

private func canRun() async -> Bool { (try? await PostgresPrograms()) != nil }

@Suite("A local cluster", .serialized, .enabled("PostgreSQL is not installed") { await canRun() })
struct LocalClusterTests {
    let folder: TemporaryFolder
    let cluster: LocalCluster

    init() throws {
        folder = try TemporaryFolder()
        cluster = try LocalCluster(directory: folder.path + "/c", programs: programs)
    }

    /// Held by the only region's supervisor.
    private var lock: String { cluster.layout.directory + "/supervisor.lock" }
    /// PostgreSQL's data of the only shard.
    private var data: String { cluster.layout.directory + "/postgres" }

    private func up(_ request: ClusterRequest = ClusterRequest()) async throws -> UpOutcome {
        let lines = Lines()
        do {
            return try await cluster.up(
                request, detach: true, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                say: { lines.add($0) }, whenReady: { _ in })
        } catch {
            Issue.record("up failed: \(error)\n\(lines.text)")
            throw error
        }
    }

    private func region() throws -> Endpoints.Region {
        try #require(try Endpoints.load(cluster.layout.endpoints).regions.first)
    }

    @Test(
        "up, again, every process killed in turn, down, up: always the same ports and credentials",
        .timeLimit(.minutes(4)))
    func wholeLife() async throws {
        // Whatever fails below, nothing is left running.
        defer { if let pid = SupervisorLock.holder(lock) { kill(pid, SIGKILL) } }
        #expect(try await up(ClusterRequest(workers: 2)) == .started)
        let first = try Endpoints.load(cluster.layout.endpoints)
        let pids = try region().pids
        #expect(
            pids.mapValues(\.count).filter { $0.value > 0 }
                == ["supervisor": 1, "edge": 1, "worker": 2, "api": 1, "keyring": 1, "postgres": 1])
        #expect(await cluster.status().state == .up)

        #expect(try await up() == .alreadyUp)
        await #expect {
            _ = try await cluster.up(
                ClusterRequest(workers: 1), detach: true, logger: Logger(label: "test"), say: { _ in },
                whenReady: { _ in })
        } throws: { "\($0)".contains("zegel local down") }

        for role in ["edge", "worker", "api", "keyring", "postgres"] {
            let victim = try #require(try region().pids[role]?.first)
            kill(victim, SIGKILL)
            let back = await eventually(.seconds(40)) { () -> Bool? in
                guard let now = try? region().pids[role], !now.contains(victim),
                    now.count == pids[role]?.count,
                    await cluster.status().state == .up
                else { return nil }
                return true
            }
            let state = await cluster.status().text
            #expect(back == true, "\(role) is not back: \(state)")
        }

        #expect(try await cluster.down { _ in })
        #expect(await cluster.status().state == .down)
        #expect(try region().pids.values.allSatisfy(\.isEmpty))
        for pid in pids.values.joined() {
            // Another process may have the number by now.
            let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
            #expect(command.firstRange(of: Data(cluster.layout.directory.utf8)) == nil)
        }
        #expect(try await cluster.down { _ in } == false)

        #expect(try await up() == .started)
        var second = try Endpoints.load(cluster.layout.endpoints)
        #expect(second.regions[0].pids["worker"]?.count == 2)
        second.regions[0].pids = first.regions[0].pids
        #expect(second == first)
        #expect(try await cluster.down { _ in })
    }

    @Test(
        "several that ask for it at once: one starts it, the others wait until it is ready",
        .timeLimit(.minutes(2)))
    func together() async throws {
        defer { if let pid = SupervisorLock.holder(lock) { kill(pid, SIGKILL) } }
        let outcomes = try await withThrowingTaskGroup(of: UpOutcome.self) { group in
            for _ in 0..<3 {
                group.addTask {
                    let outcome = try await up()
                    #expect(await cluster.status().state == .up)
                    return outcome
                }
            }
            return try await group.reduce(into: [UpOutcome]()) { $0.append($1) }
        }
        #expect(outcomes.filter { $0 == .started }.count == 1)
        #expect(outcomes.filter { $0 == .alreadyUp }.count == 2)
        #expect(try await cluster.down { _ in })
    }

    @Test("its processes die with a supervisor that is killed", .timeLimit(.minutes(2)))
    func supervisorKilled() async throws {
        #expect(try await up() == .started)
        let pids = try region().pids
        let supervisor = try #require(pids["supervisor"]?.first)
        kill(supervisor, SIGKILL)
        let gone = await eventually { () -> Bool? in
            pids.values.joined().allSatisfy { kill($0, 0) != 0 || isZombie($0) } ? true : nil
        }
        #expect(gone == true)
        #expect(await cluster.status().state == .down)
        #expect(try await up() == .started)
        #expect(try await cluster.down { _ in })
    }

    @Test("settings that are none: one line, and nothing is started")
    func badSetting() async throws {
        await #expect {
            _ = try await cluster.up(
                ClusterRequest(settings: ["dns.forwardes=127.0.0.1"]), detach: true,
                logger: Logger(label: "test"),
                say: { _ in }, whenReady: { _ in })
        } throws: { ($0 as? ClusterError)?.code == .configuration && "\($0)".contains("dns.forwarders") }
        #expect(!FileManager.default.fileExists(atPath: data))
    }

    @Test(
        "a folder that the user postgres cannot reach: the error says which and what to do",
        .enabled(if: geteuid() == 0))
    func unreachable() async throws {
        chmod(folder.path, 0o700)
        await #expect {
            _ = try await cluster.up(
                ClusterRequest(), detach: true, logger: Logger(label: "test"), say: { _ in },
                whenReady: { _ in })
        } throws: { "\($0)".contains("chmod o+x") && "\($0)".contains(data) }
        #expect(SupervisorLock.holder(lock) == nil)
    }
}

/// A killed orphan waits for its new parent to notice.
private func isZombie(_ pid: Int32) -> Bool {
    guard let stat = try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8) else { return true }
    return stat.split(separator: ")").last?.split(separator: " ").first == "Z"
}

/// What `up` said, for a failure's message.
private final class Lines: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var text: String { lines.withLock { $0.joined(separator: "\n") } }
}
