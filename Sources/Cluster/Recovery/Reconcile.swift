// Tells a restored cluster what happened since, and lets it go.

import Foundation
import Ledger
import Logging
import Postgres

/// A cluster that was restored, on its way to be one like any other.
public struct RestoredCluster: Sendable {
    let target: RestoreTarget
    let plan: ClusterPlan
    let programs: PostgresPrograms
    let executables: String?

    /// The restored cluster in `directory`.
    /// - Throws: `usage` when it is none.
    public init(directory: String, executables: String? = nil) async throws(ClusterError) {
        target = RestoreTarget(ClusterLayout(directory: directory))
        guard try target.state() != nil, let plan = try ClusterPlan.load(target.layout.plan) else {
            throw ClusterError(
                .usage,
                "\(target.layout.directory) is no restored cluster: zegel recovery restore --into DIR makes one"
            )
        }
        self.plan = plan
        self.executables = executables
        programs = try await PostgresPrograms()
    }

    private var option: String { "--dir \(target.layout.directory)" }

    /// What is known, with the stage checked.
    func state(for what: String) throws(ClusterError) -> RestoreState {
        guard let state = try target.state() else { throw ClusterError(.state, "there is no restore") }
        switch state.stage {
        case .restoring:
            throw ClusterError(
                .state, "the restore is not over: give zegel recovery restore again, then \(what)")
        case .promoted:
            throw ClusterError(
                .state, "the cluster in \(target.layout.directory) is promoted: it goes its own way")
        case .restored, .reconciled: return state
        }
    }

    // MARK: Reconcile

    /// Who tells what happened since.
    public struct Sources: Sendable {
        /// The folder of the old cluster, whose living members are asked.
        public var from: String?
        /// The end of its archive.
        public var archive: Bool

        /// Who tells.
        public init(from: String? = nil, archive: Bool = false) {
            (self.from, self.archive) = (from, archive)
        }

        var isEmpty: Bool { from == nil && !archive }
    }

    /// What was told of one shard.
    public struct Report: Sendable, Codable, Equatable {
        /// The shard.
        public var shard: String
        /// What the sources brought.
        public var brought = Reconciliation.Result()
        /// How its deliveries stand.
        public var deliveries = RestoredLedger.Tally()
        /// What was revoked; in the first shard only.
        public var control: ControlReconciliation.Result?
    }

