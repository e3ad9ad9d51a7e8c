// A restored shard that is told by exported events what happened since.

import Foundation
import Ledger

extension RestoredCluster {
    func tell(
        _ shard: RestoreState.Shard, _ moment: Date, _ server: RestoredServer, events paths: [String],
        _ told: inout Told
    ) async throws(ClusterError) {
        let addresses = try await addresses(shard, server)
        let held = try whoHolds(told.heldTenants)
        let result = try await ClusterRecovery.asOwner(server) { session in
            var events = try ExportedEvents(paths, shard: shard.name)
            return try EventReconciliation(moment: moment, heldTenants: held, addresses: addresses)
                .run(session) { try events.next() }
        }
        told.report.brought.events += result.events
        told.report.lost = result.lost
        if let newest = result.newest {
            told.report.toldUntil = max(newest, told.report.toldUntil ?? .distantPast)
        }
    }

    /// Addresses of open recipients that an event's address has to be held against. What does not open is in doubt later.
    private func addresses(
        _ shard: RestoreState.Shard, _ server: RestoredServer
    ) async throws(ClusterError) -> [RecipientAddress] {
        let (recipients, keys) = try await ClusterRecovery.asOwner(server) { session in
            let recipients = try EventReconciliation.sealedRecipients(session)
            let keys = Set(recipients.map(\.metadataKey.batchKeyID))
            return (recipients, try RestoredLedger.batchKeys(Array(keys), session))
        }
        if recipients.isEmpty { return [] }
        let region = try plan.region(try plan.shard(shard.name).home)
        return try await SealOpener.with(
            keyring: RegionLayout(target.layout, plan, region).keyring, region: region.name,
            socket: "\(target.layout.sockets)/recovery-\(shard.name).sock", audit: target.files.audit, keys
        ) { opener in
            var all: [RecipientAddress] = []
            for recipient in recipients {
                if let address = await opener.address(recipient) { all.append(address) }
            }
            return all
        }
    }
}
