// zegel keyring: the embedded key service.

import ArgumentParser
import Cluster
import Foundation

struct KeyringCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keyring", abstract: "The embedded key service.", subcommands: [Serve.self])

    struct Serve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Serve the keyring on Unix sockets.")

        @Option(name: .long, help: ArgumentHelp("The local cluster whose keys are served.", valueName: "dir"))
        var dir: String

        func run() async throws {
            try await reporting { throw ClusterError(.usage, "not there yet") }
        }
    }
}
