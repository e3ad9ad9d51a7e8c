// What a local cluster remembers between two starts: how many of what, on which ports, with which settings.

import Foundation
import Policy
import Settings

/// What `zegel local up` was asked for.
public struct ClusterRequest: Sendable, Equatable {
    /// Sites; nil: as before, or one.
    public var regions: Int?
    /// Ledger shards; nil: as before, or one.
    public var shards: Int?
    /// Edge nodes in each region; nil: as before, or one.
    public var edges: Int?
    /// Worker nodes in each region; nil: as before, or one.
    public var workers: Int?
    /// The default ruleset of the tenant `demo`; nil: as before, or `secure`.
    public var ruleset: String?
    /// `key=value` for every node; nil: as before. A list replaces the one before.
    public var settings: [String]?
    /// Where the regions are, the witness of two last; those not named are on loopback addresses.
    public var places: [RegionPlace] = []

    /// A request that changes nothing.
    public init(
        regions: Int? = nil, shards: Int? = nil, edges: Int? = nil, workers: Int? = nil,
        ruleset: String? = nil,
        settings: [String]? = nil
    ) {
        self.regions = regions
        self.shards = shards
        self.edges = edges
        self.workers = workers
        self.ruleset = ruleset
        self.settings = settings
    }
}

/// Where a region of a local cluster is.
public struct RegionPlace: Sendable, Equatable {
    /// The IPv4 address that its processes listen on.
    public var address: String
    /// The network namespace that they live in; nil: that of whoever starts them.
    public var namespace: String?

    /// Reads `ADDRESS` or `NAMESPACE@ADDRESS`.
    public init?(_ text: String) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false).map(String.init)
        guard let address = parts.last, (1...2).contains(parts.count), !parts.contains("") else { return nil }
        var bytes = in_addr()
        guard inet_pton(AF_INET, address, &bytes) == 1 else { return nil }
        self.address = address
        namespace = parts.count == 2 ? parts[0] : nil
    }
}

/// One edge, worker or api node of a plan.
public struct NodePlan: Sendable, Codable, Equatable {
    /// Its name: `edge-1`.
    public var name: String
    /// What it does.
    public var role: NodeRole
    /// Its loopback ports by use: `smtp`, `smtps`, `https`, `metrics`.
    public var ports: [String: Int]
}

/// One shard of the ledger.
public struct ShardPlan: Sendable, Codable, Equatable {
    /// Its name: `a`.
    public var name: String
    /// The region that leads it in good times.
    public var home: String
}

/// One region's PostgreSQL of one shard.
public struct MemberPlan: Sendable, Codable, Equatable {
    /// The shard.
    public var shard: String
    /// PostgreSQL's port.
    public var port: Int
    /// The port of Patroni's REST interface; nil: a plain PostgreSQL without Patroni, which a cluster of one region has.
    public var rest: Int?
}

/// One region's member of etcd.
public struct EtcdPlan: Sendable, Codable, Equatable {
    /// The port for clients.
    public var client: Int
    /// The port for the other members.
    public var peer: Int
}

/// One site of a plan.
public struct RegionPlan: Sendable, Codable, Equatable {
    /// Its name: `r1`; `witness` for the site that only votes.
    public var name: String
    /// The address that its processes listen on.
    public var address: String
    /// Its voter; nil in a cluster of one region.
    public var etcd: EtcdPlan?
    /// Its PostgreSQL of each shard.
    public var members: [MemberPlan]
    /// Its nodes.
    public var nodes: [NodePlan]
    /// The network namespace that its processes live in; nil: that of whoever starts them.
    public var namespace: String?

    /// Whether it only votes: no mail, no data.
    public var isWitness: Bool { members.isEmpty }

    /// Its member of `shard`.
    public func member(_ shard: String) -> MemberPlan? { members.first { $0.shard == shard } }
}

/// Everything that is remembered of a local cluster.
public struct ClusterPlan: Sendable, Codable, Equatable {
    /// The version of this file's shape that is written.
    public static let format = 2
    /// The name of the site that only votes.
    public static let witness = "witness"

    /// The version of this file's shape.
    public var format = ClusterPlan.format
    /// The default ruleset of the tenant `demo`.
    public var ruleset: String
    /// Settings of every node, as `key=value`.
    public var settings: [String]
    /// The shards, the control shard first.
    public var shards: [ShardPlan]
    /// The sites.
    public var regions: [RegionPlan]
    /// The folder of the keyrings; nil: inside the cluster's own. A restored cluster has those of the one it comes from: what is destroyed
    /// there is destroyed here.
    public var keyring: String?
    /// Names of shards that went on elsewhere when this cluster was restored without them; nil: there are none.
    public var elsewhere: [String]?

    /// Whether PostgreSQL runs under Patroni, with a member of each shard in every region.
    public var isReplicated: Bool { regions.count > 1 }

    /// The sites with data and nodes.
    public var sites: [RegionPlan] { regions.filter { !$0.isWitness } }

