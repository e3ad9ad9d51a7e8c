// A local cluster as its operator sees it: up, status, down.

import Foundation
import Logging
import Settings

/// What `up` found or did.
public enum UpOutcome: Sendable, Equatable {
    /// It was started and is ready.
    case started
    /// It was up already, as asked for, and is ready.
    case alreadyUp
    /// It ran in front and was ended by a signal.
    case ended
}

/// The operator's view of a local cluster.
public struct LocalCluster: Sendable {
    /// Where it lies.
    public let layout: ClusterLayout
    /// The folder of Zegel's executables.
    public let programs: String

    /// The cluster in `directory`.
    /// - Parameter programs: the folder of Zegel's executables; nil: that of the running one.
    public init(directory: String, programs: String? = nil) throws(ClusterError) {
        layout = ClusterLayout(directory: directory)
        if let programs {
            self.programs = programs
        } else {
            guard let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
            else {
                throw ClusterError(.environment, "cannot tell where this program lies: is /proc mounted?")
            }
            self.programs = (program as NSString).deletingLastPathComponent
        }
    }

    // MARK: Up

    /// Makes or restarts the cluster and waits until it is ready.
    /// - Parameters:
    ///   - request: what it should be.
    ///   - detach: the supervisor goes on by itself; else it runs here until a signal.
    ///   - say: told of progress, a line at a time.
    ///   - whenReady: called once everything is ready, with where it listens.
    public func up(
        _ request: ClusterRequest, detach: Bool, logger: Logger, say: @escaping @Sendable (String) -> Void,
        whenReady: @escaping @Sendable (Endpoints) -> Void
    ) async throws(ClusterError) -> UpOutcome {
        try ClusterFiles.folder(layout.directory, mode: 0o755)
        let turn = try await turnToStart()
        defer { withExtendedLifetime(turn) {} }
        let before = try ClusterPlan.load(layout.plan)
        if turn == nil { return try await alreadyUp(request, before: before, say: say, whenReady: whenReady) }
        let plan = try makePlan(request, before: before, say: say)
        try plan.save(layout.plan)
        if plan.setting("dns.trust_anchor").map({ $0 == "none" }) ?? true {
            say(
                "note: dns.trust_anchor is not set: every DNS answer counts as insecure, and DANE is never used"
            )
        }
        for program in ["zegel", "zegel-edge", "zegel-worker", "zegel-api"]
        where access(programs + "/" + program, X_OK) != 0 {
            throw ClusterError(
                .environment, "\(programs)/\(program) is not there: build all products (swift build)")
        }
        if detach {
            try await startDetached(say: say)
            whenReady(try Endpoints.load(layout.endpoints))
            return .started
        }
        let layout = self.layout
        let report = ReportSink.terminal(say) {
            if let endpoints = try? Endpoints.load(layout.endpoints) { whenReady(endpoints) }
        }
        try await LocalSupervisor(layout: layout, programs: programs, report: report, logger: logger).run()
        return .ended
    }

    /// The right to plan and start, which one of several that come at once gets; nil when there is a supervisor: what it made of
    /// the plan holds.
    private func turnToStart() async throws(ClusterError) -> SupervisorLock? {
        let deadline = ContinuousClock.now + LocalSupervisor.patience
        while SupervisorLock.holder(layout.lock) == nil {
            if let turn = try SupervisorLock.take(layout.startLock) {
                return SupervisorLock.holder(layout.lock) == nil ? turn : nil
            }
            guard ContinuousClock.now < deadline else {
                throw ClusterError(
                    .timeout,
                    "another zegel local up has begun in \(layout.directory) and does not get on: end it first"
                )
            }
            do { try await Task.sleep(for: .milliseconds(100)) } catch {
                throw ClusterError(.process, "interrupted")
            }
        }
        return nil
    }

