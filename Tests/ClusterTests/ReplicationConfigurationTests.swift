// What Patroni, etcd and PostgreSQL of a member are told: the conditions under which a takeover loses nothing (law 6).

import Foundation
import Testing
import Yams

@testable import Cluster

@Suite("Members of a shard are configured so that a takeover loses no acknowledged commit")
struct ReplicationConfigurationTests {
    static let topology = ReplicationTopology(
        voters: ["r1", "r2", "r3"].enumerated().map { index, name in
            .init(region: name, address: "192.0.2.\(index + 1)", client: 2379, peer: 2380)
        },
        shards: [
            .init(
                name: "b", home: "r2",
                members: ["r1", "r2", "r3"].enumerated().map { index, name in
                    .init(region: name, address: "192.0.2.\(index + 1)", port: 5432, rest: 8008)
                })
        ])
    static let identity = MemberIdentity(
        certificate: "/e/member.pem", key: "/e/member.key", authority: "/e/ca.pem")

    static func patroni(_ region: Int) throws -> [String: Any] {
        let configuration = PatroniConfiguration(
            topology: topology, shard: topology.shards[0], member: topology.shards[0].members[region],
            paths: MemberPaths(
                data: "/d/data", sockets: "/s", programs: "/p/bin", passwords: "/d/pgpass",
                zegel: "/z/it's/zegel"),
            identity: identity, superuserPassword: "x: \"y\"")
        return try #require(try Yams.load(yaml: configuration.text) as? [String: Any])
    }

    private func at(_ tree: [String: Any], _ path: String) -> Any? {
        var here: Any? = tree
        for part in path.split(separator: "/") { here = (here as? [String: Any])?[String(part)] }
        return here
    }

    @Test(
        "what all members share",
        arguments: [
            ("synchronous_mode", "quorum"), ("synchronous_mode_strict", "true"), ("ttl", "20"),
            ("synchronous_node_count", "1"), ("failsafe_mode", "true"), ("loop_wait", "5"),
            ("retry_timeout", "5"), ("postgresql/use_pg_rewind", "true"), ("postgresql/use_slots", "true"),
            ("postgresql/parameters/wal_log_hints", "on"),
        ])
    func shared(_ path: String, _ value: String) throws {
        let said = at(try Self.patroni(0), "bootstrap/dcs/" + path)
        #expect(said.map { "\($0)" } == value, "\(path)")
    }

    @Test("checksums are on, slots cannot fill the disk, nothing is sent in clear, statements are not logged")
    func parameters() throws {
        let patroni = try Self.patroni(0)
        #expect((at(patroni, "bootstrap/initdb") as? [Any])?.contains { "\($0)" == "data-checksums" } == true)
        let parameters = try #require(at(patroni, "postgresql/parameters") as? [String: Any])
        #expect(parameters["max_slot_wal_keep_size"] as? String == "8GB")
        #expect(parameters["ssl"] as? String == "on")
        #expect(parameters["log_statement"] as? String == "none")
        #expect(parameters["fsync"] as? String == "on")
        let rules = try #require(at(patroni, "postgresql/pg_hba") as? [String])
        #expect(rules.allSatisfy { $0.hasPrefix("local ") || $0.hasPrefix("hostssl ") })
        #expect(at(patroni, "postgresql/authentication/superuser/password") as? String == "x: \"y\"")
    }

