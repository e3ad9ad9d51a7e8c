// zegel recovery held: deliveries that wait for an operator's word.

import ArgumentParser
import Cluster
import Foundation
import Ledger

struct HeldCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "held",
        abstract: "Show held deliveries, and let them go.",
        discussion: """
            After a restore deliveries are held of which nobody knows what became of them, and those in doubt whose tenant \
            wants them held. Released, they are sent, and marked as possible duplicates. Returned, they are not sent: a worker \
            ends each with a notification to its sender, which says so.

            EXAMPLES
              zegel recovery held list --dir /var/tmp/zegel-then
              zegel recovery held release --dir /var/tmp/zegel-then --tenant demo --domain example.nl --yes
              zegel recovery held return --dir /var/tmp/zegel-then --older-than 2d --yes
            """,
        subcommands: [List.self, ReleaseHeld.self, ReturnHeld.self])

    /// Which ones.
    struct Selection: ParsableArguments {
        @Option(name: .long, help: ArgumentHelp("Only this tenant's.", valueName: "id"))
        var tenant: String?
        @Option(name: .long, help: ArgumentHelp("Only to this domain.", valueName: "name"))
        var domain: String?
        @Option(
            name: .long,
            help: ArgumentHelp(
                "Only what was accepted at least so long ago: 90s, 15m, 6h, 2d.", valueName: "age"))
        var olderThan: String?

        func selection() throws -> HeldSelection {
            var age: Duration?
            if let olderThan {
                let units = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
                guard let unit = olderThan.last.flatMap({ units[String($0)] }),
                    let count = Int(olderThan.dropLast()),
                    (0...100_000).contains(count)
                else {
                    throw ClusterError(.usage, "--older-than \(olderThan): write it as 90s, 15m, 6h or 2d")
                }
                age = .seconds(count * unit)
            }
            return HeldSelection(tenant: tenant, domain: domain?.lowercased(), age: age)
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show held deliveries by shard, tenant and domain.")

        @OptionGroup var folder: RecoveryCommand.Folder
        @OptionGroup var selection: Selection
        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                let all = try await folder.recovery().held(selection.selection())
                if json { return answer(try moments(all)) }
                for shard in all {
                    answer("shard \(shard.shard)  \(shard.groups.map(\.count).reduce(0, +)) held")
                    for group in shard.groups {
                        answer(
                            "  \(group.tenant)  \(group.domain)  \(group.count)  the oldest of "
                                + RestorePoint.text(group.oldest, in: .current))
                    }
                }
            }
        }
    }

    struct ReleaseHeld: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "release",
            abstract: "Let held deliveries be tried again.",
            discussion: "Each becomes an event `released`, with the reason operator-decision.")

        @OptionGroup var choice: Choice

        func run() async throws {
            try await choice.decide(.release, asking: { "send \($0) held deliveries" }, done: "are released")
        }
    }

    struct ReturnHeld: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "return",
            abstract: "End held deliveries, and tell their senders.",
            discussion: """
                Nothing is sent to their recipients. Each becomes an event `released` with the reason operator-return; a worker \
                then ends it as `cancelled` and writes a notification to the sender, unless that asked for none. One that may \
                have reached its recipient says so. What cannot be opened any more is held again.
                """)

        @OptionGroup var choice: Choice

        func run() async throws {
            try await choice.decide(
                .giveBack, asking: { "end \($0) held deliveries unsent, and tell their senders" },
                done: "are returned")
        }
    }

    /// An operator's word on some of them.
    struct Choice: ParsableArguments {
        @OptionGroup var folder: RecoveryCommand.Folder
        @OptionGroup var selection: Selection
        @OptionGroup var confirmation: Confirmation
        @Flag(name: .long, help: "Print JSON: how many of each shard.")
        var json = false

        func decide(
            _ decision: HeldDeliveries.Decision, asking: (Int) -> String, done: String
        ) async throws {
            try await reporting {
                let (recovery, which) = (try await folder.recovery(), try selection.selection())
                let count = try await recovery.held(which).flatMap(\.groups).map(\.count).reduce(0, +)
                try confirmation.ask(asking(count))
                let counts = try await recovery.decide(decision, which)
                if json { return answer(try zegel.json(counts)) }
                say("\(counts.values.reduce(0, +)) deliveries \(done)")
            }
        }
    }
}
