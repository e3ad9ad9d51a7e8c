// zegel guard: ends a PostgreSQL whose Patroni is stuck.

import ArgumentParser
import Cluster
import Foundation
import Logging
import Observability

struct GuardCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "guard",
        abstract: "End a PostgreSQL whose Patroni is stuck, before another member leads.",
        discussion: """
            Runs beside each member of a shard that has no watchdog device, as the user of PostgreSQL or as root. It asks \
            Patroni every two seconds whether it is alive; after three looks without an answer the postmaster gets \
            SIGQUIT. Patroni starts PostgreSQL again when it is well. A leader that nobody minds would else go on \
            writing after another one was chosen.

            EXAMPLE
              zegel guard --patroni https://192.0.2.1:8008 --data /var/lib/zegel/a/data \
                --authority /etc/zegel/ca.pem
            """)

    @Option(name: .long, help: ArgumentHelp("The member's Patroni.", valueName: "url"))
    var patroni: String

    @Option(name: .long, help: ArgumentHelp("PostgreSQL's data folder.", valueName: "dir"))
    var data: String

    @Option(
        name: .long, help: ArgumentHelp("PEM: who may vouch for Patroni's certificate.", valueName: "file"))
    var authority: String

    func run() async throws {
        try await reporting {
            let watcher = try MemberGuard(url: patroni, data: data, authority: authority)
            LogBootstrap.start(level: .info, node: "guard")
            defer { LogBootstrap.flush() }
            await watcher.run(logger: Logger(label: "zegel-guard"))
        }
    }
}