    /// Tells the shards what happened since the moment. May be done again, with other sources: whoever knows more is believed.
    public func reconcile(
        _ sources: Sources, say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> [Report] {
        var state = try state(for: "zegel recovery reconcile \(option)")
        if sources.isEmpty {
            throw ClusterError(
                .usage,
                "who tells what happened since? --from DIR (the old cluster, if a member of it lives) or --archive, or both"
            )
        }
        var old: OldCluster?
        if let folder = sources.from { old = try await OldCluster(folder, programs) }
        var reports: [Report] = []
        for shard in state.shards {
            reports.append(try await reconcile(shard, state, old, archive: sources.archive, say))
        }
        state.stage = .reconciled
        try state.save(target.files.restore)
        return reports
    }

    private func reconcile(
        _ shard: RestoreState.Shard, _ state: RestoreState, _ old: OldCluster?, archive: Bool,
        _ say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> Report {
        let server = try target.server(shard.name, programs, passwords: passwords())
        let isControl = shard.name == plan.shards.first?.name
        var report = Report(shard: shard.name)
        report = try await server.run { (process) throws(ClusterError) in
            try await server.awaitReady(process)
            if let old {
                say("shard \(shard.name): asking its members in \(old.cluster.layout.directory)")
                let source = try await old.member(shard)
                try await tell(shard, state, server, source, old.control(source, isControl), &report)
            }
            if archive {
                try await withArchive(of: shard, state, say) { (source) throws(ClusterError) in
                    say("shard \(shard.name): asking the end of its archive")
                    try await tell(shard, state, server, source, isControl ? source.link : nil, &report)
                }
            }
            report.deliveries = try await ClusterRecovery.asOwner(server) { try RestoredLedger.tally($0) }
            return report
        }
        return report
    }

    private func passwords() throws(ClusterError) -> String {
        let path = target.files.passwords
        try ClusterFiles.folder(target.files.folder, mode: 0o711)
        let password = try ClusterFiles.text(target.layout.password(of: LedgerSite.superuser)) ?? ""
        try ClusterFiles.write("*:*:*:\(LedgerSite.superuser):\(password)\n", to: path)
        if let user = programs.user, chown(path, user.uid, user.gid) != 0 {
            throw ClusterError(.environment, "cannot give \(path) to \(user.name)")
        }
        return path
    }

    /// Has one source tell.
    private func tell(
        _ shard: RestoreState.Shard, _ state: RestoreState, _ server: RestoredServer, _ source: HistorySource,
        _ control: SourceLink?, _ report: inout Report
    ) async throws(ClusterError) {
        guard source.standing.system == shard.system else {
            throw ClusterError(
                .usage,
                "\(source.name) is another cluster than the one that shard \(shard.name) was restored from")
        }
        let moment = state.moment
        if let control {
            let result = try await ClusterRecovery.asOwner(server) {
                try ControlReconciliation(link: control).run($0)
            }
            var all = report.control ?? ControlReconciliation.Result()
            all.revoked += result.revoked
            all.disabled += result.disabled
            all.keySets += result.keySets
            all.leftOut = result.leftOut
            report.control = all
        }
        let (link, isFinal) = (source.link, source.isFinal)
        let brought = try await ClusterRecovery.asOwner(server) { session in
            // Only the first shard knows tenants; elsewhere what is in doubt is sent again, marked, as workers do.
            let held = try ControlReconciliation.heldTenants(session)
            return try Reconciliation(link: link, moment: moment, isFinal: isFinal, heldTenants: held).run(
                session)
        }
        report.brought.broughtOver += brought.broughtOver
        report.brought.events += brought.events
    }

    /// Recovers a shard's archive to its end, aside, and ends that again.
    private func withArchive(
        of shard: RestoreState.Shard, _ state: RestoreState, _ say: @escaping @Sendable (String) -> Void,
        _ body: (HistorySource) async throws(ClusterError) -> Void
    ) async throws(ClusterError) {
        let old = try await ClusterRecovery(directory: state.source, executables: executables)
        let repository = try BackupRepository(old.layout, programs)
        let findings = try await old.points(old.plan.shard(shard.name), repository)
        guard let archive = findings.archive,
            let set = findings.information.set(for: Date.distantFuture, archive.timelines)
        else {
            throw ClusterError(
                .state, "shard \(shard.name) has no backup that leads to the end of its archive")
        }
        let aside = target.files.aside(shard.name)
        try ClusterFiles.folder(target.files.folder, mode: 0o711)
        let server = RestoredServer(
            programs: programs, data: aside, sockets: "\(target.layout.sockets)/aside-\(shard.name)",
            log: target.layout.log(of: "aside-\(shard.name)"))
        try await server.endLeftover()
        try await repository.endLeftover(into: aside)
        try target.clear(aside, owner: programs.user)
        say(
            "shard \(shard.name): recovering its archive to the end, aside: \(set.label), \(ClusterRecovery.octets(set.size))"
        )
        try await repository.restore(shard.name, set: set.label, into: aside)
        try server.configure(recovery: [
            .init("restore_command", repository.restoreCommand(shard.name, data: aside)),
            .init("recovery_target_timeline", "\(archive.timelines.newest)"),
        ])
        try await server.run { (process) throws(ClusterError) in
            try await server.awaitRecovered(process) { _ in }
            try await ClusterRecovery.migrate(server)
            let standing = try await ClusterRecovery.asOwner(server) { try RestoredLedger.source($0) }
            try await body(
                HistorySource(
                    name: "the archive of \(old.cluster.layout.directory)", link: server.link,
                    standing: standing, isFinal: false))
        }
        try target.clear(aside, owner: programs.user)
        rmdir(aside)
    }

    // MARK: Promote

    /// Makes it a cluster like any other: nodes may log in, and the next `zegel local up` starts them.
    /// - Returns: what is held in each shard.
    public func promote(say: @Sendable (String) -> Void) async throws(ClusterError) -> [Report] {
        var state = try state(for: "zegel recovery reconcile \(option)")
        guard state.stage == .reconciled else {
            throw ClusterError(
                .state,
                "nobody has told yet what happened since \(RestorePoint.text(state.moment)): mail would be sent twice; "
                    + "first zegel recovery reconcile \(option) --from DIR, or --archive")
        }
        var reports: [Report] = []
        for shard in state.shards {
            let server = try target.server(shard.name, programs)
            var report = Report(shard: shard.name)
            report.deliveries = try await server.run { (process) throws(ClusterError) in
                try await server.awaitReady(process)
                return try await ClusterRecovery.asOwner(server) { session in
                    try RestoredLedger.open(session)
                    return try RestoredLedger.tally(session)
                }
            }
            reports.append(report)
        }
        state.stage = .promoted
        try state.save(target.files.restore)
        say("it is a cluster of its own now: zegel local up \(option)")
        return reports
    }
}

/// Somebody who knows what happened to a shard's mail.
struct HistorySource: Sendable {
    /// For people.
    var name: String
    /// Where it is.
    var link: SourceLink
    /// How it stands.
    var standing: RestoredLedger.Source
    /// Whether nothing can have happened behind it.
    var isFinal: Bool
}

/// The cluster that a restore comes from, as far as it lives.
struct OldCluster: Sendable {
    let cluster: LocalCluster
    let plan: ClusterPlan
    private let password: String

    init(_ directory: String, _ programs: PostgresPrograms) async throws(ClusterError) {
        cluster = try LocalCluster(directory: directory)
        guard let plan = try ClusterPlan.load(cluster.layout.plan) else {
            throw ClusterError(.usage, "--from \(directory): there is no local cluster")
        }
        self.plan = plan
        password = try ClusterFiles.text(cluster.layout.password(of: LedgerSite.superuser)) ?? ""
    }

    /// The member of a shard that knows most: its leader, else the one that has most.
    /// - Throws: `state` when none lives, or when workers go on delivering from it.
    func member(_ shard: RestoreState.Shard) async throws(ClusterError) -> HistorySource {
        var best: HistorySource?
        for region in plan.sites {
            guard let member = region.member(shard.name) else { continue }
            let site = LedgerSite(plan: plan, layout: cluster.layout)
            let configuration = PostgresConfiguration(
                site.socket(shard.name, in: region, role: LedgerSite.superuser, password: password),
                applicationName: "zegel-recovery", connectTimeout: .seconds(3))
            guard let connection = try? await PostgresConnection.connect(configuration) else { continue }
            let standing = try? await connection.perform { try RestoredLedger.source($0) }
            await connection.close()
            guard let standing else { continue }
            let source = HistorySource(
                name: "the member of shard \(shard.name) in \(region.name) of \(cluster.layout.directory)",
                link: SourceLink(
                    sockets: RegionLayout(cluster.layout, plan, region).postgresSockets, port: member.port,
                    database: LedgerSite.database, role: LedgerSite.superuser),
                standing: standing, isFinal: !standing.follows)
            let isBetter =
                best.map {
                    !standing.follows
                        || ($0.standing.follows
                            && ($0.standing.newest ?? .distantPast) < (standing.newest ?? .distantPast))
                } ?? true
            if isBetter { best = source }
        }
        guard let best else {
            throw ClusterError(
                .state,
                "no member of shard \(shard.name) in \(cluster.layout.directory) answers: start one (zegel local up --dir "
                    + "\(cluster.layout.directory) --workers 0), or ask the archive (--archive)")
        }
        guard best.standing.livingWorkers == 0 else {
            throw ClusterError(
                .state,
                "\(best.standing.livingWorkers) workers still deliver from shard \(shard.name) in \(cluster.layout.directory): what "
                    + "they send from now on would be sent twice. Stop them first (zegel local down, then up --workers 0), "
                    + "and wait until their leases are over, 15 s")
        }
        return best
    }

    /// Where the control schema is, when it is this shard's own.
    func control(_ source: HistorySource, _ isControl: Bool) -> SourceLink? { isControl ? source.link : nil }
}
