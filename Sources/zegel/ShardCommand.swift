// zegel shard: who leads a shard, who follows, and a planned change.

import ArgumentParser
import Cluster
import Foundation
import Observability
import Settings

struct ShardCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shard",
        abstract: "Show who leads the ledger's shards, or hand one over.",
        discussion: """
            A shard has a member in every region; Patroni and etcd decide which of them leads. These commands show what \
            they decided and ask for planned changes; they never decide themselves.
            """,
        subcommands: [Init.self, Status.self, Switchover.self])

    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Make the database of every shard that has a leader: schema, and passwords of the nodes' roles.",
            discussion: """
                For a ledger on machines of its own, once its members run; a local cluster does it by itself. Safe to \
                repeat: what is there stays, and passwords become those of shard.password_dir. A later version of the \
                schema comes with zegel migrate.

                EXAMPLE
                  zegel shard init --config operator/cluster.yaml
                """)

        @OptionGroup var sources: SettingsOptions
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let settings = try sources.settings()
                let setup = try LedgerSetup(
                    DatabaseSettings(settings, for: "zegel shard init"),
                    passwords: ReplicationSettings.passwordFolder(settings, for: "zegel shard init"))
                let outcomes = try await setup.run()
                if json { return answer(try zegel.json(outcomes)) }
                for outcome in outcomes {
                    answer("shard \(outcome.shard): \(outcome.applied.isEmpty ? "is there" : "made")")
                }
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show each shard's leader, its followers and what is wrong.",
            discussion: """
                A follower that counts is a quorum_standby that is streaming. Each trouble comes with the command that \
                mends it. The exit status is 0 when there is none, 1 when there is.

                EXAMPLES
                  zegel shard status --dir /var/tmp/zegel3
                  zegel shard status --config operator/cluster.yaml
                """)

        @Argument(help: "Only this shard.")
        var shard: String?
        @OptionGroup var cluster: ClusterOptions
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let shards = try await cluster.operations().status(shard)
                answer(json ? try zegel.json(shards) : shards.map(Self.text).joined(separator: "\n"))
                if shards.contains(where: { !$0.troubles.isEmpty }) { throw ExitCode.failure }
            }
        }

        private static func text(_ shard: ShardStatus) -> String {
            var lines = ["shard \(shard.name)  led by \(shard.leader ?? "nobody")  home \(shard.home)"]
            for member in shard.members {
                let lag = member.lag.map { "\($0) bytes behind" } ?? ""
                let timeline = member.timeline.map { "timeline \($0)" } ?? ""
                lines.append(
                    "  \(member.region)  \(member.role.rawValue)  \(member.state)  \(timeline)  "
                        + "\(member.host):\(member.port)  \(lag)")
            }
            return (lines + shard.troubles.map { "  ! \($0)" }).joined(separator: "\n")
        }
    }

    struct Switchover: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hand a shard over to another region.",
            discussion: """
                Refused when the new leader is behind or does not follow. Edges take mail in at other shards meanwhile; \
                the shard itself pauses for about five seconds. Without --to it goes home, or when it is there, to the \
                member that is least behind; a shard that is away from home goes back by itself after 20 s (but for a \
                region that is drained).

                EXAMPLES
                  zegel shard switchover a --to r2 --dir /var/tmp/zegel3 --yes
                  zegel shard switchover a --to fra --config operator/cluster.yaml --yes
                """)

        @Argument(help: "The shard.")
        var shard: String
        @Option(name: .long, help: ArgumentHelp("The region that shall lead.", valueName: "region"))
        var to: String?
        @OptionGroup var cluster: ClusterOptions
        @OptionGroup var confirmation: Confirmation
        @Flag(name: .long, help: "Print JSON: who led and who leads.")
        var json = false

        func run() async throws {
            try await reporting {
                let operations = try cluster.operations()
                try confirmation.ask("hand shard \(shard) over\(to.map { " to \($0)" } ?? "")")
                let change = try await operations.switchover(shard, to: to, say: say)
                if json { return answer(try zegel.json(["from": change.from, "to": change.to])) }
                say("shard \(shard) is led by \(change.to)")
            }
        }
    }
}
