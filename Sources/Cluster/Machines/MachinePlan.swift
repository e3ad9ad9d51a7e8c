// What an operator says of a cluster on machines of its own: regions, addresses, shards and their homes. `zegel region init` writes every
// member's configuration from it.

import Foundation
import HTTPClient
import Settings

/// A plan of regions on machines of their own, read from a YAML file and found sound.
public struct MachinePlan: Sendable, Equatable {
    /// Where things lie on the machines of a region, and what runs them.
    struct Places: Sendable, Equatable {
        /// The folder that the generated files come into.
        var files = "/etc/zegel"
        /// The folder below which etcd and PostgreSQL keep their data.
        var data = "/var/lib/zegel"
        /// The folder of PostgreSQL's sockets.
        var sockets = "/run/zegel-postgres"
        /// The folder of PostgreSQL's programs.
        var programs = "/usr/lib/postgresql/15/bin"
        /// Patroni 4.
        var patroni = "/opt/zegel/python/bin/patroni"
        /// etcd.
        var etcd = "/usr/bin/etcd"
        /// The operator's command line, for the guard and the keeper.
        var zegel = "/usr/bin/zegel"
        /// The user of Patroni, PostgreSQL, guard and keeper.
        var user = "postgres"
        /// The user of etcd.
        var etcdUser = "etcd"

        /// By the key that sets it. Computed: key paths are no values that may be shared.
        static var keys: [(key: String, path: WritableKeyPath<Places, String>, isPath: Bool)] {
            [
                ("files", \.files, true), ("data", \.data, true), ("sockets", \.sockets, true),
                ("programs", \.programs, true), ("patroni", \.patroni, true),
                ("etcd_program", \.etcd, true), ("zegel", \.zegel, true), ("user", \.user, false),
                ("etcd_user", \.etcdUser, false),
            ]
        }
    }

    /// One region.
    struct Region: Sendable, Equatable {
        /// Its name.
        var name: String
        /// The line of the plan that begins it.
        var line: Int
        /// Where things lie on its machines.
        var places: Places
        /// Its vote.
        var voter: ReplicationTopology.Voter
        /// What its etcd keeps.
        var voterData: String
        /// The folder of its member of each shard, by shard; empty for the witness.
        var data: [String: String]
        /// Its machines, by address; those of etcd first.
        var machines: [Machine]
    }

    /// One machine of a region.
    struct Machine: Sendable, Equatable {
        /// The region's name, and behind it the address where the region has several machines.
        var name: String
        /// Its address.
        var address: String
        /// Whether the region's etcd runs there.
        var votes: Bool
        /// The shards that it holds a member of.
        var shards: [String]
    }

    /// The site that only votes.
    static let witness = ClusterPlan.witness

    /// All members as they see each other.
    let topology: ReplicationTopology
    /// The regions, the witness last.
    let regions: [Region]
    /// The folder of the certificate authority, with its private key; nil: inside of the folder that is written.
    let authority: String?
    /// What is allowed and may not be meant.
    public let warnings: [String]

    /// The regions that hold members.
    var sites: [Region] { regions.filter { !$0.data.isEmpty } }

    /// Reads and checks the plan in `file`.
    /// - Throws: `SettingsError` with the line of the first thing that is wrong, and what to do about it.
    public init(file: String) throws(SettingsError) {
        try self.init(lines: try YAMLLine.read(file: file), file: file)
    }

    /// Reads and checks a plan; `file` is what errors call it.
    init(text: String, file: String) throws(SettingsError) {
        try self.init(lines: try YAMLLine.read(text, file: file), file: file)
    }

    private init(lines: [YAMLLine], file: String) throws(SettingsError) {
        var reader = PlanReader(lines: lines, file: file)
        let shards = try reader.shards()
        let names = try reader.regions(count: shards.count)
        let homes = Dictionary(shards.map { ($0.name, $0.home.value) }) { first, _ in first }
        for shard in shards where !names.contains(where: { $0.name == shard.home.value }) {
            throw reader.refusal(
                shard.home, "there is no region \(shard.home.value) for shard \(shard.name) to be at home in",
                "write one of \(names.map(\.name).joined(separator: ", "))")
        }
        let defaults = try reader.places("defaults", Places())
        var regions: [Region] = []
        var members: [String: [ReplicationTopology.Member]] = [:]
        for (name, line) in names {
            var region = try reader.region(name, line, "regions.\(name)", defaults)
            for (index, shard) in shards.enumerated() {
                let (member, data) = try reader.member(of: shard.name, index, in: region)
                members[shard.name, default: []].append(member)
                region.data[shard.name] = data
            }
            regions.append(region)
        }
        if let line = reader.witnessLine {
            regions.append(try reader.region(Self.witness, line, "witness", defaults))
        }
        authority = try reader.path("authority")
        var topology = ReplicationTopology(
            voters: regions.map(\.voter),
            shards: shards.map { shard in
                .init(name: shard.name, home: homes[shard.name] ?? "", members: members[shard.name] ?? [])
            })
        topology.nodes = try reader.networks("networks.nodes")
        topology.operators = try reader.networks("networks.operators")
        try reader.checkNothingLeft(regions: names.map(\.name), shards: shards.map(\.name))
        try reader.checkAddresses(regions, topology)
        for index in regions.indices { regions[index].machines = Self.machines(regions[index], topology) }
        self.topology = topology
        self.regions = regions
        var warnings: [String] = []
        if regions.count.isMultiple(of: 2) {
            warnings.append(
                "\(regions.count) voters bear the loss of no more of them than \(regions.count - 1) would: "
                    + (regions.contains { $0.name == Self.witness }
                        ? "leave the witness out" : "add a witness"))
        }
        if topology.operators.isEmpty {
            warnings.append(
                "networks.operators is not set: zegel shard init and zegel migrate work on members' machines alone"
            )
        }
        self.warnings = warnings
    }

    private static func machines(_ region: Region, _ topology: ReplicationTopology) -> [Machine] {
        var machines = [
            Machine(name: region.name, address: region.voter.address, votes: true, shards: [])
        ]
        for shard in topology.shards {
            for member in shard.members where member.region == region.name {
                let known = machines.firstIndex { $0.address == member.address }
                if known == nil {
                    machines.append(
                        Machine(name: region.name, address: member.address, votes: false, shards: []))
                }
                machines[known ?? machines.count - 1].shards.append(shard.name)
            }
        }
        guard machines.count > 1 else { return machines }
        return machines.map { machine in
            var named = machine
            named.name = "\(machine.name)-\(machine.address)"
            return named
        }
    }
}
