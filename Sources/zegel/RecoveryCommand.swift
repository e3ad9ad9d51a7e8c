// zegel recovery: points to which any shard can be taken back, and taking it back.

import ArgumentParser
import Cluster
import Foundation

struct RecoveryCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recovery",
        abstract: "Keep recovery points, and restore any second of the past beside the cluster.",
        discussion: """
            Every leader archives its WAL into a repository of pgBackRest, encrypted; full backups are made once a week \
            and incremental ones once a day and after a change of leader. Any second since the oldest one can be restored, into a new cluster beside \
            the old, which is only read.

            The passphrase of the repository is DIR/secrets/repository.passphrase: keep a copy of it where the \
            repository is not. Without it nobody restores anything.

            EXAMPLES
              zegel recovery enable --dir /var/tmp/zegel
              zegel recovery list --dir /var/tmp/zegel
              zegel recovery restore --dir /var/tmp/zegel --to 2026-11-27T17:21:22Z --into /var/tmp/zegel-then
            """,
        subcommands: [
            Enable.self, List.self, Create.self, Verify.self, Restore.self, Reconcile.self, Promote.self,
            HeldCommand.self, Drill.self,
        ])

    /// The cluster's folder.
    struct Folder: ParsableArguments {
        @Option(
            name: .long, help: ArgumentHelp("A local cluster's folder (also ZEGEL_DIR).", valueName: "dir"))
        var dir: String?

        /// Its recovery points.
        func recovery() async throws -> ClusterRecovery {
            guard let dir = dir ?? ProcessInfo.processInfo.environment["ZEGEL_DIR"] else {
                throw ClusterError(.usage, "which cluster? give --dir DIR")
            }
            return try await ClusterRecovery(directory: dir)
        }

        /// The restored cluster in it.
        func restored() async throws -> RestoredCluster {
            guard let dir = dir ?? ProcessInfo.processInfo.environment["ZEGEL_DIR"] else {
                throw ClusterError(.usage, "which cluster? give --dir DIR")
            }
            return try await RestoredCluster(directory: dir)
        }
    }

    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Archive from now on, and make the first backup of each shard.",
            discussion: """
                Whoever leads a shard archives its WAL, also after a change of leader; a segment that is not full goes \
                after 30 s. The repository is encrypted with a passphrase that is made here, and lies in \
                DIR/recovery/repository unless --repository names another folder: one that does not die with the \
                cluster. Nothing is restarted. Safe to repeat, and to change the retention.

                An archive that cannot be written to does not stop the mail: past 8 GB of WAL it is let go, and zegel \
                recovery verify names the gap.

                EXAMPLES
                  zegel recovery enable --dir /var/tmp/zegel
                  zegel recovery enable --dir /var/tmp/zegel --repository /mnt/backup/zegel --retention 90
                """)

        @OptionGroup var folder: Folder
        @Option(
            name: .long,
            help: ArgumentHelp("Where it all goes. (default: DIR/recovery/repository)", valueName: "path"))
        var repository: String?
        @Option(name: .long, help: ArgumentHelp("How many days back. (default: 35)", valueName: "days"))
        var retention: Int?

        func run() async throws {
            try await reporting {
                let recovery = try await folder.recovery()
                try await recovery.enable(repository: repository, retentionDays: retention, say: say)
                say("recovery points are kept; zegel recovery list shows them")
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show which seconds can be restored.",
            discussion: """
                For each shard: from when to when, the same for content, whose keys are destroyed earlier, and the \
                backups. The newest point is that of the newest archived transaction, less than a minute old. The \
                exit status is 1 when something is wrong, for a timer that alarms: it is said with what to do.

                EXAMPLE
                  zegel recovery list --dir /var/tmp/zegel --json
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("Only this shard.", valueName: "name"))
        var shard: String?
        @Flag(name: .long, help: "Print JSON; moments in RFC 3339.")
        var json = false

        func run() async throws {
            try await reporting {
                let points = try await folder.recovery().points(shard: shard)
                answer(json ? try moments(points) : points.map(Self.text).joined(separator: "\n"))
                if points.contains(where: { !$0.troubles.isEmpty }) { throw ExitCode.failure }
            }
        }

        private static func text(_ shard: ShardPoints) -> String {
            var lines = [
                "shard \(shard.shard)  \(shard.window.map { $0.text() } ?? "nothing can be restored")"
            ]
            if shard.window != nil, shard.contentWindow != shard.window {
                let content = shard.contentWindow.map { $0.text() } ?? "none: its keys are destroyed"
                lines.append("  content  \(content)")
            }
            for backup in shard.backups {
                lines.append(
                    "  \(backup.label)  \(backup.full ? "full" : "incremental")  "
                        + "\(RestorePoint.text(backup.at, in: .current))  \(backup.size) octets, \(backup.added) stored"
                )
            }
            return (lines + shard.troubles.map { "  ! \($0)" }).joined(separator: "\n")
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a backup now.",
            discussion: """
                What changed since the last one, unless --full asks for one that stands alone or there is none yet. \
                Backups shorten a restore: any second can be restored without one of that day.

                EXAMPLE
                  zegel recovery create --dir /var/tmp/zegel --full
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("Only this shard.", valueName: "name"))
        var shard: String?
        @Flag(name: .long, help: "One that stands alone.")
        var full = false

        func run() async throws {
            try await reporting {
                try await folder.recovery().create(shard: shard, full: full, say: say)
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Read every file of the repository, and look for what is missing.",
            discussion: """
                Checks each file of every backup and each WAL segment against its checksum, and that no segment is \
                missing between the oldest backup and the newest point. The exit status is 1 when something is wrong.

                EXAMPLE
                  zegel recovery verify --dir /var/tmp/zegel --json
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("Only this shard.", valueName: "name"))
        var shard: String?
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let results = try await folder.recovery().verify(shard: shard, say: say)
                if json {
                    answer(try zegel.json(results))
                } else {
                    for result in results {
                        answer(
                            "shard \(result.shard)  \(result.files) files checked, \(result.faults.isEmpty ? "all as they should be" : "faults:")"
                        )
                        for fault in result.faults { answer("  ! \(fault)") }
                    }
                }
                if results.contains(where: { !$0.faults.isEmpty }) { throw ExitCode.failure }
            }
        }
    }

    struct Restore: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take shards back to a moment, in a new cluster beside the old one.",
            discussion: """
                --to is RFC 3339 with its zone; zegel recovery list shows which moments there are. --into is a folder \
                that is not there or empty: what was broken off goes on when the same command is given again. The old \
                cluster and its repository are only read.

                The new cluster has the keys, authority, secrets and settings of the old one, and ports of its own. It \
                archives nothing, follows nobody, and no node can log in: its mail does not move.

                EXAMPLES
                  zegel recovery restore --dir /var/tmp/zegel --to 2026-11-27T17:21:22Z --into /var/tmp/zegel-then
                  zegel recovery restore --dir /var/tmp/zegel3 --to 2026-11-27T18:21:22+01:00 --shard a --into /var/tmp/a
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("The moment.", valueName: "timestamp"))
        var to: String
        @Option(name: .long, help: ArgumentHelp("The new cluster's folder.", valueName: "dir"))
        var into: String
        @Option(
            name: .long,
            help: ArgumentHelp(
                "Only this shard; tenants and credentials are taken from the first.", valueName: "name"))
        var shard: String?
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let state = try await folder.recovery().restore(to: to, into: into, shard: shard, say: say)
                if json { return answer(try moments(state)) }
                for shard in state.shards {
                    say(
                        "shard \(shard.name) is as it was at \(RestorePoint.text(state.moment)) (\(Int(shard.seconds ?? 0)) s)"
                    )
                }
            }
        }
    }
}

