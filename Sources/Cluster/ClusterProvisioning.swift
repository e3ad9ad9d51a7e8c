// What a local cluster's database holds before the first node starts: schema, passwords, keys, the tenant `demo`.

import Foundation

/// Brings the database of a local cluster up to date. Safe to repeat.
struct ClusterProvisioning: Sendable {
    let prepared: PreparedCluster

    /// Why the database cannot be spoken to yet; nil when it can.
    func obstacle() async -> String? {
        let socket = "\(prepared.layout.postgresSocket)/.s.PGSQL.\(prepared.region.postgresPort)"
        return FileManager.default.fileExists(atPath: socket) ? nil : "no socket yet"
    }

    /// Does everything.
    func run() async throws(ClusterError) {}
}
