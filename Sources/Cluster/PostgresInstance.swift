// One plain PostgreSQL of a local cluster: made once, configured at every start.

import Foundation

/// The PostgreSQL server of a region with one member.
public struct PostgresInstance: Sendable {
    /// The name of the database in it.
    public static let database = "zegel"
    /// The superuser role.
    public static let superuser = "postgres"

    /// Where its region lies.
    let layout: RegionLayout
    /// The address that it listens on.
    let address: String
    /// Its shard and port.
    let member: MemberPlan
    /// The server's programs, and who runs them.
    let programs: PostgresPrograms
    /// What it is told of archiving.
    var archiving = PostgresParameter.noArchive

    /// Makes the data folder when there is none, and writes the configuration.
    func prepare() async throws(ClusterError) {
        try ClusterFiles.folder(data, mode: 0o700, owner: programs.user)
        try ClusterFiles.folder(layout.postgresSockets, mode: 0o711, owner: programs.user)
        try await programs.checkReachable([data, layout.postgresSockets])
        if access(data + "/PG_VERSION", F_OK) != 0 { try await create() }
        try configure()
    }

    private var data: String { layout.data(member.shard) }

    /// What the server is started with.
    var specification: ChildSpecification {
        var child = ChildSpecification(
            programs.folder + "/postgres", ["-D", data],
            output: .file(layout.cluster.log(of: name)))
        child.directory = data
        child.user = programs.user
        // An immediate stop: the postmaster takes its own children along, which SIGKILL would leave to notice it.
        child.deathSignal = SIGQUIT
        return child
    }

    /// The name of its process and log.
    var name: String { member.shard == "a" ? "postgres" : "postgres-\(member.shard)" }

    /// Makes the data folder beside its place and moves it there when it is whole.
    private func create() async throws(ClusterError) {
        let files = FileManager.default
        let unfinished = data + ".new"
        try? files.removeItem(atPath: unfinished)
        try ClusterFiles.folder(unfinished, mode: 0o700, owner: programs.user)
        let password = try ClusterFiles.keptSecret(layout.cluster.password(of: Self.superuser))
        // In a file of its own that the server's user can read, and only as long as initdb needs it.
        let handover = layout.postgresSockets + "/initdb.password"
        try ClusterFiles.write(password + "\n", to: handover)
        defer { unlink(handover) }
        if let user = programs.user { chown(handover, user.uid, user.gid) }
        var child = ChildSpecification(
            programs.folder + "/initdb",
            [
                "-D", unfinished, "--username", Self.superuser, "--pwfile", handover, "--data-checksums",
                "--encoding", "UTF8", "--locale", "C.UTF-8", "--auth", "scram-sha-256", "--no-instructions",
            ], output: .captured)
        child.user = programs.user
        try await ChildProcess.run(child, limit: .seconds(60))
        rmdir(data)
        guard rename(unfinished, data) == 0 else {
            throw ClusterError(.state, "\(data) is neither empty nor a PostgreSQL data folder")
        }
    }

    private func configure() throws(ClusterError) {
        try write(configurationText, to: data + "/postgresql.conf")
        try write(
            """
            # Written by zegel at every start.
            local all all scram-sha-256
            host all all 127.0.0.0/8 scram-sha-256

            """, to: data + "/pg_hba.conf")
    }

    private func write(_ text: String, to path: String) throws(ClusterError) {
        try ClusterFiles.write(text, to: path, owner: programs.user)
    }

    /// `postgresql.conf`.
    var configurationText: String {
        let own: [PostgresParameter] = [
            .init("listen_addresses", address), .init("port", "\(member.port)"),
            .init("unix_socket_directories", layout.postgresSockets),
            .init("unix_socket_permissions", "0777"), .init("max_connections", "200"),
            .init("wal_level", "replica"),
        ]
        return "# Written by zegel at every start.\n"
            + (own + PostgresParameter.common + archiving).map { $0.line + "\n" }.joined()
    }
}
