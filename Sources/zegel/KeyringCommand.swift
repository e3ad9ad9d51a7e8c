// zegel keyring: the embedded key service.

import ArgumentParser
import Cluster
import Foundation
import Logging
import Observability

struct KeyringCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keyring",
        abstract: "The embedded key service: private region keys in a process of their own.",
        discussion: """
            The keyring holds the private halves of a region's keys in a folder that only its user reads, and opens \
            wrapped batch keys for those that may: each Unix socket opens certain purposes for certain users, whom the \
            kernel names. Every use of a key is one audit record on standard error; no key ever leaves.
            """,
        subcommands: [Serve.self, List.self, Destroy.self])

    struct Serve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Serve a keyring on Unix sockets until SIGTERM.",
            discussion: """
                With --dir, the keyring of a local cluster, or of its --region. Else --keys, --region and at least one --socket, written as \
                PATH=NAME:PURPOSE[,PURPOSE][:UID[,UID]] with the purposes content and metadata; without user ids only \
                the user at hand may connect.

                EXAMPLES
                  zegel keyring serve --dir /var/tmp/zegel
                  zegel keyring serve --keys /var/lib/zegel/keyring --region r1 \\
                    --socket /run/zegel/worker.sock=worker:content,metadata:991 \\
                    --socket /run/zegel/api.sock=api:metadata:992
                """)

        @Option(
            name: .long, help: ArgumentHelp("The local cluster whose keyring is served.", valueName: "dir"))
        var dir: String?

        @Option(name: .long, help: ArgumentHelp("The folder of the private keys.", valueName: "dir"))
        var keys: String?

        @Option(name: .long, help: ArgumentHelp("The region whose keys these are.", valueName: "name"))
        var region: String?

        @Option(
            name: .long,
            help: ArgumentHelp(
                "A socket and who may ask what on it. Repeatable.", valueName: "path=name:purposes:uids"))
        var socket: [String] = []

        func run() async throws {
            try await reporting {
                let service: KeyringService
                switch (dir, keys, region) {
                case (let dir?, nil, let region) where socket.isEmpty:
                    service = try KeyringService(localClusterIn: dir, region: region)
                case (nil, let keys?, let region?) where !socket.isEmpty:
                    service = try KeyringService(
                        keys: keys, region: region,
                        sockets: socket.map { text throws(ClusterError) in
                            try KeyringService.socket(text)
                        })
                default:
                    throw ClusterError(
                        .usage,
                        "give either --dir, with --region where it has several, or --keys, --region and --socket"
                    )
                }
                for lack in ProcessHardening.apply() { say("keyring: \(lack)") }
                LogBootstrap.start(level: .info, node: "keyring")
                defer { LogBootstrap.flush() }
                try await service.run(logger: Logger(label: "zegel-keyring"))
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show the key epochs of a local cluster.",
            discussion: """
                An epoch is a day, numbered from 1970. Content of a day whose content key is destroyed is closed for ever, in \
                every backup too; metadata has keys of its own.
                """)

        @Option(name: .long, help: ArgumentHelp("The local cluster.", valueName: "dir"))
        var dir: String
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let epochs = try KeyringEpochs(localClusterIn: dir).list()
                if json { return answer(try moments(epochs)) }
                for epoch in epochs {
                    answer(
                        "\(epoch.epoch)  \(epoch.purpose)  from \(RestorePoint.text(epoch.from))  "
                            + epoch.regions.joined(separator: ", "))
                }
            }
        }
    }

    struct Destroy: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End a key epoch of a local cluster for ever, in all its regions.",
            discussion: """
                Nobody opens again what was sealed in it: not what is queued, which is held then, and not what a backup brings \
                back. Copies of the keyring's folder have to go too: they hold the key.

                EXAMPLE
                  zegel keyring destroy --dir /var/tmp/zegel --epoch 20784 --yes
                """)

        @Option(name: .long, help: ArgumentHelp("The local cluster.", valueName: "dir"))
        var dir: String
        @Option(name: .long, help: ArgumentHelp("The epoch: zegel keyring list.", valueName: "number"))
        var epoch: Int32
        @Option(name: .long, help: ArgumentHelp("content or metadata.", valueName: "purpose"))
        var purpose = "content"
        @Flag(name: .long, help: "Also an epoch that is not over: mail sealed in it cannot be delivered.")
        var evenCurrent = false
        @OptionGroup var confirmation: Confirmation

        func run() async throws {
            try await reporting {
                let epochs = try KeyringEpochs(localClusterIn: dir)
                try confirmation.ask(
                    "close for ever what was sealed with the \(purpose) key of epoch \(epoch)")
                try epochs.destroy(purpose, epoch: epoch, evenCurrent: evenCurrent)
                say("the \(purpose) key of epoch \(epoch) is destroyed")
            }
        }
    }
}
