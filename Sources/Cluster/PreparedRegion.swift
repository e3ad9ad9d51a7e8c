// Everything on disk that the processes of one region need before the first of them starts.

import Foundation
import Ledger

/// A region of a local cluster whose files are all there.
struct PreparedRegion: Sendable {
    let identity: ClusterIdentity
    let plan: ClusterPlan
    let region: RegionPlan
    let layout: RegionLayout
    let programs: PostgresPrograms
    /// The file names of Patroni and etcd; nil in a cluster of one region.
    let engines: ReplicationPrograms?
    /// The folder of Zegel's executables.
    let executables: String
    private var zegel: String { executables + "/zegel" }
    /// How WAL is archived; nil: it is not.
    private let backups: BackupConfiguration?

    var site: LedgerSite { LedgerSite(plan: plan, layout: layout.cluster) }
    /// The shards as their Patronis know them.
    var ledger: ReplicatedLedger { ReplicatedLedger(identity, plan, from: region) }

    /// Makes what is missing and writes what may have changed.
    /// - Parameters:
    ///   - executables: the folder of Zegel's executables.
    ///   - say: told what takes long.
    init(
        _ identity: ClusterIdentity, plan: ClusterPlan, region: RegionPlan, executables: String,
        say: (String) -> Void
    ) async throws(ClusterError) {
        self.executables = executables
        self.identity = identity
        self.plan = plan
        self.region = region
        layout = RegionLayout(identity.layout, plan, region)
        programs = try await PostgresPrograms()
        let recovery = RecoveryLayout(cluster: identity.layout)
        backups = try RecoveryPlan.load(recovery.plan).map {
            BackupConfiguration(plan: $0, layout: recovery, passphrase: "")
        }
        engines = plan.isReplicated ? try ReplicationPrograms() : nil
        try ClusterFiles.folder(layout.folder, mode: plan.isReplicated ? 0o711 : 0o755)
        try ClusterFiles.folder(layout.keyring, mode: 0o700)
        if plan.isReplicated {
            try await prepareMembers()
        } else {
            for member in region.members {
                let postgres = plainMember(member)
                if access(layout.data(member.shard) + "/PG_VERSION", F_OK) != 0 { say("making the database") }
                try await postgres.prepare()
            }
        }
        try writeSettings()
    }

    /// A PostgreSQL without Patroni.
    func plainMember(_ member: MemberPlan) -> PostgresInstance {
        PostgresInstance(
            layout: layout, address: region.address, member: member, programs: programs,
            archiving: archiving(member.shard))
    }

    private func archiving(_ shard: String) -> [PostgresParameter] {
        backups?.archiving(shard, layout) ?? PostgresParameter.noArchive
    }

    private func prepareMembers() async throws(ClusterError) {
        let topology = site.topology
        let member = try identity.member(region, user: programs.user)
        try ClusterFiles.folder(layout.etcd, mode: 0o700)
        if let voter = topology.voters.first(where: { $0.region == region.name }) {
            try ClusterFiles.write(
                EtcdConfiguration(topology: topology, voter: voter, data: layout.etcd, identity: member).text,
                to: layout.etcdConfiguration)
        }
        if region.isWitness { return }
        try ClusterFiles.folder(layout.postgresSockets, mode: 0o711, owner: programs.user)
        try await programs.checkReachable([layout.postgresSockets])
        if let engines { try await programs.checkRunnable(engines.patroni) }
        // Patroni runs it before a member leads.
        try await programs.checkRunnable(zegel)
        for shard in topology.shards {
            guard let place = shard.members.first(where: { $0.region == region.name }) else { continue }
            let folder = layout.member(shard.name)
            try ClusterFiles.folder(folder, mode: 0o700, owner: programs.user)
            try await programs.checkReachable([folder])
            let path = layout.patroniConfiguration(shard.name)
            let configuration = PatroniConfiguration(
                topology: topology, shard: shard, member: place,
                paths: MemberPaths(
                    data: layout.data(shard.name), sockets: layout.postgresSockets,
                    programs: programs.folder, passwords: folder + "/pgpass", zegel: zegel),
                identity: member, superuserPassword: identity.password(LedgerSite.superuser),
                archiving: archiving(shard.name))
            try ClusterFiles.write(configuration.text, to: path, owner: programs.user)
        }
    }

