// The supervisor of a local cluster's region: starts everything in order, keeps it alive, ends it in order.

import Foundation
import Logging
import UnixSignals

/// Runs the processes of one region until it is told to stop.
public struct LocalSupervisor: Sendable {
    /// How long a node may take until it is ready, from the start of the supervisor.
    static let patience: Duration = .seconds(45)
    /// The same where etcd and Patroni must find a leader first.
    static let replicatedPatience: Duration = .seconds(90)

    let layout: ClusterLayout
    /// Its region's name; nil: the only one.
    let region: String?
    let programs: String
    let report: ReportSink
    let logger: Logger

    /// A supervisor of the cluster whose plan lies in `layout`.
    /// - Parameters:
    ///   - region: its region; nil: the only one.
    ///   - programs: the folder of Zegel's executables.
    ///   - report: told of progress, and then whether everything is ready.
    public init(
        layout: ClusterLayout, region: String? = nil, programs: String, report: ReportSink, logger: Logger
    ) {
        self.layout = layout
        self.region = region
        self.programs = programs
        self.report = report
        self.logger = logger
    }

    /// Runs until SIGTERM, SIGINT or SIGHUP, then ends everything in order.
    /// - Throws: why it could not start, after everything was taken down again.
    public func run() async throws(ClusterError) {
        signal(SIGPIPE, SIG_IGN)
        do throws(ClusterError) {
            guard let plan = try ClusterPlan.load(layout.plan), let first = plan.regions.first else {
                throw ClusterError(
                    .state, "\(layout.plan) is not there: zegel local up --dir \(layout.directory)")
            }
            try RestoreState.demandPromoted(layout)
            let mine = try region.map { (name) throws(ClusterError) in try plan.region(name) } ?? first
            let files = RegionLayout(layout, plan, mine)
            try ClusterFiles.folder(files.folder, mode: plan.isReplicated ? 0o711 : 0o755)
            guard let lock = try SupervisorLock.take(files.lock) else {
                throw ClusterError(
                    .state, "another supervisor runs region \(mine.name) in \(layout.directory)")
            }
            defer { withExtendedLifetime(lock) {} }
            try await runLocked(plan, mine)
        } catch {
            report.send(.failed(error.message))
            throw error
        }
    }

    private func runLocked(_ plan: ClusterPlan, _ mine: RegionPlan) async throws(ClusterError) {
        let started = ContinuousClock.now
        let patience = plan.isReplicated ? Self.replicatedPatience : Self.patience
        let prepared = try await PreparedRegion(
            try ClusterIdentity(layout, plan), plan: plan, region: mine, executables: programs
        ) { report.send(.progress($0)) }
        let writer = EndpointsWriter(prepared)
        let children = prepared.children().map { program in
            SupervisedChild(program, logger: logger) { writer.childChanged() }
        }
        try writer.watch(children)
        defer { writer.end() }

        let outcome = await withDiscardingTaskGroup(returning: Result<Void, ClusterError>.self) { group in
            for child in children { group.addTask { await child.run() } }
            group.addTask { await boundLogs() }
            if plan.isReplicated { group.addTask { await followPostgres(writer) } }
            let outcome = await untilAskedToStop { () async throws(ClusterError) in
                try await start(children, of: prepared, deadline: started + patience)
                writer.childChanged()
                logger.info("everything is ready")
                guard report.send(.ready) else {
                    throw ClusterError(.process, "whoever asked for the cluster is gone")
                }
                report.end()
                await keepUp(prepared)
            }
            await stop(children, of: prepared)
            group.cancelAll()
            return outcome
        }
        try outcome.get()
    }

    /// Runs `body` until a signal asks to stop (success) or it fails.
    private func untilAskedToStop(_ body: @escaping @Sendable () async throws(ClusterError) -> Void) async
        -> Result<Void, ClusterError>
    {
        await withTaskGroup(of: Result<Void, ClusterError>.self) { race in
            race.addTask {
                do throws(ClusterError) { return .success(try await body()) } catch { return .failure(error) }
            }
            race.addTask {
                for await signal in await UnixSignalsSequence(trapping: .sigterm, .sigint, .sighup) {
                    logger.info("asked to stop", metadata: ["signal": "\(signal)"])
                    break
                }
                return .success(())
            }
            let first = await race.next() ?? .success(())
            race.cancelAll()
            return first
        }
    }

