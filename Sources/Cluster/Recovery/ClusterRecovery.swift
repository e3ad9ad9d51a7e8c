// Recovery points of a local cluster, as its operator sees them: switched on, made, listed, verified.

import Foundation
import Ledger
import Sealing

/// The recovery points of one cluster.
public struct ClusterRecovery: Sendable {
    let cluster: LocalCluster
    let plan: ClusterPlan
    let layout: RecoveryLayout
    let programs: PostgresPrograms

    /// Those of the cluster in `directory`.
    /// - Parameter executables: the folder of Zegel's executables; nil: that of the running one.
    /// - Throws: `state` when there is none.
    public init(directory: String, executables: String? = nil) async throws(ClusterError) {
        cluster = try LocalCluster(directory: directory, programs: executables)
        guard let plan = try ClusterPlan.load(cluster.layout.plan) else {
            throw ClusterError(
                .state, "there is no local cluster in \(cluster.layout.directory): zegel local up --dir DIR")
        }
        self.plan = plan
        layout = RecoveryLayout(cluster: cluster.layout)
        programs = try await PostgresPrograms()
    }

    var option: String { "--dir \(cluster.layout.directory)" }

    /// What was switched on.
    /// - Throws: `state` when nothing was.
    func recoveryPlan() throws(ClusterError) -> RecoveryPlan {
        guard let recovery = try RecoveryPlan.load(layout.plan) else {
            throw ClusterError(.state, "recovery points are not switched on: zegel recovery enable \(option)")
        }
        // From copies of a cluster that is gone, what pgBackRest is told is written anew.
        if access(layout.output, F_OK) != 0 || access(layout.configuration, F_OK) != 0 {
            guard access(layout.passphrase, F_OK) == 0 else {
                throw ClusterError(
                    .state, "\(layout.passphrase) is not there: without it nobody reads the repository")
            }
            try write(recovery, try ClusterIdentity(cluster.layout, plan))
        }
        return recovery
    }

    /// The shards that a command is about.
    func shards(_ only: String?) throws(ClusterError) -> [ShardPlan] {
        guard let only else { return plan.shards }
        return [try plan.shard(only)]
    }

    // MARK: Enable

    /// Has every leader archive its WAL, and makes the first backup of each shard. Safe to repeat: also with another retention.
    /// - Parameters:
    ///   - repository: where it all goes; nil: as before, or inside the cluster's folder.
    ///   - retentionDays: how far back; nil: as before, or 35.
    public func enable(
        repository: String?, retentionDays: Int?, say: @Sendable (String) -> Void
    ) async throws(ClusterError) {
        let before = try RecoveryPlan.load(layout.plan)
        let path = repository.map { ClusterLayout(directory: $0).directory }
        if let before, let path, path != before.repository {
            throw ClusterError(
                .usage,
                "the repository of this cluster is \(before.repository); another one would lack what that one holds"
            )
        }
        let recovery = try RecoveryPlan(
            repository: path ?? before?.repository ?? layout.repository,
            retentionDays: retentionDays ?? before?.retentionDays ?? 35)
        let repository = try BackupRepository(layout, programs)
        let identity = try ClusterIdentity(cluster.layout, plan)
        try write(recovery, identity)
        try await programs.checkReachable([layout.spool, recovery.repository])
        for shard in plan.shards {
            say("shard \(shard.name): preparing \(recovery.repository)")
            try await repository.prepare(shard.name, source(shard))
        }
        // From here on every start of a member is told to archive.
        try recovery.save(layout.plan)
        say("archiving from whoever leads")
        try await tellMembers(identity)
        for shard in plan.shards {
            try await awaitArchiving(shard, repository)
            if try await repository.information(shard.name).backups.isEmpty {
                say("shard \(shard.name): the first backup")
                try await repository.backUp(shard.name, source(shard), full: true)
            }
        }
    }

    private func write(_ recovery: RecoveryPlan, _ identity: ClusterIdentity) throws(ClusterError) {
        let user = programs.user
        try ClusterFiles.folder(layout.folder, mode: 0o711)
        for folder in [layout.locks, layout.spool, layout.output, layout.segments] {
            try ClusterFiles.folder(folder, mode: 0o700, owner: user)
        }
        for region in plan.sites {
            try ClusterFiles.folder("\(layout.locks)/\(region.name)", mode: 0o700, owner: user)
            try ClusterFiles.folder("\(layout.spool)/\(region.name)", mode: 0o700, owner: user)
        }
        // One that is there belongs to somebody else, perhaps.
        if !FileManager.default.fileExists(atPath: recovery.repository) {
            try ClusterFiles.folder(recovery.repository, mode: 0o700, owner: user)
        }
        let configuration = BackupConfiguration(
            plan: recovery, layout: layout, passphrase: try ClusterFiles.keptSecret(layout.passphrase))
        try ClusterFiles.write(configuration.text, to: layout.configuration, owner: user)
        try layout.writePasswords(identity.password(LedgerSite.superuser), owner: user)
    }

