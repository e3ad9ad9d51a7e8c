// When a member is copied anew without anybody being asked: never while it may come back by itself, or while what it has is needed.

import Testing

@testable import Cluster
@testable import Ledger

@Suite struct LostMemberTests {
    static let start = ContinuousClock.now

    /// How a shard looks: r1 leads, r2 is the member in question, r3 the other.
    struct Scene {
        var state = "running"
        var follows = false
        var isCatchingUp = false
        var answers = true
        var received: Int?
        var leaderAnswers = true
        var leader: String? = "r1"
        var isPaused = false
        var other = (follows: true, received: 100)
        var otherState = "running"
        var isCandidate = false

        var view: ShardView {
            func member(_ region: String, _ role: ShardView.Member.Role, _ state: String) -> ShardView.Member
            {
                ShardView.Member(
                    region: region, role: role, state: state, host: "", port: 0, url: "", timeline: 1, lag: 0)
            }
            return ShardView(
                shard: "a",
                members: [
                    member("r1", leader == "r1" ? .leader : .replica, "running"),
                    member("r2", isCandidate ? .quorum : .replica, isCandidate ? "streaming" : "running"),
                    member("r3", .quorum, "streaming"),
                ], isPaused: isPaused)
        }

        var standing: ShardStanding {
            func report(_ region: String, _ state: String, received: Int?) -> MemberReport {
                MemberReport(
                    region: region, leads: false, state: state, timeline: 1, received: received,
                    replayed: received, isReplayPaused: false, followers: [:])
            }
            var reports = [report("r3", otherState, received: other.received)]
            if answers { reports.append(report("r2", state, received: received)) }
            if leaderAnswers {
                var followers: [String: Bool] = other.follows ? ["r3": true] : [:]
                if follows { followers["r2"] = false }
                var leading = MemberReport(
                    region: "r1", leads: true, state: "running", timeline: 1, written: 100,
                    isReplayPaused: false, followers: followers)
                if isCatchingUp { leading.catchingUp = ["r2"] }
                reports.append(leading)
            }
            return ShardStanding(shard: "a", view: view, reports: reports, known: ["r1", "r2", "r3"])
        }
    }

    /// When it is made anew, in seconds; nil: not within half an hour.
    static func remade(
        _ member: inout LostMember, from begin: Int = 0, _ scene: (Int) -> Scene
    ) -> Int? {
        stride(from: begin, through: begin + 1800, by: 10).first {
            let now = scene($0)
            return member.isLost(now.view, now.standing, at: start + .seconds($0))
        }
    }

    static func remade(_ scene: Scene) -> Int? {
        var member = LostMember(region: "r2")
        return remade(&member) { _ in scene }
    }

    @Test(
        arguments: [
            ("running", 120), ("start failed", 120), ("crashed", 120), ("starting", 300), ("stopped", 900),
            ("creating replica", nil), ("running custom bootstrap script", nil), ("unknown", nil),
        ] as [(String, Int?)])
    func `one in which nothing moves is given time by its state; one that is being made is left alone`(
        _ state: String, _ seconds: Int?
    ) {
        #expect(Self.remade(Scene(state: state)) == seconds)
    }

    @Test(
        arguments: [
            ("it follows", Scene(follows: true)), ("it is sent what it missed", Scene(isCatchingUp: true)),
            ("it does not answer", Scene(answers: false)),
            ("its leader does not answer here", Scene(leaderAnswers: false)),
            ("nobody leads", Scene(leader: nil)), ("Patroni is paused", Scene(isPaused: true)),
            ("the other is being made", Scene(other: (false, 100), otherState: "creating replica")),
            ("the other lags", Scene(other: (true, 100 - (1 << 20)))),
            ("its own acknowledgement may count", Scene(isCandidate: true)),
        ] as [(String, Scene)])
    func `it is left alone where`(_ why: String, _ scene: Scene) {
        #expect(Self.remade(scene) == nil, "\(why)")
    }

    @Test func `where nobody follows the first by name is made anew, and no other`() {
        #expect(Self.remade(Scene(other: (false, 100))) == 120)
        var last = LostMember(region: "r3")
        #expect(Self.remade(&last) { _ in Scene(other: (false, 100)) } == nil)
    }

    @Test func `one that moves on is none that is lost`() {
        var member = LostMember(region: "r2")
        #expect(Self.remade(&member) { Scene(state: "starting", received: $0) } == nil)
    }

    @Test func `a look that tells nothing changes nothing; a copy that is under way begins the time anew`() {
        var member = LostMember(region: "r2")
        let patchy = Self.remade(&member) { Scene(answers: $0 % 20 == 0) }
        #expect(patchy == 120)
        member = LostMember(region: "r2")
        let copied = Self.remade(&member) { Scene(state: $0 == 100 ? "creating replica" : "running") }
        #expect(copied == 220)
    }

    @Test func `each time it is made anew in vain the next takes twice as long`() throws {
        var member = LostMember(region: "r2")
        let first = try #require(Self.remade(&member) { _ in Scene() })
        member.wasMadeAnew()
        let second = try #require(Self.remade(&member, from: first + 10) { _ in Scene() })
        #expect(second - first >= 240)
        let again = Scene(follows: true)
        _ = member.isLost(again.view, again.standing, at: Self.start + .seconds(second + 10))
        let third = try #require(Self.remade(&member, from: second + 20) { _ in Scene() })
        #expect(third - second <= 150)
    }
}
