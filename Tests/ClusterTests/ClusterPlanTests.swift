// What a local cluster remembers, and what its nodes are told.

import Foundation
import Settings
import Testing

@testable import Cluster

@Suite("A local cluster remembers what it was asked for")
struct ClusterPlanTests {
    /// Ports that count up.
    static func plan(_ request: ClusterRequest, before: ClusterPlan? = nil, from first: Int = 20_000)
        throws(ClusterError) -> ClusterPlan
    {
        var next = first
        return try ClusterPlan.answering(request, before: before) { (_) throws(ClusterError) in
            next += 1
            return next
        }
    }

    @Test(
        "a shard that was restored alone keeps its name and its home; new ones take the names that are free")
    func restoredAlone() throws {
        var before = try Self.plan(ClusterRequest(regions: 3))
        before.shards.removeAll { $0.name != "b" }
        for index in before.regions.indices { before.regions[index].members.removeAll { $0.shard != "b" } }
        let same = try Self.plan(ClusterRequest(), before: before)
        #expect(same.shards == before.shards)
        #expect(same.regions.map(\.members) == before.regions.map(\.members))
        let more = try Self.plan(ClusterRequest(shards: 3), before: before)
        #expect(more.shards.map(\.name) == ["b", "a", "c"])
        #expect(more.shards.first?.home == "r2")
    }

    @Test("what is not asked for is one of each, secure, on ports of their own")
    func defaults() throws {
        let plan = try Self.plan(ClusterRequest())
        #expect(plan.ruleset == "secure")
        #expect(plan.regions.map(\.name) == ["r1"])
        #expect(plan.regions[0].nodes.map(\.name) == ["edge-1", "worker-1", "api-1"])
        let ports = plan.regions[0].members.map(\.port) + plan.regions[0].nodes.flatMap(\.ports.values)
        #expect(Set(ports).count == ports.count)
        #expect(plan.regions[0].nodes[0].ports.keys.sorted() == ["metrics", "smtp", "smtps"])
    }