    /// The region called `name`.
    /// - Throws: `usage` when there is none.
    public func region(_ name: String) throws(ClusterError) -> RegionPlan {
        guard let region = regions.first(where: { $0.name == name }) else {
            let names = regions.map(\.name).joined(separator: ", ")
            throw ClusterError(.usage, "there is no region \(name); there are \(names)")
        }
        return region
    }

    /// The shard called `name`.
    /// - Throws: `usage` when there is none.
    public func shard(_ name: String) throws(ClusterError) -> ShardPlan {
        guard let shard = shards.first(where: { $0.name == name }) else {
            let names = shards.map(\.name).joined(separator: ", ")
            throw ClusterError(.usage, "there is no shard \(name); there are \(names)")
        }
        return shard
    }

    /// The names of the rulesets that nodes with these settings know.
    private static func rulesets(_ settings: [String]) throws(ClusterError) -> [String] {
        let prefix = "rulesets.file="
        let file = settings.last { $0.hasPrefix(prefix) }
        do {
            let all = try Settings(assignments: file.map { [$0] } ?? [])
            return try RulesetBook(RulesetSettings(all)).all.map(\.name)
        } catch {
            throw ClusterError(.configuration, "\(error)")
        }
    }

    /// The plan kept at `path`, or nil when there is none.
    public static func load(_ path: String) throws(ClusterError) -> ClusterPlan? {
        guard let bytes = try ClusterFiles.read(path) else { return nil }
        do {
            let decoder = JSONDecoder()
            if let first = try? decoder.decode(FirstFormat.self, from: Data(bytes)) { return first.plan }
            let plan = try decoder.decode(ClusterPlan.self, from: Data(bytes))
            guard plan.format == format else { throw CocoaError(.coderReadCorrupt) }
            return plan
        } catch {
            throw ClusterError(
                .state, "\(path) is not a plan of this version; remove the folder to start anew")
        }
    }

    /// How plans were kept before there were several regions.
    private struct FirstFormat: Codable {
        struct Region: Codable {
            var name: String
            var address: String
            var postgresPort: Int
            var nodes: [NodePlan]
        }
        var ruleset: String
        var settings: [String]
        var regions: [Region]

        var plan: ClusterPlan {
            ClusterPlan(
                ruleset: ruleset, settings: settings, shards: [ShardPlan(name: "a", home: "r1")],
                regions: regions.map { region in
                    RegionPlan(
                        name: region.name, address: region.address,
                        members: [MemberPlan(shard: "a", port: region.postgresPort)], nodes: region.nodes)
                })
        }
    }

    /// Keeps the plan at `path`.
    public func save(_ path: String) throws(ClusterError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(self) else {
            throw ClusterError(.state, "cannot encode the plan")
        }
        try ClusterFiles.write(Array(data) + [0x0A], to: path)
    }

    /// The plan that answers `request`, starting from what was there before: what stays keeps its ports.
    /// - Parameter freePort: gives a port that nobody has on that address.
    /// - Throws: `usage` for what a cluster cannot be.
    public static func answering(
        _ request: ClusterRequest, before: ClusterPlan?,
        freePort: (_ address: String) throws(ClusterError) -> Int
    ) throws(ClusterError) -> ClusterPlan {
        let ruleset = request.ruleset ?? before?.ruleset ?? "secure"
        let rulesets = try rulesets(request.settings ?? before?.settings ?? [])
        guard rulesets.contains(ruleset) else {
            throw ClusterError(
                .usage, "--ruleset \(ruleset): no such ruleset; one of \(rulesets.joined(separator: ", "))")
        }
        for setting in request.settings ?? [] where !setting.dropFirst().contains("=") {
            throw ClusterError(.usage, "--set \(setting): write it as key=value")
        }
        let sites = try count(
            request.regions, before: before?.sites.count, otherwise: 1, in: 1...9, option: "--regions")
        let shards = try count(
            request.shards, before: before?.shards.count, otherwise: sites, in: 1...26, option: "--shards")
        if let before, before.sites.count != sites {
            throw ClusterError(
                .usage,
                "--regions \(sites): the cluster has \(before.sites.count); another number takes another folder"
            )
        }
        if let before, before.shards.count > shards {
            throw ClusterError(
                .usage, "--shards \(shards): the cluster has \(before.shards.count), and each holds mail")
        }
        var plan = ClusterPlan(
            ruleset: ruleset, settings: request.settings ?? before?.settings ?? [],
            shards: named(shards, before: before, sites: sites), regions: [])
        plan.elsewhere = before?.elsewhere
        plan.keyring = before?.keyring
        // Two regions alone cannot tell which of them was cut off: a third vote can.
        let names = (1...sites).map { "r\($0)" } + (sites == 2 ? [witness] : [])
        for (index, name) in names.enumerated() {
            plan.regions.append(
                try region(name, index, sites: sites, plan.shards, request, before, freePort))
        }
        return plan
    }

