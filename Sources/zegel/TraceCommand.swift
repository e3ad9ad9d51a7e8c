// zegel trace: what became of one message.

import API
import ArgumentParser
import Cluster
import Foundation
import Settings

struct TraceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Show what became of one message: its recipients, verdicts and timeline.",
        discussion: """
            The message id is what the edge answered after DATA: 250 2.6.0 <id> queued; with or without the brackets. A settings file needs \
            client.url, client.key_file and client.authority.

            The exit status is 1 when there is no such message.

            EXAMPLES
              zegel trace 01998f5a-7e11-7d2c-9f60-2b8f6a1c0e11 --dir /var/tmp/zegel
              zegel trace 01998f5a-7e11-7d2c-9f60-2b8f6a1c0e11 --config /etc/zegel/client.yaml --json
            """)

    @Argument(help: "The message id.")
    var id: String

    @OptionGroup var cluster: ClusterOptions

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    func run() async throws {
        try await reporting {
            let id = try messageID(id)
            let client = try cluster.client()
            guard let message = try await client.message(id) else {
                throw ClusterError(.answer, "there is no message \(id)")
            }
            if json {
                answer(try zegel.json(message))
            } else {
                answer(TraceReport(message).text.trimmingCharacters(in: .newlines))
            }
        }
    }
}

/// A message id in lower case, from one with or without the brackets in which the edge writes it.
func messageID(_ text: String) throws(ClusterError) -> String {
    let id = text.trimmingCharacters(in: CharacterSet(charactersIn: "<>"))
    guard UUID(uuidString: id) != nil else { throw ClusterError(.usage, "\(text) is no message id") }
    return id.lowercased()
}
