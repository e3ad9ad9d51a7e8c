// Takes shards back to a moment, into a new cluster beside the old one. The old one is read and never written to.

import Foundation
import Ledger
import Postgres

extension ClusterRecovery {
    /// Restores shards into a new folder.
    /// - Parameters:
    ///   - moment: RFC 3339, with its zone.
    ///   - directory: where the new cluster goes: not there, or empty, or one whose restore to that moment was broken off.
    ///   - only: a shard; nil: all.
    ///   - isDrill: a drill makes it, and may remove it.
    /// - Returns: what was restored.
    public func restore(
        to text: String, into directory: String, shard only: String? = nil, isDrill: Bool = false,
        say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> RestoreState {
        _ = try recoveryPlan()
        let repository = try BackupRepository(layout, programs)
        let target = RestoreTarget(ClusterLayout(directory: directory))
        guard target.layout.directory != cluster.layout.directory else {
            throw ClusterError(.usage, "--into \(target.layout.directory): that is the cluster itself")
        }
        let before = try target.state()
        try target.demandRoom(before)
        var state: RestoreState
        if let before {
            guard before.source == cluster.layout.directory, RestorePoint.moment(text) == before.moment,
                before.isDrill != true,
                try before.shards.map(\.name) == shards(only).map(\.name)
            else {
                throw ClusterError(
                    .usage,
                    "\(target.layout.directory) holds a restore of \(before.source) to "
                        + "\(RestorePoint.precise(before.moment)): choose another folder, or remove it")
            }
            // Its way was chosen then; the archive may have gone on.
            state = before
            if state.stage != .restoring { return state }
            say("going on with a restore that was broken off")
        } else {
            let wanted = try shards(only)
            var needed = wanted
            if let first = plan.shards.first, !wanted.contains(where: { $0.name == first.name }) {
                needed.append(first)
            }
            let found = try await findings(needed, repository)
            state = try chosen(found, try RestorePoint.demand(text, in: commonWindow(found)))
            if needed.count > wanted.count { state.control = state.shards.removeLast() }
            if isDrill { state.isDrill = true }
            try target.demandSpace(state)
        }
        let moment = state.moment
        try target.begin(state, plan: plan, from: cluster.layout)
        for index in state.shards.indices where !state.shards[index].isDone {
            let began = ContinuousClock.now
            state.shards[index].incarnation = try await restore(
                state.shards[index], to: moment, target, repository, say)
            state.shards[index].seconds = Self.seconds(since: began)
            state.shards[index].isDone = true
            try state.save(target.files.restore)
        }
        try await bringControl(&state, target, repository, say)
        state.stage = .restored
        try state.save(target.files.restore)
        return state
    }

    private func findings(
        _ shards: [ShardPlan], _ repository: BackupRepository
    ) async throws(ClusterError) -> [Findings] {
        var all: [Findings] = []
        for shard in shards { all.append(try await points(shard, repository)) }
        return all
    }

    /// What all shards can be taken back to.
    private func commonWindow(_ found: [Findings]) throws(ClusterError) -> RestorableWindow {
        var window: RestorableWindow?
        for findings in found {
            guard let own = findings.points.window else {
                let why =
                    findings.points.troubles.first ?? "no WAL behind its first backup is in the archive yet"
                throw ClusterError(.state, "shard \(findings.points.shard) cannot be restored: \(why)")
            }
            guard let common = window.map({ $0.intersection(own) }) ?? own else {
                throw ClusterError(
                    .state,
                    "the shards have no moment in common: restore one at a time with --shard (zegel recovery list \(option))"
                )
            }
            window = common
        }
        guard let window else { throw ClusterError(.state, "there is no shard") }
        return window
    }

    private func chosen(_ found: [Findings], _ moment: Date) throws(ClusterError) -> RestoreState {
        RestoreState(
            source: cluster.layout.directory, moment: moment, stage: .restoring,
            shards: try found.map { (findings) throws(ClusterError) in
                guard let archive = findings.archive,
                    let set = findings.information.set(for: moment, archive.timelines),
                    let system = findings.information.system
                else {
                    throw ClusterError(
                        .state, "shard \(findings.points.shard) has no backup from before that moment")
                }
                return .init(
                    name: findings.points.shard, set: set.label, timeline: archive.timelines.newest,
                    system: system,
                    size: set.size)
            })
    }

    private func restore(
        _ shard: RestoreState.Shard, to moment: Date, _ target: RestoreTarget, _ repository: BackupRepository,
        _ say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> UUID {
        let server = try target.server(shard.name, programs)
        try await server.endLeftover()
        try await repository.endLeftover(into: server.data)
        try target.clear(server.data, owner: programs.user)
        try await programs.checkReachable([server.data])
        say("shard \(shard.name): copying \(shard.set), \(Self.octets(shard.size))")
        let watch = Task { await Self.showGrowth(of: server.data, to: shard.size, shard.name, say) }
        defer { watch.cancel() }
        try await repository.restore(shard.name, set: shard.set, into: server.data)
        watch.cancel()
        try server.configure(recovery: repository.recovery(shard, to: moment, data: server.data))
        say("shard \(shard.name): recovering to \(RestorePoint.text(moment))")
        let incarnation = try await server.run { (process) throws(ClusterError) in
            var shown = ContinuousClock.now
            try await server.awaitRecovered(process) { replayed in
                guard ContinuousClock.now - shown > .seconds(2) else { return }
                shown = .now
                say("shard \(shard.name): recovered to \(RestorePoint.text(replayed))")
            }
            // Of an older version, perhaps: what follows needs this one's tables.
            try await Self.migrate(server)
            return try await Self.asOwner(server) { try RestoredLedger.begin($0, restoredTo: moment) }
        }
        // From here on it starts as it is.
        try server.configure(recovery: [])
        return incarnation
    }

    /// Takes tenants and credentials from the first shard, as they were at the moment: a cluster without them delivers nothing.
    private func bringControl(
        _ state: inout RestoreState, _ target: RestoreTarget, _ repository: BackupRepository,
        _ say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) {
        guard let control = state.control, !control.isDone, let shard = state.shards.first else { return }
        say("shard \(control.name): recovering it aside, for tenants and credentials")
        let aside = AsideRecovery(target: target, programs: programs, repository: repository)
        let moment = state.moment
        let server = try target.server(shard.name, programs, passwords: target.writePasswords(programs.user))
        try await aside.run(control, to: moment) {
            (source, _) throws(ClusterError) in
            try await server.run { (process) throws(ClusterError) in
                try await server.awaitReady(process)
                try await Self.asOwner(server) { try ControlCopy(link: source.link).run($0) }
            }
        }
        state.control?.isDone = true
        try state.save(target.files.restore)
    }

    static func migrate(_ server: RestoredServer) async throws(ClusterError) {
        do {
            let connection = try await PostgresConnection.connect(server.owner())
            do { _ = try await Migrator().migrate(connection) } catch {
                await connection.close()
                throw error
            }
            await connection.close()
        } catch {
            throw ClusterError(.state, "the restored shard in \(server.data): \(error)")
        }
    }

    /// How long one piece of work in a restored shard may take: it may copy days of mail.
    static let workLimit = Duration.seconds(24 * 3600)

    /// Does something in a restored shard's database.
    static func asOwner<T: Sendable>(
        _ server: RestoredServer, _ body: @escaping @Sendable (PostgresSession) throws -> T
    ) async throws(ClusterError) -> T {
        do {
            let connection = try await PostgresConnection.connect(server.owner())
            do {
                let result = try await connection.perform(deadline: workLimit, body)
                await connection.close()
                return result
            } catch {
                await connection.close()
                throw error
            }
        } catch let error as ClusterError {
            throw error
        } catch {
            throw ClusterError(.state, "the restored shard in \(server.data): \(error)")
        }
    }

    private static func showGrowth(
        of folder: String, to size: Int, _ shard: String, _ say: @Sendable (String) -> Void
    ) async {
        while !Task.isCancelled {
            do { try await Task.sleep(for: .seconds(2)) } catch { return }
            var there = 0
            let files = FileManager.default.enumerator(
                at: URL(fileURLWithPath: folder), includingPropertiesForKeys: [.fileSizeKey])
            while let file = files?.nextObject() as? URL {
                there += (try? file.resourceValues(forKeys: [.fileSizeKey]))?.fileSize ?? 0
            }
            say("shard \(shard): \(min(99, there * 100 / max(1, size))) % of \(octets(size))")
        }
    }
}