extension RecoveryCommand {
    struct Reconcile: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Tell a restored cluster what happened since.",
            discussion: """
                --from asks the members of the old cluster that live, --archive the end of its archive, which is recovered \
                aside for that, --events reads events that were exported. Deliveries that ended are closed; those that did not go on; messages accepted after the \
                moment are brought over, with their content; a delivery of which nobody can tell whether a recipient got it \
                is sent again with its mark, or held where its tenant wants that; one that nobody knows is held. What was \
                revoked or disabled since works no more; credentials and keys made since are not brought over.

                What an archive tells ends before the old cluster did: all that is open there is in doubt. What a leader \
                tells is certain, once workers and edges have stopped: while they work it is refused.

                Events are what GET /v1/events answered: its pages, or the events alone, in any number of lines. They have no \
                content: what was accepted after the moment and had not ended is lost, named here and by an event unrecoverable \
                each. An open delivery that they name is in doubt, one that they do not name is held. They say nothing of \
                revocations: where nobody else told of these, promote revokes every credential and key.

                May be given again, with another source: whoever knows more is believed, and nothing happens twice.

                EXAMPLES
                  zegel recovery reconcile --dir /var/tmp/zegel-then --from /var/tmp/zegel
                  zegel recovery reconcile --dir /var/tmp/zegel-then --archive
                  zegel recovery reconcile --dir /var/tmp/zegel-then --archive --events page-1.json --events page-2.json
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("The old cluster's folder.", valueName: "dir"))
        var from: String?
        @Flag(name: .long, help: "Ask the end of the archive.")
        var archive = false
        @Option(
            name: .long,
            help: ArgumentHelp("A file of exported events; may be given several times.", valueName: "file"))
        var events: [String] = []
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let reports = try await folder.restored().reconcile(
                    .init(from: from, archive: archive, events: events), say: say)
                answer(
                    json ? try moments(reports) : reports.map(RecoveryCommand.text).joined(separator: "\n"))
            }
        }
    }

    struct Promote: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a restored cluster one like any other.",
            discussion: """
                Only after zegel recovery reconcile. Its nodes may log in from then on, and zegel local up starts them: mail \
                moves. Readers of the old cluster's events go on where the restore began; what they have seen since comes \
                again with the same ids.

