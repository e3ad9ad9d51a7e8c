// Who leads a shard: what Patroni says of it, and what a node believes (design §5).

import Foundation
import Lab
import Postgres
import Testing

@testable import Ledger

@Suite("What Patroni answers is read for what it says") struct ShardViewTests {
    static let answer = """
        {"members": [
          {"name": "r2", "role": "quorum_standby", "state": "streaming", "api_url": "https://127.0.0.20:8008/patroni",
           "host": "127.0.0.20", "port": 5432, "timeline": 3, "lag": 0, "tags": {"failover_priority": 4}},
          {"name": "r1", "role": "leader", "state": "running", "api_url": "https://127.0.0.10:8008/patroni",
           "host": "127.0.0.10", "port": 5432, "timeline": 3},
          {"name": "r3", "role": "replica", "state": "starting", "host": "127.0.0.30", "port": 5432, "lag": "unknown"}],
         "scope": "zegel-a"}
        """

    @Test func `members by region, the leader, who may take over, and what is not known`() throws {
        let view = try ShardView(shard: "a", json: Array(Self.answer.utf8))
        #expect(view.members.map(\.region) == ["r1", "r2", "r3"])
        #expect(view.leader?.region == "r1")
        #expect(view.members.map(\.isCandidate) == [false, true, false])
        #expect(view.member("r3")?.lag == nil)
        #expect(view.member("r2")?.lag == 0)
        #expect(!view.isPaused)
    }

    @Test(arguments: ["", "[]", "{}", #"{"members": {}}"#, #"{"members": [{"role": "leader"}]}"#])
    func `what is no answer of Patroni is none`(_ text: String) {
        #expect(throws: (any Error).self) { try ShardView(shard: "a", json: Array(text.utf8)) }
    }

    @Test func `a role or state of a later version is no leader and no candidate`() throws {
        let text =
            #"{"members": [{"name": "r1", "role": "primary_of_tomorrow", "state": "dreaming"}], "pause": true}"#
        let view = try ShardView(shard: "a", json: Array(text.utf8))
        #expect(view.leader == nil)
        #expect(view.members.allSatisfy { !$0.isCandidate && !$0.isLive })
        #expect(view.isPaused)
    }
}

@Suite("A node goes to the leader, and never back to a former one") struct LeaderRouteTests {
    private static func view(
        _ region: String, timeline: Int?, host: String = "192.0.2.1", port: Int = 5432,
        state: String = "running"
    ) -> ShardView {
        ShardView(
            shard: "a",
            members: [
                ShardView.Member(
                    region: region, role: .leader, state: state, host: host, port: port, url: "",
                    timeline: timeline, lag: nil)
            ], isPaused: false)
    }

    private static func route() -> LeaderRoute {
        LeaderRoute(shard: "a", configuration: PostgresConfiguration("host=192.0.2.1,192.0.2.2"))
    }

    @Test func `until Patroni has said who leads, all members are asked`() {
        #expect(Self.route().destination().configuration.overrides.isEmpty)
    }

    @Test func `Patroni's word sends the next connection to the leader, and those before it away`() {
        let route = Self.route()
        let before = route.destination().epoch
        route.learned(Self.view("r2", timeline: 1))
        let destination = route.destination()
        #expect(destination.configuration.overrides.map(\.value) == ["192.0.2.1", "5432"])
        #expect(!route.isCurrent(before))
        #expect(route.isCurrent(destination.epoch))
        #expect(route.knowledge.region == "r2")
        // The same word again changes nothing.
        route.learned(Self.view("r2", timeline: 1))
        #expect(route.isCurrent(destination.epoch))
    }

    @Test func `a leader that is not up is none, and without one all members are asked again`() {
        let route = Self.route()
        route.learned(Self.view("r2", timeline: 1, state: "stopped"))
        #expect(route.knowledge.region == nil)
        route.learned(Self.view("r2", timeline: 1))
        route.forget()
        #expect(route.destination().configuration.overrides.isEmpty)
        #expect(route.knowledge.region == nil)
    }

    @Test
    func `on a real server: a connection proves the timeline, and one from before a promotion is refused`()
        async throws
    {
        let server = try await TemporaryPostgres.shared()
        let configuration = PostgresConfiguration(server.tcpDSN())
        let route = LeaderRoute(shard: "a", configuration: configuration)
        let pool = route.pool(limit: 2, waitLimit: .seconds(5))
        try await pool.withConnection { connection in
            _ = try await connection.perform { try $0.query("SELECT 1") }
        }
        #expect(route.knowledge.timeline == 1)
        // Patroni has told of a promotion to the second timeline; this server is still on the first.
        let later = LeaderRoute(shard: "a", configuration: configuration)
        later.learned(Self.view("r2", timeline: 2, host: "127.0.0.1", port: server.port))
        let refusing = later.pool(limit: 2, waitLimit: .seconds(1))
        await #expect {
            try await refusing.withConnection { _ in }
        } throws: { "\($0)".contains("former leader") }
        await pool.close()
        await refusing.close()
    }

    @Test func `a change of leader ends a job that waits for the former one`() async throws {
        let server = try await TemporaryPostgres.shared()
        let route = LeaderRoute(shard: "a", configuration: PostgresConfiguration(server.tcpDSN()))
        let pool = route.pool(limit: 1, waitLimit: .seconds(5))
        let began = ContinuousClock.now
        let waiting = Task {
            try await pool.withConnection { connection in
                try await connection.perform(deadline: .seconds(60)) {
                    try $0.query("SELECT pg_sleep(60), 'waits for a former leader'")
                }
            }
        }
        let watcher = try await PostgresConnection.connect(PostgresConfiguration(server.tcpDSN()))
        try await eventually("the query runs") {
            try await watcher.perform { session in
                try !session.query(
                    """
                    SELECT 1 FROM pg_stat_activity
                    WHERE query LIKE '%waits for a former leader%' AND pid <> pg_backend_pid()
                    """
                ).isEmpty
            }
        }
        route.learned(Self.view("r2", timeline: 1))
        await #expect {
            _ = try await waiting.value
        } throws: { ($0 as? PostgresError)?.code == .connectionLost }
        #expect(ContinuousClock.now - began < .seconds(30))
        await watcher.close()
        await pool.close()
    }
}
