// Tries whether the newest points can be restored: aside, with everything that can be looked at, and away again.

import Foundation
import Ledger

extension ClusterRecovery {
    /// Restores the newest point of each shard aside, looks whether it is whole, tells RTO and RPO, and removes it.
    /// - Parameters:
    ///   - text: another moment than the newest, RFC 3339 with its zone.
    ///   - aside: a folder that is not there or empty, or was left by a drill; nil: one beside the repository's files.
    ///   - samples: messages of each shard whose seals are opened.
    /// - Returns: also when something is wrong: `passed` tells.
    /// - Throws: when there is nothing to restore, or no room for it.
    public func drill(
        to text: String? = nil, aside: String? = nil, samples: Int = 20,
        say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> DrillReport {
        _ = try recoveryPlan()
        guard let lock = try SupervisorLock.take(layout.drillLock) else {
            throw ClusterError(.state, "another drill of this cluster is under way")
        }
        defer { _ = lock }
        var report = DrillReport(cluster: cluster.layout.directory, at: Date())
        let began = ContinuousClock.now
        let target = RestoreTarget(ClusterLayout(directory: aside ?? layout.drill))
        try await remove(target)
        do throws(ClusterError) {
            try await drill(to: text, into: target, samples: samples, &report, say)
        } catch {
            // What cannot be restored is what a drill is for.
            report.faults.append(error.message)
        }
        try await remove(target)
        report.took = Self.seconds(since: began)
        report.passed = report.everyFault.isEmpty
        return report
    }

    /// Keeps a drill's report.
    /// - Parameter folder: nil: that of the cluster.
    /// - Returns: the files.
    public func keep(_ report: DrillReport, in folder: String?) throws(ClusterError) -> [String] {
        try report.write(into: folder ?? layout.drills)
    }

    private func drill(
        to text: String?, into target: RestoreTarget, samples: Int, _ report: inout DrillReport,
        _ say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) {
        let points = try await points()
        report.faults += points.flatMap { shard in shard.troubles.map { "shard \(shard.shard): \($0)" } }
        let ends = points.compactMap(\.window?.to)
        guard ends.count == points.count, let end = ends.min() else {
            throw ClusterError(.state, "not every shard can be restored: zegel recovery list \(option)")
        }
        // The moment before the newest transaction of the shard that is the furthest behind.
        let newest = end.addingTimeInterval(-1e-5)
        let state = try await restore(
            to: text ?? RestorePoint.precise(newest), into: target.layout.directory, say: say)
        report.moment = state.moment
        for shard in state.shards {
            let newest = points.first { $0.shard == shard.name }?.window?.to ?? state.moment
            var found = DrillReport.Shard(
                shard: shard.name, set: shard.set, size: shard.size, point: newest,
                rpo: report.at.timeIntervalSince(newest), rto: shard.seconds ?? 0)
            say("shard \(shard.name): looking whether it is whole")
            try await examine(shard, target, samples: samples, &found)
            report.shards.append(found)
        }
        // Last: it changes what was restored.
        let restored = try await RestoredCluster(
            directory: target.layout.directory, executables: cluster.programs)
        say("asking the leaders what happened since")
        for told in try await restored.rehearse(with: OldCluster(cluster.layout.directory)) {
            guard let index = report.shards.firstIndex(where: { $0.shard == told.shard }) else { continue }
            report.shards[index].reconciled = told.deliveries
            if told.deliveries.unknown > 0 {
                report.shards[index].faults.append(
                    "its leader knows nothing of \(told.deliveries.unknown) deliveries that are in its archive"
                )
            }
        }
    }

    private func examine(
        _ shard: RestoreState.Shard, _ target: RestoreTarget, samples: Int, _ found: inout DrillReport.Shard
    ) async throws(ClusterError) {
        let server = try target.server(shard.name, programs)
        let (rows, messages, keys) = try await server.run { (process) throws(ClusterError) in
            try await server.awaitReady(process)
            return try await Self.asOwner(server) { session in
                let messages = try SealedMessage.sample(samples, session)
                let keys = Set(
                    messages.flatMap {
                        [$0.metadataKey.batchKeyID] + ($0.contentKey.map { [$0.batchKeyID] } ?? [])
                    })
                return (
                    try Examination.make(session), messages,
                    try RestoredLedger.batchKeys(Array(keys), session)
                )
            }
        }
        found.rows = rows
        found.faults += rows.faults
        // It ended cleanly: only then can its pages be read as files.
        var checksums = ChildSpecification(
            programs.folder + "/pg_checksums", ["--check", "-D", server.data], output: .captured)
        checksums.user = programs.user
        do {
            try await ChildProcess.run(checksums, limit: .seconds(24 * 3600))
            found.checksumsHold = true
        } catch {
            found.faults.append("pages of its database are damaged: \(error.message)")
        }
        if messages.isEmpty { return }
        let region = try plan.region(try plan.shard(shard.name).home)
        let outcomes = try await SealOpener.with(
            keyring: RegionLayout(cluster.layout, plan, region).keyring, region: region.name,
            socket: "\(target.layout.sockets)/recovery-\(shard.name).sock", keys
        ) { opener in
            var all: [(id: UUID, envelope: SealOpener.Outcome, content: SealOpener.Outcome?)] = []
            for message in messages {
                let (envelope, content) = await opener.examine(message)
                all.append((message.id, envelope, content))
            }
            return all
        }
        for (id, envelope, content) in outcomes {
            found.seals.count(envelope)
            if let content {
                found.seals.count(content)
                if content == .opened { found.seals.contents += 1 }
            }
            for case .failed(let why)? in [envelope, content] {
                found.faults.append("message \(id.uuidString.lowercased()) does not open: \(why)")
            }
        }
    }

    /// Ends what a drill left running, and removes its folder.
    private func remove(_ target: RestoreTarget) async throws(ClusterError) {
        let folder = target.layout.directory
        guard FileManager.default.fileExists(atPath: folder) else { return }
        guard let state = try target.state() else { return try target.demandRoom(nil) }
        guard state.source == cluster.layout.directory, state.stage == .restoring || state.stage == .restored
        else {
            throw ClusterError(.usage, "\(folder) holds a restored cluster and is no place for a drill")
        }
        let repository = try BackupRepository(layout, programs)
        if try ClusterPlan.load(target.layout.plan) != nil {
            for shard in state.shards {
                let server = try target.server(shard.name, programs)
                try await server.endLeftover()
                try await repository.endLeftover(into: server.data)
            }
        }
        do {
            if target.layout.sockets.hasPrefix("/tmp/") {
                try? FileManager.default.removeItem(atPath: target.layout.sockets)
            }
            try FileManager.default.removeItem(atPath: folder)
        } catch {
            throw ClusterError(.environment, "cannot remove \(folder): \(error.localizedDescription)")
        }
    }

    static func seconds(since began: ContinuousClock.Instant) -> Double {
        let took = ContinuousClock.now - began
        return Double(took.components.seconds) + Double(took.components.attoseconds) / 1e18
    }
}

extension DrillReport.Seals {
    fileprivate mutating func count(_ outcome: SealOpener.Outcome) {
        tried += 1
        switch outcome {
        case .opened: opened += 1
        case .destroyed: destroyed += 1
        case .failed: break
        }
    }
}
