// A local cluster as its operator sees it: up, status, down.

import Foundation
import Logging
import Settings
import UnixSignals

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
        try RestoreState.demandPromoted(layout)
        let turn = try await turnToStart()
        defer { withExtendedLifetime(turn) {} }
        let before = try ClusterPlan.load(layout.plan)
        if let before, turn == nil {
            return try await alreadyUp(request, before: before, say: say, whenReady: whenReady)
        }
        let plan = try makePlan(request, before: before, say: say)
        if plan.isReplicated { _ = try ReplicationPrograms() }
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
        // What regions share is made before any of them starts.
        _ = try ClusterIdentity(layout, plan)
        if detach || plan.isReplicated {
            do throws(ClusterError) {
                try await startDetached(plan.regions, of: plan, say: say)
            } catch {
                // The others are of no use without it.
                _ = try? await down(say: { _ in })
                throw error
            }
            whenReady(try Endpoints.load(layout.endpoints))
            if detach { return .started }
            for await _ in await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup) { break }
            _ = try await down(say: say)
            return .ended
        }
        let layout = self.layout
        let report = ReportSink.terminal(say) {
            if let endpoints = try? Endpoints.load(layout.endpoints) { whenReady(endpoints) }
        }
        try await LocalSupervisor(layout: layout, programs: programs, report: report, logger: logger).run()
        return .ended
    }

    /// The processes of the regions' supervisors, by region, as far as they live.
    private func supervisors(_ plan: ClusterPlan?) -> [String: Int32] {
        var found: [String: Int32] = [:]
        for region in plan?.regions ?? [] {
            guard let plan else { continue }
            found[region.name] = SupervisorLock.holder(RegionLayout(layout, plan, region).lock)
        }
        return found
    }

    private func living() -> [String: Int32] { supervisors((try? ClusterPlan.load(layout.plan)) ?? nil) }

    /// The right to plan and start, which one of several that come at once gets; nil when there is a supervisor: what it made of
    /// the plan holds.
    private func turnToStart() async throws(ClusterError) -> SupervisorLock? {
        let deadline = ContinuousClock.now + LocalSupervisor.replicatedPatience
        while living().isEmpty {
            if let turn = try SupervisorLock.take(layout.startLock) { return living().isEmpty ? turn : nil }
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
        var ports: [String: LoopbackPorts] = [:]
        func free(_ address: String) throws(ClusterError) -> Int {
            try ports[address, default: LoopbackPorts(address: address)].next()
        }
        var plan = try ClusterPlan.answering(request, before: before, freePort: free)
        do {
            _ = try Settings(assignments: plan.settings)
        } catch {
            throw ClusterError(.configuration, "\(error)")
        }
        try plan.replacePorts { (port, address, use) throws(ClusterError) in
            guard !LoopbackPorts.isFree(port, on: address) else { return port }
            let other = try free(address)
            say("port \(port) of \(use) is taken by another program: \(other) from now on")
            return other
        }
        return plan
    }

    private func alreadyUp(
        _ request: ClusterRequest, before: ClusterPlan, say: @escaping @Sendable (String) -> Void,
        whenReady: (Endpoints) -> Void
    ) async throws(ClusterError) -> UpOutcome {
        var ports: [String: LoopbackPorts] = [:]
        let wanted = try ClusterPlan.answering(request, before: before) { (address) throws(ClusterError) in
            try ports[address, default: LoopbackPorts(address: address)].next()
        }
        guard wanted == before else {
            throw ClusterError(
                .usage,
                "the cluster is up with other settings; to change them: zegel local down --dir \(layout.directory), "
                    + "then up again")
        }
        let alive = supervisors(before)
        let missing = before.regions.filter { alive[$0.name] == nil }
        if !missing.isEmpty { try await startDetached(missing, of: before, say: say) }
        let deadline = ContinuousClock.now + LocalSupervisor.replicatedPatience
        var status = await status()
        while status.state != .up, ContinuousClock.now < deadline, !supervisors(before).isEmpty {
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

    /// Starts a supervisor of each region, and returns when all are ready.
    private func startDetached(
        _ regions: [RegionPlan], of plan: ClusterPlan, say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) {
        try ClusterFiles.folder(layout.logs, mode: 0o700)
        let failures = await withTaskGroup(of: (String, ClusterError?).self) { group in
            for region in regions {
                group.addTask {
                    do throws(ClusterError) {
                        try await start(region, of: plan, say: say)
                        return (region.name, nil)
                    } catch {
                        return (region.name, error)
                    }
                }
            }
            var failures: [(String, ClusterError)] = []
            for await (name, error) in group {
                if let error { failures.append((name, error)) }
            }
            return failures
        }
        guard let (name, error) = failures.first else { return }
        throw plan.isReplicated ? ClusterError(error.code, "region \(name): \(error.message)") : error
    }

    private func start(
        _ region: RegionPlan, of plan: ClusterPlan, say: @Sendable (String) -> Void
    ) async throws(ClusterError) {
        let name = RegionLayout(layout, plan, region).name("supervisor")
        let pipe = Pipe()
        let (reader, writer) = (pipe.fileHandleForReading, pipe.fileHandleForWriting)
        var arguments = [
            "local", "supervise", "--dir", layout.directory, "--region", region.name, "--report", "3",
        ]
        var program = programs + "/zegel"
        if let namespace = region.namespace {
            arguments = ["netns", "exec", namespace, program] + arguments
            program = "/usr/sbin/ip"
        }
        var child = ChildSpecification(program, arguments, output: .file(layout.log(of: name)))
        // Where Patroni and etcd are found.
        for key in ["PATH", "ZEGEL_PATRONI"] {
            if let value = ProcessInfo.processInfo.environment[key] { child.environment[key] = value }
        }
        child.deathSignal = 0
        child.ownSession = true
        child.report = writer.fileDescriptor
        let supervisor = try await ChildProcess.start(child)
        try? writer.close()
        // Longer than the supervisor's own patience and an ordered stop after it.
        let watchdog = Task {
            try await Task.sleep(for: plan.isReplicated ? .seconds(150) : .seconds(90))
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
        let log = layout.log(of: name)
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
        let alive = living()
        if alive.isEmpty { return false }
        say("stopping: edges drain, workers finish, then the database")
        for pid in alive.values { Foundation.kill(pid, SIGTERM) }
        let deadline = ContinuousClock.now + .seconds(29)
        while true {
            let left = living().filter { alive[$0.key] == $0.value }
            // Its lock is free a moment before it is gone.
            if left.isEmpty, alive.values.allSatisfy(isGone) { return true }
            guard ContinuousClock.now < deadline else {
                // Their children die with them.
                for pid in left.values { Foundation.kill(pid, SIGKILL) }
                throw ClusterError(
                    .timeout, "it did not end within 29 s and was killed; nothing acknowledged is lost")
            }
            do { try await Task.sleep(for: .milliseconds(50)) } catch {
                throw ClusterError(.process, "interrupted")
            }
        }
    }

    /// Whether a process of this cluster has ended; its number may be another's by then.
    private func isGone(_ pid: Int32) -> Bool {
        let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") ?? Data()
        return command.firstRange(of: Data(layout.directory.utf8)) == nil
    }

    // MARK: One region

    private func replicatedPlan() throws(ClusterError) -> ClusterPlan {
        guard let plan = try ClusterPlan.load(layout.plan) else {
            throw ClusterError(
                .state, "there is no local cluster in \(layout.directory): zegel local up --dir DIR")
        }
        guard plan.isReplicated else {
            throw ClusterError(
                .usage, "the cluster in \(layout.directory) has one region; make one with up --regions 3")
        }
        return plan
    }

    /// Ends every process of a region at once, as a loss of the site would.
    /// - Returns: how many there were.
    public func kill(region name: String) throws(ClusterError) -> Int {
        let plan = try replicatedPlan()
        let region = try plan.region(name)
        let processes = RegionProcesses(try ClusterIdentity(layout, plan), plan)
        let files = RegionLayout(layout, plan, region)
        var victims: [Int32] = []
        // The supervisor first, so that nothing is started again.
        if let supervisor = SupervisorLock.holder(files.lock) { victims.append(supervisor) }
        if victims.isEmpty, processes.pids(of: region).isEmpty { return 0 }
        victims += processes.pids(of: region).values.joined().filter { $0 != victims.first }
        for member in region.members { victims += Postmaster(data: files.data(member.shard)).processes }
        var seen: Set<Int32> = []
        victims.removeAll { !seen.insert($0).inserted }
        for pid in victims { Foundation.kill(pid, SIGKILL) }
        // What was started between the look and the blow.
        for member in region.members {
            for pid in Postmaster(data: files.data(member.shard)).processes { Foundation.kill(pid, SIGKILL) }
        }
        try processes.put([:], of: region)
        return victims.count
    }

    /// Brings a region back that was killed, and returns when it is ready.
    /// - Returns: false when it was up.
    public func start(
        region name: String, say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> Bool {
        let plan = try replicatedPlan()
        let region = try plan.region(name)
        if SupervisorLock.holder(RegionLayout(layout, plan, region).lock) != nil { return false }
        try await startDetached([region], of: plan, say: say)
        return true
    }

    // MARK: Status

    /// What lives and what is ready.
    public func status() async -> ClusterStatus {
        let plan = (try? ClusterPlan.load(layout.plan)) ?? nil
        let alive = supervisors(plan)
        guard let plan, !alive.isEmpty else {
            return ClusterStatus(directory: layout.directory, state: .down, supervisor: nil, nodes: [])
        }
        let endpoints = try? Endpoints.load(layout.endpoints)
        let nodes = await withTaskGroup(of: (Int, [ClusterStatus.Node]).self) { group in
            for (number, region) in plan.sites.enumerated() {
                let pids = endpoints?.regions.first { $0.name == region.name }?.pids ?? [:]
                group.addTask { (number, await status(of: region, pids, plan)) }
            }
            var parts: [(Int, [ClusterStatus.Node])] = []
            for await part in group { parts.append(part) }
            return parts.sorted { $0.0 < $1.0 }.flatMap(\.1)
        }
        return ClusterStatus(
            directory: layout.directory,
            state: alive.count == plan.regions.count && nodes.allSatisfy(\.ready) ? .up : .degraded,
            supervisor: plan.regions.first.flatMap { alive[$0.name] }, nodes: nodes)
    }

    private func status(
        of region: RegionPlan, _ pids: [String: [Int32]], _ plan: ClusterPlan
    ) async -> [ClusterStatus.Node] {
        let files = RegionLayout(layout, plan, region)
        var nodes: [ClusterStatus.Node] = []
        func add(_ name: String, _ role: NodeRole, _ pid: Int32?) {
            nodes.append(
                ClusterStatus.Node(
                    name: files.name(name), role: role, pid: pid, ready: pid != nil,
                    reason: pid == nil ? "not running" : ""))
        }
        if plan.isReplicated { add("etcd", .etcd, pids[NodeRole.etcd.rawValue]?.first) }
        for member in region.members {
            let shard = member.shard
            let name = shard == "a" && !plan.isReplicated ? "postgres" : "postgres-\(shard)"
            add(name, .postgres, Postmaster(data: files.data(shard)).pid)
        }
        add("keyring", .keyring, pids[NodeRole.keyring.rawValue]?.first)
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
        return nodes
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
