// What a configuration may say, and the one line that a broken one gets.
import Foundation
import Testing

@testable import Settings

/// A configuration file in a folder of its own, named in errors without the folder.
private func loading(
    _ yaml: String? = nil, environment: [String: String] = [:], set: [String] = []
) throws -> (Settings, folder: String) {
    guard let yaml else { return (try Settings(environment: environment, assignments: set), "") }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("settings-\(UUID())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = folder.appendingPathComponent("edge.yaml")
    try Data(yaml.utf8).write(to: file)
    return (try Settings(file: file.path, environment: environment, assignments: set), folder.path + "/")
}

/// The line that a configuration is refused with, without the folder's name.
private func refusal(
    _ yaml: String? = nil, environment: [String: String] = [:], set: [String] = [],
    reading: (Settings) throws -> Void = { _ in }
) -> String {
    do {
        let (settings, _) = try loading(yaml, environment: environment, set: set)
        try reading(settings)
        return "accepted"
    } catch {
        let text = "\(error)"
        guard let name = text.range(of: "edge.yaml") else { return text }
        return String(text[name.lowerBound...])
    }
}

@Suite struct SettingsTests {
    @Test func defaultsHoldWithoutAnySource() throws {
        let settings = try Settings()
        let edge = NodeSettings(settings)
        #expect(edge.metricsListen == HostPort(host: "127.0.0.1", port: 9464))
        #expect(DeliverySettings(settings).retry == [60, 120, 300, 900, 1800].map { Duration.seconds($0) })
        #expect(DeliverySettings(settings).expire == .seconds(5 * 86_400))
        #expect(DNSSettings(settings).trustAnchor == .root)
        #expect(WorkerSettings(settings).lease == .seconds(15))
        #expect(KeySettings(settings).keyringSocket == nil)
    }

    @Test func everyKeyOfTheTableHasAValueAndAVariableOfItsOwn() throws {
        let settings = try Settings()
        #expect(Set(Keys.entries.map(\.name)).count == Keys.entries.count)
        #expect(Set(Keys.entries.map(\.environmentName)).count == Keys.entries.count)
        for key in Keys.all { #expect(settings.held[key.entry.name] != nil, "\(key.entry.name)") }
        #expect(SettingsReference.coversEveryKey)
    }

    @Test func scansHoldForARangeOfTimes() throws {
        let scan = try ScanSettings(Settings())
        #expect(scan.hosts == .ruleset && scan.life == .seconds(3_600) ... .seconds(86_400))
        #expect(try ScanSettings(Settings(assignments: ["scan.hosts=all"])).hosts == .all)
        let refused = refusal(set: ["scan.fresh_min=2h", "scan.fresh_max=1h"]) { _ = try ScanSettings($0) }
        #expect(refused.contains("scan.fresh_max: is less than scan.fresh_min"), "\(refused)")
    }

    @Test func laterSourcesWin() throws {
        let yaml = "worker.concurrency: 10\nworker:\n  prefetch: 11\n  per_destination: 12\n"
        let (settings, folder) = try loading(
            yaml, environment: ["ZEGEL_WORKER_PREFETCH": "21", "ZEGEL_WORKER_PER_DESTINATION": "22"],
            set: ["worker.per_destination=32", "worker.per_destination=33"])
        let worker = WorkerSettings(settings)
        #expect(worker.concurrency == 10)
        #expect(worker.prefetch == 21)
        #expect(worker.perDestination == 33)
        #expect("\(settings.origin(of: Keys.workerConcurrency))" == "\(folder)edge.yaml:1")
        #expect("\(settings.origin(of: Keys.workerPrefetch))" == "ZEGEL_WORKER_PREFETCH")
        #expect("\(settings.origin(of: Keys.workerPerDestination))" == "--set")
        #expect("\(settings.origin(of: Keys.workerLease))" == "default")
    }

    @Test func listsAreTextSequencesOrMappings() throws {
        let yaml = """
            edge:
              listen: ["127.0.0.1:2525", "[::1]:2526"]
              tenant_networks: {10.0.0.0/8: demo, "2001:db8::/32": other}
            delivery.routes: example.org=gw.example.net:2500, Example.COM=[::1]:25
            dns.forwarders:
              - 127.0.0.1@5377
              - 192.0.2.1
            shard.dsns: "a=host=/run dbname=a;b=host=/run dbname=b"
            """
        let (settings, _) = try loading(yaml, set: ["edge.require_tls=false"])
        let edge = try EdgeSettings(settings)
        #expect(edge.listen.map(\.description) == ["127.0.0.1:2525", "[::1]:2526"])
        #expect(edge.tenantNetworks.map(\.description) == ["10.0.0.0/8=demo", "2001:db8::/32=other"])
        #expect(
            DeliverySettings(settings).routes.map(\.description) == [
                "example.org=gw.example.net:2500", "example.com=[::1]:25",
            ])
        #expect(DNSSettings(settings).forwarders.map(\.description) == ["127.0.0.1@5377", "192.0.2.1@53"])
        #expect(settings[Keys.shardDSNs].map(\.dsn) == ["host=/run dbname=a", "host=/run dbname=b"])
    }

    @Test func oneShardIsTheControlDatabaseByDefault() throws {
        let settings = try Settings(assignments: ["control.dsn=host=/run dbname=zegel password=hunter2"])
        let databases = try DatabaseSettings(settings, for: "zegel-edge")
        #expect(databases.shards.map(\.name) == ["a"])
        #expect(databases.shards.map(\.dsn) == [databases.controlDSN])
    }

    @Test(arguments: [
        (
            "edge.yaml:3: edge.max_conections: is no setting; did you mean edge.max_connections?",
            "edge:\n  hostname: mx.example.org\n  max_conections: 5\n"
        ),
        (
            "edge.yaml:1: edeg.listen: is no setting; did you mean edge.listen?",
            "edeg.listen: 127.0.0.1:25\n"
        ),
        (
            "edge.yaml:2: qqqqqqqqqqq.zzzzzzz: is no setting; see docs/configuration.md or --check for all settings",
            "\nqqqqqqqqqqq.zzzzzzz: 1\n"
        ),
        (
            "edge.yaml:1: edge.settle: '60' is no duration; write a number with ms, s, m, h or d, such as 15s or 1h30m",
            "edge.settle: 60\n"
        ),
        (
            "edge.yaml:1: edge.settle: 11m is out of range; write a duration between 1s … 10m",
            "edge.settle: 11m\n"
        ),
        (
            "edge.yaml:1: edge.max_message_size: 'big' is no size; write bytes, or a number with KB, MB, GB, KiB, MiB, GiB",
            "edge.max_message_size: big\n"
        ),
        (
            "edge.yaml:1: edge.max_message_size: 2GiB is out of range; write a size between 64KiB … 1GiB",
            "edge.max_message_size: 2GiB\n"
        ),
        (
            "edge.yaml:1: worker.concurrency: 'ten' is no whole number; write one between 1 … 10000",
            "worker.concurrency: ten\n"
        ),
        (
            "edge.yaml:1: worker.concurrency: 0 is out of range; write one between 1 … 10000",
            "worker.concurrency: 0\n"
        ),
        (
            "edge.yaml:1: edge.require_tls: 'maybe' is neither true nor false; write true or false",
            "edge.require_tls: maybe\n"
        ),
        (
            "edge.yaml:1: delivery.in_doubt: 'drop' is not a choice; write one of resend, hold",
            "delivery.in_doubt: drop\n"
        ),
        (
            "edge.yaml:1: edge.listen: '127.0.0.1' is no host:port; write one such as 127.0.0.1:2525",
            "edge.listen: 127.0.0.1\n"
        ),
        (
            "edge.yaml:1: edge.tenant_networks: '10.0.0.1/8=demo' is no cidr=tenant; write one such as 10.1.0.0/16=demo",
            "edge.tenant_networks: 10.0.0.1/8=demo\n"
        ),
        (
            "edge.yaml:1: delivery.routes: 'example.org' is no domain=host:port; write one such as example.org=gw.example.net:25",
            "delivery.routes: example.org\n"
        ),
        (
            "edge.yaml:1: dns.forwarders: 'ns1@53' is no address@port; write one such as 192.0.2.53@53",
            "dns.forwarders: ns1@53\n"
        ),
        (
            "edge.yaml:1: delivery.source_address: 'eth0' is no IP address; write one such as 192.0.2.1 or 2001:db8::1",
            "delivery.source_address: eth0\n"
        ),
        (
            "edge.yaml:1: edge.hostname: 'mx_.-x' is no host name; write one such as mail.example.org",
            "edge.hostname: mx_.-x\n"
        ),
        (
            "edge.yaml:1: delivery.retry: is empty; write at least one duration", "delivery.retry: \"\"\n"
        ),
        ("edge.yaml:1: worker.lease: is a list; write one duration", "worker.lease: [15s]\n"),
        ("edge.yaml:1: delivery.expire: is a mapping; write one duration", "delivery: {expire: {a: 1}}\n"),
        ("edge.yaml:2: worker.lease: has no value; give one or remove the line", "worker:\n  lease:\n"),
        (
            "edge.yaml:3: worker.lease: is set a second time, first at line 1; remove one of the two",
            "worker.lease: 15s\nworker:\n  lease: 16s\n"
        ),
        (
            "edge.yaml:1: keys.root_public: 'c2hvcnQ=' is no Ed25519 public key; write one such as 44 characters of base64, printed by zegel keyring",
            "keys.root_public: c2hvcnQ=\n"
        ),
        ("edge.yaml:1: is no mapping; write lines of key: value", "- a\n- b\n"),
        (
            "edge.yaml:1: edge.listen: an item is itself a list or mapping; write plain items",
            "edge.listen: [[\"127.0.0.1:1\"]]\n"
        ),
    ])
    func aBrokenFileGetsOneLineWithPlaceKeyProblemAndFix(line: String, yaml: String) {
        #expect(refusal(yaml) == line)
    }

    @Test func textThatIsNoYAMLGetsItsLine() {
        let line = refusal("edge.listen: 127.0.0.1:25\nworker: {\n")
        #expect(line.hasPrefix("edge.yaml:"))
        #expect(line.contains(": is no YAML: "))
        #expect(refusal("a: 1\na: 2\n").hasPrefix("edge.yaml:2: is no YAML: has keys twice: a;"))
        #expect(
            refusal("edge:\n  a: 1\n  # b\n  b: 1\n\n  \"b\": 2\n  a: 3\nb: 4\n")
                .hasPrefix("edge.yaml:6: is no YAML: has keys twice: a, b;"))
        #expect(refusal("edge: {a: 1, a: 2}\n").hasPrefix("edge.yaml:1: is no YAML: has keys twice: a;"))
    }

    @Test(arguments: [
        (
            "ZEGEL_EDGE_LISTN: no setting has this variable; did you mean ZEGEL_EDGE_LISTEN?",
            ["ZEGEL_EDGE_LISTN": "x"], [String]()
        ),
        (
            "ZEGEL_WORKER_CONCURRENCY: worker.concurrency: 'x' is no whole number; write one between 1 … 10000",
            ["ZEGEL_WORKER_CONCURRENCY": "x"], []
        ),
        ("--set: worker.lease: has no '='; write --set key=value", [:], ["worker.lease"]),
        ("--set: worker.leese: is no setting; did you mean worker.lease?", [:], ["worker.leese=1s"]),
        ("--set: hostname: is no setting; did you mean delivery.hostname?", [:], ["hostname=x"]),
        ("accepted", ["ZEGEL_CONFIG": "x", "ZEGEL_DIR": "y", "ZEGEL_TEST_SEED": "1", "HOME": "/"], []),
    ])
    func environmentAndAssignmentsAreHeldToTheSameTable(
        line: String, environment: [String: String], set: [String]
    ) {
        #expect(refusal(environment: environment, set: set) == line)
    }

    @Test func aMissingFileIsNamed() {
        #expect(
            throws: SettingsError(
                place: "/nowhere/edge.yaml", key: nil, problem: "does not exist",
                fix: "name a file that this user may read")
        ) { try Settings(file: "/nowhere/edge.yaml") }
        #expect(SettingsError.exitCode == 78)
    }

    @Test func whatARoleNeedsIsAskedForByName() {
        #expect(
            refusal("worker.lease: 15s\n") { _ = try EdgeSettings($0) }
                == "edge.yaml: edge.certificate: is not set and zegel-edge needs it; set it: PEM file: certificate chain of the edge, leaf first."
        )
        #expect(
            refusal("api.certificate: x\n") { _ = try APISettings($0) }
                == "edge.yaml: api.key: is not set and zegel-api needs it; set it: PEM file: private key of the certificate."
        )
        #expect(
            refusal { _ = try DatabaseSettings($0, for: "zegel-worker") }.hasPrefix(
                "configuration: control.dsn: is not set and zegel-worker needs it; "))
        #expect(refusal(set: ["edge.require_tls=false"]) { _ = try EdgeSettings($0) } == "accepted")
    }

    @Test func secretsAreNeverPrinted() throws {
        let secret = "host=db password=hunter2"
        let settings = try Settings(
            environment: ["ZEGEL_CONTROL_DSN": secret], assignments: ["shard.dsns=a=\(secret)"])
        let report = settings.report()
        #expect(!report.contains("hunter2"))
        #expect(report.contains(/control\.dsn = \(set\) +\(ZEGEL_CONTROL_DSN\)/))
        #expect(report.contains(/shard\.dsns = \(set\) +\(--set\)/))
        #expect(!refusal(set: ["shard.dsns=hunter2"]).contains("hunter2"))
    }

    @Test func checkPrintsEveryKeyWithItsOrigin() throws {
        let (settings, folder) = try loading("edge:\n  listen: 127.0.0.1:26\n")
        let lines = settings.report().split(separator: "\n")
        #expect(lines.count == Keys.entries.count)
        #expect(
            lines.contains {
                $0.hasPrefix("edge.listen = 127.0.0.1:26 ") && $0.hasSuffix("(\(folder)edge.yaml:2)")
            })
        #expect(lines.contains { $0.hasPrefix("api.certificate = (not set) ") && $0.hasSuffix("(default)") })
    }

    @Test func aNetworkHoldsItsAddressesAndNoOthers() throws {
        let ten = try #require(TenantNetwork("10.1.128.0/17=demo"))
        #expect(ten.contains("10.1.200.3") && ten.contains("::ffff:10.1.128.1"))
        #expect(!ten.contains("10.1.127.255") && !ten.contains("2001:db8::1") && !ten.contains("x"))
        let six = try #require(TenantNetwork("2001:db8:8000::/33=demo"))
        #expect(six.contains("2001:db8:8000::1") && !six.contains("2001:db8:7fff::1"))
        let all = try #require(TenantNetwork("0.0.0.0/0=demo"))
        #expect(all.contains("255.1.2.3"))
    }

    @Test(arguments: [
        ("250ms", Duration.milliseconds(250)), ("15s", .seconds(15)), ("1h30m", .seconds(5400)),
        ("5d", .seconds(432_000)), ("0s", .zero),
    ])
    func durationsReadAndWriteTheSame(text: String, duration: Duration) {
        #expect(DurationText.parse(text) == duration)
        #expect(DurationText.text(duration) == text)
    }

    @Test(arguments: [
        "", "15", "s", "15 s", "-1s", "1.5h", "99999999999999999999s", "9999999999999999d", "1w",
    ])
    func otherTextsAreNoDurations(text: String) {
        #expect(DurationText.parse(text) == nil)
    }

    @Test(arguments: [
        ("50MB", 50_000_000), ("64 KiB", 65_536), ("1000", 1_000), ("1gib", 1 << 30), ("7B", 7),
    ])
    func sizesHavePowersOfThousandOrOf1024(text: String, bytes: Int) {
        #expect(ByteCount(text)?.bytes == bytes)
        #expect(ByteCount("\(ByteCount(bytes))")?.bytes == bytes)
    }
}

@Suite struct SettingsReferenceTests {
    @Test func thePageInTheRepositoryIsTheTable() throws {
        let page = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("docs/configuration.md")
        if ProcessInfo.processInfo.environment["ZEGEL_TEST_WRITE"] != nil {
            try Data(SettingsReference.markdown().utf8).write(to: page)
        }
        #expect(try String(contentsOf: page, encoding: .utf8) == SettingsReference.markdown())
    }
}
