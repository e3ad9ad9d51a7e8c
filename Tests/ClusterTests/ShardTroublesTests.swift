// What an operator is told of a shard, as values: which trouble, of which member, with which command.

import Foundation
import Testing

@testable import Cluster
@testable import Ledger

@Suite struct ShardTroublesTests {
    static let regions = ["r1", "r2", "r3"]

    static func leader(_ followers: [String: Bool] = ["r2": true, "r3": true], written: Int = 1000)
        -> MemberReport
    {
        MemberReport(
            region: "r1", leads: true, state: "running", timeline: 1, serverVersion: 150_014,
            patroniVersion: "4.1.5", written: written, isReplayPaused: false, followers: followers)
    }

    static func follower(
        _ region: String, received: Int = 1000, replayed: Int? = nil, timeline: Int = 1,
        isPaused: Bool = false,
        version: Int = 150_014, newest: Date? = nil
    ) -> MemberReport {
        MemberReport(
            region: region, leads: false, state: "running", timeline: timeline, serverVersion: version,
            patroniVersion: "4.1.5", received: received, replayed: replayed ?? received, replayedAt: newest,
            isReplayPaused: isPaused, followers: [:])
    }

    static func view(_ roles: [(String, ShardView.Member.Role, String)], lag: Int? = 0) -> ShardView {
        ShardView(
            shard: "a",
            members: roles.map { region, role, state in
                ShardView.Member(
                    region: region, role: role, state: state, host: "", port: 0, url: "", timeline: 1,
                    lag: role == .leader ? nil : lag, position: role == .leader ? nil : 1000)
            }, isPaused: false)
    }

    static let well = view([
        ("r1", .leader, "running"), ("r2", .quorum, "streaming"), ("r3", .quorum, "streaming"),
    ])

    static func troubles(
        _ reports: [MemberReport], _ view: ShardView? = well, before: [MemberReport]? = nil
    ) -> [String] {
        var standing = ShardStanding(shard: "a", view: view, reports: reports, known: Set(regions))
        if let before {
            standing.compare(
                with: ShardStanding(shard: "a", view: view, reports: before, known: Set(regions)))
        }
        return ShardTroubles(
            shard: ShardPlan(name: "a", home: "r1"), sites: regions, place: .local("/z"), view: view,
            standing: standing
        ).all
    }

    @Test func `a shard whose members all follow has none`() {
        #expect(Self.troubles([Self.leader(), Self.follower("r2"), Self.follower("r3")]) == [])
    }

    @Test func `how far a member is behind is what it says now, and what etcd says only where it is silent`()
        throws
    {
        let view = Self.view(
            [("r1", .leader, "running"), ("r2", .quorum, "streaming"), ("r3", .quorum, "streaming")],
            lag: 2 << 20)
        let standing = ShardStanding(
            shard: "a", view: view, reports: [Self.leader(), Self.follower("r2", received: 990)])
        #expect(standing.lag(of: try #require(view.member("r2")), behind: "r1") == 10)
        #expect(standing.lag(of: try #require(view.member("r3")), behind: "r1") == 2 << 20)
        let leaderless = ShardStanding(shard: "a", view: view, reports: [Self.follower("r2")])
        #expect(leaderless.lag(of: try #require(view.member("r2")), behind: "r1") == 2 << 20)
        // A former leader that was cut off.
        #expect(standing.lag(of: try #require(view.member("r2")), behind: "r3") == 2 << 20)
    }

    struct Case: CustomTestStringConvertible {
        var testDescription: String
        var reports: [MemberReport]
        var before: [MemberReport]?
        var says: [String]

        init(_ what: String, _ reports: [MemberReport], before: [MemberReport]? = nil, says: String...) {
            (testDescription, self.reports, self.before, self.says) = (what, reports, before, says)
        }
    }

