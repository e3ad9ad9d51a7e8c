// The executable zegel-api as an operator meets it: broken configuration, --check, a database that is away, shutdown.
import Foundation
import Lab
import Ledger
import Logging
import NIOPosix
import Sealing
import Testing

@testable import API

/// A zegel-api process.
private final class Node: Sendable {
    let child: ChildProcess
    let output: String

    init(_ arguments: [String], environment: [String: String] = [:]) async throws {
        output = FileManager.default.temporaryDirectory.appendingPathComponent("node-\(UUID()).log").path
        child = try await ChildProcess.start(
            [try Self.executable()] + arguments, environment: environment,
            directory: FileManager.default.temporaryDirectory.path, output: output)
    }

    deinit {
        child.signal(SIGKILL)
        try? FileManager.default.removeItem(atPath: output)
    }

    /// Beside the test bundle, where the same build put it.
    private static func executable() throws -> String {
        let built = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent()
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let places = [built, root.appendingPathComponent(".build/debug")].map {
            $0.appendingPathComponent("zegel-api").path
        }
        return try #require(places.first { FileManager.default.isExecutableFile(atPath: $0) })
    }

    var text: String { (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }

    /// Its exit status, nil when it did not end by itself in time.
    func end(within limit: Duration = .seconds(30)) async -> Int32? {
        guard let status = await child.waitForExit(within: limit), status & 0x7F == 0 else { return nil }
        return status >> 8 & 0xFF
    }
}

@Suite("The process zegel-api", .serialized, .timeLimit(.minutes(3)))
struct NodeProcessTests {
    private static func file(_ text: String) throws -> String {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("api-\(UUID()).yaml").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    @Test("broken configuration is one line on standard error and status 78")
    func brokenConfiguration() async throws {
        let path = try Self.file("api:\n  listn: 127.0.0.1:1\n")
        let node = try await Node(["--config", path])
        #expect(await node.end() == 78)
        #expect(node.text == "zegel-api: \(path):2: api.listn: is no setting; did you mean api.listen?\n")
        let unset = try await Node([], environment: ["ZEGEL_API_CERTIFICATE": "x"])
        #expect(await unset.end() == 78)
        #expect(
            unset.text.hasPrefix("zegel-api: configuration: api.key: is not set and zegel-api needs it; "))
        let unreadable = try await Node([
            "--set", "api.certificate=/nowhere.pem", "--set", "api.key=/nowhere.pem", "--set",
            "control.dsn=dbname=x",
            "--set", "keyring.socket=/nowhere",
        ])
        #expect(await unreadable.end() == 78)
        #expect(unreadable.text.contains("api.certificate: '/nowhere.pem' cannot be read; "))
    }

    @Test("wrong usage is status 64, --version and --check are 0, and --check shows no secret")
    func options() async throws {
        let bogus = try await Node(["--bogus"])
        #expect(await bogus.end() == 64)
        let version = try await Node(["--version"])
        #expect(await version.end() == 0)
        #expect(version.text.contains(/^\d+\.\d+\.\d+/))
        let check = try await Node(
            [
                "--check", "--set", "api.certificate=c", "--set", "api.key=k", "--set",
                "keyring.socket=/run/k",
            ], environment: ["ZEGEL_CONTROL_DSN": "host=db password=hunter2"])
        #expect(await check.end() == 0)
        #expect(check.text.contains(/control\.dsn = \(set\) +\(ZEGEL_CONTROL_DSN\)/))
        #expect(!check.text.contains("hunter2"))
    }