    /// Writes what members are told anew, and has those that run read it.
    private func tellMembers(_ identity: ClusterIdentity) async throws(ClusterError) {
        for region in plan.sites {
            let prepared = try await PreparedRegion(
                identity, plan: plan, region: region, executables: cluster.programs, say: { _ in })
            guard !plan.isReplicated else { continue }
            for member in region.members {
                if let pid = Postmaster(data: prepared.layout.data(member.shard)).pid { kill(pid, SIGHUP) }
            }
        }
        guard plan.isReplicated else { return }
        let leaders = try operations().leaders()
        defer { leaders.shutDown() }
        for shard in plan.shards {
            for url in leaders.urls(shard.name) {
                // One that is away reads it when it starts.
                try? await leaders.patroni.reload(at: url)
            }
        }
    }

    private func awaitArchiving(_ shard: ShardPlan, _ repository: BackupRepository) async throws(ClusterError)
    {
        let deadline = ContinuousClock.now + .seconds(30)
        while true {
            do throws(ClusterError) {
                return try await repository.check(shard.name, source(shard))
            } catch {
                // A Patroni takes a moment to read what it is told.
                guard error.message.contains("archive_command"), ContinuousClock.now < deadline else {
                    if error.message.contains("archive_mode") {
                        throw ClusterError(
                            .state,
                            "PostgreSQL of shard \(shard.name) was started by a version that could not archive: "
                                + "zegel local down \(option), zegel local up \(option), and again")
                    }
                    throw error
                }
            }
            do { try await Task.sleep(for: .milliseconds(250)) } catch {
                throw ClusterError(.process, "interrupted")
            }
        }
    }

    private func operations() throws(ClusterError) -> ClusterOperations {
        try ClusterOperations(directory: cluster.layout.directory)
    }

    /// The region that leads a shard; nil: none.
    func leader(of shard: ShardPlan) async -> String? {
        guard plan.isReplicated else { return plan.sites.first?.name }
        guard let leaders = try? operations().leaders() else { return nil }
        defer { leaders.shutDown() }
        return await leaders.leader(of: shard.name)
    }

    /// The leader of a shard, as pgBackRest is told of it.
    /// - Throws: `state` when there is none.
    func source(_ shard: ShardPlan) async throws(ClusterError) -> BackupSource {
        guard let name = await leader(of: shard) else {
            throw ClusterError(
                .state, "shard \(shard.name) has no leader to back up: zegel shard status \(option)")
        }
        let region = try plan.region(name)
        guard let member = region.member(shard.name) else {
            throw ClusterError(.state, "shard \(shard.name) has no member in \(name)")
        }
        let files = RegionLayout(cluster.layout, plan, region)
        return BackupSource(
            data: files.data(shard.name), sockets: files.postgresSockets, port: member.port)
    }

    // MARK: Create

    /// Makes a backup of each shard, or of one.
    /// - Parameter full: one that stands alone; else what changed since the last one, if there is one.
    public func create(
        shard only: String? = nil, full: Bool = false, say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) {
        // pgBackRest would wait a minute for WAL, and say that it did not come.
        if let words = ShardPoints.lackOfRoom(ClusterFiles.freeSpace(at: try recoveryPlan().repository)) {
            throw ClusterError(.environment, words)
        }
        let repository = try BackupRepository(layout, programs)
        for shard in try shards(only) {
            let isFirst = try await repository.information(shard.name).backups.isEmpty
            let began = ContinuousClock.now
            say("shard \(shard.name): backing up")
            try await repository.backUp(shard.name, source(shard), full: full || isFirst)
            let made = try await repository.information(shard.name).backups.last
            let took = (ContinuousClock.now - began).components.seconds
            say(
                "shard \(shard.name): \(made?.label ?? "?"), \(Self.octets(made?.size ?? 0)), "
                    + "\(Self.octets(made?.added ?? 0)) of it new, \(took) s")
        }
    }

    // MARK: List

    /// What can be restored of each shard.
    public func points(shard only: String? = nil) async throws(ClusterError) -> [ShardPoints] {
        _ = try recoveryPlan()
        let repository = try BackupRepository(layout, programs)
        var all: [ShardPoints] = []
        for shard in try shards(only) { all.append(try await points(shard, repository).points) }
        return all
    }

