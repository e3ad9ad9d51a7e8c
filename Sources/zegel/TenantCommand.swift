// zegel tenant: customer organisations, made and changed.

import ArgumentParser
import Cluster
import DNS
import Foundation
import Policy
import Settings

struct TenantCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tenant", abstract: "Make a tenant, change it, or stop and resume its mail.",
        discussion: """
            An edit is kept when the control shard's leader and another of its members have it; edges know it a second \
            later. While there is no such leader the command waits 30 s, then ends with status 1 and the reason: \
            give it again, it is safe to repeat. Nothing is ever half done.
            """,
        subcommands: [Set.self, Disable.self, Enable.self])

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a tenant, or change what is given here.",
            discussion: """
                EXAMPLE
                  zegel tenant set acme --name "Acme B.V." --ruleset secure --domain acme.example --dir /var/tmp/zegel
                """)

        @Argument(help: "The tenant's id: lower case letters, digits and hyphens.")
        var id: String
        @Option(name: .long, help: "Its name for people; of a new tenant its id.")
        var name: String?
        @Option(name: .long, help: "Its ruleset when no label raises it; of a new tenant secure.")
        var ruleset: String?
        @Option(name: .long, help: "A domain that it may send as; repeat for more.")
        var domain: [String] = []
        @OptionGroup var cluster: ClusterOptions

        func run() async throws {
            try await reporting {
                let settings = try cluster.settings(file: .owner)
                let names = try RulesetBook(RulesetSettings(settings)).all.map(\.name)
                if let ruleset, !names.contains(ruleset) {
                    throw ClusterError(
                        .usage, "there is no ruleset '\(ruleset)'; there are \(names.joined(separator: ", "))"
                    )
                }
                let domains = try domain.map { text in
                    guard let name = try? DomainName(text), name.isHostName else {
                        throw ClusterError(.usage, "'\(text)' is no domain name")
                    }
                    return name.text
                }
                try await apply(
                    TenantChange(id: id, name: name, ruleset: ruleset, domains: domains), settings)
                say("tenant \(id) is as you say")
            }
        }
    }

    struct Disable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take no more mail of a tenant, and let none of its keys in.",
            discussion: """
                EXAMPLE
                  zegel tenant disable acme --dir /var/tmp/zegel --yes
                """)

        @Argument(help: "The tenant's id.")
        var id: String
        @OptionGroup var cluster: ClusterOptions
        @OptionGroup var confirmation: Confirmation

        func run() async throws {
            try await reporting {
                let settings = try cluster.settings(file: .owner)
                try confirmation.ask("take no more mail of tenant \(id)")
                try await apply(TenantChange(id: id, isDisabled: true, mustExist: true), settings)
                say("tenant \(id) is disabled; zegel tenant enable \(id) ends it")
            }
        }
    }

    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take mail of a disabled tenant again.",
            discussion: """
                EXAMPLE
                  zegel tenant enable acme --dir /var/tmp/zegel
                """)

        @Argument(help: "The tenant's id.")
        var id: String
        @OptionGroup var cluster: ClusterOptions

        func run() async throws {
            try await reporting {
                try await apply(
                    TenantChange(id: id, isDisabled: false, mustExist: true), cluster.settings(file: .owner))
                say("tenant \(id) may send")
            }
        }
    }

    private static func apply(_ change: TenantChange, _ settings: Settings) async throws {
        try await TenantAdministration(DatabaseSettings(settings, for: "zegel tenant")).apply(change)
    }
}
