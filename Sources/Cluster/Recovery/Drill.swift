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
        defer { withExtendedLifetime(lock) {} }
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
        do throws(ClusterError) { try await remove(target) } catch { report.faults.append(error.message) }
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
        let looked = Date()
        let state = try await restore(
            to: text ?? RestorePoint.precise(newest), into: target.layout.directory, isDrill: true, say: say)
        report.moment = state.moment
        for shard in state.shards {
            let newest = points.first { $0.shard == shard.name }?.window?.to ?? state.moment
            var found = DrillReport.Shard(
                shard: shard.name, set: shard.set, size: shard.size, point: newest,
                rpo: max(0, looked.timeIntervalSince(newest)), rto: shard.seconds ?? 0)
            say("shard \(shard.name): looking whether it is whole")
            // Each finds its own faults: one does not keep another from being looked for.
            await finding(&found) { (found) throws(ClusterError) in
                try await examine(shard, target, samples: samples, &found)
            }
            await finding(&found) { (found) throws(ClusterError) in try await sum(shard, target, &found) }
            await finding(&found) { (found) throws(ClusterError) in try await rehearse(shard, target, &found)
            }
            report.shards.append(found)
        }
    }

    private func finding(
        _ found: inout DrillReport.Shard,
        _ body: (inout DrillReport.Shard) async throws(ClusterError) -> Void
    ) async {
        do throws(ClusterError) { try await body(&found) } catch { found.faults.append(error.message) }
    }

    /// Its rows, and the seals of some of its messages.
    private func examine(
        _ shard: RestoreState.Shard, _ target: RestoreTarget, samples: Int, _ found: inout DrillReport.Shard
    ) async throws(ClusterError) {
        let server = try target.server(shard.name, programs)
        let (messages, keys, rows) = try await server.run { (process) throws(ClusterError) in
            try await server.awaitReady(process)
            return try await Self.asOwner(server) { session in
                let messages = try SealedMessage.sample(samples, session)
                let keys = Set(
                    messages.flatMap {
                        [$0.metadataKey.batchKeyID] + ($0.contentKey.map { [$0.batchKeyID] } ?? [])
                    })
                return (
                    messages, try RestoredLedger.batchKeys(Array(keys), session),
                    try Examination.make(session)
                )
            }
        }
        found.rows = rows
        found.faults += rows.faults
        if messages.isEmpty {
            if rows.messages > 0 { found.faults.append("no message could be taken as a sample") }
            return
        }
        // A batch key is wrapped for every region: any of them may be the one that is left.
        for region in plan.sites {
            let outcomes = try await SealOpener.with(
                keyring: RegionLayout(cluster.layout, plan, region).keyring, region: region.name,
                socket: "\(target.layout.sockets)/recovery-\(shard.name).sock",
                audit: layout.audit, keys
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
                    found.faults.append(
                        "message \(id.uuidString.lowercased()) does not open with the keys of \(region.name): \(why)"
                    )
                }
            }
        }
    }

    /// PostgreSQL's checksums of all pages.
    private func sum(
        _ shard: RestoreState.Shard, _ target: RestoreTarget, _ found: inout DrillReport.Shard
    ) async throws(ClusterError) {
        // It ended cleanly: only then can its pages be read as files.
        var checksums = ChildSpecification(
            programs.folder + "/pg_checksums",
            ["--check", "-D", try target.server(shard.name, programs).data],
            output: .captured)
        checksums.user = programs.user
        do {
            try await ChildProcess.run(checksums, limit: .seconds(24 * 3600))
            found.checksumsHold = true
        } catch {
            throw ClusterError(.state, "the checksums of its pages do not hold: \(error.message)")
        }
    }

    /// What its leader knows of the deliveries that are open in it.
    private func rehearse(
        _ shard: RestoreState.Shard, _ target: RestoreTarget, _ found: inout DrillReport.Shard
    ) async throws(ClusterError) {
        let own = try plan.shard(shard.name)
        guard let leader = await leader(of: own) else { return }
        let data = RegionLayout(cluster.layout, plan, try plan.region(leader)).data(own.name)
        // A plain PostgreSQL that is down has nothing to tell.
        guard plan.isReplicated || Postmaster(data: data).pid != nil else { return }
        let server = try target.server(shard.name, programs)
        let rehearsal = try await server.run { (process) throws(ClusterError) in
            try await server.awaitReady(process)
            var rehearsal = Rehearsal()
            var last: Rehearsal.Delivery?
            repeat {
                let after = last
                let some = try await Self.asOwner(server) { try Rehearsal.deliveries(after: after, $0) }
                if !some.isEmpty {
                    let before = rehearsal
                    rehearsal = try await atLeader(of: own) { session in
                        var now = before
                        try now.ask(about: some, session)
                        return now
                    }
                }
                last = some.last
            } while last != nil
            return rehearsal
        }
        found.reconciled = rehearsal
        if rehearsal.unknown > 0 {
            found.faults.append(
                "its leader knows nothing of \(rehearsal.unknown) deliveries that are in its archive")
        }
    }

    /// Ends what a drill left running, and removes its folder.
    private func remove(_ target: RestoreTarget) async throws(ClusterError) {
        let folder = target.layout.directory
        guard FileManager.default.fileExists(atPath: folder) else { return }
        guard let state = try target.state() else { return try target.demandRoom(nil) }
        guard state.isDrill == true, state.source == cluster.layout.directory,
            state.stage == .restoring || state.stage == .restored
        else {
            throw ClusterError(
                .usage,
                "\(folder) holds a restore that no drill of this cluster made: choose another folder with --into"
            )
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
            // Secrets first, and the mark by which the next drill knows it last.
            let mark = (target.files.restore as NSString).lastPathComponent
            let names = try FileManager.default.contentsOfDirectory(atPath: folder)
            let secrets = (target.layout.secrets as NSString).lastPathComponent
            for name in names.sorted(by: { a, _ in a == secrets }) where name != mark {
                try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
            }
            if target.layout.sockets.hasPrefix("/tmp/") {
                try? FileManager.default.removeItem(atPath: target.layout.sockets)
            }
            unlink(target.files.restore)
            // One that the operator made may be somebody's mount point.
            rmdir(folder)
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
