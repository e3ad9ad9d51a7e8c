// What a node says of itself: logs, metrics, readiness.
import CLinux
import Foundation
import Logging
import Metrics
import ServiceLifecycle
import Settings
import Synchronization
import Testing

@testable import Observability

/// Fetches a path of a server on loopback.
private func get(_ port: Int, _ path: String) async throws -> (status: Int, body: String) {
    let url = try #require(URL(string: "http://127.0.0.1:\(port)\(path)"))
    let task = try Command.run(
        "curl", ["-sS", "--max-time", "10", "-w", "\n%{http_code}", url.absoluteString])
    let cut = try #require(task.output.lastIndex(of: "\n"))
    return (Int(task.output[task.output.index(after: cut)...]) ?? 0, String(task.output[..<cut]))
}

/// Runs a program that is installed, with a time limit of its own.
enum Command {
    static func path(_ name: String) -> String? {
        ["/usr/bin/", "/usr/local/bin/", "/bin/"].map { $0 + name }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    static func run(_ name: String, _ arguments: [String], input: String = "") throws -> (
        status: Int32, output: String
    ) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["30", name] + arguments
        let (standardInput, output) = (Pipe(), Pipe())
        process.standardInput = standardInput
        process.standardOutput = output
        process.standardError = output
        try process.run()
        standardInput.fileHandleForWriting.write(Data(input.utf8))
        try standardInput.fileHandleForWriting.close()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }
}

/// Collects log lines.
private final class Lines: Sendable {
    let all = Mutex<[String]>([])
    func logger(_ level: Logger.Level = .info) -> Logger {
        Logger(label: "test") { label in
            JSONLogHandler(label: label, node: "n1", logLevel: level) { [self] line in
                all.withLock { $0.append(String(decoding: line, as: UTF8.self)) }
            }
        }
    }
}

@Suite struct LogTests {
    @Test func aLineIsOneJSONObjectWhateverIsInIt() throws {
        let lines = Lines()
        var logger = lines.logger()
        logger[metadataKey: "shard"] = "a"
        logger.info(
            "quote \" slash \\ line\nfeed \u{1} é 😀",
            metadata: ["count": "\(3)", "list": ["a", "b"], "inner": ["x": "y"], "message": "own"])
        logger.debug("below the level")
        let written = lines.all.withLock { $0 }
        #expect(written.count == 1)
        let line = try #require(written.first)
        #expect(line.filter { $0 == "\n" }.count == 1 && line.hasSuffix("}\n"))
        let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect(object["message"] as? String == "quote \" slash \\ line\nfeed \u{1} é 😀")
        #expect(object["_message"] as? String == "own")
        #expect(object["level"] as? String == "info")
        #expect(object["node"] as? String == "n1")
        #expect(object["shard"] as? String == "a")
        #expect(object["list"] as? [String] == ["a", "b"])
        #expect(object["inner"] as? [String: String] == ["x": "y"])
        #expect((object["time"] as? String)?.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/) != nil)
    }

    @Test(arguments: [
        "password", "control_dsn", "api_token", "Authorization", "recipient", "mail_from", "subject",
    ])
    func membersNamedForSecretsOrPeopleAreWithheld(name: String) {
        let lines = Lines()
        lines.logger().info("x", metadata: [name: "canary", "nested": [name: "canary"]])
        let text = lines.all.withLock { $0.joined() }
        #expect(!text.contains("canary") && text.contains("(withheld)"))
    }

    @Test func longTextIsCutBetweenCharacters() throws {
        let lines = Lines()
        lines.logger().info("\(String(repeating: "é", count: 20_000))")
        let line = try #require(lines.all.withLock { $0.first })
        let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect((object["message"] as? String)?.last == "…")
        #expect(line.utf8.count < 9000)
    }

    @Test func aSlowReaderCostsLinesAndNotTime() throws {
        let pipe = Pipe()
        let writer = LogWriter(descriptor: pipe.fileHandleForWriting.fileDescriptor)
        let line = [UInt8](repeating: UInt8(ascii: "x"), count: 1 << 20)
        let start = ContinuousClock.now
        for _ in 0..<20 { writer.append(line) }
        #expect(ContinuousClock.now - start < .seconds(5))
        #expect(writer.dropped >= 14)
        let reader = Thread { while !pipe.fileHandleForReading.availableData.isEmpty {} }
        reader.start()
        writer.flush(patience: .seconds(10))
        try pipe.fileHandleForWriting.close()
    }