    /// Those that were there, and as many new ones as are missing. One that was restored alone keeps its name.
    private static func named(_ count: Int, before: ClusterPlan?, sites: Int) -> [ShardPlan] {
        var shards = before?.shards ?? []
        for number in 0..<26 where shards.count < count {
            let name = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(number)))
            // A reader's cursor may have a place in one that is elsewhere.
            if shards.contains(where: { $0.name == name }) || before?.elsewhere?.contains(name) == true {
                continue
            }
            shards.append(ShardPlan(name: name, home: "r\(number % sites + 1)"))
        }
        return shards
    }

    private static func count(
        _ asked: Int?, before: Int?, otherwise: Int, in range: ClosedRange<Int>, option: String
    ) throws(ClusterError) -> Int {
        let value = asked ?? before ?? otherwise
        guard range.contains(value) else {
            throw ClusterError(
                .usage, "\(option) \(value): between \(range.lowerBound) and \(range.upperBound)")
        }
        return value
    }

    private static func region(
        _ name: String, _ index: Int, sites: Int, _ shards: [ShardPlan], _ request: ClusterRequest,
        _ before: ClusterPlan?, _ freePort: (String) throws(ClusterError) -> Int
    ) throws(ClusterError) -> RegionPlan {
        let old = before?.regions.first { $0.name == name }
        let isReplicated = sites > 1
        let place = index < request.places.count ? request.places[index] : nil
        let address =
            place?.address ?? old?.address ?? (isReplicated ? "127.0.0.\((index + 1) * 10)" : "127.0.0.1")
        func port(_ kept: Int?) throws(ClusterError) -> Int {
            if let kept { return kept }
            return try freePort(address)
        }
        var region = RegionPlan(name: name, address: address, members: [], nodes: [])
        region.namespace = place?.namespace ?? old?.namespace
        if isReplicated {
            region.etcd = EtcdPlan(client: try port(old?.etcd?.client), peer: try port(old?.etcd?.peer))
        }
        if name == witness { return region }
        for shard in shards {
            let kept = old?.member(shard.name)
            region.members.append(
                MemberPlan(
                    shard: shard.name, port: try port(kept?.port),
                    rest: isReplicated ? try port(kept?.rest) : nil))
        }
        func nodes(_ role: NodeRole, _ asked: Int?, from least: Int = 1, option: String) throws(ClusterError)
            -> Int
        {
            try count(
                asked, before: old?.nodes.filter { $0.role == role }.count, otherwise: 1, in: least...64,
                option: option)
        }
        let wanted: [(NodeRole, Int, [String])] = [
            (
                .edge, try nodes(.edge, request.edges, from: 0, option: "--edges"),
                ["smtp", "smtps", "metrics"]
            ),
            (.worker, try nodes(.worker, request.workers, from: 0, option: "--workers"), ["metrics"]),
            (.api, 1, ["https", "metrics"]),
        ]
        for (role, count, uses) in wanted {
            for number in 1..<count + 1 {
                let name = (isReplicated ? "\(name)-" : "") + "\(role.rawValue)-\(number)"
                if let kept = old?.nodes.first(where: { $0.name == name }) {
                    region.nodes.append(kept)
                    continue
                }
                var ports: [String: Int] = [:]
                for use in uses { ports[use] = try freePort(address) }
                region.nodes.append(NodePlan(name: name, role: role, ports: ports))
            }
        }
        return region
    }

    /// Gives every port another number, or the same.
    /// - Parameter replacement: called with a port, its address and what it is for.
    public mutating func replacePorts(
        _ replacement: (_ port: Int, _ address: String, _ use: String) throws(ClusterError) -> Int
    ) throws(ClusterError) {
        for index in regions.indices {
            var region = regions[index]
            func replace(_ port: Int, _ use: String) throws(ClusterError) -> Int {
                try replacement(port, region.address, use)
            }
            if let etcd = region.etcd {
                region.etcd = EtcdPlan(
                    client: try replace(etcd.client, "etcd of \(region.name)"),
                    peer: try replace(etcd.peer, "etcd's peers of \(region.name)"))
            }
            for number in region.members.indices {
                let member = region.members[number]
                region.members[number].port = try replace(member.port, "PostgreSQL \(member.shard)")
                if let rest = member.rest {
                    region.members[number].rest = try replace(rest, "Patroni \(member.shard)")
                }
            }
            for node in region.nodes.indices {
                let name = region.nodes[node].name
                for (use, port) in region.nodes[node].ports.sorted(by: { $0.key < $1.key }) {
                    region.nodes[node].ports[use] = try replace(port, "\(name) \(use)")
                }
            }
            regions[index] = region
        }
    }

    /// The value that the plan's settings give `key`; the last one counts.
    public func setting(_ key: String) -> String? {
        settings.last { $0.hasPrefix(key + "=") }.map { String($0.dropFirst(key.count + 1)) }
    }
}
