// What pgBackRest and PostgreSQL are told so that every committed transaction is in the archive within seconds.

/// pgBackRest's configuration for all shards of a cluster. Whose member it is about, a command says.
struct BackupConfiguration: Sendable {
    let plan: RecoveryPlan
    let layout: RecoveryLayout
    let passphrase: String

    /// What pgBackRest calls a shard.
    static func stanza(_ shard: String) -> String { "zegel-\(shard)" }

    /// `pgbackrest.conf`.
    var text: String {
        """
        # Written by zegel. A stanza a shard; the member's own paths come with each command.
        [global]
        repo1-path=\(plan.repository)
        # Without the passphrase nobody reads it, and nobody restores from it.
        repo1-cipher-type=aes-256-cbc
        repo1-cipher-pass=\(passphrase)
        repo1-retention-full-type=time
        repo1-retention-full=\(plan.retentionDays)
        # A full backup stands alone; incremental ones since name it.
        repo1-bundle=y
        compress-type=zst
        compress-level=3
        start-fast=y
        archive-async=y
        # An archive that cannot be written must not stop the mail: past this WAL is let go, and verify names the gap.
        archive-push-queue-max=8GiB
        archive-timeout=60
        process-max=2
        lock-path=\(layout.locks)
        spool-path=\(layout.spool)
        log-path=\(layout.output)
        log-level-file=off
        log-level-console=warn
        log-level-stderr=off
        log-timestamp=n

        """
    }

    /// What has a leader archive its WAL. Members of several regions on one machine share no lock.
    func archiving(_ shard: String, _ member: RegionLayout) -> [PostgresParameter] {
        let words = [
            BackupRepository.program, "--config=\(layout.configuration)", "--stanza=\(Self.stanza(shard))",
            "--pg1-path=\(member.data(shard))", "--lock-path=\(layout.locks)/\(member.region)",
            "--spool-path=\(layout.spool)/\(member.region)", "archive-push",
        ]
        let command = words.map { "'" + $0.replacing("'", with: "'\\''") + "'" }.joined(separator: " ")
        return [
            // A percent sign in a path would be one of PostgreSQL's own.
            .init("archive_command", command.replacing("%", with: "%%") + " \"%p\""),
            .init("archive_timeout", "\(RecoveryPlan.archiveTimeout.components.seconds)s"),
        ]
    }
}

extension PostgresParameter {
    /// Archiving is switched on and off without a restart: the mode is always on, and this command keeps nothing.
    static let noArchive: [PostgresParameter] = [
        .init("archive_command", "/bin/true"), .init("archive_timeout", "0"),
    ]
}
