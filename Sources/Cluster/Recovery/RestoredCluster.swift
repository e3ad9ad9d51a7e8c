// Tells a restored cluster what happened since, and lets it go.

import Foundation
import Ledger
import Postgres
import Settings

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

    var option: String { "--dir \(target.layout.directory)" }

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
        case .restored, .reconciled: break
        }
        if state.isDrill == true {
            throw ClusterError(
                .state,
                "a drill made what is in \(target.layout.directory), and the next one removes it: restore into another folder"
            )
        }
        return state
    }

    // MARK: Reconcile

    /// Who tells what happened since.
    public struct Sources: Sendable {
        /// The folder of the old cluster, whose living members are asked.
        public var from: String?
        /// The end of its archive.
        public var archive: Bool
        /// Files of events that were exported.
        public var events: [String]

        /// Who tells.
        public init(from: String? = nil, archive: Bool = false, events: [String] = []) {
            (self.from, self.archive, self.events) = (from, archive, events)
        }

        var isEmpty: Bool { from == nil && !archive && events.isEmpty }
        // Nobody else.
        var isEvents: Bool { from == nil && !archive }
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
        /// What happened later than this, whoever told may not have known; nil: that was certain.
        public var toldUntil: Date?
        /// A WAL segment that the archive lacks: what came behind it is not known; nil: none.
        public var missingSegment: String?
        /// Messages taken in after the moment of which nothing is left but their events; nil: no events were asked.
        public var lost: [UUID]?
    }

    /// One shard while it is told.
    struct Told {
        var report: Report
        var heldTenants: [String]
        /// How the mail stood at a member that told for certain.
        var certain: String?
    }

    /// Tells the shards what happened since the moment. May be done again, with other sources: whoever knows more is believed.
    public func reconcile(
        _ sources: Sources, say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> [Report] {
        var state = try state(for: "zegel recovery reconcile \(option)")
        if sources.isEmpty {
            throw ClusterError(
                .usage,
                "who tells what happened since? --from DIR (the old cluster, if a member of it lives), --archive, --events FILE, or "
                    + "several of them"
            )
        }
        var old: OldCluster?
        if let folder = sources.from { old = try await OldCluster(folder) }
        // Broken off on the way, or refused, it is to be done again: what was told certainly may have gone on since.
        state.stage = .restored
        if let old { state.asked = old.cluster.layout.directory }
        try state.save(target.files.restore)
        var reports: [Report] = []
        // Tenants are in the first shard alone, which comes first.
        var held: [String] = []
        for index in state.shards.indices {
            let told = try await reconcile(
                state.shards[index], state, old, sources, held, say)
            held = told.heldTenants
            if let certain = told.certain { state.shards[index].told = certain }
            if told.report.control != nil { state.isControlTold = true }
            try state.save(target.files.restore)
            reports.append(told.report)
        }
        if sources.isEvents, reports.allSatisfy({ $0.toldUntil == nil }) {
            throw ClusterError(
                .usage,
                "there is no event of shard \(state.shards.map(\.name).joined(separator: ", ")) in \(sources.events.joined(separator: ", "))"
            )
        }
        state.stage = .reconciled
        try state.save(target.files.restore)
        return reports
    }

    private func reconcile(
        _ shard: RestoreState.Shard, _ state: RestoreState, _ old: OldCluster?, _ sources: Sources,
        _ held: [String], _ say: @escaping @Sendable (String) -> Void
    ) async throws(ClusterError) -> Told {
        let moment = state.moment
        let server = try target.server(shard.name, programs, passwords: passwords())
        return try await server.run { (process) throws(ClusterError) in
            try await server.awaitReady(process)
            var told = Told(report: Report(shard: shard.name), heldTenants: held)
            // Tenants are in the first shard, also where nobody tells anything of them.
            if shard.name == plan.shards.first?.name {
                told.heldTenants = try await ClusterRecovery.asOwner(server) {
                    try ControlReconciliation.heldTenants($0)
                }
            }
            // The archive ends before its members do: they have the last word. And whose mail is held is known before it is weighed.
            if sources.archive {
                if let control = state.control {
                    try await withArchive(of: control, in: state.source, say, &told) {
                        (source, told) throws(ClusterError) in
                        try await tellControl(control, server, source, mayReplace: shard.told == nil, &told)
                    }
                }
                try await withArchive(of: shard, in: state.source, say, &told) {
                    (source, told) throws(ClusterError) in
                    say("shard \(shard.name): asking the end of its archive")
                    try await tell(shard, moment, server, source, &told)
                }
            }
            if let old {
                say("shard \(shard.name): asking its members in \(old.cluster.layout.directory)")
                if let control = state.control { try await tellControl(control, server, by: old, &told) }
                var source = try await old.member(shard)
                // Where others of the old cluster go on, this one may too.
                if old.plan.shards.count > state.shards.count { source.isFinal = false }
                try await tell(shard, moment, server, source, &told)
                // Whoever began to work meanwhile would send what was just released.
                let after = try await old.member(shard)
                guard after.standing.work == source.standing.work else {
                    throw ClusterError(
                        .state,
                        "something happened in \(source.name) meanwhile: see that nothing works there, and give the same command again"
                    )
                }
                if source.isFinal { told.certain = source.standing.work }
            }
            // Last: what nobody else has is lost.
            if !sources.events.isEmpty {
                say("shard \(shard.name): reading \(sources.events.joined(separator: ", "))")
                try await tell(shard, moment, server, events: sources.events, &told)
            }
            if told.certain != nil { told.report.toldUntil = nil }
            say("shard \(shard.name): told")
            told.report.deliveries = try await ClusterRecovery.asOwner(server) {
                try RestoredLedger.tally($0)
            }
            return told
        }
    }

    /// Whose deliveries in doubt are held: these tenants' or, where the cluster is told so, everybody's (nil).
    func whoHolds(_ tenants: [String]) throws(ClusterError) -> [String]? {
        do {
            return DeliverySettings(try Settings(assignments: plan.settings)).inDoubt == .hold ? nil : tenants
        } catch {
            throw ClusterError(.configuration, "\(error)")
        }
    }

    func passwords() throws(ClusterError) -> String { try target.writePasswords(programs.user) }

    /// Has one source tell.
    private func tell(
        _ shard: RestoreState.Shard, _ moment: Date, _ server: RestoredServer, _ source: HistorySource,
        _ told: inout Told
    ) async throws(ClusterError) {
        try await demandSame(shard, server, source)
        let (link, isFinal, mayReplace) = (source.link, source.isFinal, source.isFinal || shard.told == nil)
        if shard.name == plan.shards.first?.name, try target.state()?.control == nil {
            try await tellControl(shard, server, source, mayReplace: mayReplace, &told)
        }
        let held = try whoHolds(told.heldTenants)
        let brought = try await ClusterRecovery.asOwner(server) { session in
            try Reconciliation(link: link, moment: moment, isFinal: isFinal, heldTenants: held).run(session)
        }
        told.report.brought.broughtOver += brought.broughtOver
        told.report.brought.events += brought.events
        if !isFinal { told.report.toldUntil = source.standing.newest }
    }

    /// Has a member of the shard with tenants and credentials tell which were revoked: its own mail may go on meanwhile.
    func tellControl(
        _ shard: RestoreState.Shard, _ server: RestoredServer, by old: OldCluster, _ told: inout Told
    ) async throws(ClusterError) {
        let source = try await old.member(shard, mayWork: true)
        let follows = source.standing.follows
        try await tellControl(shard, server, source, mayReplace: !follows, &told)
        if follows { told.report.toldUntil = source.standing.newest }
    }

    /// Has the shard with tenants and credentials tell which were revoked.
    private func tellControl(
        _ shard: RestoreState.Shard, _ server: RestoredServer, _ source: HistorySource, mayReplace: Bool,
        _ told: inout Told
    ) async throws(ClusterError) {
        try await demandSame(shard, server, source)
        let link = source.link
        let (result, held) = try await ClusterRecovery.asOwner(server) { session in
            (
                try ControlReconciliation(link: link, mayReplace: mayReplace).run(session),
                try ControlReconciliation.heldTenants(session)
            )
        }
        told.heldTenants = held
        told.report.control = (told.report.control ?? ControlReconciliation.Result()).adding(result)
    }

    private func demandSame(
        _ shard: RestoreState.Shard, _ server: RestoredServer, _ source: HistorySource
    ) async throws(ClusterError) {
        guard source.standing.system == shard.system else {
            throw ClusterError(
                .usage,
                "\(source.name) is another cluster than the one that shard \(shard.name) was restored from")
        }
        let schema = try await ClusterRecovery.asOwner(server) { try RestoredLedger.source($0).schema }
        guard source.standing.schema == schema else {
            throw ClusterError(
                .state,
                "\(source.name) has version \(source.standing.schema) of the schema, and this program's is \(schema): bring it "
                    + "up to date first (zegel migrate)")
        }
    }

    /// Recovers a shard's archive to its end, aside, and ends that again.
    private func withArchive(
        of shard: RestoreState.Shard, in folder: String, _ say: @escaping @Sendable (String) -> Void,
        _ told: inout Told, _ body: (HistorySource, inout Told) async throws(ClusterError) -> Void
    ) async throws(ClusterError) {
        let old = try await ClusterRecovery(directory: folder, executables: executables)
        let repository = try BackupRepository(old.layout, programs)
        let findings = try await old.points(old.plan.shard(shard.name), repository)
        guard let archive = findings.archive,
            let set = findings.information.set(for: Date.distantFuture, archive.timelines)
        else {
            throw ClusterError(
                .state, "shard \(shard.name) has no backup that leads to the end of its archive")
        }
        // A segment that is missing looks like the end to PostgreSQL.
        let run = archive.timelines.run(from: set.firstSegment, in: archive.segments)
        if let gap = archive.timelines.gaps(from: set.firstSegment, in: archive.segments).first {
            told.report.missingSegment = "\(gap)"
        }
        say(
            "shard \(shard.name): recovering its archive to the end, aside: \(set.label), "
                + ClusterRecovery.octets(set.size))
        let aside = AsideRecovery(target: target, programs: programs, repository: repository)
        let end = RestoreState.Shard(
            name: shard.name, set: set.label, timeline: archive.timelines.newest, system: shard.system,
            size: set.size)
        try await aside.run(end, to: nil) {
            (server, end) throws(ClusterError) in
            guard run.last.map({ end >= $0.start }) ?? true else {
                throw ClusterError(
                    .state,
                    "the archive of shard \(shard.name) could not be read to its end: zegel recovery verify names what is wrong; the "
                        + "end of \(server.log):\n\(ClusterFiles.tail(server.log, lines: 5))")
            }
            let standing = try await ClusterRecovery.asOwner(server) { try RestoredLedger.source($0) }
            try await body(
                HistorySource(
                    name: "the archive of \(old.cluster.layout.directory)", link: server.link,
                    standing: standing, isFinal: false), &told)
        }
    }
}
