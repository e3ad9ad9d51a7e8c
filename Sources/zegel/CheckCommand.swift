// zegel check: a configuration file held against the table of settings.

import ArgumentParser
import Foundation
import Observability

struct CheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check a configuration and print every setting and where it came from.",
        discussion: """
            Secrets are never printed. What one node needs besides is checked by the node itself: zegel-edge --check, \
            zegel-worker --check, zegel-api --check. The exit status is 78 when something is wrong.

            EXAMPLE
              zegel check --config /etc/zegel/edge.yaml --set edge.max_connections=500
            """)

    @OptionGroup var sources: SettingsOptions
    @Flag(name: .long, help: "Print JSON: each key with its value and origin.")
    var json = false

    func run() async throws {
        try await reporting {
            let settings = try sources.settings()
            answer(
                json
                    ? try zegel.json(settings.reported)
                    : settings.report().trimmingCharacters(in: .newlines))
        }
    }
}
