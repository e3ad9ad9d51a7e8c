// zegel region: which shards a region leads, and emptying it of leaders before work on it.

import ArgumentParser
import Cluster
import Foundation

struct RegionCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "region",
        abstract: "Show what each region leads, or move its leaders away.",
        discussion: "A region is a site: nodes, a vote in etcd, and a member of every shard.",
        subcommands: [Status.self, Drain.self, Undrain.self])

    /// What a region leads and follows.
    struct Summary: Encodable {
        var name: String
        var leads: [String]
        var follows: [String]
        var lacks: [String]

        init(_ region: String, _ shards: [ShardStatus]) {
            name = region
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
                EXAMPLE
                  zegel region status --dir /var/tmp/zegel3
                """)

        @OptionGroup var folder: LocalCommand.Folder
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let shards = try await ClusterOperations(directory: folder.dir).status()
                let names = Set(shards.flatMap { $0.members.map(\.region) }).sorted()
                let regions = names.map { Summary($0, shards) }
                if json { return answer(try zegel.json(regions)) }
                for region in regions {
                    func list(_ names: [String]) -> String {
                        names.isEmpty ? "-" : names.joined(separator: ",")
                    }
                    answer(
                        "\(region.name)  leads \(list(region.leads))  follows \(list(region.follows))  lacks \(list(region.lacks))"
                    )
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

                EXAMPLE
                  zegel region drain r2 --dir /var/tmp/zegel3 --yes
                """)

        @Argument(help: "The region.")
        var region: String
        @OptionGroup var folder: LocalCommand.Folder
        @OptionGroup var confirmation: Confirmation
        @Flag(name: .long, help: "Print JSON: the shards that moved, and who leads them.")
        var json = false

        func run() async throws {
            try await reporting {
                let operations = try ClusterOperations(directory: folder.dir)
                try confirmation.ask("move every leader out of \(region)")
                let moved = try await operations.drain(region, say: say)
                if json { return answer(try zegel.json(moved)) }
                say(
                    "region \(region) leads nothing; zegel region undrain \(region) --dir \(folder.dir) ends it"
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
        @OptionGroup var folder: LocalCommand.Folder

        func run() async throws {
            try await reporting {
                let was = try ClusterOperations(directory: folder.dir).undrain(region)
                say(
                    was ? "shards whose home is \(region) go back within half a minute" : "it was not drained"
                )
            }
        }
    }
}