    @Test("nodes that stay keep their ports, others come or go, and settings stay until others are given")
    func change() throws {
        let first = try Self.plan(
            ClusterRequest(edges: 2, ruleset: "nta7516", settings: ["delivery.port=2525"]))
        let second = try Self.plan(ClusterRequest(edges: 1, workers: 3), before: first, from: 25_000)
        #expect(
            second.regions[0].nodes.map(\.name) == ["edge-1", "worker-1", "worker-2", "worker-3", "api-1"])
        #expect(second.regions[0].nodes[0] == first.regions[0].nodes[0])
        #expect(second.regions[0].members == first.regions[0].members)
        #expect(second.ruleset == "nta7516")
        #expect(second.settings == ["delivery.port=2525"])
        #expect(try Self.plan(ClusterRequest(settings: ["a=b"]), before: second).settings == ["a=b"])
        #expect(try Self.plan(ClusterRequest(), before: second) == second)
    }

    @Test(
        "what cannot be is refused with the way out",
        arguments: [
            (ClusterRequest(regions: 0), "between 1 and 9"), (ClusterRequest(regions: 10), "between 1 and 9"),
            (ClusterRequest(shards: 27), "between 1 and 26"),
            (ClusterRequest(workers: 65), "between 0 and 64"),
            (ClusterRequest(edges: 65), "between 0 and 64"),
            (ClusterRequest(edges: -1), "between 0 and 64"),
            (ClusterRequest(ruleset: "lax"), "nta7516, opportunistic, secure"),
            (ClusterRequest(settings: ["delivery.port"]), "write it as key=value"),
        ])
    func refusals(_ request: ClusterRequest, _ sentence: String) {
        #expect {
            try Self.plan(request)
        } throws: { error in
            (error as? ClusterError)?.code == .usage && "\(error)".contains(sentence)
        }
    }

    @Test("the plan is kept and read back as it was")
    func roundTrip() throws {
        let folder = try TemporaryFolder()
        let plan = try Self.plan(ClusterRequest(edges: 2, settings: ["dns.forwarders=127.0.0.1@5353"]))
        try plan.save(folder.path + "/cluster.json")
        #expect(try ClusterPlan.load(folder.path + "/cluster.json") == plan)
        #expect(try ClusterPlan.load(folder.path + "/other.json") == nil)
        try ClusterFiles.write("{}", to: folder.path + "/cluster.json")
        #expect(throws: ClusterError.self) { try ClusterPlan.load(folder.path + "/cluster.json") }
    }

    @Test(
        "several regions: an address each, a member of every shard in each, a shard at home in each; two have a witness",
        arguments: [
            (2, nil, 2, ["r1", "r2", "witness"]), (3, nil, 3, ["r1", "r2", "r3"]),
            (3, 5, 5, ["r1", "r2", "r3"]),
        ]
            as [(Int, Int?, Int, [String])])
    func regions(_ sites: Int, _ shards: Int?, _ expected: Int, _ names: [String]) throws {
        let plan = try Self.plan(ClusterRequest(regions: sites, shards: shards, edges: 2))
        #expect(plan.regions.map(\.name) == names)
        #expect(plan.regions.map(\.address) == names.indices.map { "127.0.0.\(($0 + 1) * 10)" })
        #expect(plan.shards.map(\.name) == Array(["a", "b", "c", "d", "e"].prefix(expected)))
        #expect(plan.shards.map(\.home) == (0..<expected).map { "r\($0 % sites + 1)" })
        for region in plan.sites {
            #expect(region.members.map(\.shard) == plan.shards.map(\.name))
            #expect(region.members.allSatisfy { $0.rest != nil })
            #expect(region.nodes.map(\.name).contains("\(region.name)-edge-2"))
        }
        #expect(plan.regions.allSatisfy { $0.etcd != nil })
        let ports = plan.regions.flatMap { region in
            region.members.flatMap { [$0.port, $0.rest ?? 0] } + region.nodes.flatMap(\.ports.values)
                + [region.etcd?.client ?? 0, region.etcd?.peer ?? 0]
        }
        #expect(Set(ports).count == ports.count)
        #expect(try Self.plan(ClusterRequest(), before: plan) == plan)
    }

    @Test("regions are not added or taken away in place, and shards not taken away: each holds mail")
    func fixed() throws {
        let plan = try Self.plan(ClusterRequest(regions: 3))
        for (request, sentence) in [
            (ClusterRequest(regions: 2), "another folder"), (ClusterRequest(shards: 2), "each holds mail"),
        ] {
            #expect {
                try Self.plan(request, before: plan)
            } throws: { "\($0)".contains(sentence) }
        }
        #expect(try Self.plan(ClusterRequest(shards: 4), before: plan).shards.last?.home == "r1")
    }

    @Test("a plan from before there were regions is read as one of one region, with its ports")
    func firstFormat() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/cluster.json"
        try ClusterFiles.write(
            """
            {"format": 1, "ruleset": "secure", "settings": ["delivery.port=2525"], "regions": [{"name": "r1",
             "address": "127.0.0.1", "postgresPort": 20001, "nodes": [{"name": "edge-1", "role": "edge",
             "ports": {"smtp": 20002}}]}]}
            """, to: path)
        let plan = try #require(try ClusterPlan.load(path))
        #expect(plan.regions.map(\.members) == [[MemberPlan(shard: "a", port: 20001)]])
        #expect(plan.shards == [ShardPlan(name: "a", home: "r1")])
        #expect(plan.regions[0].nodes.map(\.ports) == [["smtp": 20002]])
        #expect(plan.settings == ["delivery.port=2525"])
    }

    @Test("sockets lie in the folder, or in /tmp when their names would pass 107 bytes")
    func socketNames() {
        #expect(ClusterLayout(directory: "/var/lib/zegel/").sockets == "/var/lib/zegel/sockets")
        let deep = ClusterLayout(directory: "/var/" + String(repeating: "deep/", count: 20))
        #expect(deep.sockets.hasPrefix("/tmp/zegel-"))
        for layout in [ClusterLayout(directory: "/a"), deep] {
            let longest = layout.sockets + "/postgres-witness/.s.PGSQL.65535.lock"
            #expect(longest.utf8.count <= 107)
        }
        #expect(deep.sockets == ClusterLayout(directory: deep.directory + "/").sockets)
    }
}

@Suite("Settings asked for hold wherever a node runs")
struct RequestedSettingsTests {
    static func list(_ assignments: [String], _ environment: [String: String] = [:]) throws(ClusterError)
        -> [String]?
    {
        try RequestedSettings.list(
            assignments: assignments, environment: environment, currentDirectory: "/home/ann")
    }

