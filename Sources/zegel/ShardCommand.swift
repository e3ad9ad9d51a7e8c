// zegel shard: who leads a shard, who follows, and a planned change.

import ArgumentParser
import Cluster
import Foundation
import Observability
import Settings

struct ShardCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "shard",
        abstract: "Show who leads the ledger's shards, hand one over, or mend a member.",
        discussion: """
            A shard has a member in every region; Patroni and etcd decide which of them leads. These commands show what \
            they decided and ask for planned changes; they never decide themselves. A failover is forced where they could \
            not decide, and tells first what it may lose.
            """,
        subcommands: [
            Init.self, Status.self, Switchover.self, Failover.self, Restart.self, Reinit.self,
        ])

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

    struct Failover: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a member lead that nobody can hand over to, and lose what it lacks.",
            discussion: """
                For a shard that has no leader and gets none, because too many of its members are lost for the others to \
                know what was acknowledged. Shows what is at risk, then asks. Refused where somebody leads: a switchover \
                loses nothing. Members that come back later are rewound to the new leader.

                EXAMPLES
                  zegel shard failover a --to r2 --dir /var/tmp/zegel3
                  zegel shard failover a --to fra --config operator/cluster.yaml
                """)

        @Argument(help: "The shard.")
        var shard: String
        @Option(name: .long, help: ArgumentHelp("The region that shall lead.", valueName: "region"))
        var to: String
        @OptionGroup var cluster: ClusterOptions
        @OptionGroup var confirmation: Confirmation
        @Flag(name: .long, help: "Print JSON: what was at risk.")
        var json = false

        func run() async throws {
            try await reporting {
                let operations = try cluster.operations()
                let risk = try await operations.risk(ofFailover: shard, to: to)
                for line in risk.lines { say(line) }
                try confirmation.ask("make \(to) the leader of shard \(shard)")
                try await operations.failover(risk, say: say)
                if json { return answer(try zegel.json(risk)) }
                say(
                    "shard \(shard) is led by \(to); "
                        + (risk.losesNothing
                            ? "nothing acknowledged was lost"
                            : "lost: what it lacked, which is at least \(risk.bytes) bytes of WAL and "
                                + (risk.messages.map { "\($0) messages" }
                                    ?? "a number of messages that nobody here knows"))
                )
            }
        }
    }

    struct Restart: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Restart the PostgreSQL of a member that does not follow, and wait until it does.",
            discussion: """
                Refused for the leader. A replay that was paused goes on, and a setting that was made past Patroni is gone.

                EXAMPLE
                  zegel shard restart a --region r2 --dir /var/tmp/zegel3
                """)

        @Argument(help: "The shard.")
        var shard: String
        @Option(name: .long, help: ArgumentHelp("The member's region.", valueName: "region"))
        var region: String
        @OptionGroup var cluster: ClusterOptions

        func run() async throws {
            try await reporting {
                let follows = try await cluster.operations().mend(
                    shard, in: region, anew: false, say: say)
                say(
                    "the member of shard \(shard) in \(region) "
                        + (follows ? "follows" : "is up; nobody leads whom it could follow"))
            }
        }
    }

    struct Reinit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Throw the data of a member away and copy its leader's.",
            discussion: """
                For a member that does not follow after a restart: what it needs is gone, or it went ways of its own. The \
                others go on; until it follows, its acknowledgement is missing.

                EXAMPLE
                  zegel shard reinit a --region r2 --dir /var/tmp/zegel3 --yes
                """)

        @Argument(help: "The shard.")
        var shard: String
        @Option(name: .long, help: ArgumentHelp("The member's region.", valueName: "region"))
        var region: String
        @OptionGroup var cluster: ClusterOptions
        @OptionGroup var confirmation: Confirmation

        func run() async throws {
            try await reporting {
                let operations = try cluster.operations()
                try confirmation.ask(
                    "throw the data of shard \(shard) in \(region) away and copy its leader's")
                _ = try await operations.mend(shard, in: region, anew: true, say: say)
                say("the member of shard \(shard) in \(region) follows")
            }
        }
    }
}
