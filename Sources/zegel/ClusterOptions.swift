// How a command names the cluster that it speaks to.

import API
import ArgumentParser
import Cluster
import Foundation
import Observability
import Settings

/// `--dir DIR` for a local cluster, else `--config FILE` and `--set key=value`.
struct ClusterOptions: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("A local cluster's folder (also ZEGEL_DIR).", valueName: "dir"))
    var dir: String?

    @OptionGroup var sources: SettingsOptions

    /// The settings of the cluster's operator.
    /// - Parameter file: the file that a local cluster keeps for this kind of command.
    func settings(file: LocalCluster.SettingsFile) throws -> Settings {
        let environment = ProcessInfo.processInfo.environment
        if sources.config == nil, let dir = dir ?? environment["ZEGEL_DIR"] {
            let path = try LocalCluster(directory: dir).settingsFile(file)
            return try Settings(file: path, assignments: sources.set)
        }
        guard dir == nil else { throw ClusterError(.usage, "give either --dir or --config") }
        guard sources.config != nil || environment["ZEGEL_CONFIG"] != nil else {
            throw ClusterError(.usage, "which cluster? give --dir DIR (a local one) or --config FILE")
        }
        return try sources.settings()
    }
}

extension ClusterOptions {
    /// What an operator asks of the cluster's shards.
    func operations() throws -> ClusterOperations {
        let environment = ProcessInfo.processInfo.environment
        if sources.config == nil, let dir = dir ?? environment["ZEGEL_DIR"] {
            return try ClusterOperations(directory: dir)
        }
        let settings = try settings(file: .owner)
        return ClusterOperations(
            try ReplicationSettings(settings, for: "this command"),
            databases: try? DatabaseSettings(settings, for: "this command"),
            file: sources.config ?? environment["ZEGEL_CONFIG"] ?? "FILE")
    }

    /// A client of the cluster's API.
    func client() throws -> APIClient {
        let settings = try ClientSettings(settings(file: .client))
        guard let key = try? String(contentsOfFile: settings.keyFile, encoding: .utf8) else {
            throw ClusterError(.configuration, "client.key_file: \(settings.keyFile) cannot be read")
        }
        guard let authority = FileManager.default.contents(atPath: settings.authority) else {
            throw ClusterError(.configuration, "client.authority: \(settings.authority) cannot be read")
        }
        return try APIClient(
            url: settings.url, key: key.trimmingCharacters(in: .whitespacesAndNewlines),
            authoritiesPEM: Array(authority))
    }
}
