// zegel migrate: the schema of every shard, brought to the version of this program.

import ArgumentParser
import Cluster
import Foundation
import Settings

struct MigrateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Bring the schema of every shard to the version of this program.",
        discussion: """
            Applies the migrations that are missing, each in a transaction of its own and under a lock, so that two \
            at once do no harm. A schema whose past was edited, or that a newer program made, is refused and left as it \
            is. control.dsn and shard.dsns must name the database's owner.

            EXAMPLES
              zegel migrate --dir /var/tmp/zegel
              zegel migrate --config /etc/zegel/owner.yaml --json
            """)

    @OptionGroup var cluster: ClusterOptions

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    func run() async throws {
        try await reporting {
            let databases = try DatabaseSettings(cluster.settings(file: .owner), for: "zegel migrate")
            let outcomes = try await SchemaMigration(databases).run()
            if json { return answer(try zegel.json(outcomes)) }
            for outcome in outcomes {
                answer(
                    outcome.applied.isEmpty
                        ? "shard \(outcome.shard): up to date"
                        : "shard \(outcome.shard): applied \(outcome.applied.map(String.init).joined(separator: ", "))"
                )
            }
        }
    }
}
