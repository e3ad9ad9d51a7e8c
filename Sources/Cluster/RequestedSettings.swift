// What the command line and the environment say of settings, as a cluster keeps it.

import Foundation
import Settings

/// Settings that were asked for, in a form that holds wherever a node runs.
public enum RequestedSettings {
    /// `key=value` of the environment's `ZEGEL_…` variables, then of `assignments`; nil when there are none at all.
    ///
    /// Nodes get no environment and a working folder of their own: so variables become assignments, and relative paths absolute.
    /// - Throws: `configuration`, one line, for what is no setting or no value of one.
    public static func list(
        assignments: [String], environment: [String: String], currentDirectory: String
    ) throws(ClusterError) -> [String]? {
        do {
            _ = try Settings(environment: environment, assignments: assignments)
        } catch {
            throw ClusterError(.configuration, "\(error)")
        }
        let variables = Keys.entries.compactMap { entry in
            environment[entry.environmentName].map { "\(entry.name)=\($0)" }
        }
        let paths = Set(Keys.entries.filter { $0.type == "path" }.map(\.name) + ["dns.trust_anchor"])
        let all = (variables + assignments).map { assignment -> String in
            let parts = assignment.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = parts.first?.trimmingCharacters(in: .whitespaces), parts.count == 2,
                paths.contains(name)
            else { return assignment }
            let path = parts[1].trimmingCharacters(in: .whitespaces)
            if path.isEmpty || path.hasPrefix("/") || ["root", "none"].contains(path) {
                return "\(name)=\(path)"
            }
            return "\(name)=" + (currentDirectory + "/" + path as NSString).standardizingPath
        }
        return all.isEmpty ? nil : all
    }
}
