// The operator's command line.

import ArgumentParser
import Cluster
import Foundation
import Observability
import Settings

@main
struct ZegelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "zegel",
        abstract: "Operate a Zegel secure-mail delivery cluster.",
        discussion: """
            Zegel takes an organisation's outgoing mail, seals it, judges whether the recipient's mail server is safe \
            enough, and delivers or refuses, and proves which of the two it did and why.

            Commands that speak to a cluster take --dir DIR (a local cluster) or --config FILE. Commands that report \
            take --json. The exit status is 0 only when the command did what it says; 64 when the command line makes no \
            sense, 78 when the configuration is broken, 1 for everything else.

            EXAMPLES
              zegel local up --dir /var/tmp/zegel --detach
              zegel local status --dir /var/tmp/zegel
              zegel trace 01998f5a-7e11-7d2c-9f60-2b8f6a1c0e11 --dir /var/tmp/zegel
              zegel local down --dir /var/tmp/zegel
            """,
        version: Release.version,
        subcommands: [
            LocalCommand.self, TraceCommand.self, JudgeCommand.self, EvidenceCommand.self,
            MigrateCommand.self, TenantCommand.self,
            ShardCommand.self, RegionCommand.self, RecoveryCommand.self, KeyringCommand.self,
            GuardCommand.self,
            TimelineCommand.self, CheckCommand.self,
        ])
}

/// Says something on standard error.
@Sendable func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

/// Says something on standard output.
@Sendable func answer(_ text: String) { FileHandle.standardOutput.write(Data((text + "\n").utf8)) }

/// A value as JSON for programs: keys sorted, slashes as they are.
func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
}

/// Runs the work of a command; a failure is one line on standard error and the exit status that it deserves.
func reporting(_ work: () async throws -> Void) async throws {
    do {
        try await work()
    } catch let code as ExitCode {
        throw code
    } catch let error as ClusterError {
        say("zegel: \(error)")
        switch error.code {
        case .usage: throw ExitCode.validationFailure
        case .configuration: throw ExitCode(SettingsError.exitCode)
        case .environment, .process, .timeout, .state, .answer: throw ExitCode.failure
        }
    } catch let error as SettingsError {
        say("zegel: \(error)")
        throw ExitCode(SettingsError.exitCode)
    } catch {
        say("zegel: \(error)")
        throw ExitCode.failure
    }
}
