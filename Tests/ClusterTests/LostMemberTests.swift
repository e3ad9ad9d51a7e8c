// When a member is copied anew without anybody being asked: never while it may come back by itself, or while it is needed.

import Testing

@testable import Cluster
@testable import Ledger

@Suite struct LostMemberTests {
    static let start = ContinuousClock.now

    static func view(
        leader: String? = "r1", other: String = "streaming", isPaused: Bool = false
    ) -> ShardView {
        func member(_ region: String, _ role: ShardView.Member.Role, _ state: String) -> ShardView.Member {
            ShardView.Member(
                region: region, role: role, state: state, host: "", port: 0, url: "", timeline: 1, lag: 0)
        }
        return ShardView(
            shard: "a",
            members: [
                member("r1", leader == "r1" ? .leader : .replica, "running"),
                member("r2", leader == "r2" ? .leader : .replica, "running"), member("r3", .quorum, other),
            ], isPaused: isPaused)
    }

    static func standing(_ state: String, follows: Bool = false, answers: Bool = true) -> ShardStanding {
        var reports = [
            MemberReport(
                region: "r1", leads: true, state: "running", timeline: 1, written: 100, isReplayPaused: false,
                followers: follows ? ["r2": false, "r3": true] : ["r3": true]),
            MemberReport(
                region: "r3", leads: false, state: "running", timeline: 1, received: 100,
                isReplayPaused: false, followers: [:]),
        ]
        if answers {
            reports.append(
                MemberReport(
                    region: "r2", leads: false, state: state, isReplayPaused: false, followers: [:]))
        }
        return ShardStanding(shard: "a", view: nil, reports: reports, known: ["r1", "r2", "r3"])
    }

    /// When it is made anew, in seconds; nil: not within ten minutes.
    static func remade(_ view: ShardView?, _ standing: ShardStanding) -> Int? {
        var member = LostMember(region: "r2")
        return stride(from: 0, through: 600, by: 10).first {
            member.isLost(view, standing, at: start + .seconds($0))
        }
    }

    @Test(
        arguments: [
            ("running", 120), ("start failed", 120), ("crashed", 120), ("starting", 300), ("stopped", nil),
            ("creating replica", nil), ("running custom bootstrap script", nil),
        ] as [(String, Int?)])
    func `one that is up, or will not start, is given time; one that is being made is left alone`(
        _ state: String, _ seconds: Int?
    ) {
        #expect(Self.remade(Self.view(), Self.standing(state)) == seconds)
    }

    @Test func `one that follows, leads or does not answer is left alone`() {
        #expect(Self.remade(Self.view(), Self.standing("running", follows: true)) == nil)
        #expect(Self.remade(Self.view(leader: "r2"), Self.standing("running")) == nil)
        #expect(Self.remade(Self.view(), Self.standing("", answers: false)) == nil)
    }

    @Test func `nothing is thrown away without a leader, without another that follows, or under a pause`() {
        #expect(Self.remade(nil, Self.standing("running")) == nil)
        #expect(Self.remade(Self.view(leader: nil), Self.standing("running")) == nil)
        #expect(Self.remade(Self.view(other: "running"), Self.standing("running")) == nil)
        #expect(Self.remade(Self.view(isPaused: true), Self.standing("running")) == nil)
    }

    @Test func `time begins anew once it has followed`() {
        var member = LostMember(region: "r2")
        let (lost, fine) = (Self.standing("running"), Self.standing("running", follows: true))
        let early = member.isLost(Self.view(), lost, at: Self.start)
        let between = member.isLost(Self.view(), fine, at: Self.start + .seconds(60))
        let after = member.isLost(Self.view(), lost, at: Self.start + .seconds(130))
        let late = member.isLost(Self.view(), lost, at: Self.start + .seconds(250))
        #expect([early, between, after, late] == [false, false, false, true])
    }
}
