// Keeps endpoints.json true while processes come and go, in one region or in several.

import Foundation
import Synchronization

/// Rewrites a region's part of `endpoints.json` whenever a process id changed. Each region's supervisor keeps its own file of process
/// ids; whoever changed one puts all of them together.
final class EndpointsWriter: Sendable {
    private let prepared: PreparedRegion
    private let children = Mutex<[SupervisedChild]>([])

    init(_ prepared: PreparedRegion) { self.prepared = prepared }

    /// The children whose process ids are written.
    func watch(_ watched: [SupervisedChild]) throws(ClusterError) {
        children.withLock { $0 = watched }
        try write(isUp: true)
    }

    /// A process id changed, or may have.
    func childChanged() {
        // A full disk must not end the supervisor; the next change tries again.
        try? write(isUp: true)
    }

    /// The supervisor ends: nobody lives.
    func end() { try? write(isUp: false) }

    private func write(isUp: Bool) throws(ClusterError) {
        // Under the lock: two writers at once would put an older state over a newer one.
        try children.withLock { children throws(ClusterError) in
            var pids: [String: [Int32]] = [:]
            if isUp { pids[NodeRole.supervisor.rawValue] = [getpid()] }
            for child in children {
                if let pid = child.pid { pids[child.program.role.rawValue, default: []].append(pid) }
            }
            pids[NodeRole.postgres.rawValue, default: []] += prepared.patroniPostgres
            try RegionProcesses(prepared.identity, prepared.plan).put(pids, of: prepared.region)
        }
    }
}

/// The process ids of all regions, and `endpoints.json` made of them.
struct RegionProcesses: Sendable {
    let identity: ClusterIdentity
    let plan: ClusterPlan

    init(_ identity: ClusterIdentity, _ plan: ClusterPlan) {
        self.identity = identity
        self.plan = plan
    }

    /// The process ids of a region, by role.
    func pids(of region: RegionPlan) -> [String: [Int32]] {
        let path = RegionLayout(identity.layout, plan, region).processes
        guard let data = FileManager.default.contents(atPath: path) else { return [:] }
        return (try? JSONDecoder().decode([String: [Int32]].self, from: data)) ?? [:]
    }

    /// Keeps those of a region, and writes `endpoints.json` anew when they changed.
    func put(_ pids: [String: [Int32]], of region: RegionPlan) throws(ClusterError) {
        let layout = identity.layout
        // Regions change at once, each in a process of its own.
        let lock = open(layout.directory + "/endpoints.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard lock >= 0 else { throw ClusterError(.environment, "cannot lock \(layout.endpoints)") }
        defer { close(lock) }
        flock(lock, LOCK_EX)
        let before = self.pids(of: region)
        if before == pids, FileManager.default.fileExists(atPath: layout.endpoints) { return }
        guard let data = try? JSONEncoder().encode(pids) else { return }
        try ClusterFiles.write(
            Array(data), to: RegionLayout(layout, plan, region).processes, durable: false)
        try endpoints.save(layout.endpoints)
    }

    /// Where everything listens, with the process ids as they are kept.
    private var endpoints: Endpoints {
        let site = LedgerSite(plan: plan, layout: identity.layout)
        return Endpoints(
            ca: identity.layout.authority, apiKey: identity.demo.key.text, smtpUser: DemoTenant.user,
            smtpPassword: identity.demo.password,
            regions: plan.sites.map { region in
                var part = Endpoints.Region(
                    region, site, superuserPassword: identity.password(LedgerSite.superuser))
                part.pids = Dictionary(uniqueKeysWithValues: Endpoints.roles.map { ($0, [Int32]()) })
                    .merging(pids(of: region)) { $1 }
                return part
            })
    }
}

extension Endpoints.Region {
    /// Where everything of a region will listen, without process ids.
    init(_ region: RegionPlan, _ site: LedgerSite, superuserPassword: String) {
        func addresses(_ use: String) -> [String] {
            region.nodes.compactMap { $0.ports[use] }.map { "\(region.address):\($0)" }
        }
        self.init(
            name: region.name, smtp: addresses("smtp"), smtps: addresses("smtps"),
            api: addresses("https").first.map { "https://" + $0 } ?? "",
            metrics: addresses("metrics").map { "http://" + $0 },
            postgres: region.members.map {
                site.url($0.shard, in: region, role: LedgerSite.superuser, password: superuserPassword)
            }, pids: [:])
    }
}
