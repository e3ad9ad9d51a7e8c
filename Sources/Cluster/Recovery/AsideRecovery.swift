// A shard that is recovered beside a restored cluster, for as long as it is asked something: the end of its archive, or another shard at
// the same moment.

import Foundation
import Ledger

/// Recovers shards aside.
struct AsideRecovery: Sendable {
    let target: RestoreTarget
    let programs: PostgresPrograms
    let repository: BackupRepository

    /// Recovers a shard, does something while its server runs, and removes it.
    /// - Parameters:
    ///   - moment: nil: the end of its archive.
    ///   - body: gets the server, and where its WAL ends, in octets.
    func run(
        _ shard: RestoreState.Shard, to moment: Date?,
        _ body: (RestoredServer, Int) async throws(ClusterError) -> Void
    ) async throws(ClusterError) {
        let aside = target.files.aside(shard.name)
        try ClusterFiles.folder(target.files.folder, mode: 0o711)
        let server = RestoredServer(
            programs: programs, data: aside, sockets: "\(target.layout.sockets)/aside-\(shard.name)",
            log: target.layout.log(of: "aside-\(shard.name)"))
        try await server.endLeftover()
        try await repository.endLeftover(into: aside)
        try target.clear(aside, owner: programs.user)
        try await repository.restore(shard.name, set: shard.set, into: aside)
        try server.configure(recovery: repository.recovery(shard, to: moment, data: aside))
        try await server.run { (process) throws(ClusterError) in
            try await server.awaitRecovered(process) { _ in }
            try await ClusterRecovery.migrate(server)
            let end = try await ClusterRecovery.asOwner(server) { try RestoredLedger.position($0) }
            try await body(server, end)
        }
        try target.clear(aside, owner: programs.user)
        rmdir(aside)
    }
}
