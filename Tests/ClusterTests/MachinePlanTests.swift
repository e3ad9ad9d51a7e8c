// What a plan of machines may say, and that its files are right, whole, and never taken from an operator who changed them.

import Foundation
import Settings
import Testing
import Yams

@testable import Cluster
@testable import Ledger

@Suite("A plan of machines is read with the line of whatever is wrong in it")
struct MachinePlanTests {
    static let three = """
        shards:
          a: {home: ams}
          b: {home: fra}
        regions:
          ams: {address: 192.0.2.1}
          fra: {address: 192.0.2.2}
          ber:
            address: 192.0.2.3
            etcd: {address: 192.0.2.4}
        """

    static func plan(_ text: String) throws(SettingsError) -> MachinePlan {
        try MachinePlan(text: text, file: "plan.yaml")
    }

    @Test("six lines are enough; every region has a vote and a member of each shard, on ports of their own")
    func short() throws {
        let plan = try Self.plan(Self.three)
        #expect(plan.topology.voters.map(\.region) == ["ams", "fra", "ber"])
        #expect(plan.topology.voters.map(\.address) == ["192.0.2.1", "192.0.2.2", "192.0.2.4"])
        #expect(plan.topology.shards.map(\.home) == ["ams", "fra"])
        for (index, shard) in plan.topology.shards.enumerated() {
            #expect(shard.members.map(\.region) == ["ams", "fra", "ber"])
            #expect(shard.members.allSatisfy { $0.port == 5432 + index && $0.rest == 8008 + index })
        }
        #expect(
            plan.regions.flatMap(\.machines).map(\.name) == ["ams", "fra", "ber-192.0.2.4", "ber-192.0.2.3"])
    }

    @Test("two regions have a witness, which votes and holds nothing")
    func witness() throws {
        let plan = try Self.plan(
            """
            shards: {a: {home: ams}}
            regions: {ams: {address: 192.0.2.1}, fra: {address: 192.0.2.2}}
            witness: {address: 192.0.2.9, client: 12379, data: /srv/w}
            """)
        #expect(plan.topology.voters.count == 3)
        #expect(plan.topology.shards[0].members.map(\.region) == ["ams", "fra"])
        #expect(plan.sites.map(\.name) == ["ams", "fra"])
        #expect(plan.regions[2].voter.client == 12_379)
        #expect(plan.regions[2].voterData == "/srv/w/etcd")
    }

    @Test("what a region does not say is as the defaults say")
    func defaults() throws {
        let plan = try Self.plan(
            """
            defaults: {data: /srv/zegel, user: pg, programs: /opt/pg/bin}
            shards: {a: {home: ams}}
            regions:
              ams: {address: 192.0.2.1, data: /data, shards: {a: {data: /fast/a, port: 6000}}}
              fra: {address: 192.0.2.2}
              ber: {address: 192.0.2.3}
            """)
        #expect(plan.regions.map { $0.data["a"] } == ["/fast/a", "/srv/zegel/a", "/srv/zegel/a"])
        #expect(plan.regions.map(\.voterData) == ["/data/etcd", "/srv/zegel/etcd", "/srv/zegel/etcd"])
        #expect(plan.regions.allSatisfy { $0.places.user == "pg" && $0.places.programs == "/opt/pg/bin" })
        #expect(plan.topology.shards[0].members.map(\.port) == [6000, 5432, 5432])
    }

    @Test(
        "refused with line and way out",
        arguments: [
            ("shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}", 3, "zegel local up"),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}",
                3,
                "add witness"
            ),
            (
                "shards:\n  a: {home: r9}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.3}", 2, "write one of r1, r2, r3"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.1}", 5, "192.0.2.1 is an address of r1 too (line 3)"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3:\n    files: /etc/zegel", 6, "has no address"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: db1.example}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.3}", 3, "names are not looked up"
            ),
            (
                "shards: {a: {home: r1}, b: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n"
                    + "  r2: {address: 192.0.2.2}\n  r3:\n    address: 192.0.2.3\n    shards:\n      b: {port: 5432}",
                8,
                "192.0.2.3:5432 is used twice"
            ),
            (
                "shards: {a: {home: r1}, b: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n"
                    + "  r2: {address: 192.0.2.2}\n  r3:\n    address: 192.0.2.3\n    shards:\n"
                    + "      a: {data: /srv/x}\n      b: {data: /srv/x}", 9, "keep their data in /srv/x"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.3, colour: red}", 5, "there are address, etcd, shards"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.3, shards: {z: {port: 1}}}", 5, "there is no shard z"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.3, data: var/lib}", 5, "no absolute path"
            ),
            (
                "shards: {a: {home: r1}}\nregions:\n  r1: {address: 192.0.2.1}\n  r2: {address: 192.0.2.2}\n"
                    + "  r3: {address: 192.0.2.3}\nnetworks:\n  nodes: 10.0.0.1/8", 7, "no network"
            ),
            ("shards:\n  A: {home: r1}", 2, "small letters"),
            ("shards:\n  a:\n    house: r1", 3, "has no home"),
        ])
    func refused(_ text: String, _ line: Int, _ words: String) {
        #expect {
            try Self.plan(text)
        } throws: { error in
            let said = "\(error)"
            return said.hasPrefix("plan.yaml:\(line): ") && said.contains(words)
        }
    }

    @Test("an even number of voters and no way in for operators are worth a warning")
    func warnings() throws {
        let four = Self.three + "\n  par: {address: 192.0.2.7}"
        #expect(try Self.plan(four).warnings.contains { $0.contains("add a witness") })
        #expect(try Self.plan(Self.three).warnings.contains { $0.contains("networks.operators") })
        let quiet = Self.three + "\nnetworks: {operators: 192.0.2.0/24}"
        #expect(try Self.plan(quiet).warnings.isEmpty)
    }
}