    private func writeSettings() throws(ClusterError) {
        if region.isWitness { return }
        let certificate = try identity.authority.identity(
            layout.name("server"),
            names: ["localhost", ProcessInfo.processInfo.hostName].filter { !$0.isEmpty },
            addresses: [region.address])
        try NodeConfiguration(
            site: site, region: region, layout: layout,
            rootPublic: identity.root.publicKey.rawRepresentation.base64EncodedString(),
            passwords: identity.passwords, identity: certificate
        ).write()
        guard region.name == plan.regions.first?.name else { return }
        // Operators' commands ask the first region; they know the others' addresses from the plan.
        try ClusterFiles.write(
            NodeConfiguration.yaml([
                (
                    "client.url",
                    Endpoints.Region(region, site, superuserPassword: "").api
                ), ("client.key_file", layout.cluster.secrets + "/api.key"),
                ("client.authority", layout.cluster.authority), ("node.region", region.name),
            ]), to: layout.cluster.configuration(of: "client"))
        let control = plan.shards.first?.name ?? "a"
        try ClusterFiles.write(
            NodeConfiguration.yaml([
                (
                    "control.dsn",
                    site.conninfo(
                        control, from: region, role: LedgerSite.superuser,
                        password: identity.password(LedgerSite.superuser), target: "read-write")
                )
            ]), to: layout.cluster.configuration(of: "owner"))
    }

    /// What the supervisor runs, in the order of starting.
    func children() -> [SupervisedProgram] {
        let ledger = plan.isReplicated ? engineChildren() : region.members.map(plainChild)
        if region.isWitness { return ledger }
        func program(
            _ name: String, _ role: NodeRole, _ executable: String, _ arguments: [String], _ grace: Int
        ) -> SupervisedProgram {
            var child = ChildSpecification(
                executables + "/" + executable, arguments, output: .file(layout.cluster.log(of: name)))
            child.directory = layout.cluster.directory
            return SupervisedProgram(name: name, role: role, specification: child, grace: .seconds(grace))
        }
        let keyring = program(
            layout.name("keyring"), .keyring, "zegel",
            ["keyring", "serve", "--dir", layout.cluster.directory, "--region", region.name], 2)
        let nodes = region.nodes.map { node in
            program(
                node.name, node.role, "zegel-\(node.role.rawValue)",
                ["--config", layout.cluster.configuration(of: node.name)], node.role == .api ? 4 : 8)
        }
        return ledger + [keyring] + nodes
    }

    private func plainChild(_ member: MemberPlan) -> SupervisedProgram {
        let postgres = plainMember(member)
        var database = SupervisedProgram(
            name: postgres.name, role: .postgres, specification: postgres.specification)
        // Fast stop: sessions are cut, a checkpoint is written. If that takes too long, an immediate one.
        database.stopSignal = SIGINT
        database.forceSignal = SIGQUIT
        database.grace = .seconds(6)
        return database
    }

    private func engineChildren() -> [SupervisedProgram] {
        guard let engines else { return [] }
        func log(_ name: String) -> ChildSpecification.Output { .file(layout.cluster.log(of: name)) }
        let name = layout.name("etcd")
        let etcd = SupervisedProgram(
            name: name, role: .etcd,
            specification: ChildSpecification(
                engines.etcd, ["--config-file", layout.etcdConfiguration], output: log(name)),
            // It wants to hand its place over to peers that may be gone too; what it has acknowledged is on disk.
            grace: .seconds(1))
        return [etcd]
            + region.members.flatMap { member -> [SupervisedProgram] in
                let name = layout.name("patroni-\(member.shard)")
                var patroni = ChildSpecification(
                    engines.patroni, [layout.patroniConfiguration(member.shard)], output: log(name))
                patroni.directory = "/"
                patroni.user = programs.user
                // Without its supervisor Patroni stops its PostgreSQL in order.
                patroni.deathSignal = SIGTERM
                let guardName = layout.name("guard-\(member.shard)")
                var watcher = ChildSpecification(
                    zegel,
                    [
                        "guard", "--patroni", "https://\(region.address):\(member.rest ?? 0)", "--data",
                        layout.data(member.shard), "--authority", layout.cluster.authority,
                    ], output: log(guardName))
                watcher.directory = "/"
                return [
                    SupervisedProgram(
                        name: name, role: .patroni, specification: patroni,
                        // A follower waits up to 10 s for a leader that ends too to let go of it.
                        grace: .seconds(5)),
                    SupervisedProgram(
                        name: guardName, role: .guard, specification: watcher, grace: .seconds(1)),
                ]
            }
    }

    /// The process ids of the region's PostgreSQLs that Patroni started.
    var patroniPostgres: [Int32] {
        guard plan.isReplicated else { return [] }
        return region.members.compactMap { Postmaster(data: layout.data($0.shard)).pid }
    }
}