    private func makePlan(_ request: ClusterRequest, before: ClusterPlan?, say: (String) -> Void)
        throws(ClusterError) -> ClusterPlan
    {
        var ports = LoopbackPorts()
        var plan = try ClusterPlan.answering(request, before: before) { () throws(ClusterError) in
            try ports.next()
        }
        do {
            _ = try Settings(assignments: plan.settings)
        } catch {
            throw ClusterError(.configuration, "\(error)")
        }
        try plan.replacePorts { (port, use) throws(ClusterError) in
            guard !LoopbackPorts.isFree(port, on: "127.0.0.1") else { return port }
            let other = try ports.next()
            say("port \(port) of \(use) is taken by another program: \(other) from now on")
            return other
        }
        return plan
    }

    private func alreadyUp(
        _ request: ClusterRequest, before: ClusterPlan?, say: (String) -> Void, whenReady: (Endpoints) -> Void
    ) async throws(ClusterError) -> UpOutcome {
        var ports = LoopbackPorts()
        let wanted = try ClusterPlan.answering(request, before: before) { () throws(ClusterError) in
            try ports.next()
        }
        guard wanted == before else {
            throw ClusterError(
                .usage,
                "the cluster is up with other settings; to change them: zegel local down --dir \(layout.directory), "
                    + "then up again")
        }
        let deadline = ContinuousClock.now + LocalSupervisor.patience
        var status = await status()
        while status.state != .up, ContinuousClock.now < deadline, SupervisorLock.holder(layout.lock) != nil {
            do { try await Task.sleep(for: .milliseconds(250)) } catch { break }
            status = await self.status()
        }
        guard status.state == .up else {
            let reasons = status.nodes.filter { !$0.ready }.map { "\($0.name): \($0.reason)" }
            throw ClusterError(
                .timeout, "the cluster is up but not ready: \(reasons.joined(separator: "; "))")
        }
        say("the cluster is up already")
        whenReady(try Endpoints.load(layout.endpoints))
        return .alreadyUp
    }

    private func startDetached(say: (String) -> Void) async throws(ClusterError) {
        try ClusterFiles.folder(layout.logs, mode: 0o700)
        let pipe = Pipe()
        let (reader, writer) = (pipe.fileHandleForReading, pipe.fileHandleForWriting)
        var child = ChildSpecification(
            programs + "/zegel", ["local", "supervise", "--dir", layout.directory, "--report", "3"],
            output: .file(layout.log(of: "supervisor")))
        child.deathSignal = 0
        child.ownSession = true
        child.report = writer.fileDescriptor
        let supervisor = try await ChildProcess.start(child)
        try? writer.close()
        // Longer than the supervisor's own patience and an ordered stop after it.
        let watchdog = Task {
            try await Task.sleep(for: .seconds(90))
            supervisor.send(signal: SIGKILL)
        }
        defer { watchdog.cancel() }
        var failure: String?
        for await line in Self.lines(of: reader) {
            guard let report = try? JSONDecoder().decode(UpReport.self, from: Data(line.utf8)) else {
                continue
            }
            switch report {
            case .progress(let text): say(text)
            case .failed(let reason): failure = reason
            case .ready: return
            }
        }
        let ended = await supervisor.exit()
        if let failure { throw ClusterError(.process, failure) }
        let log = layout.log(of: "supervisor")
        throw ClusterError(
            .process,
            "the supervisor ended (\(ended)); the end of \(log):\n\(ClusterFiles.tail(log, lines: 5))")
    }

    private static func lines(of reader: FileHandle) -> AsyncStream<String> {
        AsyncStream { continuation in
            let thread = Thread {
                var rest: [UInt8] = []
                while true {
                    let data = reader.availableData
                    if data.isEmpty { break }
                    rest += data
                    while let end = rest.firstIndex(of: 0x0A) {
                        continuation.yield(String(decoding: rest[..<end], as: UTF8.self))
                        rest.removeSubrange(...end)
                    }
                }
                continuation.finish()
            }
            thread.start()
        }
    }

    // MARK: Down

