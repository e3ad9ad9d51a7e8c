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
            and incremental ones once a day. Any second since the oldest one can be restored, into a new cluster beside \
            the old, which is only read.

            The passphrase of the repository is DIR/secrets/repository.passphrase: keep a copy of it where the \
            repository is not. Without it nobody restores anything.

            EXAMPLES
              zegel recovery enable --dir /var/tmp/zegel
              zegel recovery list --dir /var/tmp/zegel
              zegel recovery restore --dir /var/tmp/zegel --to 2026-11-27T17:21:22Z --into /var/tmp/zegel-then
            """,
        subcommands: [Enable.self, List.self, Create.self, Verify.self, Restore.self])

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
                backups. The newest point is that of the newest archived transaction: at most half a minute old. The \
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
                  zegel recovery restore --dir /var/tmp/zegel3 --to 2026-11-27T18:21:22+01:00 --shard b --into /var/tmp/b
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("The moment.", valueName: "timestamp"))
        var to: String
        @Option(name: .long, help: ArgumentHelp("The new cluster's folder.", valueName: "dir"))
        var into: String
        @Option(name: .long, help: ArgumentHelp("Only this shard.", valueName: "name"))
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

/// A value as JSON, with moments in RFC 3339 to the microsecond.
private func moments(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .custom { date, encoder in
        var container = encoder.singleValueContainer()
        try container.encode(RestorePoint.precise(date))
    }
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}