    /// A shard with what is needed to restore it.
    struct Findings: Sendable {
        var points: ShardPoints
        var information: RepositoryInformation
        var archive: BackupRepository.Archive?
    }

    func points(
        _ shard: ShardPlan, _ repository: BackupRepository
    ) async throws(ClusterError) -> Findings {
        let information = try await repository.information(shard.name)
        var archive: BackupRepository.Archive?
        var newest: Date?
        if information.trouble == nil, information.archive != nil {
            for region in plan.sites {
                let files = RegionLayout(cluster.layout, plan, region)
                try repository.keepControlFile(shard.name, of: files.data(shard.name))
            }
            let found = try await repository.archive(shard.name)
            archive = found
            if let oldest = information.oldest(found) {
                newest = try await repository.newestCommit(
                    shard.name, found.timelines.run(from: oldest.firstSegment, in: found.segments))
            }
        }
        return Findings(
            points: ShardPoints(
                shard: shard.name, information, archive, newest: newest, contentFrom: try contentFrom(),
                room: ClusterFiles.freeSpace(at: try recoveryPlan().repository),
                now: Date()),
            information: information, archive: archive)
    }

    /// The beginning of the oldest epoch whose content keys are all there, in every region; nil: there is none.
    private func contentFrom() throws(ClusterError) -> Date? {
        var oldest: Date?
        for region in plan.sites {
            let folder = RegionLayout(cluster.layout, plan, region).keyring
            do {
                let keys = try Keyring(directory: folder, region: region.name).publicKeys()
                let first = keys.filter { $0.purpose == .content }.map(\.epoch).min()
                // Any region's key opens a batch key.
                if let first { oldest = min(oldest ?? .distantFuture, KeyEpoch.start(of: first)) }
            } catch {
                throw ClusterError(.state, "the keyring in \(folder) cannot be read: \(error)")
            }
        }
        return oldest
    }

    // MARK: Verify

    /// What is wrong with a shard's points.
    public struct Verification: Sendable, Codable, Equatable {
        /// The shard.
        public var shard: String
        /// Files that were checked.
        public var files: Int
        /// What is wrong, each in a sentence; empty: everything is as it should be.
        public var faults: [String]
    }

    /// Reads every file of the repository, and looks for WAL that is missing.
    public func verify(
        shard only: String? = nil, say: @Sendable (String) -> Void
    ) async throws(ClusterError) -> [Verification] {
        _ = try recoveryPlan()
        let repository = try BackupRepository(layout, programs)
        var all: [Verification] = []
        for shard in try shards(only) {
            say("shard \(shard.name): reading every file")
            let findings: Findings
            do throws(ClusterError) { findings = try await points(shard, repository) } catch {
                // What cannot even be listed is a fault; the files are read all the same.
                let report = try? RepositoryReport(await repository.verify(shard.name))
                all.append(
                    Verification(
                        shard: shard.name, files: report?.files ?? 0,
                        faults: [error.message] + (report?.faults ?? [])))
                continue
            }
            var verification = Verification(
                shard: shard.name, files: 0, faults: findings.points.troubles)
            if findings.information.trouble == nil {
                let report = RepositoryReport(try await repository.verify(shard.name))
                verification.files = report.files
                verification.faults += report.faults
                verification.faults += try await gaps(shard, findings, repository)
            }
            all.append(verification)
        }
        return all
    }

    /// WAL that is missing behind the oldest backup: nothing behind a gap can be restored from before it.
    private func gaps(_ shard: ShardPlan, _ findings: Findings, _ repository: BackupRepository)
        async throws(ClusterError)
        -> [String]
    {
        func missing(_ archive: BackupRepository.Archive?) -> [WALSegment] {
            guard let archive, let first = findings.information.usable(archive.timelines).first else {
                return []
            }
            return archive.timelines.gaps(from: first.firstSegment, in: archive.segments)
        }
        var gaps = missing(findings.archive)
        if gaps.isEmpty { return [] }
        // Several are on their way at a time, and one may be there before another.
        do { try await Task.sleep(for: .seconds(5)) } catch { throw ClusterError(.process, "interrupted") }
        let still = Set(missing(try await repository.archive(shard.name)))
        gaps.removeAll { !still.contains($0) }
        guard let one = gaps.first else { return [] }
        let what =
            gaps.count == 1
            ? "WAL segment \(one) is" : "\(gaps.count) WAL segments are missing; the first, \(one), is"
        return [
            "\(what) not in the archive: nothing after it can be restored from a backup before it; zegel recovery create makes one after it"
        ]
    }

    /// Octets for people.
    static func octets(_ count: Int) -> String {
        count < 10_000_000 ? "\(count / 1000) kB" : "\(count / 1_000_000) MB"
    }
}