@Suite("From a plan every machine gets its own files, and nothing of another's")
struct MachineConfigurationTests {
    let folder: TemporaryFolder
    let outcome: MachineConfiguration.Outcome

    init() throws {
        folder = try TemporaryFolder()
        outcome = try Self.write(MachinePlanTests.three + Self.networks, folder)
    }

    static let networks = "\nnetworks: {nodes: 10.0.0.0/8, operators: 192.0.2.77/32}"

    @discardableResult
    static func write(
        _ text: String, _ folder: TemporaryFolder, force: Bool = false
    ) throws -> MachineConfiguration.Outcome {
        try MachineConfiguration(try MachinePlanTests.plan(text), into: folder.path).write(force: force)
    }

    private func all() throws -> [String: Data] {
        var files: [String: Data] = [:]
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
        for name in names { files[name] = FileManager.default.contents(atPath: folder.path + "/" + name) }
        return files
    }

    private func text(_ name: String) throws -> String {
        try String(contentsOfFile: folder.path + "/" + name, encoding: .utf8)
    }

    @Test("again with the same plan: byte for byte the same, and nothing is said to be written")
    func again() throws {
        let before = try all()
        let second = try Self.write(MachinePlanTests.three + Self.networks, folder)
        #expect(second.written.isEmpty && second.certificates.isEmpty && second.kept.isEmpty)
        #expect(try all() == before)
    }

    @Test(
        "a file that somebody changed stays; what would have been written lies beside it; force takes it back"
    )
    func changed() throws {
        let name = "machines/ams/postgres/a.yaml"
        let own = try text(name) + "# mine\n"
        try own.write(toFile: folder.path + "/" + name, atomically: true, encoding: .utf8)
        let other = MachinePlanTests.three + "\nnetworks: {nodes: 10.0.0.0/8}"
        let outcome = try Self.write(other, folder)
        #expect(outcome.kept == [name])
        #expect(try text(name) == own)
        #expect(try text(name + ".new").contains("10.0.0.0/8"))
        // Not changed by anybody: written anew.
        #expect(outcome.written.contains("machines/fra/postgres/a.yaml"))
        let forced = try Self.write(other, folder, force: true)
        #expect(forced.written == [name] && forced.kept.isEmpty)
        #expect(!(try text(name).contains("# mine")))
    }

    @Test("what the plan no longer asks for is named and left")
    func strangers() throws {
        let without = MachinePlanTests.three.replacing("  b: {home: fra}\n", with: "") + Self.networks
        let outcome = try Self.write(without, folder)
        #expect(outcome.strangers.contains("machines/ams/postgres/b.yaml"))
        #expect(!outcome.strangers.contains("machines/ams/postgres/a.yaml"))
    }