    @Test(arguments: [
        Case(
            "its leader does not send to it, whatever etcd says",
            [leader(["r3": true]), follower("r2"), follower("r3")],
            says: "r2 does not follow", "zegel shard restart a --region r2 --dir /z",
            "zegel shard reinit a --region r2"),
        Case(
            "it takes nothing of what was written before the look before",
            [leader(written: 2000), follower("r2", received: 900), follower("r3", received: 2000)],
            before: [leader(), follower("r2", received: 900), follower("r3")],
            says: "r2 does not follow", "zegel shard restart a --region r2 --dir /z"),
        Case(
            "its replay is paused", [leader(), follower("r2", isPaused: true), follower("r3")],
            says: "r2 has its replay paused", "zegel shard restart a --region r2 --dir /z"),
        Case(
            "it receives and does not replay",
            [
                leader(written: 2000), follower("r2", received: 2000, replayed: 900),
                follower("r3", received: 2000),
            ],
            before: [leader(), follower("r2", replayed: 900), follower("r3")],
            says: "r2 receives and does not replay", "zegel shard restart a --region r2 --dir /z"),
        Case(
            "its Patroni does not answer", [leader(), follower("r3")], says: "Patroni of the member in r2",
            "zegel local status --dir /z"),
        Case(
            "it is far behind",
            [leader(written: 64 << 20), follower("r2"), follower("r3", received: 64 << 20)],
            says: "r2 is 63 MB behind"),
        Case(
            "it runs another minor version of PostgreSQL",
            [leader(), follower("r2", version: 150_015), follower("r3")],
            says: "15.14 in r1, 15.15 in r2, 15.14 in r3", "update those that follow first",
            "zegel shard switchover a"),
        Case(
            "it runs another major version of PostgreSQL",
            [leader(), follower("r2", version: 160_001), follower("r3")], says: "16.1 in r2",
            "cannot follow each other",
            "zegel shard reinit a"),
    ])
    func `a member with a trouble is named, with what mends it`(_ one: Case) throws {
        let troubles = Self.troubles(one.reports, before: one.before)
        try #require(troubles.count == 1, "\(troubles)")
        for words in one.says { #expect(troubles[0].contains(words), "\(troubles)") }
    }

    @Test func `members of different versions of Patroni are told`() {
        var other = Self.follower("r2")
        other.patroniVersion = "4.0.6"
        let troubles = Self.troubles([Self.leader(), other, Self.follower("r3")])
        #expect(troubles.count == 1 && troubles[0].contains("Patroni 4.1.5 in r1, Patroni 4.0.6 in r2"))
    }

    @Test func `a member that is slow but moves on is none that stands still`() {
        let before = [Self.leader(), Self.follower("r2", received: 800), Self.follower("r3")]
        let now = [
            Self.leader(written: 2000), Self.follower("r2", received: 900),
            Self.follower("r3", received: 2000),
        ]
        #expect(Self.troubles(now, before: before) == [])
    }

    @Test func `without etcd the members' own word tells who leads`() {
        let troubles = Self.troubles([Self.leader(), Self.follower("r2"), Self.follower("r3")], nil)
        #expect(troubles == [])
    }

    // MARK: etcd

    @Test(
        arguments: [
            ([.voting, .voting, .voting], nil, true),
            (
                [.voting, .voting, .silent],
                "one more lost, and nobody takes over: zegel local start --region r3 --dir /z", true
            ),
            ([.alone, .silent, .silent], "1 of 3 voters answer, 2 are needed; silent: r2, r3.", false),
            ([.alone, .alone, .alone], "do not agree on who leads them", false),
            ([.silent, .silent, .silent], "0 of 3 voters answer", false),
        ] as [([EtcdClient.Health], String?, Bool)])
    func `etcd without all its voters is told in words`(
        _ health: [EtcdClient.Health], _ words: String?, _ hasQuorum: Bool
    ) {
        let votes = EtcdVotes(
            voters: Dictionary(uniqueKeysWithValues: zip(Self.regions, health)), isReached: false,
            place: .local("/z"))
        #expect(votes.hasQuorum == hasQuorum)
        if let words {
            #expect(votes.trouble?.contains(words) == true)
        } else {
            #expect(votes.trouble == nil)
        }
        if hasQuorum {
            #expect(throws: Never.self) { try votes.demandQuorum() }
        } else {
            #expect(throws: ClusterError.self) { try votes.demandQuorum() }
        }
    }

    // MARK: What a failover loses

    static func risk(_ reports: [MemberReport], lag: Int? = 0) throws -> FailoverRisk {
        try FailoverRisk(
            shard: "a", to: "r2", sites: regions, view: view([("r2", .replica, "running")], lag: lag),
            reports: reports,
            now: Date(timeIntervalSince1970: 100))
    }

    @Test func `with all but one member there, the most advanced one loses nothing acknowledged`() throws {
        let risk = try Self.risk([Self.follower("r2"), Self.follower("r3", received: 900)], lag: 50)
        #expect(risk.losesNothing && risk.messages == 0 && risk.silent == ["r1"])
        #expect(risk.lines.joined().contains("nothing acknowledged is at risk"))
    }

    @Test func `one that has less than another is told of that one`() throws {
        let risk = try Self.risk([Self.follower("r2"), Self.follower("r3", received: 1500)])
        #expect(!risk.losesNothing && risk.ahead == "r3" && risk.bytes == 500 && risk.messages == nil)
        #expect(risk.lines.joined().contains("a failover to it loses less"))
    }

    @Test func `a member of a newer timeline has more, wherever it is in the WAL`() throws {
        #expect(
            try Self.risk([Self.follower("r2", received: 5000), Self.follower("r3", timeline: 2)]).ahead
                == "r3")
    }