    private func keepUp(_ prepared: PreparedRegion) async {
        await withDiscardingTaskGroup { group in
            group.addTask { await ClusterUpkeep(prepared: prepared, logger: logger).run() }
            group.addTask { await BackupKeeper(prepared: prepared, logger: logger).run() }
            if prepared.plan.isReplicated {
                let keeper = HomeKeeper(
                    ledger: prepared.ledger, region: prepared.region.name, logger: logger)
                group.addTask { await keeper.run() }
                let members = MemberKeeper(
                    ledger: prepared.ledger, region: prepared.region.name, logger: logger)
                group.addTask { await members.run() }
            }
        }
    }

    /// Patroni starts and restarts PostgreSQL by itself; whoever reads `endpoints.json` wants its process ids.
    private func followPostgres(_ writer: EndpointsWriter) async {
        while !Task.isCancelled {
            try? await Task.sleep(for: .seconds(1))
            writer.childChanged()
        }
    }

    // MARK: Up

    private func say(_ text: String) throws(ClusterError) {
        logger.info("\(text)")
        guard report.send(.progress(text)) else {
            throw ClusterError(.process, "whoever asked for the cluster is gone")
        }
    }

    private func start(
        _ children: [SupervisedChild], of prepared: PreparedRegion, deadline: ContinuousClock.Instant
    ) async throws(ClusterError) {
        if prepared.plan.isReplicated {
            try await startReplicated(children, of: prepared, deadline: deadline)
        } else {
            try await startPlain(children, of: prepared, deadline: deadline)
        }
        if prepared.region.isWitness { return }
        try say("starting the nodes")
        for child in children where ![.postgres, .etcd, .patroni].contains(child.program.role) {
            child.start()
        }
        let probe = ReadinessProbe()
        for node in prepared.region.nodes {
            try await eventually(node.name, by: deadline, children: children) { () async -> String? in
                let answer = await probe.ask(
                    address: prepared.region.address, port: node.ports["metrics"] ?? 0)
                return answer.isReady ? nil : answer.reason
            }
            try say("\(node.name) is ready")
        }
    }

    private func startPlain(
        _ children: [SupervisedChild], of prepared: PreparedRegion, deadline: ContinuousClock.Instant
    ) async throws(ClusterError) {
        let provisioning = ClusterProvisioning(prepared: prepared)
        for child in children where child.program.role == .postgres { child.start() }
        for member in prepared.region.members {
            try say("starting PostgreSQL on port \(member.port)")
            try await eventually("PostgreSQL", by: deadline, children: children) { () async -> String? in
                await provisioning.obstacle(member.shard, in: prepared.region)
            }
        }
        try say("bringing the schema, keys and tenant up to date")
        for member in prepared.region.members {
            try await provisioning.run(member.shard, in: prepared.region)
        }
    }

    /// etcd, then the members; the home region of a shard makes it, the others follow.
    private func startReplicated(
        _ children: [SupervisedChild], of prepared: PreparedRegion, deadline: ContinuousClock.Instant
    ) async throws(ClusterError) {
        let (plan, region, layout) = (prepared.plan, prepared.region, prepared.layout)
        try say("\(region.name): starting etcd")
        for child in children where child.program.role == .etcd { child.start() }
        if region.isWitness { return }
        let leaders = try ShardLeaders(prepared.ledger)
        defer { leaders.shutDown() }
        func patroni(_ shard: String) -> SupervisedChild? {
            children.first { $0.program.name == layout.name("patroni-\(shard)") }
        }
        let isNew: (String) -> Bool = { access(layout.data($0) + "/PG_VERSION", F_OK) != 0 }
        let waiting = plan.shards.filter { $0.home != region.name && isNew($0.name) }
        for shard in plan.shards where !waiting.contains(shard) {
            try say("\(region.name): starting PostgreSQL of shard \(shard.name) under Patroni")
            patroni(shard.name)?.start()
        }
        // A new shard is made by its home region; if that one is not there, by whoever has waited long enough.
        let patience = min(deadline, .now + .seconds(30))
        for shard in waiting {
            while await leaders.leader(of: shard.name) == nil, ContinuousClock.now < patience {
                do { try await Task.sleep(for: .milliseconds(250)) } catch {
                    throw ClusterError(.process, "interrupted")
                }
            }
            try say("\(region.name): starting PostgreSQL of shard \(shard.name) under Patroni")
            patroni(shard.name)?.start()
        }
        let provisioning = ClusterProvisioning(prepared: prepared)
        for shard in plan.shards {
            var found: RegionPlan?
            let name = layout.name("patroni-\(shard.name)")
            try await eventually(name, by: deadline, children: children) { () async -> String? in
                guard let leader = await leaders.leader(of: shard.name),
                    let site = plan.sites.first(where: { $0.name == leader })
                else { return "shard \(shard.name) has no leader" }
                // A leader that was known a moment ago may be none any more.
                do throws(ClusterError) { try await provisioning.run(shard.name, in: site) } catch {
                    return error.message
                }
                found = site
                return nil
            }
            guard let found else { continue }
            try say("\(region.name): shard \(shard.name) is led by \(found.name)")
        }
        // A region is there when it could take over: before that the loss of another would stop a shard.
        for shard in plan.shards {
            try await eventually(layout.name("patroni-\(shard.name)"), by: deadline, children: children) {
                () async -> String? in
                guard let own = await leaders.view(of: shard.name)?.member(region.name) else {
                    return "no Patroni of shard \(shard.name) answers"
                }
                return own.role == .leader || own.isCandidate
                    ? nil : "the member of shard \(shard.name) does not follow yet (\(own.state))"
            }
        }
    }

