// Where what belongs to recovery lies in a local cluster's folder.

/// The files of recovery points, and of a cluster that was restored.
struct RecoveryLayout: Sendable, Equatable {
    /// The cluster's.
    let cluster: ClusterLayout

    /// What is remembered of recovery points.
    var plan: String { folder + "/recovery.json" }
    /// The folder.
    var folder: String { cluster.directory + "/recovery" }
    /// What pgBackRest is told; PostgreSQL's user reads it.
    var configuration: String { folder + "/pgbackrest.conf" }
    /// The superuser's password, for pgBackRest.
    var passwords: String { folder + "/pgpass" }
    /// Writes the file of passwords: the superuser's, for every server.
    func writePasswords(_ password: String, owner: MachineUser?) throws(ClusterError) {
        try ClusterFiles.write("*:*:*:\(LedgerSite.superuser):\(password)\n", to: passwords, owner: owner)
    }
    /// The repository, unless another place was named.
    var repository: String { folder + "/repository" }
    /// The repository's passphrase.
    var passphrase: String { cluster.secrets + "/repository.passphrase" }
    /// pgBackRest's locks.
    var locks: String { folder + "/locks" }
    /// WAL that is on its way into the archive.
    var spool: String { folder + "/spool" }
    /// pgBackRest's output where somebody waits for its end.
    var output: String { folder + "/output" }
    /// WAL segments that are looked into.
    var segments: String { folder + "/segments" }
    /// Those of a shard.
    func segments(_ shard: String) -> String { "\(segments)/\(shard)" }
    /// An archive that is recovered to its end, to be asked.
    func aside(_ shard: String) -> String { "\(folder)/aside-\(shard)" }
    /// Where a drill restores to, unless another place was named.
    var drill: String { folder + "/drill" }
    /// Held by the drill that is under way.
    var drillLock: String { folder + "/drill.lock" }
    /// Each use of a key by commands of recovery, one record a line.
    var audit: String { cluster.logs + "/recovery-keys.log" }
    /// The reports of drills.
    var drills: String { folder + "/drills" }
    /// What a cluster was restored from, and how far that has come.
    var restore: String { cluster.directory + "/restore.json" }
}
