// Makes a member anew that does not come back by itself: Patroni follows and rewinds, and gives up on data that neither helps.

import Ledger
import Logging

/// Whether the member of a region has been lost to its shard for so long that it should be copied anew. A value without I/O.
///
/// Its data is thrown away for it, so every doubt counts for the member: only what its leader itself says of it counts, only time in which
/// nothing moved, and only while another member has all that was acknowledged, or while nobody follows, one after the other: nothing is
/// acknowledged then, and what was is at the leader and at each of them.
struct LostMember {
    /// Octets that the other member may lack.
    static let lag = 1 << 20

    let region: String
    private var lost = Duration.zero
    private var last: (at: ContinuousClock.Instant, received: Int?, replayed: Int?)?
    /// How often it was made anew since it followed last.
    private var times = 0

    init(region: String) { self.region = region }

    /// How long a member may stay in a state, Patroni's word; nil: it is being made, and nothing is counted.
    static func patience(_ state: String) -> Duration? {
        switch state {
        case "running", "start failed", "crashed": .seconds(120)
        // Replaying what it had takes time.
        case "starting": .seconds(300)
        // Patroni rewinds it, or has found it of no use.
        case "stopped": .seconds(900)
        default: nil
        }
    }

    /// Whether it is to be made anew, by how the shard stands now. Stays so until ``wasMadeAnew()``.
    mutating func isLost(
        _ view: ShardView?, _ standing: ShardStanding, at now: ContinuousClock.Instant
    ) -> Bool {
        // Whatever cannot be known at this look says nothing for or against it.
        guard let view, !view.isPaused, let leader = standing.leader,
            leader.region == view.liveLeader?.region,
            let own = standing.member(region), own.answers, let state = own.state
        else { return false }
        let before = last
        last = (now, own.received, own.replayed)
        if own.follows {
            (lost, times) = (.zero, 0)
            return false
        }
        guard let patience = Self.patience(state) else {
            lost = .zero
            return false
        }
        let moves = before.map { own.received != $0.received || own.replayed != $0.replayed } ?? true
        if own.isCatchingUp || moves {
            lost = .zero
            return false
        }
        if let before { lost += min(now - before.at, .seconds(30)) }
        return lost >= patience * (1 << min(times, 6))
            && (isCovered(view, standing, leader.region) || isFirstOfAll(standing, leader.region))
    }

    /// Nobody follows, and of those that could this one is the first by name: the others keep what they have.
    private func isFirstOfAll(_ standing: ShardStanding, _ leader: String) -> Bool {
        let members = standing.members.filter { $0.region != leader }
        return members.count > 1 && members.map(\.region).min() == region
            && members.allSatisfy { member in
                member.answers && !member.follows && !member.isCatchingUp
                    && member.state.flatMap(Self.patience) != nil
            }
    }

    /// What was acknowledged is at the leader and at another that lacks next to nothing of it.
    private func isCovered(_ view: ShardView, _ standing: ShardStanding, _ leader: String) -> Bool {
        standing.members.contains { other in
            other.region != region && other.region != leader && other.follows && other.isSynchronous
                && other.lag.map { $0 < Self.lag } ?? false && view.member(other.region)?.isCandidate == true
        } && view.member(region)?.isCandidate == false
    }

    /// Its copy has begun.
    mutating func wasMadeAnew() {
        lost = .zero
        times += 1
    }
}

/// Makes the members of this region anew that are lost to their shards.
struct MemberKeeper: Sendable {
    /// Between looks.
    static let interval = Duration.seconds(10)

    let ledger: ReplicatedLedger
    let region: String
    let logger: Logger

    /// Watches until cancelled.
    func run() async {
        while !Task.isCancelled {
            do {
                let leaders = try ShardLeaders(ledger)
                await watch(leaders)
                leaders.shutDown()
            } catch {
                logger.warning(
                    "members are not watched; again in a minute", metadata: ["reason": "\(error)"])
                try? await Task.sleep(for: .seconds(60))
            }
        }
    }

    private func watch(_ leaders: ShardLeaders) async {
        var members = ledger.shards.map { (shard: $0.name, member: LostMember(region: region)) }
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.interval) } catch { return }
            for index in members.indices {
                let shard = members[index].shard
                let (view, standing) = await leaders.standing(of: shard)
                guard members[index].member.isLost(view, standing, at: .now),
                    let url = view?.member(region)?.url
                else { continue }
                if await remake(shard, at: url, leaders) { members[index].member.wasMadeAnew() }
            }
        }
    }

    /// Never by force: whatever Patroni is about with the member ends first.
    private func remake(_ shard: String, at url: String, _ leaders: ShardLeaders) async -> Bool {
        do {
            try await leaders.patroni.reinitialize(at: url, force: false)
            logger.warning(
                "a member that did not come back is made anew",
                metadata: ["shard": "\(shard)", "region": "\(region)"])
            return true
        } catch {
            logger.notice(
                "a member could not be made anew; again at once",
                metadata: ["shard": "\(shard)", "reason": "\(error)"])
            return false
        }
    }
}