    @Test(arguments: [
        (0.0, "1970-01-01T00:00:00.000000Z"), (951_782_400.5, "2000-02-29T00:00:00.500000Z"),
        (1_795_514_400.123456, "2026-11-24T10:00:00.123456Z"), (-0.000001, "1969-12-31T23:59:59.999999Z"),
        (4_107_542_399.0, "2100-02-28T23:59:59.000000Z"),
    ])
    func timestampsAreUTCWithMicroseconds(seconds: Double, text: String) {
        #expect(Timestamp.text(Date(timeIntervalSince1970: seconds)) == text)
    }
}

@Suite struct MetricsTests {
    private func filled() -> MetricsRegistry {
        let registry = MetricsRegistry(seriesLimit: 3)
        registry.describe("zegel_test_messages", "Messages, with a \\ and\na line feed.")
        Counter(label: "zegel_test_messages", dimensions: [("outcome", "kept")], factory: registry).increment(
            by: 3)
        Counter(label: "zegel_test_messages", dimensions: [("outcome", "kept")], factory: registry).increment(
            by: 2)
        Counter(label: "zegel_test_messages", dimensions: [("outcome", "a\"b\\c\nd")], factory: registry)
            .increment()
        Gauge(label: "zegel_test_depth", factory: registry).record(2.5)
        Meter(label: "zegel_test_level", factory: registry).decrement(by: 1)
        let timer = Timer(label: "zegel_test_commit", factory: registry)
        timer.recordNanoseconds(3_000_000)
        timer.recordNanoseconds(2_000_000_000_000)
        Recorder(label: "zegel_test_batch", factory: registry).record(9)
        FloatingPointCounter(label: "zegel_test_work", factory: registry).increment(by: 1.5)
        return registry
    }

    @Test func countersGaugesAndHistogramsAreWrittenInTheTextFormat() {
        let text = filled().exposition()
        for line in [
            "# HELP zegel_test_messages_total Messages, with a \\\\ and\\na line feed.",
            "# TYPE zegel_test_messages_total counter", #"zegel_test_messages_total{outcome="kept"} 5"#,
            #"zegel_test_messages_total{outcome="a\"b\\c\nd"} 1"#, "zegel_test_depth 2.5",
            "zegel_test_level -1",
            "# TYPE zegel_test_commit_seconds histogram", #"zegel_test_commit_seconds_bucket{le="0.0025"} 0"#,
            #"zegel_test_commit_seconds_bucket{le="0.005"} 1"#,
            #"zegel_test_commit_seconds_bucket{le="600"} 1"#,
            #"zegel_test_commit_seconds_bucket{le="+Inf"} 2"#, "zegel_test_commit_seconds_sum 2000.003",
            "zegel_test_commit_seconds_count 2", #"zegel_test_batch_bucket{le="16"} 1"#,
            "zegel_test_work_total 1.5",
        ] {
            #expect(text.contains(line + "\n"), "\(line)")
        }
    }

    @Test func labelSetsPastTheLimitAreCountedTogether() {
        let registry = MetricsRegistry(seriesLimit: 3)
        for i in 0..<50 {
            Counter(label: "zegel_test_hosts", dimensions: [("host", "h\(i)")], factory: registry).increment()
        }
        let lines = registry.exposition().split(separator: "\n").filter {
            $0.hasPrefix("zegel_test_hosts_total")
        }
        #expect(lines.count == 4)
        #expect(lines.contains(#"zegel_test_hosts_total{host="other"} 47"#))
        #expect(registry.exposition().contains("zegel_metrics_overflowed_label_sets_total 47\n"))
    }

    @Test func oneNameHasOneKind() {
        let registry = MetricsRegistry()
        Gauge(label: "zegel_test_x", factory: registry).record(1)
        Recorder(label: "zegel_test_x", factory: registry).record(5)
        #expect(registry.exposition().contains("# TYPE zegel_test_x gauge\nzegel_test_x 1\n"))
    }

