// Lets a restored cluster go: from then on it delivers.

import Foundation
import Ledger

extension RestoredCluster {
    /// Makes it a cluster like any other: nodes may log in, and the next `zegel local up` starts them.
    /// - Parameters:
    ///   - unasked: also where the members that told what happened since do not answer any more; what was open then is in doubt.
    ///   - keepsCredentials: also where nobody told which were revoked since; else none of them works any more, and the cluster's own are
    ///     made anew.
    /// - Returns: how the deliveries of each shard stand.
    public func promote(
        unasked: Bool = false, keepsCredentials: Bool = false, say: @Sendable (String) -> Void
    ) async throws(ClusterError) -> [Report] {
        var state = try state(for: "zegel recovery reconcile \(option)")
        guard state.stage == .reconciled else {
            throw ClusterError(
                .state,
                "nobody has told yet what happened since \(RestorePoint.text(state.moment)): mail would be sent twice; "
                    + "first zegel recovery reconcile \(option) --from DIR, or --archive")
        }
        let silent = try await askAgain(state, unasked: unasked)
        var reports: [Report] = []
        var held: [String]?
        for shard in state.shards {
            let isControl = shard.name == plan.shards.first?.name
            let server = try target.server(shard.name, programs, passwords: isControl ? passwords() : nil)
            let isDoubtful = silent.contains(shard.name)
            let (known, isHeldByAll) = (held, try whoHolds([]) == nil)
            let (tenants, tally) = try await server.run { (process) throws(ClusterError) in
                try await server.awaitReady(process)
                if isControl { try await settleCredentials(state, server, keepsCredentials, say) }
                say("shard \(shard.name): letting nodes in")
                return try await ClusterRecovery.asOwner(server) { session in
                    let tenants = try known ?? ControlReconciliation.heldTenants(session)
                    // Also where nothing is doubtful now: a tenant may have chosen otherwise a moment ago.
                    try Reconciliation.conclude(
                        session, isDoubtful: isDoubtful, heldTenants: isHeldByAll ? nil : tenants)
                    try RestoredLedger.open(session)
                    return (tenants, try RestoredLedger.tally(session))
                }
            }
            held = tenants
            var report = Report(shard: shard.name)
            report.deliveries = tally
            reports.append(report)
        }
        state.stage = .promoted
        try state.save(target.files.restore)
        say(
            "it is a cluster of its own now: zegel local up \(option). Its keys are in \(plan.keyring ?? ""): without that folder "
                + "nobody opens its content")
        return reports
    }

    /// What was revoked until this moment stays so: whoever has tenants and credentials is asked once more, if anybody lives.
    private func settleCredentials(
        _ state: RestoreState, _ server: RestoredServer, _ keepsCredentials: Bool,
        _ say: @Sendable (String) -> Void
    ) async throws(ClusterError) {
        let folder = state.asked ?? state.source
        if let control = state.control ?? state.shards.first, let old = try? await OldCluster(folder),
            await old.isThere(control)
        {
            var told = Told(report: Report(shard: control.name), heldTenants: [])
            do throws(ClusterError) {
                return try await tellControl(control, server, by: old, &told)
            } catch {
                // Something else may live where it came from.
                guard state.asked == nil else { throw error }
                say("\(folder) does not tell what was revoked since: \(error.message)")
            }
        }
        if state.isControlTold == true || keepsCredentials { return }
        // Secrets first: broken off here, whatever is told later, the next start makes new ones.
        for secret in DemoTenant.secrets(target.layout) { unlink(secret) }
        let count = try await ClusterRecovery.asOwner(server) {
            try ControlReconciliation.revokeAll($0, reissued: DemoTenant.user)
        }
        say(
            "nobody told which credentials were revoked since: all \(count) credentials and API keys work no more; those of "
                + "endpoints.json are new")
    }

    /// Whoever told what was open may have gone on since.
    /// - Returns: shards whose members cannot be asked any more.
    private func askAgain(_ state: RestoreState, unasked: Bool) async throws(ClusterError) -> Set<String> {
        guard let folder = state.asked else { return [] }
        var silent: Set<String> = []
        let old = try? await OldCluster(folder)
        for shard in state.shards {
            guard let told = shard.told else { continue }
            guard let old, await old.isThere(shard) else {
                silent.insert(shard.name)
                continue
            }
            let now = try await old.member(shard)
            // One that follows may lack what its leader did.
            guard now.isFinal else {
                silent.insert(shard.name)
                continue
            }
            guard now.standing.work == told else {
                throw ClusterError(
                    .state,
                    "something has happened in shard \(shard.name) of \(folder) since it was asked: zegel recovery reconcile "
                        + "\(option) --from \(folder) once more")
            }
        }
        if !silent.isEmpty, !unasked {
            throw ClusterError(
                .state,
                "shard \(silent.sorted().joined(separator: ", ")) of \(folder) has no leader that answers, and may have delivered since it was "
                    + "asked: start it (zegel local up --dir \(folder) --workers 0 --edges 0), or give --unasked: what was open then is in doubt"
            )
        }
        return silent
    }
}
