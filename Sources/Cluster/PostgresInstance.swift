// One plain PostgreSQL of a local cluster: made once, configured at every start.

import Foundation

/// The PostgreSQL server of a region with one member.
public struct PostgresInstance: Sendable {
    /// The name of the database in it.
    public static let database = "zegel"
    /// The superuser role.
    public static let superuser = "postgres"

    /// Where the cluster lies.
    public let layout: ClusterLayout
    /// The region that it serves.
    public let region: RegionPlan
    /// The folder of the server's programs.
    public let programs: String
    /// The user that it runs as; nil: the one at hand.
    public let user: MachineUser?

    /// Finds the server's programs and the user to run them as.
    /// - Throws: `environment` when PostgreSQL, or as root the user `postgres`, is not there.
    public init(layout: ClusterLayout, region: RegionPlan) async throws(ClusterError) {
        self.layout = layout
        self.region = region
        self.programs = try await Self.findPrograms()
        if geteuid() == 0 {
            guard let user = MachineUser(named: "postgres") else {
                throw ClusterError(
                    .environment,
                    "PostgreSQL does not run as root and there is no user postgres: install postgresql-15")
            }
            self.user = user
        } else {
            self.user = nil
        }
    }

    /// The folder with `initdb` and `postgres`: that of `pg_config`, else the newest of Debian's.
    static func findPrograms() async throws(ClusterError) -> String {
        var candidates: [String] = []
        for path in ["/usr/bin/pg_config", "/usr/local/bin/pg_config"] where access(path, X_OK) == 0 {
            let said = try? await ChildProcess.run(
                ChildSpecification(path, ["--bindir"], output: .captured), limit: .seconds(10))
            if let said { candidates.append(said.trimmingCharacters(in: .whitespacesAndNewlines)) }
        }
        let debian = "/usr/lib/postgresql"
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: debian)) ?? []
        candidates += versions.compactMap(Int.init).sorted(by: >).map { "\(debian)/\($0)/bin" }
        guard let found = candidates.first(where: { access($0 + "/initdb", X_OK) == 0 }) else {
            throw ClusterError(
                .environment, "PostgreSQL's server programs are not there: apt-get install postgresql-15")
        }
        return found
    }

    /// The address of the server as a libpq conninfo, by its Unix socket.
    public func conninfo(role: String, password: String, database: String = PostgresInstance.database)
        -> String
    {
        let folder = layout.postgresSocket.map { "\\'".contains($0) ? "\\\($0)" : "\($0)" }.joined()
        return
            "host='\(folder)' port=\(region.postgresPort) dbname=\(database) user=\(role) password=\(password)"
    }

    /// The address of the server as a URL, by TCP.
    public func url(role: String, password: String) -> String {
        "postgresql://\(role):\(password)@\(region.address):\(region.postgresPort)/\(Self.database)"
    }

    /// Makes the data folder when there is none, and writes the configuration.
    public func prepare() async throws(ClusterError) {
        try ClusterFiles.folder(layout.data, mode: 0o700, owner: user)
        try ClusterFiles.folder(layout.postgresSocket, mode: 0o711, owner: user)
        try await checkReachable()
        if access(layout.data + "/PG_VERSION", F_OK) != 0 { try await create() }
        try configure()
    }

    /// What the server is started with.
    public var specification: ChildSpecification {
        var child = ChildSpecification(
            programs + "/postgres", ["-D", layout.data], output: .file(layout.log(of: "postgres")))
        child.directory = layout.data
        child.user = user
        // An immediate stop: the postmaster takes its own children along, which SIGKILL would leave to notice it.
        child.deathSignal = SIGQUIT
        return child
    }

    private func checkReachable() async throws(ClusterError) {
        guard let user else { return }
        for path in [layout.data, layout.postgresSocket] {
            var test = ChildSpecification("/usr/bin/test", ["-w", path], output: .captured)
            test.user = user
            do {
                try await ChildProcess.run(test, limit: .seconds(10))
            } catch {
                throw ClusterError(
                    .environment,
                    "PostgreSQL runs as \(user.name), which cannot reach \(path): every folder above it must have the "
                        + "right x for others (chmod o+x), or choose another --dir")
            }
        }
    }

    /// Makes the data folder beside its place and moves it there when it is whole.
    private func create() async throws(ClusterError) {
        let files = FileManager.default
        let unfinished = layout.data + ".new"
        try? files.removeItem(atPath: unfinished)
        try ClusterFiles.folder(unfinished, mode: 0o700, owner: user)
        let password = try ClusterFiles.keptSecret(layout.password(of: Self.superuser))
        // In a file of its own that the server's user can read, and only as long as initdb needs it.
        let handover = layout.postgresSocket + "/initdb.password"
        try ClusterFiles.write(password + "\n", to: handover)
        defer { unlink(handover) }
        if let user { chown(handover, user.uid, user.gid) }
        var child = ChildSpecification(
            programs + "/initdb",
            [
                "-D", unfinished, "--username", Self.superuser, "--pwfile", handover, "--data-checksums",
                "--encoding", "UTF8", "--locale", "C.UTF-8", "--auth", "scram-sha-256", "--no-instructions",
            ], output: .captured)
        child.user = user
        try await ChildProcess.run(child, limit: .seconds(60))
        rmdir(layout.data)
        guard rename(unfinished, layout.data) == 0 else {
            throw ClusterError(.state, "\(layout.data) is neither empty nor a PostgreSQL data folder")
        }
    }

    private func configure() throws(ClusterError) {
        try write(configurationText, to: layout.data + "/postgresql.conf")
        try write(
            """
            # Written by zegel at every start.
            local all all scram-sha-256
            host all all 127.0.0.0/8 scram-sha-256

            """, to: layout.data + "/pg_hba.conf")
    }

    private func write(_ text: String, to path: String) throws(ClusterError) {
        try ClusterFiles.write(text, to: path)
        if let user { chown(path, user.uid, user.gid) }
    }

    /// `postgresql.conf`: durable, tuned for many small commits, and silent on what statements carry.
    var configurationText: String {
        """
        # Written by zegel at every start.
        listen_addresses = '\(region.address)'
        port = \(region.postgresPort)
        unix_socket_directories = '\(layout.postgresSocket)'
        unix_socket_permissions = 0777
        password_encryption = scram-sha-256
        max_connections = 200
        search_path = 'ledger, control, public'

        shared_buffers = 256MB
        maintenance_work_mem = 128MB
        effective_io_concurrency = 100
        jit = off

        # What was answered 250 is on disk.
        fsync = on
        synchronous_commit = on
        full_page_writes = on
        wal_level = replica
        wal_compression = lz4
        wal_buffers = 16MB
        max_wal_size = 2GB
        min_wal_size = 256MB
        checkpoint_timeout = 15min
        checkpoint_completion_target = 0.9

        # Queue tables die fast.
        autovacuum_naptime = 10s
        autovacuum_vacuum_cost_delay = 1ms

        timezone = 'UTC'
        log_timezone = 'UTC'
        lc_messages = 'C.UTF-8'
        log_line_prefix = '%m [%p] %a '
        # Neither statements nor their parameters nor the rows that they failed on.
        log_statement = none
        log_min_error_statement = panic
        log_parameter_max_length = 0
        log_parameter_max_length_on_error = 0
        log_error_verbosity = terse
        log_checkpoints = off

        """
    }
}