    @Test(
        "a running node serves events opened through the keyring's socket, leaves no core, and ends on SIGTERM with 0"
    )
    func wholeNode() async throws {
        let fixture = try await APIFixture.make()
        let key = try await fixture.apiKey(tenant: "demo")
        let id = try await fixture.accept()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("api-\(UUID())")
        try FileManager.default.createDirectory(
            at: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        defer { try? FileManager.default.removeItem(at: folder) }
        let socket = folder.path + "/keyring.sock"
        let keyring = KeyringServer(
            keyring: fixture.keys.keyring,
            sockets: [.init(path: socket, name: "api", purposes: [.metadata], userIDs: [geteuid()])],
            audit: Logger(label: "audit") { _ in SwiftLogNoOpLogHandler() },
            group: MultiThreadedEventLoopGroup.singleton)
        try await keyring.start()
        let identity = try fixture.authority.issue(["localhost"])
        try Data(identity.chainPEM).write(to: folder.appendingPathComponent("c.pem"))
        try Data(try identity.privateKeyPEM).write(to: folder.appendingPathComponent("k.pem"))
        let ports = [try Self.freePort(), try Self.freePort()]
        let path = try Self.file(
            """
            node: {name: api-1, region: a}
            control.dsn: "\(fixture.postgres.dsn(database: fixture.database, user: "zegel_api"))"
            api:
              listen: 127.0.0.1:\(ports[0])
              certificate: \(folder.path)/c.pem
              key: \(folder.path)/k.pem
            keyring.socket: \(socket)
            metrics.listen: 127.0.0.1:\(ports[1])
            """)
        let node = try await Node(["--config", path])
        #expect(
            try await eventually { try Self.status("http://127.0.0.1:\(ports[1])/readyz") == 200 },
            "\(node.text)")
        let limits = try String(contentsOfFile: "/proc/\(node.child.processID)/limits", encoding: .utf8)
        #expect(limits.contains(/Max core file size +0 +0/))
        let client = try APIClient(
            url: "https://localhost:\(ports[0])", key: key.text,
            authoritiesPEM: Array(try fixture.authority.certificate.serializeAsPEM().pemString.utf8))
        #expect(try await client.events(atLeast: 1).events.map(\.recipient) == ["b@bar.test"])
        #expect(try await client.message(id.uuidString)?.envelope?.returnPath == "a@demo.test")
        node.child.signal(SIGTERM)
        #expect(await node.end() == 0)
        await keyring.stop()
        // Law 4: whom the mail is from and to reaches no log.
        #expect(!node.text.contains("b@bar.test") && !node.text.contains("a@demo.test"))
        for line in node.text.split(separator: "\n") {
            #expect(throws: Never.self) { try JSONSerialization.jsonObject(with: Data(line.utf8)) }
        }
    }

    @Test(
        "an address in use is named; a database that is away is waited for; a crash leaves no trace of memory"
    )
    func listenAndWait() async throws {
        let fixture = try await APIFixture.make()
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("api-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let identity = try fixture.authority.issue(["localhost"])
        try Data(identity.chainPEM).write(to: folder.appendingPathComponent("c.pem"))
        try Data(try identity.privateKeyPEM).write(to: folder.appendingPathComponent("k.pem"))
        let ports = [try Self.freePort(), try Self.freePort()]
        let settings = [
            "control.dsn=host=\(folder.path) dbname=x", "api.listen=127.0.0.1:\(ports[0])",
            "api.certificate=\(folder.path)/c.pem", "api.key=\(folder.path)/k.pem",
            "keyring.socket=\(folder.path)/s",
            "metrics.listen=127.0.0.1:\(ports[1])",
        ].flatMap { ["--set", $0] }
        let first = try await Node(settings)
        #expect(
            try await eventually { try Self.status("http://127.0.0.1:\(ports[1])/healthz") == 200 },
            "\(first.text)")
        #expect(try Self.status("http://127.0.0.1:\(ports[1])/readyz") == 503)
        let second = try await Node(settings)
        #expect(await second.end() == 1)
        let named = ports.contains {
            second.text.hasSuffix("zegel-api: cannot listen on 127.0.0.1:\($0): address already in use\n")
        }
        #expect(named, "\(second.text)")
        first.child.signal(SIGINT)
        #expect(await first.end() == 0)
        // Law 4: a crash prints no registers and no memory.
        let third = try await Node(settings)
        #expect(
            try await eventually { try Self.status("http://127.0.0.1:\(ports[1])/healthz") == 200 },
            "\(third.text)")
        third.child.signal(SIGSEGV)
        let status = await third.child.waitForExit(within: .seconds(10))
        #expect(status.map { $0 & 0x7F } == SIGSEGV)
        #expect(status.map { $0 & 0x80 } == 0, "a core was written")
        #expect(!third.text.contains("acktrace") && !third.text.contains("egisters"), "\(third.text)")
    }

    private static func status(_ url: String) throws -> Int {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["10", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return Int(text) ?? 0
    }

    /// A port of 127.0.0.1 that was free a moment ago.
    private static func freePort() throws -> Int {
        let channel = try ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .bind(host: "127.0.0.1", port: 0).wait()
        defer { try? channel.close().wait() }
        return try #require(channel.localAddress?.port)
    }
}

/// Asks until it holds, at most `limit`.
func eventually(within limit: Duration = .seconds(30), _ holds: () throws -> Bool) async throws -> Bool {
    let end = ContinuousClock.now + limit
    while ContinuousClock.now < end {
        if try holds() { return true }
        try await Task.sleep(for: .milliseconds(50))
    }
    return false
}