                Members that told what happened since are asked once more: where something happened meanwhile, or workers \
                deliver again, it is refused. Where they do not answer any more, --unasked puts all that was open into doubt.

                Where only exported events told what happened since, nobody knows which credentials and API keys were revoked: \
                none of them works any more, and those of endpoints.json are made anew. --keep-credentials keeps them.

                EXAMPLE
                  zegel recovery promote --dir /var/tmp/zegel-then --yes
                """)

        @OptionGroup var folder: Folder
        @OptionGroup var confirmation: Confirmation
        @Flag(
            name: .long,
            help: "Although the old members do not answer: what was open when they did is in doubt.")
        var unasked = false
        @Flag(
            name: .long,
            help: "Keep credentials and keys, although nobody told which of them were revoked since.")
        var keepCredentials = false
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let restored = try await folder.restored()
                try confirmation.ask("let the restored cluster deliver mail")
                let reports = try await restored.promote(
                    unasked: unasked, keepsCredentials: keepCredentials, say: say)
                answer(
                    json ? try moments(reports) : reports.map(RecoveryCommand.text).joined(separator: "\n"))
            }
        }
    }

    /// What is known of a restored shard's mail.
    fileprivate static func text(_ report: RestoredCluster.Report) -> String {
        let (brought, deliveries) = (report.brought, report.deliveries)
        var lines = [
            "shard \(report.shard)  \(brought.broughtOver) messages and \(brought.events) events brought over",
            "  deliveries  \(deliveries.ended) ended since, \(deliveries.released) go on, \(deliveries.inDoubt) in doubt, "
                + "\(deliveries.unknown) nobody knows; \(deliveries.held) of them are held",
        ]
        if let segment = report.missingSegment {
            lines.append(
                "  WAL segment \(segment) is missing in the archive: what came behind it is not known")
        }
        if let lost = report.lost, !lost.isEmpty {
            lines.append(
                "  \(lost.count) messages are lost: accepted after the moment, and nothing is left of them but their events; the first: "
                    + lost.prefix(3).map { $0.uuidString.lowercased() }.joined(separator: ", "))
        }
        if let until = report.toldUntil {
            lines.append(
                "  what happened after \(RestorePoint.text(until, in: .current)) nobody has told, revocations neither"
            )
        }
        if let control = report.control {
            lines.append(
                "  control  \(control.revoked) credentials and keys revoked, \(control.disabled) tenants disabled, "
                    + "\(control.keySets) key sets brought over; \(control.leftOut) credentials and keys made since are left out"
            )
        }
        return lines.joined(separator: "\n")
    }
}

/// A value as JSON, with moments in RFC 3339 to the microsecond.
func moments(_ value: some Encodable) throws -> String { try RestorePoint.json(value) }
