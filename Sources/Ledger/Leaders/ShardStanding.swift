// How every member of a shard stands at one moment, put together from what Patroni's members say: who follows, who is how far behind, who
// stands still. A value: the same for an operator's command and for the metrics of a worker.

import Foundation

/// The members of a shard at one moment.
public struct ShardStanding: Sendable, Equatable {
    /// One member.
    public struct Member: Sendable, Equatable {
        /// The region, which is its name.
        public var region: String
        /// Whether it leads.
        public var leads: Bool
        /// Whether its Patroni answered.
        public var answers: Bool
        /// Patroni's own word for what it does; nil: not known.
        public var state: String?
        /// Whether it leads, or its leader sends to it and it takes what is sent.
        public var follows: Bool
        /// Whether its leader sends it what it missed.
        public var isCatchingUp = false
        /// Whether its acknowledgement counts for a commit.
        public var isSynchronous: Bool
        /// Its timeline; nil: not known.
        public var timeline: Int?
        /// Octets of WAL that its leader has written and it has not received; nil: not known.
        public var lag: Int?
        /// How old what is read there is at most, in seconds: the age of the newest commit that it has, while there is a newer one.
        public var lagSeconds: Double?
        /// Whether what it receives is shown to readers: nobody has paused that, and it goes on.
        public var replays: Bool
        /// Somebody has paused the replay.
        public var isReplayPaused: Bool
        /// Seconds since its Patroni reached etcd; nil: not known.
        public var consensusAge: Double?
        /// PostgreSQL's version: 150014 is 15.14.
        public var serverVersion: Int?
        /// Patroni's version.
        public var patroniVersion: String?

        /// Octets of WAL received; nil: not known.
        public var received: Int?
        /// Octets of WAL replayed; nil: not known.
        public var replayed: Int?
    }

    /// The shard.
    public var shard: String
    /// Its members, by region.
    public var members: [Member]
    /// Octets of WAL that the leader has written.
    var written: Int?

    /// Who leads; nil: nobody that answers.
    public var leader: Member? { members.first(where: \.leads) }
    /// The member of a region.
    public func member(_ region: String) -> Member? { members.first { $0.region == region } }

    /// Octets that a member is behind: as it and its leader say now, and only where they do not, as they wrote into etcd. That is up to a
    /// loop old: under load, megabytes that the member has long had.
    /// - Parameter leading: who leads, to etcd: what a former leader has written is no measure.
    public func lag(of member: ShardView.Member, behind leading: String) -> Int? {
        guard leader?.region == leading else { return member.lag }
        return self.member(member.region)?.lag ?? member.lag
    }

    /// The standing from these.
    /// - Parameters:
    ///   - view: what etcd knows; nil: nobody reached it.
    ///   - reports: what the members say of themselves, as far as they answered.
    ///   - known: regions that have a member, also those that nobody hears of.
    public init(
        shard: String, view: ShardView?, reports: [MemberReport], known: Set<String> = [], now: Date = Date()
    ) {
        self.shard = shard
        // Two that believe to lead: the one of the newer timeline does.
        let leading = reports.filter(\.leads).max { ($0.timeline ?? 0) < ($1.timeline ?? 0) }
        let written = leading?.written
        self.written = written
        let names = known.union(reports.map(\.region)).union(view?.members.map(\.region) ?? [])
        members = names.sorted().map { region in
            let report = reports.first { $0.region == region }
            let seen = view?.member(region)
            let leads = leading?.region == region
            var member = Member(
                region: region, leads: leads, answers: report != nil, state: report?.state, follows: leads,
                isSynchronous: false,
                timeline: report?.timeline ?? seen?.timeline, replays: true,
                isReplayPaused: report?.isReplayPaused ?? false,
                consensusAge: report?.consensusSeen.map { max(0, now.timeIntervalSince($0)) },
                serverVersion: report?.serverVersion, patroniVersion: report?.patroniVersion,
                received: report?.received, replayed: report?.replayed)
            if leads { return member }
            if let leading {
                member.follows = report != nil && leading.followers[region] != nil
                member.isCatchingUp = leading.catchingUp.contains(region)
                member.isSynchronous = leading.followers[region] ?? false
            }
            member.replays = report != nil && !member.isReplayPaused
            if let written, let received = member.received { member.lag = max(0, written - received) }
            if let written, let replayed = member.replayed {
                member.lagSeconds =
                    replayed >= written ? 0 : report?.replayedAt.map { max(0, now.timeIntervalSince($0)) }
            }
            return member
        }
    }

    /// Finds out who stood still since an earlier look: a leader goes on sending to a receiver that does not take anything until its own
    /// time limit is over.
    public mutating func compare(with earlier: ShardStanding) {
        guard let then = earlier.written, let leader, earlier.leader?.region == leader.region else { return }
        for index in members.indices where !members[index].leads {
            let member = members[index]
            guard let before = earlier.member(member.region) else { continue }
            if let received = member.received, received == before.received, received < then {
                members[index].follows = false
            }
            if let replayed = member.replayed, replayed == before.replayed, replayed < then,
                members[index].follows
            {
                members[index].replays = false
            }
        }
    }

    /// Whether a second look would tell more.
    public var isSomebodyBehind: Bool {
        members.contains { ($0.lag ?? 0) > 0 || ($0.lagSeconds ?? 0) > 0 }
    }
}