    /// Ends the cluster in order; false when it was not up.
    /// - Throws: `timeout` when it had to be ended by force.
    public func down(say: @Sendable (String) -> Void) async throws(ClusterError) -> Bool {
        guard let pid = SupervisorLock.holder(layout.lock) else { return false }
        say("stopping: edges drain, workers finish, then the database")
        kill(pid, SIGTERM)
        let deadline = ContinuousClock.now + .seconds(29)
        while SupervisorLock.holder(layout.lock) == pid {
            guard ContinuousClock.now < deadline else {
                // Its children die with it.
                kill(pid, SIGKILL)
                throw ClusterError(
                    .timeout, "it did not end within 29 s and was killed; nothing acknowledged is lost")
            }
            do { try await Task.sleep(for: .milliseconds(50)) } catch {
                throw ClusterError(.process, "interrupted")
            }
        }
        return true
    }

    // MARK: Status

    /// What lives and what is ready.
    public func status() async -> ClusterStatus {
        let plan = (try? ClusterPlan.load(layout.plan)) ?? nil
        let endpoints = try? Endpoints.load(layout.endpoints)
        guard let supervisor = SupervisorLock.holder(layout.lock), let plan, let region = plan.regions.first
        else {
            return ClusterStatus(directory: layout.directory, state: .down, supervisor: nil, nodes: [])
        }
        let pids = endpoints?.regions.first?.pids ?? [:]
        var nodes: [ClusterStatus.Node] = []
        for role in [NodeRole.postgres, .keyring] {
            let pid = pids[role.rawValue]?.first
            nodes.append(
                ClusterStatus.Node(
                    name: role.rawValue, role: role, pid: pid, ready: pid != nil,
                    reason: pid == nil ? "not running" : ""))
        }
        let probe = ReadinessProbe()
        var seen: [NodeRole: Int] = [:]
        for node in region.nodes {
            let answer = await probe.ask(address: region.address, port: node.ports["metrics"] ?? 0)
            let index = seen[node.role, default: 0]
            seen[node.role] = index + 1
            let living = pids[node.role.rawValue] ?? []
            nodes.append(
                ClusterStatus.Node(
                    name: node.name, role: node.role, pid: index < living.count ? living[index] : nil,
                    ready: answer.isReady, reason: answer.isReady ? "" : answer.reason))
        }
        return ClusterStatus(
            directory: layout.directory, state: nodes.allSatisfy(\.ready) ? .up : .degraded,
            supervisor: supervisor,
            nodes: nodes)
    }
}

extension LocalCluster {
    /// Settings files that a local cluster keeps for operators' commands.
    public enum SettingsFile: String, Sendable {
        /// How to ask the API.
        case client
        /// How to reach the database as its owner.
        case owner
    }

    /// The path of one of them.
    /// - Throws: `state` when there is no cluster.
    public func settingsFile(_ file: SettingsFile) throws(ClusterError) -> String {
        let path = layout.configuration(of: file.rawValue)
        guard FileManager.default.fileExists(atPath: path) else {
            throw ClusterError(
                .state, "there is no local cluster in \(layout.directory): zegel local up --dir DIR")
        }
        return path
    }

    /// A server certificate of the local authority for these names; the first one names its files.
    /// - Throws: `usage` for a name that is no DNS name.
    public func certificate(_ names: [String]) throws(ClusterError) -> LocalAuthority.Identity {
        for name in names {
            let labels = name.split(separator: ".", omittingEmptySubsequences: false)
            let isName = labels.allSatisfy { label in
                (1...63).contains(label.utf8.count)
                    && label.utf8.allSatisfy {
                        $0 == 0x2D || (0x30...0x39).contains($0) || (0x61...0x7A).contains($0)
                    }
            }
            guard isName, name.utf8.count <= 253, name != "ca", name != "server" else {
                throw ClusterError(.usage, "\(name) is no DNS name in lower case")
            }
        }
        guard let first = names.first else { throw ClusterError(.usage, "a certificate needs a name") }
        try ClusterFiles.folder(layout.certificates, mode: 0o755)
        return try LocalAuthority(folder: layout.certificates).identity(first, names: names)
    }
}