    @Test(.enabled(if: Command.path("promtool") != nil, "promtool is not installed"))
    func promtoolAcceptsTheExposition() throws {
        var text = filled().exposition()
        ProcessMetrics.append(to: &text)
        let checked = try Command.run("promtool", ["check", "metrics"], input: text)
        // 3 is lint advice, on the names this test made up; anything else is a format error.
        #expect(checked.status == 0 || checked.status == 3, "\(checked.output)")
    }

    @Test func theKernelsFiguresAreThere() {
        var text = ""
        ProcessMetrics.append(to: &text)
        for name in [
            "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds",
            "process_open_fds", "process_max_fds",
        ] {
            #expect(text.contains("\n\(name) "), "\(name)")
        }
    }
}

@Suite struct NodeStatusTests {
    @Test func readinessNamesTheConditionsThatFail() {
        let readiness = Readiness()
        #expect(readiness.isReady)
        readiness.expect("database", "keys")
        readiness.hold("keys")
        readiness.expect("keys")
        #expect(readiness.failing == [.init(condition: "database", reason: "not yet")])
        readiness.hold("database")
        #expect(readiness.isReady)
        readiness.fail("database", "no leader")
        #expect(readiness.failing == [.init(condition: "database", reason: "no leader")])
    }

    @Test(.enabled(if: Command.path("curl") != nil, "curl is not installed"), .timeLimit(.minutes(1)))
    func aNodeServesMetricsHealthAndReadiness() async throws {
        let readiness = Readiness()
        readiness.expect("database")
        let (ports, port) = AsyncStream<Int>.makeStream()
        let server = NodeStatusServer(
            listen: HostPort(host: "127.0.0.1", port: 0), name: "zegel-test", readiness: readiness,
            metrics: MetricsRegistry(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        ) { port.yield($0) }
        let group = ServiceGroup(
            configuration: .init(
                services: [server], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }))
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            var bound = ports.makeAsyncIterator()
            let port = try #require(await bound.next())
            #expect(try await get(port, "/healthz") == (200, "ok\n"))
            #expect(
                try await get(port, "/readyz")
                    == (
                        503,
                        #"{"ready":false,"failing":[{"condition":"database","reason":"not yet"}]}"# + "\n"
                    ))
            readiness.hold("database")
            #expect(try await get(port, "/readyz") == (200, #"{"ready":true,"failing":[]}"# + "\n"))
            let metrics = try await get(port, "/metrics")
            #expect(metrics.status == 200)
            #expect(metrics.body.contains("zegel_ready 1\n"))
            #expect(metrics.body.contains(#"zegel_build_info{role="zegel-test",version=""#))
            #expect(try await get(port, "/other").status == 404)
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }
}

@Suite("A process that sees plaintext leaves nothing behind (design law 4)")
struct ProcessHardeningTests {
    @Test(
        "memory is overwritten when it is freed, also the small blocks that a thread keeps",
        arguments: [24, 64, 500, 5_000])
    func freedMemory(_ size: Int) {
        #expect(zegel_overwrites_freed_memory() == 1)
        let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
        block.initializeMemory(as: UInt8.self, repeating: 0x5A, count: size)
        let address = Int(bitPattern: block)
        block.deallocate()
        // The allocator keeps its own links in the first words of a free block.
        let left = UnsafeRawPointer(bitPattern: address).map {
            UnsafeRawBufferPointer(start: $0, count: size)
        }
        #expect(left?.dropFirst(16).contains(0x5A) == false)
    }

    @Test("memory that grows keeps its content, and its old place is overwritten")
    func grown() throws {
        let block = try #require(malloc(100))
        memset(block, 0x5A, 100)
        let old = Int(bitPattern: block)
        let grown = try #require(realloc(block, 100_000))
        defer { free(grown) }
        #expect(UnsafeRawBufferPointer(start: grown, count: 100).allSatisfy { $0 == 0x5A })
        if let left = UnsafeRawPointer(bitPattern: old), UnsafeRawPointer(grown) != left {
            #expect(!UnsafeRawBufferPointer(start: left, count: 100).dropFirst(16).contains(0x5A))
        }
    }
}
