// Writes what a plan of machines asks for: a folder for each machine, settings for nodes and operators, the authority and the
// passwords, and in which order things start.

import Foundation

/// Writes the configuration of a cluster on machines of its own. The members' own files come from the same generator as those of a
/// local cluster: ``EtcdConfiguration``, ``PatroniConfiguration``, ``NodeConfiguration``.
public struct MachineConfiguration: Sendable {
    /// What was done.
    public struct Outcome: Sendable, Codable, Equatable {
        /// Files written now.
        public var written: [String]
        /// Files that somebody changed: left as they are, what would have been written lies beside them as `NAME.new`.
        public var kept: [String]
        /// Files of an earlier plan that this one does not ask for.
        public var strangers: [String]
        /// Certificates made now: new ones, or where a third of their time was left.
        public var certificates: [String]
        /// When the first of the certificates ends.
        public var certificatesEnd: Date?
    }

    /// How long certificates live.
    static let certificateDays = 365

    let plan: MachinePlan
    private let folder: String

    /// The configuration of `plan`, for the folder `folder`, which need not be there.
    public init(_ plan: MachinePlan, into folder: String) {
        self.plan = plan
        self.folder = ClusterLayout(directory: folder).directory
    }

    /// Writes all of it. Again with the same plan it changes nothing: passwords and keys are made once.
    /// - Parameter force: also what somebody changed is written anew.
    public func write(force: Bool) throws(ClusterError) -> Outcome {
        try ClusterFiles.folder(folder)
        for secret in [secrets, authorityFolder, folder + "/operator"] {
            try ClusterFiles.folder(secret, mode: 0o700)
        }
        var passwords: [String: String] = [:]
        for role in ClusterIdentity.roles + [LedgerSite.superuser] {
            passwords[role] = try ClusterFiles.keptSecret("\(secrets)/\(role).password")
        }
        var certificates = IssuedCertificates(
            authority: try LocalAuthority(
                folder: authorityFolder, name: "Zegel members' authority", days: Self.certificateDays))
        guard let authority = try ClusterFiles.text(certificates.authority.path).map({ $0 + "\n" }) else {
            throw ClusterError(.state, "\(certificates.authority.path) cannot be read")
        }
        var files = try GeneratedFiles(folder, force: force)
        for region in plan.regions {
            for machine in region.machines {
                try files.write(authority, to: "machines/\(machine.name)/ca.pem")
                try write(machine, of: region, passwords, &files, &certificates)
            }
            if !region.data.isEmpty { try writeNodes(region, passwords, authority, &files) }
        }
        try writeOperator(passwords, authority, &files, &certificates)
        try files.write(guide, to: "README.md")
        let strangers = try files.finish()
        return Outcome(
            written: files.written, kept: files.kept, strangers: strangers, certificates: certificates.made,
            certificatesEnd: certificates.end)
    }

    private var secrets: String { folder + "/secrets" }
    private var authorityFolder: String { plan.authority ?? folder + "/authority" }

    // MARK: Machines

    private func write(
        _ machine: MachinePlan.Machine, of region: MachinePlan.Region, _ passwords: [String: String],
        _ files: inout GeneratedFiles, _ certificates: inout IssuedCertificates
    ) throws(ClusterError) {
        let own = "machines/\(machine.name)"
        let places = MachineFiles(region)
        var units: [SystemdUnit] = []
        if machine.votes {
            try certificates.issue(
                EtcdConfiguration.commonName(of: region.name), in: "\(folder)/\(own)/etcd",
                address: machine.address)
            let configuration = EtcdConfiguration(
                topology: plan.topology, voter: region.voter, data: region.voterData, identity: places.voter)
            try files.write(configuration.text, to: "\(own)/etcd/etcd.yaml")
            units.append(.etcd(region))
        }
        if !machine.shards.isEmpty {
            try certificates.issue(
                PatroniConfiguration.commonName(of: region.name), in: "\(folder)/\(own)/postgres",
                address: machine.address)
        }
        for shard in plan.topology.shards where machine.shards.contains(shard.name) {
            guard let member = shard.members.first(where: { $0.region == region.name }) else { continue }
            let configuration = PatroniConfiguration(
                topology: plan.topology, shard: shard, member: member,
                paths: MemberPaths(
                    data: places.postgres(shard.name), sockets: region.places.sockets,
                    programs: region.places.programs,
                    passwords: (region.data[shard.name] ?? "") + "/pgpass", zegel: region.places.zegel),
                identity: places.member, superuserPassword: passwords[LedgerSite.superuser] ?? "")
            try files.write(configuration.text, to: "\(own)/postgres/\(shard.name).yaml", mode: 0o600)
            units += [.patroni(shard.name, region), .guard(shard.name, member, region)]
        }
        if keepsHouse(machine, region) {
            try files.write(keeper(region, passwords), to: "\(own)/postgres/keeper.yaml", mode: 0o600)
            units.append(.keeper(region))
        }
        for unit in units { try files.write(unit.text, to: "\(own)/systemd/\(unit.name)") }
        try files.write(folders(machine, region), to: "\(own)/systemd/zegel.conf")
    }

    /// One machine of a region brings its leaders home: the first that holds members.
    private func keepsHouse(_ machine: MachinePlan.Machine, _ region: MachinePlan.Region) -> Bool {
        region.machines.first { !$0.shards.isEmpty } == machine
    }

