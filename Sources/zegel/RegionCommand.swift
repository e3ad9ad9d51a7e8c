// zegel region: the configuration of regions on machines of their own, which shards a region leads, and emptying it of leaders.

import ArgumentParser
import Cluster
import Foundation
import Logging
import Observability
import Settings

struct RegionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "region",
        abstract: "Write regions' configuration, show what each leads, or move its leaders away.",
        discussion: "A region is a site: nodes, a vote in etcd, and a member of every shard.",
        subcommands: [Init.self, Status.self, Drain.self, Undrain.self, Keep.self])

    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the configuration of regions on machines of their own.",
            discussion: """
                Reads a plan and writes plain files: for each machine what etcd, Patroni and PostgreSQL are told, \
                certificates, units of systemd; for nodes and operators how they find the ledger; and README.md, which \
                says what goes where and in which order things start. Nothing is copied to a machine or started.

                A plan names the regions, each at one address or more, and the shards with the region that leads each of \
                them in good times. Two regions need a witness, a third site that only votes. Regions share no machine.

                  shards:
                    a: {home: ams}
                    b: {home: fra}
                  regions:
                    ams: {address: 192.0.2.1}
                    fra:
                      address: 198.51.100.1
                      data: /srv/zegel
                      etcd: {address: 198.51.100.9}
                      shards:
                        b: {address: 198.51.100.2, port: 5432, rest: 8008, data: /srv/b}
                  witness: {address: 203.0.113.1}
                  networks: {nodes: 10.0.0.0/8, operators: 192.0.2.7/32}
                  authority: /root/zegel-authority
                  defaults: {programs: /usr/lib/postgresql/15/bin}

                What a region does not say of files (/etc/zegel), data (/var/lib/zegel), sockets (/run/zegel-postgres), \
                programs (/usr/lib/postgresql/15/bin), patroni (/opt/zegel/python/bin/patroni), etcd_program \
                (/usr/bin/etcd), zegel (/usr/bin/zegel), user (postgres) or etcd_user (etcd) is as defaults says. Ports \
                are 2379 and 2380 for etcd, 5432 and 8008 for the first shard, one more for each next one. authority is \
                the folder of the certificate authority; without it it lies inside of --into.

                Passwords and keys are made once. Run again with the same plan it changes nothing; certificates are made \
                anew when a third of their year is left. A file that somebody changed is left as it is, what would have \
                been written lies beside it as NAME.new, and the exit status is 1, unless --force says to write it anew. \
                A plan that is wrong is refused with its line and what to do (status 78).

                EXAMPLE
                  zegel region init --plan regions.yaml --into /root/zegel-regions
                """)

        @Option(name: .long, help: ArgumentHelp("The plan.", valueName: "file"))
        var plan: String
        @Option(
            name: .long, help: ArgumentHelp("The folder that is written; made if need be.", valueName: "dir"))
        var into: String
        @Flag(name: .long, help: "Write anew also what somebody changed.")
        var force = false
        @Flag(name: .long, help: "Print JSON: the files that were written, kept, or are no longer asked for.")
        var json = false

        func run() async throws {
            try await reporting {
                let plan = try MachinePlan(file: plan)
                for warning in plan.warnings { say("zegel: \(warning)") }
                let outcome = try MachineConfiguration(plan, into: into).write(force: force)
                for name in outcome.kept {
                    say(
                        "\(name) was changed by somebody and is left as it is; see \(name).new, or give --force"
                    )
                }
                for name in outcome.strangers { say("\(name) is no longer in the plan") }
                if json {
                    answer(try zegel.json(outcome))
                } else {
                    answer(
                        "\(outcome.written.count) files and \(outcome.certificates.count) certificates written; read \(into)/README.md"
                    )
                    if let end = outcome.certificatesEnd {
                        answer("certificates are good until \(end.formatted(.iso8601.year().month().day()))")
                    }
                }
                if !outcome.kept.isEmpty { throw ExitCode.failure }
            }
        }
    }

    struct Keep: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Bring a region's leaders home and keep its shards in order, until SIGTERM.",
            discussion: """
                Runs once in every region on machines of its own; in a local cluster the supervisor does the same. A \
                shard whose home the region is, and that is led elsewhere while the member here has been fit to lead for \
                20 s, is switched over, unless the region is drained. Every five minutes the shards that the region \
                leads get their partitions and sweeps. node.region names the region.

                EXAMPLE
                  zegel region keep --config /etc/zegel/postgres/keeper.yaml
                """)

        @OptionGroup var sources: SettingsOptions

        func run() async throws {
            try await reporting {
                let settings = try sources.settings()
                let keeper = try RegionKeeper(
                    ReplicationSettings(settings, for: "zegel region keep"),
                    databases: DatabaseSettings(settings, for: "zegel region keep"),
                    file: sources.config ?? "FILE")
                LogBootstrap.start(level: NodeSettings(settings).logLevel, node: NodeSettings(settings).name)
                defer { LogBootstrap.flush() }
                try await keeper.run(logger: Logger(label: "zegel-keeper"))
            }
        }
    }

    /// What a region leads and follows.
    struct Summary: Encodable {
        var name: String
        var leads: [String]
        var follows: [String]
        var lacks: [String]
        var isDrained: Bool

        init(_ region: String, _ shards: [ShardStatus]) {
            name = region
            isDrained = shards.contains { $0.drained.contains(region) }
            leads = []
            follows = []
            lacks = []
            for shard in shards {
                if shard.leader == region {
                    leads.append(shard.name)
                } else if shard.members.contains(where: { $0.region == region && $0.isCandidate }) {
                    follows.append(shard.name)
                } else {
                    lacks.append(shard.name)
                }
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show which shards each region leads, follows and lacks.",
            discussion: """
                The exit status is 1 when a voter of etcd does not answer, which is told.

                EXAMPLES
                  zegel region status --dir /var/tmp/zegel3
                  zegel region status --config operator/cluster.yaml
                """)

        @OptionGroup var cluster: ClusterOptions
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let operations = try cluster.operations()
                async let voting = operations.votingTrouble()
                let shards = try await operations.status()
                let regions = operations.sites.map { Summary($0, shards) }
                if json { answer(try zegel.json(regions)) }
                for region in regions where !json {
                    func list(_ names: [String]) -> String {
                        names.isEmpty ? "-" : names.joined(separator: ",")
                    }
                    answer(
                        "\(region.name)  leads \(list(region.leads))  follows \(list(region.follows))  lacks \(list(region.lacks))"
                            + (region.isDrained ? "  drained" : "")
                    )
                }
                if let trouble = try await voting {
                    say(trouble)
                    throw ExitCode.failure
                }
            }
        }
    }

    struct Drain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hand every shard that a region leads over, and keep leaders out of it.",
            discussion: """
                For work on a site: its members go on following, its nodes go on working, and nothing that it led \
                pauses for longer than a switchover. Refused for the last region that may lead. zegel region undrain \
                ends it; then shards come home.

                EXAMPLES
                  zegel region drain r2 --dir /var/tmp/zegel3 --yes
                  zegel region drain fra --config operator/cluster.yaml --yes
                """)

        @Argument(help: "The region.")
        var region: String
        @OptionGroup var cluster: ClusterOptions
        @OptionGroup var confirmation: Confirmation
        @Flag(name: .long, help: "Print JSON: the shards that moved, and who leads them.")
        var json = false

        func run() async throws {
            try await reporting {
                let operations = try cluster.operations()
                try confirmation.ask("move every leader out of \(region)")
                let moved = try await operations.drain(region, say: say)
                if json { return answer(try zegel.json(moved)) }
                say(
                    "region \(region) leads nothing; zegel region undrain \(region) \(operations.option) ends it"
                )
            }
        }
    }

    struct Undrain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let the shards of a drained region come home.",
            discussion: """
                EXAMPLE
                  zegel region undrain r2 --dir /var/tmp/zegel3
                """)

        @Argument(help: "The region.")
        var region: String
        @OptionGroup var cluster: ClusterOptions

        func run() async throws {
            try await reporting {
                let was = try await cluster.operations().undrain(region)
                say(
                    was ? "shards whose home is \(region) go back within half a minute" : "it was not drained"
                )
            }
        }
    }
}
