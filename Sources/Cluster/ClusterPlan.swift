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

/// One edge, worker or api node of a plan.
public struct NodePlan: Sendable, Codable, Equatable {
    /// Its name: `edge-1`.
    public var name: String
    /// What it does.
    public var role: NodeRole
    /// Its loopback ports by use: `smtp`, `smtps`, `https`, `metrics`.
    public var ports: [String: Int]
}

/// One site of a plan.
public struct RegionPlan: Sendable, Codable, Equatable {
    /// Its name: `r1`.
    public var name: String
    /// The address that its nodes listen on.
    public var address: String
    /// PostgreSQL's port.
    public var postgresPort: Int
    /// Its nodes.
    public var nodes: [NodePlan]
}

/// Everything that is remembered of a local cluster.
public struct ClusterPlan: Sendable, Codable, Equatable {
    /// The version of this file's shape.
    public var format = 1
    /// The default ruleset of the tenant `demo`.
    public var ruleset: String
    /// Settings of every node, as `key=value`.
    public var settings: [String]
    /// The sites.
    public var regions: [RegionPlan]

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
            return try JSONDecoder().decode(ClusterPlan.self, from: Data(bytes))
        } catch {
            throw ClusterError(
                .state, "\(path) is not a plan of this version; remove the folder to start anew")
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

    /// The plan that answers `request`, starting from what was there before: nodes that stay keep their ports.
    /// - Parameter freePort: gives a loopback port that nobody has.
    /// - Throws: `usage` for what a cluster cannot be.
    public static func answering(
        _ request: ClusterRequest, before: ClusterPlan?, freePort: () throws(ClusterError) -> Int
    ) throws(ClusterError) -> ClusterPlan {
        guard request.regions ?? 1 == 1 else {
            throw ClusterError(
                .usage,
                "--regions \(request.regions ?? 0): several regions are not there yet; use --regions 1")
        }
        guard request.shards ?? 1 == 1 else {
            throw ClusterError(
                .usage, "--shards \(request.shards ?? 0): several shards are not there yet; use --shards 1")
        }
        let ruleset = request.ruleset ?? before?.ruleset ?? "secure"
        let rulesets = try rulesets(request.settings ?? before?.settings ?? [])
        guard rulesets.contains(ruleset) else {
            throw ClusterError(
                .usage, "--ruleset \(ruleset): no such ruleset; one of \(rulesets.joined(separator: ", "))")
        }
        for setting in request.settings ?? [] where !setting.dropFirst().contains("=") {
            throw ClusterError(.usage, "--set \(setting): write it as key=value")
        }
        let old = before?.regions.first
        func count(_ role: NodeRole, _ asked: Int?, option: String) throws(ClusterError) -> Int {
            let value = asked ?? old?.nodes.filter { $0.role == role }.count ?? 1
            guard (1...64).contains(value) else {
                throw ClusterError(.usage, "\(option) \(value): between 1 and 64")
            }
            return value
        }
        var nodes: [NodePlan] = []
        let wanted: [(NodeRole, Int, [String])] = [
            (.edge, try count(.edge, request.edges, option: "--edges"), ["smtp", "smtps", "metrics"]),
            (.worker, try count(.worker, request.workers, option: "--workers"), ["metrics"]),
            (.api, 1, ["https", "metrics"]),
        ]
        for (role, count, uses) in wanted {
            for number in 1...count {
                let name = "\(role.rawValue)-\(number)"
                if let kept = old?.nodes.first(where: { $0.name == name }) {
                    nodes.append(kept)
                    continue
                }
                var ports: [String: Int] = [:]
                for use in uses { ports[use] = try freePort() }
                nodes.append(NodePlan(name: name, role: role, ports: ports))
            }
        }
        let postgresPort: Int
        if let kept = old?.postgresPort { postgresPort = kept } else { postgresPort = try freePort() }
        let region = RegionPlan(name: "r1", address: "127.0.0.1", postgresPort: postgresPort, nodes: nodes)
        return ClusterPlan(
            ruleset: ruleset, settings: request.settings ?? before?.settings ?? [], regions: [region])
    }

    /// Gives every port another number, or the same.
    /// - Parameter replacement: called with a port and what it is for.
    public mutating func replacePorts(
        _ replacement: (_ port: Int, _ use: String) throws(ClusterError) -> Int
    ) throws(ClusterError) {
        for region in regions.indices {
            regions[region].postgresPort = try replacement(regions[region].postgresPort, "PostgreSQL")
            for node in regions[region].nodes.indices {
                for (use, port) in regions[region].nodes[node].ports.sorted(by: { $0.key < $1.key }) {
                    let name = regions[region].nodes[node].name
                    regions[region].nodes[node].ports[use] = try replacement(port, "\(name) \(use)")
                }
            }
        }
    }

    /// The value that the plan's settings give `key`; the last one counts.
    public func setting(_ key: String) -> String? {
        settings.last { $0.hasPrefix(key + "=") }.map { String($0.dropFirst(key.count + 1)) }
    }
}
