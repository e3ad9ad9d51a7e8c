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
        return try ClusterPlan.answering(request, before: before) { () throws(ClusterError) in
            next += 1
            return next
        }
    }

    @Test("what is not asked for is one of each, secure, on ports of their own")
    func defaults() throws {
        let plan = try Self.plan(ClusterRequest())
        #expect(plan.ruleset == "secure")
        #expect(plan.regions.map(\.name) == ["r1"])
        #expect(plan.regions[0].nodes.map(\.name) == ["edge-1", "worker-1", "api-1"])
        let ports = [plan.regions[0].postgresPort] + plan.regions[0].nodes.flatMap(\.ports.values)
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
        #expect(second.regions[0].postgresPort == first.regions[0].postgresPort)
        #expect(second.ruleset == "nta7516")
        #expect(second.settings == ["delivery.port=2525"])
        #expect(try Self.plan(ClusterRequest(settings: ["a=b"]), before: second).settings == ["a=b"])
        #expect(try Self.plan(ClusterRequest(), before: second) == second)
    }

    @Test(
        "what cannot be is refused with the way out",
        arguments: [
            (ClusterRequest(regions: 3), "several regions are not there yet"),
            (ClusterRequest(shards: 2), "several shards are not there yet"),
            (ClusterRequest(edges: 0), "between 1 and 64"),
            (ClusterRequest(workers: 65), "between 1 and 64"),
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

    @Test("sockets lie in the folder, or in /tmp when their names would pass 107 bytes")
    func socketNames() {
        #expect(ClusterLayout(directory: "/var/lib/zegel/").sockets == "/var/lib/zegel/sockets")
        let deep = ClusterLayout(directory: "/var/" + String(repeating: "deep/", count: 20))
        #expect(deep.sockets.hasPrefix("/tmp/zegel-"))
        for layout in [ClusterLayout(directory: "/a"), deep] {
            #expect((layout.postgresSocket + "/.s.PGSQL.65535").utf8.count <= 107)
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
    static func configuration(_ plan: ClusterPlan) -> NodeConfiguration {
        NodeConfiguration(
            plan: plan, layout: ClusterLayout(directory: "/c"),
            rootPublic: Data(repeating: 7, count: 32).base64EncodedString(),
            databases: Dictionary(
                uniqueKeysWithValues: ["edge", "worker", "api"].map {
                    ("zegel_\($0)", "host=/c/sockets/postgres user=zegel_\($0) password=it's\\a\"secret")
                }),
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
        let configuration = Self.configuration(plan)
        for node in plan.regions[0].nodes {
            let path = folder.path + "/\(node.name).yaml"
            let entries = configuration.entries(node, in: plan.regions[0])
            #expect(Set(entries.map(\.key)).count == entries.count)
            try ClusterFiles.write(NodeConfiguration.yaml(entries), to: path)
            let settings = try Settings(file: path)
            #expect(DeliverySettings(settings).port == 2525)
            #expect(NodeSettings(settings).name == node.name)
            if node.role == .edge {
                #expect(try EdgeSettings(settings).hostName == "mx.demo.test")
                let dsn = try DatabaseSettings(settings, for: "edge").controlDSN
                #expect(dsn.hasSuffix("password=it's\\a\"secret"))
            }
        }
    }
}