    /// For systemd-tmpfiles: the folders that etcd and PostgreSQL need, and to whom they and their files belong.
    private func folders(_ machine: MachinePlan.Machine, _ region: MachinePlan.Region) -> String {
        let places = region.places
        var lines = ["# systemd-tmpfiles --create /etc/tmpfiles.d/zegel.conf"]
        func folder(_ path: String, _ mode: String, _ user: String) {
            lines.append("d \(path) \(mode) \(user) \(user) -")
        }
        func owned(_ path: String, _ user: String) {
            lines.append("Z \(path) - \(user) \(user) -")
            lines.append("z \(path) 0700 \(user) \(user) -")
        }
        if machine.votes {
            owned("\(places.files)/etcd", places.etcdUser)
            folder(region.voterData, "0700", places.etcdUser)
        }
        if !machine.shards.isEmpty {
            owned("\(places.files)/postgres", places.user)
            folder(places.sockets, "0711", places.user)
        }
        for shard in machine.shards { folder(region.data[shard] ?? "", "0700", places.user) }
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: Settings

    private func conninfo(
        _ shard: String, _ region: String, _ role: String, _ passwords: [String: String], _ target: String,
        _ authority: String
    ) -> String {
        plan.topology.conninfo(
            shard, from: region, role: role, password: passwords[role] ?? "", target: target,
            authority: authority)
    }

    private var shards: [String] { plan.topology.shards.map(\.name) }

    /// How the shards stand to each other, for whoever asks Patroni for changes.
    private func replication(
        from region: String, authority: String, certificate: String, key: String
    ) -> [NodeConfiguration.Entry] {
        NodeConfiguration.patronis(plan.topology, from: region, authority: authority) + [
            ("shard.patroni_certificate", certificate), ("shard.patroni_key", key),
            ("shard.regions", plan.sites.map(\.name).joined(separator: ",")),
            ("shard.homes", plan.topology.shards.map { "\($0.name)=\($0.home)" }.joined(separator: ",")),
            ("shard.etcd", plan.topology.voters.map { "\($0.region)=\($0.url)" }.joined(separator: ",")),
        ]
    }

    private func keeper(_ region: MachinePlan.Region, _ passwords: [String: String]) -> String {
        let files = MachineFiles(region)
        let entries =
            [("node.name", "\(region.name)-keeper"), ("node.region", region.name)]
            + NodeConfiguration.ledger(shards, isReader: false) { shard, target in
                conninfo(shard, region.name, "zegel_admin", passwords, target, files.authority)
            }
            + replication(
                from: region.name, authority: files.authority, certificate: files.member.certificate,
                key: files.member.key)
        return NodeConfiguration.yaml(
            entries, heading: "For zegel region keep in region \(region.name). Written by zegel region init.")
    }

    private func writeNodes(
        _ region: MachinePlan.Region, _ passwords: [String: String], _ authority: String,
        _ files: inout GeneratedFiles
    ) throws(ClusterError) {
        let path = MachineFiles(region).authority
        try files.write(authority, to: "nodes/\(region.name)/ca.pem")
        for node in ["edge", "worker", "api"] {
            var entries: [NodeConfiguration.Entry] = [
                ("node.name", "\(region.name)-\(node)-1"), ("node.region", region.name),
            ]
            entries += NodeConfiguration.ledger(shards, isReader: node == "api") { shard, target in
                conninfo(shard, region.name, "zegel_\(node)", passwords, target, path)
            }
            if node != "api" {
                entries += NodeConfiguration.patronis(plan.topology, from: region.name, authority: path)
            }
            let text = NodeConfiguration.yaml(
                entries,
                heading:
                    "How zegel-\(node) in region \(region.name) finds the ledger. Written by zegel region init; add what is the "
                    + "node's own (docs/configuration.md).")
            try files.write(text, to: "nodes/\(region.name)/\(node).yaml", mode: 0o600)
        }
    }

    private func writeOperator(
        _ passwords: [String: String], _ authority: String, _ files: inout GeneratedFiles,
        _ certificates: inout IssuedCertificates
    ) throws(ClusterError) {
        let own = folder + "/operator"
        let identity = try certificates.issue("operator", in: own, address: nil)
        try files.write(authority, to: "operator/ca.pem")
        let home = plan.topology.shards.first?.home ?? ""
        var entries: [NodeConfiguration.Entry] = [("node.region", home)]
        entries += NodeConfiguration.ledger(shards, isReader: false) { shard, _ in
            conninfo(shard, home, LedgerSite.superuser, passwords, "read-write", own + "/ca.pem")
        }
        entries += replication(
            from: home, authority: own + "/ca.pem", certificate: identity.certificate, key: identity.key)
        entries.append(("shard.password_dir", secrets))
        try files.write(
            NodeConfiguration.yaml(
                entries,
                heading:
                    "For operators: zegel shard, zegel region and zegel migrate --config this file. Holds the superuser's "
                    + "password."), to: "operator/cluster.yaml", mode: 0o600)
    }
}

/// Certificates given in one run.
private struct IssuedCertificates {
    let authority: LocalAuthority
    /// The paths of those that are new.
    private(set) var made: [String] = []
    /// When the first of all ends.
    private(set) var end: Date?

    init(authority: LocalAuthority) { self.authority = authority }

    /// One that is shown to servers and to clients, in files called after it.
    @discardableResult
    mutating func issue(
        _ name: String, in place: String, address: String?
    ) throws(ClusterError) -> LocalAuthority.Identity {
        try ClusterFiles.folder(place)
        let before = try ClusterFiles.text("\(place)/\(name).pem")
        let identity = try authority.identity(
            name, in: place, names: ["localhost"], addresses: address.map { [$0] } ?? [], connects: true)
        if try ClusterFiles.text(identity.certificate) != before { made.append(identity.certificate) }
        let ends = authority.end(of: identity)
        end = [end, ends].compactMap { $0 }.min()
        return identity
    }
}
