// The supervisor of a local cluster's region: starts everything in order, keeps it alive, ends it in order.

import Foundation
import Logging
import UnixSignals

/// Runs the processes of one region until it is told to stop.
public struct LocalSupervisor: Sendable {
    /// How long a node may take until it is ready, from the start of the supervisor.
    static let patience: Duration = .seconds(45)

    let layout: ClusterLayout
    let programs: String
    let report: ReportSink
    let logger: Logger

    /// A supervisor of the cluster whose plan lies in `layout`.
    /// - Parameters:
    ///   - programs: the folder of Zegel's executables.
    ///   - report: told of progress, and then whether everything is ready.
    public init(layout: ClusterLayout, programs: String, report: ReportSink, logger: Logger) {
        self.layout = layout
        self.programs = programs
        self.report = report
        self.logger = logger
    }

    /// Runs until SIGTERM, SIGINT or SIGHUP, then ends everything in order.
    /// - Throws: why it could not start, after everything was taken down again.
    public func run() async throws(ClusterError) {
        signal(SIGPIPE, SIG_IGN)
        do throws(ClusterError) {
            guard let lock = try SupervisorLock.take(layout.lock) else {
                throw ClusterError(.state, "another supervisor runs the cluster in \(layout.directory)")
            }
            defer { withExtendedLifetime(lock) {} }
            try await runLocked()
        } catch {
            report.send(.failed(error.message))
            throw error
        }
    }

    private func runLocked() async throws(ClusterError) {
        guard let plan = try ClusterPlan.load(layout.plan) else {
            throw ClusterError(
                .state, "\(layout.plan) is not there: zegel local up --dir \(layout.directory)")
        }
        let started = ContinuousClock.now
        let prepared = try await PreparedCluster(layout: layout, plan: plan) { report.send(.progress($0)) }
        let writer = EndpointsWriter(prepared.endpoints, path: layout.endpoints)
        let children = prepared.children(programs: programs).map { program in
            SupervisedChild(program, logger: logger) { writer.childChanged() }
        }
        try writer.watch(children)
        defer { writer.end() }

        let outcome = await withDiscardingTaskGroup(returning: Result<Void, ClusterError>.self) { group in
            for child in children { group.addTask { await child.run() } }
            group.addTask { await boundLogs() }
            let outcome = await untilAskedToStop { () async throws(ClusterError) in
                try await start(children, of: prepared, deadline: started + Self.patience)
                logger.info("everything is ready")
                guard report.send(.ready) else {
                    throw ClusterError(.process, "whoever asked for the cluster is gone")
                }
                report.end()
                await ClusterUpkeep(prepared: prepared, logger: logger).run()
            }
            await stop(children)
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

    // MARK: Up

    private func start(
        _ children: [SupervisedChild], of prepared: PreparedCluster, deadline: ContinuousClock.Instant
    )
        async throws(ClusterError)
    {
        func say(_ text: String) throws(ClusterError) {
            logger.info("\(text)")
            guard report.send(.progress(text)) else {
                throw ClusterError(.process, "whoever asked for the cluster is gone")
            }
        }
        for child in children where child.program.role == .postgres {
            try say("starting PostgreSQL on port \(prepared.region.postgresPort)")
            child.start()
        }
        let provisioning = ClusterProvisioning(prepared: prepared)
        try await eventually("PostgreSQL", by: deadline, children: children) { () async -> String? in
            await provisioning.obstacle()
        }
        try say("bringing the schema, keys and tenant up to date")
        try await provisioning.run()
        try say("starting the nodes")
        for child in children where child.program.role != .postgres { child.start() }
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

    private func stop(_ children: [SupervisedChild]) async {
        for role in [NodeRole.edge, .worker, .api, .keyring, .postgres] {
            await withDiscardingTaskGroup { group in
                for child in children where child.program.role == role {
                    group.addTask { await child.stop() }
                }
            }
            logger.info("stopped", metadata: ["role": "\(role.rawValue)"])
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
