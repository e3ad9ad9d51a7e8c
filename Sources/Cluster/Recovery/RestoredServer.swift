// The PostgreSQL of a shard that is being restored. It listens on one private socket, archives nothing, follows nobody and waits for
// nobody: whatever the shard that it comes from was told of these is overwritten before its first start.

import Foundation
import Ledger
import Postgres

/// A restored shard's own server, run by a command for as long as it needs it.
struct RestoredServer: Sendable {
    /// Seconds that it may take to let somebody in, or to end.
    static let patience = Duration.seconds(60)
    // Its socket's name.
    private static let port = 5432

    let programs: PostgresPrograms
    /// PostgreSQL's data folder.
    let data: String
    /// A folder of its own for its socket: nobody but its user and root come in.
    let sockets: String
    /// Where it prints.
    let log: String
    /// Passwords for the servers that it asks; nil: it asks none.
    var passwords: String?

    /// The shard's own database, as its owner.
    func owner(_ database: String = LedgerSite.database) -> PostgresConfiguration {
        PostgresConfiguration(
            "host='\(sockets)' port=\(Self.port) dbname=\(database) user=\(LedgerSite.superuser)",
            applicationName: "zegel-recovery", connectTimeout: .seconds(5))
    }

    /// The same, as another server reaches it.
    var link: SourceLink {
        SourceLink(
            sockets: sockets, port: Self.port, database: LedgerSite.database, role: LedgerSite.superuser)
    }

    /// What it is told.
    /// - Parameter recovery: parameters of a recovery; empty: there is none to do.
    func configure(recovery: [PostgresParameter]) throws(ClusterError) {
        let own: [PostgresParameter] = [
            .init("listen_addresses", ""), .init("port", "\(Self.port)"),
            .init("unix_socket_directories", sockets), .init("unix_socket_permissions", "0700"),
            .init("hba_file", data + "/pg_hba.conf"), .init("ident_file", data + "/pg_ident.conf"),
            // No less than any member had: recovery refuses to show anything then.
            .init("max_connections", "400"), .init("max_wal_senders", "10"),
            .init("max_replication_slots", "10"),
            .init("wal_level", "replica"), .init("hot_standby", "on"), .init("ssl", "off"),
            .init("archive_mode", "off"), .init("primary_conninfo", ""), .init("primary_slot_name", ""),
            .init("synchronous_standby_names", ""), .init("cluster_name", "zegel-restored"),
        ]
        let overridden = Set(own.map(\.name))
        let text =
            "# Written by zegel recovery: a restored shard that nobody but its operator reaches.\n"
            + (PostgresParameter.common.filter { !overridden.contains($0.name) } + own + recovery)
            .map { $0.line + "\n" }.joined()
        try write(text, "postgresql.conf")
        // What the shard was told by ALTER SYSTEM, by Patroni, or by an earlier recovery counts for nothing here.
        try write("", "postgresql.auto.conf")
        try write("# The socket's folder says who may.\nlocal all all trust\n", "pg_hba.conf")
        try write("", "pg_ident.conf")
        for name in [
            "postgresql.base.conf", "postgresql.base.conf.backup", "postgresql.conf.backup",
            "patroni.dynamic.json",
            "standby.signal", "recovery.signal", "postmaster.pid", "postmaster.opts",
        ] { unlink(data + "/" + name) }
        if !recovery.isEmpty { try write("", "recovery.signal") }
        try ClusterFiles.folder(sockets, mode: 0o700, owner: programs.user)
    }

    private func write(_ text: String, _ name: String) throws(ClusterError) {
        let path = data + "/" + name
        try ClusterFiles.write(text, to: path, owner: programs.user)
    }

    /// Ends what an earlier command left running: killed, it could not.
    func endLeftover() async throws(ClusterError) {
        guard let pid = Postmaster(data: data).pid else { return }
        kill(pid, SIGINT)
        let deadline = ContinuousClock.now + Self.patience
        while Postmaster(data: data).pid == pid {
            guard ContinuousClock.now < deadline else {
                throw ClusterError(.timeout, "the PostgreSQL in \(data) does not end (process \(pid))")
            }
            try await pause()
        }
    }

    /// Starts it, does something, and ends it again, whatever comes of it.
    func run<T: Sendable>(
        _ body: (ChildProcess) async throws(ClusterError) -> T
    ) async throws(ClusterError) -> T {
        try await endLeftover()
        var child = ChildSpecification(programs.folder + "/postgres", ["-D", data], output: .file(log))
        child.directory = data
        child.user = programs.user
        if let passwords { child.environment["PGPASSFILE"] = passwords }
        // With its starter it ends at once, its children too.
        child.deathSignal = SIGQUIT
        let server = try await ChildProcess.start(child)
        let result: Result<T, ClusterError>
        do throws(ClusterError) { result = .success(try await body(server)) } catch {
            result = .failure(error)
        }
        server.send(signal: SIGINT)
        let watchdog = Task {
            try await Task.sleep(for: Self.patience)
            server.send(signal: SIGQUIT)
        }
        _ = await server.exit()
        watchdog.cancel()
        return try result.get()
    }

    /// Waits until it lets somebody in.
    /// - Throws: `process`, with the end of its log, when it ended instead.
    func awaitReady(_ server: ChildProcess) async throws(ClusterError) {
        while true {
            if let connection = try? await PostgresConnection.connect(owner()) {
                await connection.close()
                return
            }
            try checkAlive(server)
            try await pause()
        }
    }

    /// Recovers to the end, and returns when the shard can be written to.
    /// - Parameter progress: called now and then with the newest transaction that is there.
    func awaitRecovered(
        _ server: ChildProcess, progress: (Date) -> Void
    ) async throws(ClusterError) {
        while true {
            if let connection = try? await PostgresConnection.connect(owner("postgres")) {
                let standing = try? await connection.perform { try RestoredLedger.standing($0) }
                await connection.close()
                if let standing {
                    if !standing.isRecovering { return }
                    if let moment = standing.replayed { progress(moment) }
                }
            }
            try checkAlive(server)
            try await pause()
        }
    }

    private func checkAlive(_ server: ChildProcess) throws(ClusterError) {
        if server.hasEnded {
            throw ClusterError(
                .process,
                "PostgreSQL ended while it recovered; the end of \(log):\n\(ClusterFiles.tail(log, lines: 8))"
            )
        }
    }

    private func pause() async throws(ClusterError) {
        do { try await Task.sleep(for: .milliseconds(100)) } catch {
            throw ClusterError(.process, "interrupted")
        }
    }
}