    /// Waits until `obstacle` says that there is none; not longer than `deadline`, nor when the child called `name` cannot start.
    private func eventually(
        _ name: String, by deadline: ContinuousClock.Instant, children: [SupervisedChild],
        obstacle: () async -> String?
    ) async throws(ClusterError) {
        let child = children.first { $0.program.name == name.lowercased() || $0.program.name == name }
        func failure(_ code: ClusterError.Code, _ what: String) -> ClusterError {
            let log = layout.log(of: child?.program.name ?? name)
            let tail = ClusterFiles.tail(log, lines: 5)
            return ClusterError(
                code, "\(name) \(what)" + (tail.isEmpty ? "" : "; the end of \(log):\n\(tail)"))
        }
        var pause: Duration = .milliseconds(20)
        while true {
            guard let reason = await obstacle() else { return }
            // 78: its configuration is broken. No later start can be better.
            if child?.lastExit == .status(78) { throw failure(.process, "refuses its configuration") }
            if let child, child.starts >= 6, child.pid == nil {
                throw failure(
                    .process, "ends again and again (\(child.lastExit.map { "\($0)" } ?? "not started"))")
            }
            if ContinuousClock.now >= deadline { throw failure(.timeout, "is not ready: \(reason)") }
            do { try await Task.sleep(for: pause) } catch { throw ClusterError(.process, "interrupted") }
            pause = min(pause * 2, .milliseconds(250))
        }
    }

    // MARK: Down

    private func stop(_ children: [SupervisedChild], of prepared: PreparedRegion) async {
        let turns: [[NodeRole]] = [
            [.edge], [.worker], [.api, .keyring, .guard], [.patroni], [.postgres], [.etcd],
        ]
        for roles in turns {
            await withDiscardingTaskGroup { group in
                for child in children where roles.contains(child.program.role) {
                    group.addTask { await child.stop() }
                }
            }
            // A Patroni that had to be killed leaves its PostgreSQL behind.
            if roles == [.patroni] { await endPostgres(prepared) }
            logger.info(
                "stopped", metadata: ["roles": "\(roles.map(\.rawValue).joined(separator: ","))"])
        }
    }

    /// Ends PostgreSQLs that are left: fast, and after two seconds at once.
    private func endPostgres(_ prepared: PreparedRegion) async {
        for pid in prepared.patroniPostgres { kill(pid, SIGINT) }
        let deadline = ContinuousClock.now + .seconds(2)
        while !prepared.patroniPostgres.isEmpty, ContinuousClock.now < deadline {
            try? await Task.sleep(for: .milliseconds(50))
        }
        for pid in prepared.patroniPostgres {
            logger.warning("PostgreSQL did not end in time", metadata: ["pid": "\(pid)"])
            kill(pid, SIGQUIT)
        }
    }

    private func boundLogs() async {
        let rotation = LogRotation(folder: layout.logs)
        while !Task.isCancelled {
            rotation.rotate()
            try? await Task.sleep(for: .seconds(10))
        }
    }
}
