// One shard over the regions: a member in each, logs, who follows whom, and who leads by the word of the consensus. Consensus itself is
// taken for right (law 6): an election is one step, and whoever takes part in it no longer acknowledges the former leader.

/// A member of a shard.
struct Member {
    /// Runs.
    var isUp = true
    /// Believes that it leads, as its clients see it.
    var isLeader = false
    /// The timeline that it leads or follows.
    var timeline: Int32 = 1
    /// Entries on its disk, in order, as numbers of `Cluster.entries`.
    var log: [Int32] = []
    /// Rows, while it leads.
    var model: ShardModel
    /// How much of its log each other member has told it to have; only of those who follow it.
    var acknowledged: [Int]
    /// Somebody emptied `synchronous_standby_names`.
    var hasNoNames = false
    /// Its clock: what it is ahead, and how much faster it runs, in millionths.
    var offset: Ticks
    var drift: Int64
    /// Stands still until then.
    var pausedUntil: Ticks = 0
    /// Counts restarts: what was connected before is not any more.
    var epoch: Int32 = 0
    /// How much of its log is known to be on the quorum's disks.
    var durable = 0

    var standing: (isUp: Bool, isLeader: Bool, timeline: Int32) { (isUp, isLeader, timeline) }

    func clock(_ now: Ticks) -> Ticks { offset + now + now * drift / 1_000_000 }
}

/// A transaction in somebody's log.
struct Entry {
    let writes: [ShardTables.Write]
    /// The quorum had it while its leader led.
    var isDurable = false
}

/// A shard.
struct Cluster {
    var members: [Member]
    var entries: [Entry] = []
    /// Who leads, by the consensus.
    var leader: Int? = 0
    var timeline: Int32 = 1
    /// Who may be elected: members that have had all of what the last elected one began with. Patroni keeps them in `/sync`.
    var mayLead: Set<Int> = [0, 1, 2]
    /// How much that was.
    var beginning = 0
    /// Since when there is no leader that the majority sees.
    var leaderlessSince: Ticks?

    /// The tables as a log tells them.
    func tables(of log: [Int32]) -> ShardTables {
        var tables = ShardTables()
        for entry in log { tables.apply(entries[Int(entry)].writes) }
        return tables
    }
}
