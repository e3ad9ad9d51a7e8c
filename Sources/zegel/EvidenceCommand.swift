// zegel evidence: what a delivery or a refusal rested on, taken out and verified anywhere.

import API
import ArgumentParser
import Cluster
import Foundation
import SmartTLS

struct EvidenceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evidence",
        abstract: "Take out what deliveries and refusals rested on, and verify it anywhere.",
        discussion: """
            Evidence holds, for each recipient that was served or refused: the remote server's answer, and the judgement \
            it rests on: the DNS answers as they came, with their signatures, what the TLS handshake showed, the \
            certificates, the ruleset, the findings and the verdict. The event of the delivery carries its digest.

            EXAMPLES
              zegel evidence export 01998f5a-7e11-7d2c-9f60-2b8f6a1c0e11 --dir /var/tmp/zegel --output evidence.json
              zegel evidence verify evidence.json
            """,
        subcommands: [Export.self, Verify.self])

    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the evidence of one message to a file.",
            discussion: """
                The exit status is 1 when there is no such message, or nothing of it was delivered or refused yet.
                """)

        @Argument(help: "The message id.")
        var id: String

        @Option(name: .shortAndLong, help: "The file; standard output without it.")
        var output: String?

        @OptionGroup var cluster: ClusterOptions

        func run() async throws {
            try await reporting {
                let id = try messageID(id)
                guard let octets = try await cluster.client().evidence(id) else {
                    throw ClusterError(.answer, "there is no evidence of message \(id) (yet)")
                }
                guard let output else { return FileHandle.standardOutput.write(Data(octets)) }
                do {
                    try Data(octets).write(to: URL(fileURLWithPath: output), options: .atomic)
                } catch {
                    throw ClusterError(
                        .environment, "\(output) cannot be written: \(error.localizedDescription)")
                }
                say("\(octets.count) octets in \(output)")
            }
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Verify a file of evidence by making every judgement in it again.",
            discussion: """
                Needs no cluster and no network. The certificates are checked as of the moment of the judgement, so old \
                evidence verifies too. What is taken on trust: that the connection was as recorded, and what DNSSEC \
                validation said of each answer at the time. That the file is what was recorded then is proven by the \
                digest in the event of the delivery: compare it with --digest.

                The exit status is 1 when it does not hold.

                EXAMPLE
                  zegel evidence verify evidence.json --digest 3f7a…
                """)

        @Argument(help: "The file.")
        var file: String

        @Option(
            name: .long,
            help: "A digest from an event (evidence_digest) that must be in the file; repeatable.")
        var digest: [String] = []

        @Flag(name: .long, help: "Print JSON.")
        var json = false

        func run() async throws {
            try await reporting {
                guard let octets = FileManager.default.contents(atPath: file) else {
                    throw ClusterError(.environment, "\(file) cannot be read")
                }
                let evidence: EvidenceFile
                do {
                    evidence = try await EvidenceFile.verified(Array(octets))
                } catch let error as EvidenceError {
                    throw ClusterError(.answer, "\(file) does not hold: \(error)")
                }
                for digest in digest
                where !evidence.deliveries.contains(where: { $0.digest == digest.lowercased() }) {
                    throw ClusterError(.answer, "\(file) holds no delivery with the digest \(digest)")
                }
                let report = EvidenceReport(evidence)
                answer(json ? try zegel.json(report) : report.text)
            }
        }
    }
}
