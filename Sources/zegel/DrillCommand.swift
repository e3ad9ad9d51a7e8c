// zegel recovery drill: whether the newest points can be restored, tried.

import ArgumentParser
import Cluster
import Foundation

extension RecoveryCommand {
    struct Drill: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Restore the newest point aside, look whether it is whole, and remove it again.",
            discussion: """
                For a timer: the cluster goes on working meanwhile. Each shard is restored to the newest moment that all of \
                them have. Its rows are held against each other, PostgreSQL's checksums of all pages are read, seals of some \
                messages are opened through the key service, and the leader is asked what happened since. RTO is what restoring \
                took, RPO the age of the newest point.

                The report is kept as JSON and as a page, in DIR/recovery/drills or --report. The exit status is 1 when \
                something is wrong. What is restored needs as much room as the database has; --into names a place for it.

                EXAMPLES
                  zegel recovery drill --dir /var/tmp/zegel
                  zegel recovery drill --dir /var/tmp/zegel --into /mnt/scratch/drill --report /var/log/zegel --samples 200
                """)

        @OptionGroup var folder: Folder
        @Option(
            name: .long, help: ArgumentHelp("Another moment than the newest.", valueName: "timestamp"))
        var to: String?
        @Option(
            name: .long,
            help: ArgumentHelp("Where to restore to: not there, or empty.", valueName: "dir"))
        var into: String?
        @Option(name: .long, help: ArgumentHelp("Where the report goes.", valueName: "dir"))
        var report: String?
        @Option(
            name: .long, help: ArgumentHelp("Messages of each shard whose seals are opened.", valueName: "n"))
        var samples = 20
        @Flag(name: .long, help: "Print the report as JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                guard (1...10_000).contains(samples) else {
                    throw ClusterError(.usage, "--samples \(samples): between 1 and 10000")
                }
                let recovery = try await folder.recovery()
                let found = try await recovery.drill(to: to, aside: into, samples: samples, say: say)
                let files = try recovery.keep(found, in: report)
                if json {
                    answer(try moments(found))
                } else {
                    found.shards.forEach { answer(Self.text($0)) }
                    for fault in found.everyFault { answer("! \(fault)") }
                    answer(
                        "\(found.passed ? "passed" : "failed")  RTO \(Self.tenths(found.rto)) s, RPO \(Self.tenths(found.rpo)) s"
                    )
                }
                say("the report: \(files.joined(separator: ", "))")
                if !found.passed { throw ExitCode.failure }
            }
        }

        private static func tenths(_ value: Double) -> String { String(format: "%.1f", value) }

        private static func text(_ shard: DrillReport.Shard) -> String {
            let told =
                shard.reconciled.map { "\($0.ended) deliveries have ended since, \($0.unknown) nobody knows" }
                ?? "nobody to ask"
            return """
                shard \(shard.shard)  \(shard.set), \(shard.size) octets, restored in \(tenths(shard.rto)) s; the newest point was \
                \(tenths(shard.rpo)) s old
                  rows  \(shard.rows.messages) messages, \(shard.rows.openDeliveries) open deliveries, \(shard.rows.events) events
                  pages  \(shard.checksumsHold ? "all checksums are right" : "checksums are wrong")
                  seals  \(shard.seals.opened) of \(shard.seals.tried) opened, \(shard.seals.contents) of them contents; \
                \(shard.seals.destroyed) keys are destroyed
                  since  \(told)
                """
        }
    }
}