    @Test func `where two are silent nobody knows, and that is said, with what is known`() throws {
        let risk = try Self.risk([Self.follower("r2", newest: Date(timeIntervalSince1970: 90))], lag: 300)
        #expect(!risk.losesNothing && risk.messages == nil && risk.bytes == 300 && risk.seconds == 10)
        #expect(risk.silent == ["r1", "r3"])
        let text = risk.lines.joined(separator: "\n")
        #expect(
            text.contains("not known: nobody who answers has them") && text.contains("at most 10 s of intake")
        )
    }

    @Test func `a member whose PostgreSQL is down may have what nobody else has, though its Patroni answers`()
        throws
    {
        let bare = try MemberReport(
            json: Array(
                #"{"state": "start failed", "role": "replica", "patroni": {"version": "4.1.5", "name": "r3"}}"#
                    .utf8))
        let risk = try Self.risk([Self.follower("r2"), bare])
        #expect(!risk.losesNothing && risk.silent == ["r1", "r3"] && risk.messages == nil)
    }

    @Test func `where a timeline is not known nothing is promised`() throws {
        var other = Self.follower("r3", received: 900)
        other.timeline = nil
        #expect(try !Self.risk([Self.follower("r2"), other]).losesNothing)
    }

    @Test func `while a member still replays what it had, nothing is promised`() throws {
        func risk(_ before: Int, told: Int) throws -> FailoverRisk {
            var view = Self.view([("r2", .replica, "running"), ("r3", .replica, "running")])
            view.members[1].position = told
            return try FailoverRisk(
                shard: "a", to: "r2", sites: Self.regions, view: view,
                reports: [Self.follower("r2"), Self.follower("r3", received: 900)],
                before: [Self.follower("r2"), Self.follower("r3", received: before)])
        }
        #expect(try risk(900, told: 900).losesNothing)
        #expect(try risk(800, told: 900).isUnsettled && !risk(800, told: 900).losesNothing)
        #expect(try risk(900, told: 950).isUnsettled && !risk(900, told: 950).losesNothing)
    }

    @Test func `a member that does not answer cannot be made leader`() {
        #expect(throws: ClusterError.self) { try Self.risk([Self.follower("r3")]) }
    }

    @Test func `an etcd that has no room is told by its own word`() {
        let body = Array(#"{"health":"false","reason":"ALARM NOSPACE"}"#.utf8)
        let health = EtcdClient.Health(status: 503, body: body)
        let votes = EtcdVotes(
            voters: ["r1": health, "r2": health, "r3": health], isReached: false, place: .local("/z"))
        #expect(!votes.hasQuorum && votes.trouble?.contains("ALARM NOSPACE") == true)
    }

    @Test(arguments: [[:], ["r1": EtcdClient.Health.silent, "r2": .silent, "r3": .silent]])
    func `whoever is not let in to etcd goes by what the Patronis say of it`(
        _ voters: [String: EtcdClient.Health]
    ) {
        func votes(_ isReached: Bool) -> EtcdVotes {
            EtcdVotes(voters: voters, isReached: isReached, place: .machines("/o"))
        }
        #expect(votes(true).hasQuorum && votes(true).trouble == nil)
        #expect(!votes(false).hasQuorum && votes(false).trouble?.contains("no quorum") == true)
    }
}
