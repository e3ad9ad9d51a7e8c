// A real PostgreSQL for tests: its own cluster in a temporary directory, gone when the test process is.

import Foundation
import Glibc
import Postgres
import Synchronization

/// A PostgreSQL cluster of the test's own. Everyone is trusted, `postgres` is the superuser.
public final class TemporaryPostgres: Sendable {
    /// Directory of cluster, sockets and log.
    public let directory: String
    /// TCP port on 127.0.0.1, and the socket's number.
    public let port: Int
    private let child: Mutex<ChildProcess>
    private let admin: PostgresPool

    private init(directory: String, port: Int, child: ChildProcess) {
        self.directory = directory
        self.port = port
        self.child = Mutex(child)
        admin = PostgresPool(
            configuration: PostgresConfiguration(Self.dsn(directory, port, "postgres", "postgres")),
            limit: 6, waitLimit: .seconds(120))
    }

    deinit {
        // The directory is swept at exit, or by a later run.
        child.withLock { $0.signal(SIGQUIT) }
    }

    // MARK: Getting one

    /// Makes a cluster and starts it.
    /// - Parameters:
    ///   - fsync: off only where a test proves nothing about durability.
    ///   - settings: lines of `postgresql.conf`.
    public static func start(
        fsync: Bool = true, settings: [String: String] = [:]
    ) async throws -> TemporaryPostgres {
        let directory = try Leftovers.shared.makeDirectory()
        let data = directory + "/data"
        try await ChildProcess.run(
            [
                serverProgram("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-k", "-N", "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ], user: "postgres", directory: directory, limit: .seconds(120))
        for _ in 0..<5 {
            let port = try freePort()
            try configure(data, directory, port, fsync: fsync, settings)
            let child = try await launch(directory)
            if await isReady(directory, port, child) {
                return TemporaryPostgres(directory: directory, port: port, child: child)
            }
            // Most likely somebody took the port in between.
            child.signal(SIGQUIT)
            _ = await child.waitForExit(within: .seconds(10))
        }
        throw LabError("PostgreSQL does not start: \(log(directory).suffix(2000))")
    }

    /// A member that follows this cluster by streaming, with all that is in it now.
    /// - Parameter settings: lines of its `postgresql.conf`, in place of this one's.
    public func follower(settings: [String: String] = [:]) async throws -> TemporaryPostgres {
        let directory = try Leftovers.shared.makeDirectory()
        let data = directory + "/data"
        try await ChildProcess.run(
            [
                Self.serverProgram("pg_basebackup"), "-D", data, "-R", "-X", "stream", "-c", "fast", "-d",
                dsn(),
            ], user: "postgres", directory: directory, limit: .seconds(120))
        for _ in 0..<5 {
            let port = try Self.freePort()
            try Self.configure(data, directory, port, fsync: true, settings)
            let child = try await Self.launch(directory)
            if await Self.isReady(directory, port, child) {
                return TemporaryPostgres(directory: directory, port: port, child: child)
            }
            child.signal(SIGQUIT)
            _ = await child.waitForExit(within: .seconds(10))
        }
        throw LabError("the follower does not start: \(Self.log(directory).suffix(2000))")
    }

    private static let sharedTask = Mutex<Task<TemporaryPostgres, any Error>?>(nil)

    /// The cluster that all tests of this process share. Take a database of your own in it.
    public static func shared() async throws -> TemporaryPostgres {
        let task = sharedTask.withLock { task in
            if let task { return task }
            let fresh = Task { try await start(settings: ["max_connections": "300"]) }
            task = fresh
            return fresh
        }
        return try await task.value
    }

    // MARK: Using it

    /// A fresh database.
    /// - Parameter template: database to copy; nobody may be connected to it.
    /// - Returns: its name.
    public func createDatabase(template: String = "template1") async throws -> String {
        let name = "t_" + UUID().uuidString.lowercased().replacing("-", with: "")
        try await administer("CREATE DATABASE \(name) TEMPLATE \(template)")
        return name
    }

    /// Drops a database, whoever is connected.
    public func dropDatabase(_ name: String) async throws {
        try await administer("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }

    /// Runs SQL as superuser in the database `postgres`.
    public func administer(_ sql: String) async throws {
        try await admin.withConnection { connection in
            _ = try await connection.perform { try $0.execute(sql) }
        }
    }

    /// Changes a setting of the running server and reloads it; nil resets it.
    public func set(_ name: String, to value: String?) async throws {
        let change = value.map { "SET \(name) = '\($0)'" } ?? "RESET \(name)"
        try await administer("ALTER SYSTEM \(change)")
        try await administer("SELECT pg_reload_conf()")
    }

    /// Conninfo over the Unix socket.
    public func dsn(database: String = "postgres", user: String = "postgres") -> String {
        Self.dsn(directory, port, database, user)
    }

    /// Conninfo over TCP.
    public func tcpDSN(database: String = "postgres", user: String = "postgres") -> String {
        Self.dsn("127.0.0.1", port, database, user)
    }

    private static func dsn(_ host: String, _ port: Int, _ database: String, _ user: String) -> String {
        "host=\(host) port=\(port) dbname=\(database) user=\(user)"
    }

    /// The postmaster.
    public var processID: pid_t { child.withLock { $0.processID } }

    /// Whether it has not ended.
    public var isRunning: Bool { child.withLock { $0.isRunning } }

    /// The server's log.
    public var log: String { Self.log(directory) }

    // MARK: Faults

    /// Ends the server as a crash would (SIGQUIT, "immediate"); returns when it is gone.
    public func killImmediate() async throws { try await end(SIGQUIT) }

    /// Ends it in good order (SIGINT, "fast").
    public func stop() async throws { try await end(SIGINT) }

    /// Starts it again on the same data, port and sockets.
    public func restart() async throws {
        let fresh = try await Self.launch(directory)
        child.withLock { $0 = fresh }
        guard await Self.isReady(directory, port, fresh) else {
            throw LabError("PostgreSQL does not start again: \(log.suffix(2000))")
        }
    }

    private func end(_ signal: Int32) async throws {
        let child = child.withLock { $0 }
        child.signal(signal)
        if await child.waitForExit(within: .seconds(30)) == nil {
            child.signal(SIGQUIT)
            guard await child.waitForExit(within: .seconds(30)) != nil else {
                throw LabError("PostgreSQL does not end")
            }
        }
    }

    // MARK: How

    private static let programDirectory: String = {
        let pipe = Pipe()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/pg_config")
        process.arguments = ["--bindir"]
        process.standardOutput = pipe
        guard (try? process.run()) != nil else { return "/usr/lib/postgresql/15/bin" }
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        return String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }()

    /// Path of one of the server's programs (`pg_dump`, `pg_waldump`, …).
    public static func serverProgram(_ name: String) -> String { programDirectory + "/" + name }

    private static func log(_ directory: String) -> String {
        (try? String(contentsOfFile: directory + "/log", encoding: .utf8)) ?? ""
    }

    private static func configure(
        _ data: String, _ directory: String, _ port: Int, fsync: Bool, _ settings: [String: String]
    ) throws {
        var lines = [
            "listen_addresses": "127.0.0.1", "port": "\(port)", "unix_socket_directories": directory,
            "max_connections": "100", "shared_buffers": "64MB", "fsync": fsync ? "on" : "off",
            "max_wal_size": "1GB", "log_line_prefix": "%m %p %u ", "timezone": "UTC", "log_timezone": "UTC",
        ]
        lines.merge(settings) { $1 }
        let text = lines.sorted { $0.key < $1.key }.map { "\($0.key) = '\($0.value)'\n" }.joined()
        // The file keeps its owner: it is written in place.
        let path = data + "/postgresql.conf"
        guard let file = FileHandle(forWritingAtPath: path) else { throw LabError("cannot write \(path)") }
        try file.truncate(atOffset: 0)
        try file.write(contentsOf: Data(text.utf8))
        try file.close()
    }

    private static func launch(_ directory: String) async throws -> ChildProcess {
        let child = try await ChildProcess.start(
            [serverProgram("postgres"), "-D", directory + "/data"], user: "postgres", deathSignal: "QUIT",
            directory: directory, output: directory + "/log")
        Leftovers.shared.add(child)
        return child
    }

    private static func isReady(_ directory: String, _ port: Int, _ child: ChildProcess) async -> Bool {
        let configuration = PostgresConfiguration(dsn(directory, port, "postgres", "postgres"))
        let until = ContinuousClock.now + .seconds(90)
        while ContinuousClock.now < until, child.isRunning {
            if let connection = try? await PostgresConnection.connect(configuration) {
                await connection.close()
                return true
            }
            try? await Task.sleep(for: .milliseconds(50))
        }
        return false
    }

    private static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw LabError("no socket") }
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = inet_addr("127.0.0.1")
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        guard bound else { throw LabError("no free port") }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}

/// Ends clusters and removes directories when the process exits; sweeps what a run before left that was killed.
private final class Leftovers: Sendable {
    static let shared = Leftovers()

    private struct State {
        var children: [ChildProcess] = []
        var directories: [String] = []
    }
    private let state = Mutex(State())
    private static let prefix = "zegel-pg-"

    private init() {
        atexit { Leftovers.shared.clear() }
        let root = "/tmp"
        for name in (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        where name.hasPrefix(Self.prefix) {
            let owner = name.dropFirst(Self.prefix.count).prefix { $0 != "-" }
            guard let processID = pid_t(owner), kill(processID, 0) != 0, errno == ESRCH else { continue }
            try? FileManager.default.removeItem(atPath: root + "/" + name)
        }
    }

    func add(_ child: ChildProcess) { state.withLock { $0.children.append(child) } }

    /// A directory of user postgres that nobody else reads. Its path is short: a socket's name has 107 bytes.
    func makeDirectory() throws -> String {
        var template = Array("/tmp/\(Self.prefix)\(getpid())-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw LabError("no temporary directory") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        state.withLock { $0.directories.append(path) }
        if getuid() == 0, let user = getpwnam("postgres") {
            chown(path, user.pointee.pw_uid, user.pointee.pw_gid)
        }
        return path
    }

    private func clear() {
        let (children, directories) = state.withLock { ($0.children, $0.directories) }
        for child in children { child.signal(SIGQUIT) }
        let until = ContinuousClock.now + .seconds(10)
        while children.contains(where: \.isRunning), ContinuousClock.now < until { usleep(10_000) }
        for directory in directories { try? FileManager.default.removeItem(atPath: directory) }
    }
}