    @Test("members prove themselves by certificate, and may stream and rewind alone")
    func least() throws {
        let patroni = try Self.patroni(0)
        for use in ["replication", "rewind"] {
            let role = try #require(at(patroni, "postgresql/authentication/" + use) as? [String: Any])
            #expect(role["password"] == nil)
            #expect(role["sslcert"] as? String == "/e/member.pem")
            #expect(role["sslmode"] as? String == "verify-full")
        }
        let rules = try #require(at(patroni, "postgresql/pg_hba") as? [String])
        func first(_ database: String, _ user: String) -> String? {
            rules.first { rule in
                let words = rule.split(separator: " ")
                guard words[0] == "hostssl", words[3] == "192.0.2.2/32" else { return false }
                let users = words[2].split(separator: ",")
                return (words[1] == database || (words[1] == "all" && database != "replication"))
                    && (users.contains("all") || users.contains { $0 == user })
            }
        }
        #expect(first("replication", "zegel_replication")?.contains(" cert ") == true)
        #expect(first("postgres", "zegel_rewind")?.contains(" cert ") == true)
        #expect(first("zegel", "zegel_replication")?.hasSuffix("reject") == true)
        #expect(first("zegel", "zegel_rewind")?.hasSuffix("reject") == true)
        #expect(first("replication", "zegel_edge") == nil)
        let names = try #require(at(patroni, "postgresql/pg_ident") as? [String])
        #expect(names.contains("members member-r3 zegel_replication"))
    }

    @Test("the home region is preferred, and no two regions equally", arguments: [(0, 4), (1, 9), (2, 3)])
    func priority(_ region: Int, _ priority: Int) throws {
        #expect(at(try Self.patroni(region), "tags/failover_priority") as? Int == priority)
    }

    @Test(
        "who is about to lead claims a timeline at the voter of its own region first, asks every member, and a path is one word"
    )
    func timeline() throws {
        let command = try #require(at(try Self.patroni(1), "postgresql/pre_promote") as? String)
        #expect(
            command.hasPrefix(
                "'/z/it'\\''s/zegel' 'timeline' '--shard' 'zegel-b' '--region' 'r2' '--data' '/d/data'"))
        let asked = command.split(separator: " ").filter { $0.contains("https") }
        #expect(asked.map { $0.dropFirst(17).prefix(1) } == ["2", "1", "3", "1", "2", "3"])
        #expect(asked.prefix(3).allSatisfy { $0.hasSuffix(":2379'") })
        #expect(asked.dropFirst(3).allSatisfy { $0.hasSuffix(":8008'") })
    }

    @Test("what a leader wrote that nobody acknowledged keeps nobody from leading after it")
    func unacknowledged() throws {
        let lag = at(try Self.patroni(0), "bootstrap/dcs/maximum_lag_on_failover") as? Int
        #expect(try #require(lag) > 1 << 40)
    }

    @Test("who changes something shows Patroni a certificate")
    func rest() throws {
        let patroni = try Self.patroni(2)
        #expect(at(patroni, "restapi/verify_client") as? String == "optional")
        #expect(at(patroni, "restapi/connect_address") as? String == "192.0.2.3:8008")
        #expect((at(patroni, "etcd3/hosts") as? [String])?.count == 3)
        #expect(at(patroni, "etcd3/protocol") as? String == "https")
    }

    @Test(
        "a voter that was cut off does not move the leadership when it comes back, and both sides of a connection show certificates"
    )
    func etcd() throws {
        let text = EtcdConfiguration(
            topology: Self.topology, voter: Self.topology.voters[1], data: "/d/etcd", identity: Self.identity
        ).text
        let etcd = try #require(try Yams.load(yaml: text) as? [String: Any])
        #expect(etcd["pre-vote"] as? Bool == true)
        #expect(etcd["name"] as? String == "r2")
        #expect((etcd["initial-cluster"] as? String)?.split(separator: ",").count == 3)
        #expect(etcd["enable-grpc-gateway"] as? Bool == true)
        for side in ["client-transport-security", "peer-transport-security"] {
            #expect(at(etcd, side + "/client-cert-auth") as? Bool == true)
        }
    }
}

@Suite("A guard ends a PostgreSQL whose Patroni is stuck")
struct GuardStateTests {
    @Test(
        "three looks in a row that fail, and again as long as they do",
        arguments: [
            ([true, false, false, true, false, false], false), ([false, false, false], true),
            ([true, false, false, false, false], true), ([false, false, false, true], false),
        ])
    func patience(_ looks: [Bool], _ ends: Bool) {
        var state = GuardState(patience: 3)
        var last = false
        for isAlive in looks { last = state.looked(isAlive: isAlive) }
        #expect(last == ends)
    }
}