    @Test(
        "relative paths become absolute, variables become assignments that --set overrides, nothing is nothing"
    )
    func forms() throws {
        #expect(try Self.list([], ["HOME": "/home/ann", "ZEGEL_DIR": "/c"]) == nil)
        #expect(try Self.list(["delivery.trust_roots=../ca.pem"]) == ["delivery.trust_roots=/home/ca.pem"])
        #expect(
            try Self.list(["dns.trust_anchor = anchors/root.key"]) == [
                "dns.trust_anchor=/home/ann/anchors/root.key"
            ])
        #expect(try Self.list(["dns.trust_anchor=none"]) == ["dns.trust_anchor=none"])
        #expect(
            try Self.list(
                ["delivery.port=2", "delivery.routes=a.test=b.test:25"], ["ZEGEL_DELIVERY_PORT": "1"])
                == ["delivery.port=1", "delivery.port=2", "delivery.routes=a.test=b.test:25"])
    }

    @Test(
        "what is no setting is refused, whoever says it",
        arguments: [
            (["delivery.prot=25"], [:]), (["delivery.port=many"], [:]), ([], ["ZEGEL_DELIVERY_PROT": "25"]),
        ] as [([String], [String: String])])
    func refused(_ assignments: [String], _ environment: [String: String]) {
        #expect {
            try Self.list(assignments, environment)
        } throws: { ($0 as? ClusterError)?.code == .configuration }
    }
}

@Suite("Nodes read what their cluster wrote")
struct NodeConfigurationTests {
    static let password = "it's\\a\"secret"

    static func configuration(_ plan: ClusterPlan, _ region: RegionPlan) -> NodeConfiguration {
        let layout = ClusterLayout(directory: "/c")
        return NodeConfiguration(
            site: LedgerSite(plan: plan, layout: layout), region: region,
            layout: RegionLayout(layout, plan, region),
            rootPublic: Data(repeating: 7, count: 32).base64EncodedString(),
            passwords: Dictionary(
                uniqueKeysWithValues: ["edge", "worker", "api"].map { ("zegel_\($0)", password) }),
            identity: LocalAuthority.Identity(certificate: "/c/server.pem", key: "/c/server.key"))
    }

    @Test("values are quoted so that YAML gives them back, whatever is in them")
    func yaml() {
        let text = NodeConfiguration.yaml([("a.b", "x: #\"y\"\\"), ("c", "1\n\t2")])
        #expect(text.hasSuffix("a.b: \"x: #\\\"y\\\"\\\\\"\nc: \"1\\n\\x092\"\n"))
    }

    @Test("each node's file is accepted by the settings table, and the plan's settings hold over ours")
    func accepted() throws {
        let plan = try ClusterPlanTests.plan(
            ClusterRequest(settings: [
                "delivery.port=2525", "dns.trust_anchor=root", "edge.hostname=mx.demo.test",
            ]))
        let folder = try TemporaryFolder()
        let configuration = Self.configuration(plan, plan.regions[0])
        for node in plan.regions[0].nodes {
            let path = folder.path + "/\(node.name).yaml"
            let entries = configuration.entries(node)
            #expect(Set(entries.map(\.key)).count == entries.count)
            try ClusterFiles.write(NodeConfiguration.yaml(entries), to: path)
            let settings = try Settings(file: path)
            #expect(DeliverySettings(settings).port == 2525)
            #expect(NodeSettings(settings).name == node.name)
            if node.role == .edge {
                #expect(try EdgeSettings(settings).hostName == "mx.demo.test")
                let dsn = try DatabaseSettings(settings, for: "edge").controlDSN
                #expect(dsn.hasSuffix("password=\(Self.password)"))
            }
        }
    }

    @Test(
        "with several regions a node knows all members and Patronis, its own region's first; whoever only reads reads a follower"
    )
    func replicated() throws {
        let plan = try ClusterPlanTests.plan(ClusterRequest(regions: 3))
        let folder = try TemporaryFolder()
        let region = plan.regions[1]
        for node in region.nodes {
            let path = folder.path + "/\(node.name).yaml"
            try ClusterFiles.write(
                NodeConfiguration.yaml(Self.configuration(plan, region).entries(node)), to: path)
            let databases = try DatabaseSettings(try Settings(file: path), for: node.role.rawValue)
            #expect(databases.shards.map(\.name) == ["a", "b", "c"])
            for shard in databases.shards {
                #expect(shard.dsn.hasPrefix("host=127.0.0.20,127.0.0.10,127.0.0.30 "))
                #expect(shard.dsn.contains("sslmode=verify-full"))
                let target = node.role == .api ? "prefer-standby" : "read-write"
                #expect(shard.dsn.hasSuffix("target_session_attrs=\(target)"))
                if node.role == .api { continue }
                let rest = region.member(shard.name)?.rest ?? 0
                #expect(databases.patroni[shard.name]?.first == "https://127.0.0.20:\(rest)")
                #expect(databases.patroni[shard.name]?.count == 3)
            }
            #expect(databases.controlDSN.hasSuffix("target_session_attrs=any"))
        }
    }
}
