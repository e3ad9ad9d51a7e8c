// The folder that a cluster is restored into: a local cluster of its own, with the keys, authority and secrets of the one it comes from,
// on ports of its own.

import Foundation

/// A restored cluster's folder.
struct RestoreTarget: Sendable {
    let layout: ClusterLayout
    let files: RecoveryLayout

    init(_ layout: ClusterLayout) {
        self.layout = layout
        files = RecoveryLayout(cluster: layout)
    }

    /// What is remembered of an earlier restore into it; nil: nothing.
    func state() throws(ClusterError) -> RestoreState? { try RestoreState.load(files.restore) }

    /// Refuses a folder with anything in it that is not a restore.
    func demandRoom(_ state: RestoreState?) throws(ClusterError) {
        if state != nil { return }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: layout.directory)) ?? []
        // What a restore that was killed at its very beginning leaves.
        guard names.allSatisfy({ $0 == "restore.json.new" }) else {
            throw ClusterError(
                .usage,
                "--into \(layout.directory): the folder is not empty; a restore makes a new cluster beside the old one"
            )
        }
    }

    /// Refuses a disk that has no room for what the backups hold, and a tenth more.
    func demandSpace(_ state: RestoreState) throws(ClusterError) {
        let needed = (state.shards + (state.control.map { [$0] } ?? [])).map(\.size).reduce(0, +) / 10 * 11
        guard let free = ClusterFiles.freeSpace(at: layout.directory), free < needed else { return }
        throw ClusterError(
            .environment,
            "there is no room for it: the disk of \(layout.directory) has \(ClusterRecovery.octets(free)) left, and "
                + "\(ClusterRecovery.octets(needed)) are needed")
    }

    /// Makes the folder and what does not depend on the moment.
    func begin(_ state: RestoreState, plan: ClusterPlan, from source: ClusterLayout) throws(ClusterError) {
        try ClusterFiles.folder(layout.directory, mode: 0o755)
        // The mark first: whatever breaks off from here on is known for a restore.
        try state.save(files.restore)
        try prepare(state, plan: plan, from: source)
    }

    /// Safe to repeat.
    func prepare(_ state: RestoreState, plan: ClusterPlan, from source: ClusterLayout) throws(ClusterError) {
        for (from, to) in [(source.secrets, layout.secrets), (source.certificates, layout.certificates)]
        where !FileManager.default.fileExists(atPath: to) {
            let unfinished = to + ".new"
            try? FileManager.default.removeItem(atPath: unfinished)
            do {
                try FileManager.default.copyItem(atPath: from, toPath: unfinished)
                try FileManager.default.moveItem(atPath: unfinished, toPath: to)
            } catch {
                throw ClusterError(.environment, "cannot copy \(from): \(error.localizedDescription)")
            }
        }
        for (folder, mode) in [(layout.secrets, 0o700), (layout.certificates, 0o755), (layout.logs, 0o700)] {
            try ClusterFiles.folder(folder, mode: mode_t(mode))
        }
        // Its own repository has its own passphrase.
        unlink(files.passphrase)
        guard try ClusterPlan.load(layout.plan) == nil else { return }
        var own = plan
        let rest = plan.shards.map(\.name).filter { name in !state.shards.contains { $0.name == name } }
        if !rest.isEmpty { own.elsewhere = (plan.elsewhere ?? []) + rest }
        own.shards = plan.shards.filter { shard in state.shards.contains { $0.name == shard.name } }
        for index in own.regions.indices {
            own.regions[index].members.removeAll { member in !own.shards.contains { $0.name == member.shard }
            }
        }
        // Keys that are destroyed there are destroyed here.
        own.keyring = plan.keyring ?? source.directory + "/keyring"
        var ports: [String: LoopbackPorts] = [:]
        try own.replacePorts { (_, address, _) throws(ClusterError) in
            try ports[address, default: LoopbackPorts(address: address)].next()
        }
        try own.save(layout.plan)
    }

    /// The server of a shard, in the place where its home region will have it.
    func server(
        _ shard: String, _ programs: PostgresPrograms, passwords: String? = nil
    ) throws(ClusterError) -> RestoredServer {
        guard let plan = try ClusterPlan.load(layout.plan) else {
            throw ClusterError(
                .state, "\(layout.plan) is not there: remove \(layout.directory) and restore again")
        }
        let region = try plan.region(try plan.shard(shard).home)
        let place = RegionLayout(layout, plan, region)
        let data = place.data(shard)
        if plan.isReplicated {
            try ClusterFiles.folder(place.folder, mode: 0o711)
            try ClusterFiles.folder(place.member(shard), mode: 0o700, owner: programs.user)
        }
        try ClusterFiles.folder(layout.sockets, mode: 0o755)
        try ClusterFiles.ownFolder(layout.sockets)
        return RestoredServer(
            programs: programs, data: data, sockets: "\(layout.sockets)/restored-\(shard)",
            log: layout.log(of: "restored-\(shard)"), passwords: passwords)
    }

    /// Writes the superuser's password for a server that asks others.
    /// - Returns: the file.
    func writePasswords(_ owner: MachineUser?) throws(ClusterError) -> String {
        try ClusterFiles.folder(files.folder, mode: 0o711)
        let password = try ClusterFiles.text(layout.password(of: LedgerSite.superuser)) ?? ""
        try files.writePasswords(password, owner: owner)
        return files.passwords
    }

    /// Makes a folder empty.
    func clear(_ folder: String, owner: MachineUser?) throws(ClusterError) {
        do {
            if FileManager.default.fileExists(atPath: folder) {
                try FileManager.default.removeItem(atPath: folder)
            }
        } catch {
            throw ClusterError(.environment, "cannot empty \(folder): \(error.localizedDescription)")
        }
        try ClusterFiles.folder(folder, mode: 0o700, owner: owner)
    }
}