    @Test("a machine holds its own keys alone, and never the authority's; secrets are for their owner alone")
    func secrets() throws {
        let files = try all()
        let keys = files.keys.filter { $0.hasSuffix(".key") }.sorted()
        #expect(
            keys == [
                "authority/ca.key", "machines/ams/etcd/etcd-ams.key", "machines/ams/postgres/member-ams.key",
                "machines/ber-192.0.2.3/postgres/member-ber.key", "machines/ber-192.0.2.4/etcd/etcd-ber.key",
                "machines/fra/etcd/etcd-fra.key", "machines/fra/postgres/member-fra.key",
                "operator/operator.key",
            ])
        let superuser = try text("secrets/postgres.password").trimmingCharacters(in: .whitespacesAndNewlines)
        for (name, data) in files {
            let holds = String(decoding: data, as: UTF8.self).contains(superuser)
            #expect(!holds || !name.hasPrefix("nodes/"), "\(name)")
            guard holds || name.hasSuffix(".key") else { continue }
            let rights = try FileManager.default.attributesOfItem(atPath: folder.path + "/" + name)
            #expect((rights[.posixPermissions] as? Int) == 0o600, "\(name)")
        }
    }

    @Test("certificates name the machine that shows them")
    func certificates() throws {
        #expect(outcome.certificates.count == 7)
        let end = try #require(outcome.certificatesEnd)
        #expect(abs(end.timeIntervalSinceNow - 365 * 86_400) < 7200)
    }

    @Test("from the networks of nodes nobody is the superuser or sees another database; operators come in")
    func access() throws {
        let patroni = try #require(
            try Yams.load(yaml: text("machines/fra/postgres/a.yaml")) as? [String: Any])
        let rules = try #require((patroni["postgresql"] as? [String: Any])?["pg_hba"] as? [String])
        let reject = try #require(rules.firstIndex(of: "hostssl all postgres 10.0.0.0/8 reject"))
        let allow = try #require(rules.firstIndex(of: "hostssl zegel all 10.0.0.0/8 scram-sha-256"))
        #expect(reject < allow)
        #expect(!rules.contains { $0.hasPrefix("hostssl all all 10.") })
        #expect(rules.contains("hostssl all all 192.0.2.77/32 scram-sha-256"))
    }

    @Test(
        "nodes, the keeper and operators read what was written for them",
        arguments: ["edge", "worker", "api"])
    func settings(_ node: String) throws {
        let own = try DatabaseSettings(
            Settings(file: folder.path + "/nodes/fra/\(node).yaml"), for: node)
        #expect(own.shards.map(\.name) == ["a", "b"])
        // Its own region's member first.
        #expect(own.shards.allSatisfy { $0.dsn.hasPrefix("host=192.0.2.2,192.0.2.1,192.0.2.3 ") })
        #expect(own.patroni.isEmpty == (node == "api"))
        for file in ["machines/fra/postgres/keeper.yaml", "operator/cluster.yaml"] {
            let settings = try ReplicationSettings(Settings(file: folder.path + "/" + file), for: file)
            #expect(settings.shards.map(\.home) == ["ams", "fra"])
            #expect(settings.regions == ["ams", "fra", "ber"])
        }
    }

    @Test("units run as their user, write to their data alone, and run what lies on the machine")
    func units() throws {
        let etcd = try text("machines/ber-192.0.2.4/systemd/zegel-etcd.service")
        #expect(etcd.contains("\nUser=etcd\n"))
        #expect(etcd.contains("\nExecStart=/usr/bin/etcd --config-file /etc/zegel/etcd/etcd.yaml\n"))
        let watcher = try text("machines/ams/systemd/zegel-guard-b.service")
        #expect(watcher.contains(" guard --patroni https://192.0.2.1:8009 --data /var/lib/zegel/b/data "))
        // It takes away what a claim of a timeline left.
        #expect(watcher.contains("\nReadWritePaths=/var/lib/zegel/b\n"))
        #expect(!FileManager.default.fileExists(atPath: folder.path + "/machines/ber-192.0.2.3/etcd"))
        for name in try all().keys where name.hasSuffix(".service") {
            let unit = try text(name)
            for line in ["NoNewPrivileges=yes", "ProtectSystem=strict", "LimitCORE=0"] {
                #expect(unit.contains("\n\(line)\n"), "\(name)")
            }
        }
    }
}

@Suite("A trouble of a shard comes with the command that mends it, for the cluster at hand")
struct TroubleTests {
    static let shard = ShardPlan(name: "a", home: "ams")

    static func troubles(_ place: ReplicatedLedger.Place, drained: Set<String> = []) -> String {
        let view = ShardView(shard: "a", members: [member("fra")], isPaused: false)
        return ShardTroubles(
            shard: shard, sites: ["ams", "fra"], drained: drained, place: place, view: view,
            standing: ShardStanding(shard: "a", view: view, reports: [], known: ["ams", "fra"])
        ).all.joined(separator: "\n")
    }

    private static func member(_ region: String) -> ShardView.Member {
        ShardView.Member(
            region: region, role: .leader, state: "running", host: "192.0.2.2", port: 5432,
            url: "https://192.0.2.2:8008", timeline: 1, lag: nil)
    }

    @Test("a local one by its folder, one on machines of its own by its settings and their units")
    func commands() {
        let local = Self.troubles(.local("/c"))
        #expect(local.contains("zegel shard switchover a --to ams --dir /c"))
        #expect(local.contains("zegel local start --region ams --dir /c"))
        let machines = Self.troubles(.machines("/o/cluster.yaml"))
        #expect(machines.contains("zegel shard switchover a --to ams --config /o/cluster.yaml"))
        #expect(machines.contains("in ams: systemctl start zegel-patroni-a"))
    }

    @Test("a shard whose home is drained does not come back by itself")
    func drained() {
        let said = Self.troubles(.machines("/o"), drained: ["ams"])
        #expect(said.contains("zegel region undrain ams --config /o") && !said.contains("by itself"))
    }
}
