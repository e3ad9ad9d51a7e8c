// zegel local: a whole cluster on this machine.

import ArgumentParser
import Cluster
import Foundation
import Logging
import Observability

struct LocalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "local",
        abstract: "Run a whole cluster on this machine.",
        discussion: """
            A local cluster is a real one: PostgreSQL with checksums and fsync, its own certificate authority, sealed \
            content, and every node a process of its own, kept alive by a supervisor. Everything lies in one folder, \
            which survives down and up. It has one tenant, demo, which sends as demo.test.

            DIR/endpoints.json tells where everything listens, the SMTP user and password, the API key and the process \
            ids; only its owner can read it. DIR/logs holds what each process prints.
            """,
        subcommands: [
            Up.self, Status.self, Down.self, Kill.self, Start.self, Certificate.self, Supervise.self,
        ])

    /// The cluster's folder.
    struct Folder: ParsableArguments {
        @Option(name: .long, help: ArgumentHelp("The cluster's folder.", valueName: "dir"))
        var dir: String
    }

    struct Up: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make or restart a local cluster and wait until it is ready.",
            discussion: """
                Makes DIR when it is not there. What an option does not say stays as it was at the last up: counts, \
                ruleset, settings, ports. --set given at least once, or any ZEGEL_ variable of a setting, replaces all \
                settings given before. dns.trust_anchor is none unless it is set: every DNS answer is then insecure.

                Without --detach it stays in front, and Ctrl-C ends everything in order. With --detach it returns once \
                every node is ready, and the supervisor goes on by itself. A cluster that is up already is left as it \
                is, unless it was asked for something else: that is refused.

                As root, PostgreSQL runs as the user postgres, who must be able to reach DIR.

                With --regions 2 or more it is a replicated cluster on one machine: region n on the address \
                127.0.0.(10n), each with etcd, a supervisor, nodes and a member of every shard under Patroni; two \
                regions have a third site, witness, that only votes. A shard per region unless --shards says otherwise.

                EXAMPLES
                  zegel local up --dir /var/tmp/zegel
                  zegel local up --dir /var/tmp/zegel3 --regions 3 --detach
                  zegel local up --dir /var/tmp/zegel --workers 2 --detach
                  zegel local up --dir /var/tmp/zegel --set dns.forwarders=127.0.0.1@5353 --set delivery.port=2525
                """)

        @OptionGroup var folder: Folder

        @Option(name: .long, help: ArgumentHelp("Sites, 1 to 9. (default: 1)", valueName: "n"))
        var regions: Int?

        @Option(
            name: .long,
            help: ArgumentHelp("Ledger shards, 1 to 26. (default: one a region)", valueName: "n"))
        var shards: Int?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "The IPv4 address of the next region, the witness of two last; NETNS@ADDRESS puts its processes into a "
                    + "network namespace that is there already. Repeatable. (default: 127.0.0.10, 127.0.0.20, …)",
                valueName: "[netns@]address"))
        var place: [String] = []

        @Option(
            name: .long,
            help: ArgumentHelp("Edge nodes in each region; 0 takes no mail in. (default: 1)", valueName: "n"))
        var edges: Int?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "Worker nodes in each region; 0 takes mail in and delivers none. (default: 1)", valueName: "n"
            ))
        var workers: Int?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "What deliveries of the tenant demo must satisfy: opportunistic, secure or nta7516. (default: secure)",
                valueName: "name"))
        var ruleset: String?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "A setting of every node, as in docs/configuration.md. Repeatable.", valueName: "key=value"))
        var set: [String] = []

        @Flag(name: .long, help: "Return once everything is ready; the cluster goes on.")
        var detach = false

        @Flag(name: .long, help: "Print the endpoints as JSON on standard output once everything is ready.")
        var json = false

        func run() async throws {
            try await reporting {
                let cluster = try LocalCluster(directory: folder.dir)
                var request = ClusterRequest(
                    regions: regions, shards: shards, edges: edges, workers: workers, ruleset: ruleset,
                    settings: try RequestedSettings.list(
                        assignments: set, environment: ProcessInfo.processInfo.environment,
                        currentDirectory: FileManager.default.currentDirectoryPath))
                request.places = try place.map { text throws(ClusterError) in
                    guard let place = RegionPlace(text) else {
                        throw ClusterError(.usage, "--place \(text): write it as ADDRESS or NETNS@ADDRESS")
                    }
                    return place
                }
                let asJSON = json
                let directory = cluster.layout.directory
                let outcome = try await cluster.up(
                    request, detach: detach, logger: supervisorLogger(quiet: !detach), say: say
                ) { endpoints in
                    if asJSON, let text = try? zegel.json(endpoints) {
                        answer(text)
                    } else {
                        say(summary(endpoints, directory: directory))
                    }
                }
                if outcome == .ended { say("everything has ended") }
            }
        }
    }

    struct Status: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show what runs and what is ready.",
            discussion: """
                The exit status is 0 when everything is ready, 1 when something is not or nothing runs.

                EXAMPLE
                  zegel local status --dir /var/tmp/zegel --json
                """)

        @OptionGroup var folder: Folder
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let status = try await LocalCluster(directory: folder.dir).status()
                if json {
                    answer(try zegel.json(status))
                } else {
                    answer(status.text.trimmingCharacters(in: .newlines))
                }
                if status.state != .up { throw ExitCode.failure }
            }
        }
    }

    struct Down: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End a local cluster in order; what it holds stays.",
            discussion: """
                Edges finish what they are taking in, workers what they are sending; then the api, the keyring and \
                PostgreSQL end. At most 30 seconds. A cluster that is not up is no failure.
                """)

        @OptionGroup var folder: Folder
        @Flag(name: .long, help: "Print JSON: whether it was up.")
        var json = false

        func run() async throws {
            try await reporting {
                let wasUp = try await LocalCluster(directory: folder.dir).down(say: say)
                if json { return answer(try zegel.json(["was_up": wasUp])) }
                say(wasUp ? "everything has ended" : "the cluster was not up")
            }
        }
    }

    struct Kill: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End every process of a region at once, as the loss of a site would.",
            discussion: """
                SIGKILL to its supervisor, nodes, keyring, PostgreSQLs, Patronis and etcd. Mail goes on elsewhere: the \
                shards that the region led have another leader within half a minute. zegel local start brings it back.

                EXAMPLE
                  zegel local kill --region r2 --dir /var/tmp/zegel3
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("The region.", valueName: "name"))
        var region: String
        @Flag(name: .long, help: "Print JSON: how many processes there were.")
        var json = false

        func run() async throws {
            try await reporting {
                let count = try LocalCluster(directory: folder.dir).kill(region: region)
                if json { return answer(try zegel.json(["processes": count])) }
                say(
                    count == 0
                        ? "nothing of region \(region) lived"
                        : "\(count) processes of region \(region) were killed")
            }
        }
    }

    struct Start: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Bring a region back that was killed, and wait until it is ready.",
            discussion: """
                EXAMPLE
                  zegel local start --region r2 --dir /var/tmp/zegel3
                """)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: ArgumentHelp("The region.", valueName: "name"))
        var region: String
        @Flag(name: .long, help: "Print JSON: whether it had to be started.")
        var json = false

        func run() async throws {
            try await reporting {
                let started = try await LocalCluster(directory: folder.dir).start(region: region, say: say)
                if json { return answer(try zegel.json(["started": started])) }
                say(started ? "region \(region) is ready" : "region \(region) was up")
            }
        }
    }

    struct Certificate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a server certificate signed by the local authority.",
            discussion: """
                For a recipient's mail server on this machine. Prints the paths of certificate and key; a certificate \
                that is there and good for a while is kept. Workers trust it with --set delivery.trust_roots=\
                DIR/certificates/ca.pem.

                EXAMPLE
                  zegel local certificate mx.example.test --dir /var/tmp/zegel
                """)

        @Argument(help: "The DNS names in it, the first one naming the files.")
        var names: [String]

        @OptionGroup var folder: Folder
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let identity = try LocalCluster(directory: folder.dir).certificate(names)
                answer(json ? try zegel.json(identity) : "\(identity.certificate)\n\(identity.key)")
            }
        }
    }

    struct Supervise: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The supervisor of a detached cluster; started by up.", shouldDisplay: false)

        @OptionGroup var folder: Folder
        @Option(name: .long, help: "The region.")
        var region: String?
        @Option(name: .long, help: "The descriptor to report on.")
        var report: Int32

        func run() async throws {
            try await reporting {
                let cluster = try LocalCluster(directory: folder.dir)
                try await LocalSupervisor(
                    layout: cluster.layout, region: region, programs: cluster.programs,
                    report: .descriptor(report),
                    logger: supervisorLogger(quiet: false)
                ).run()
            }
        }
    }
}

/// The supervisor's logger: its own log when detached; in front only what is wrong, since progress is said anyway.
private func supervisorLogger(quiet: Bool) -> Logger {
    var logger = Logger(label: "zegel.supervisor") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = quiet ? .warning : .info
    return logger
}

/// Where everything is, for people.
private func summary(_ endpoints: Endpoints, directory: String) -> String {
    let regions = endpoints.regions.map { region in
        (endpoints.regions.count > 1 ? "  region           \(region.name)\n" : "") + """
              SMTP (STARTTLS)  \(region.smtp.joined(separator: ", "))
              SMTP (TLS)       \(region.smtps.joined(separator: ", "))
              API              \(region.api)
            """
    }
    return """
        Zegel is up.
        \(regions.joined(separator: "\n"))
          trust            \(endpoints.ca)
          credentials      \(directory)/endpoints.json
          logs             \(directory)/logs
        Next: zegel local status --dir \(directory)   ·   zegel local down --dir \(directory)
        """
}
