// The prober over SMTP: it finds what a server was configured with, and whatever a host does ends in a report.

import Foundation
import Lab
import NIOCore
import NIOPosix
import Policy
import Settings
import TLS
import Testing

@testable import SmartTLS

@Suite struct HostProberTests {
    private static func prober(_ change: (inout ProbeLimits) -> Void = { _ in }) -> HostProber {
        var limits = ProbeLimits()
        change(&limits)
        return HostProber(
            group: MultiThreadedEventLoopGroup.singleton, heloName: "zegel.test", sourceAddress: nil,
            limits: limits)
    }

    private static func server(
        _ authority: TestAuthority, from oldest: TLSVersion, to newest: TLSVersion
    ) throws -> TLSContext {
        let identity = try authority.issue(["mx.example.nl"])
        return try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM,
            minimumVersion: oldest, maximumVersion: newest)
    }

    @Test(arguments: [
        (TLSVersion.tls12, TLSVersion.tls12, [ProtocolVersion.tls12]),
        (.tls13, .tls13, [.tls13]),
        (.tls12, .tls13, [.tls12, .tls13]),
    ]) func `exactly the versions of a server are found, and no mail is begun`(
        oldest: TLSVersion, newest: TLSVersion, found: [ProtocolVersion]
    ) async throws {
        var script = SMTPScript()
        script.tls = try Self.server(try TestAuthority(), from: oldest, to: newest)
        let server = try await ScriptedSMTPServer.start(script)
        let scan = await Self.prober().scan(try server.address, serverName: "mx.example.nl")
        #expect(scan.report.isComplete && scan.failure == nil, "\(scan)")
        #expect(scan.report.versions == found)
        let told = server.transcript
        #expect(told.connections == scan.report.handshakes)
        #expect(Set(told.commands) == ["EHLO zegel.test", "STARTTLS"])
        #expect(told.handshakes == found.count, "one finished handshake a version")
        #expect(scan.report.takesEarlyData == (found.contains(.tls13) ? false : nil))
        #expect(scan.report.renegotiations == (found.contains(.tls12) ? 0 : nil))
        try await server.stop()
    }

    @Test func `weak settings of OpenSSL's server come to findings, an insufficient grade and advice`()
        async throws
    {
        let server = try await OpenSSLServer.start(
            try TestAuthority().issue(["mx.example.nl"], key: try TestAuthority.rsaKey()),
            [
                "-min_protocol", "TLSv1", "-max_protocol", "TLSv1.2", "-cipher",
                "ECDHE-RSA-AES128-SHA:AES128-SHA:ECDHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0",
            ])
        defer { server.end() }
        let front = try await StartTLSFront.start(.port(server.port))
        let scan = await Self.prober().scan(try front.address, serverName: "mx.example.nl")
        let graded = HostGrade(scan.report, chains: scan.report.chains)
        let report = HostScanReport(try #require(ReportedScan(ScanFacts(scan), nil)), graded)
        #expect(report.isComplete, "\(report)")
        #expect(report.versions.map(\.name) == ["TLSv1", "TLSv1.1", "TLSv1.2"])
        let old: Set = ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"]
        #expect(
            report.suites.mapValues { Set($0.map(\.name)) } == [
                "TLSv1": old, "TLSv1.1": old,
                "TLSv1.2": old.union(["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]),
            ])
        #expect(report.certificate.map(\.grade) == ["phase out", "sufficient"])
        #expect(ScanFacts(scan).findings() == [.acceptsOldTLS, .acceptsWeakSuites])
        #expect(graded.overall == .insufficient)
        let advice = Remedy.advice(graded, host: "mx.example.nl").map(\.english)
        #expect(advice.first == "Turn off TLSv1, TLSv1.1 on mx.example.nl (NCSC 2025-05).", "\(advice)")
        #expect(advice.contains { $0.hasPrefix("Turn off these suites") }, "\(advice)")
        #expect(front.mostAtOnce <= 3, "two, and one that is closing")
        try await front.stop()
    }

    @Test func `a scan adds to a report what else the host accepts, and leaves its verdicts alone`()
        async throws
    {
        let authority = try TestAuthority()
        let identity = try authority.issue(["example.nl"], key: try TestAuthority.rsaKey())
        var script = SMTPScript()
        // OpenSSL's own groups with our suites.
        script.tls = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM,
            ciphers: .list("ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"))
        let server = try await ScriptedSMTPServer.start(script)
        let port = try #require(try server.address.port)
        func report(_ prober: HostProber?) async throws -> DomainReport {
            await DomainJudge(
                router: Router(
                    resolver: DNSTable([:]),
                    staticRoutes: [try #require(StaticRoute("example.nl=127.0.0.1:\(port)"))]),
                examiner: HostExaminer(
                    group: MultiThreadedEventLoopGroup.singleton,
                    tls: try TLSContext.client(trust: .pem(authority.rootPEM), minimumVersion: .tls10),
                    heloName: "zegel.test", sourceAddress: nil, port: 25, timeouts: SessionTimeouts()),
                prober: prober, port: 25
            ).report(on: "example.nl", under: RulesetBook().all)
        }
        let plain = try await report(nil)
        let scanned = try await report(Self.prober())
        #expect(plain.verdicts == scanned.verdicts)
        let (before, after) = (try #require(plain.hosts.first), try #require(scanned.hosts.first))
        // RSA of 2048 bits is what the guidelines phase out.
        #expect(before.grade == "phase out" && before.scan == nil, "\(plain.text)")
        // OpenSSL 3.0 takes ffdhe2048 in TLS 1.3 unless told otherwise: one connection does not show that.
        #expect(after.grade == "insufficient", "\(scanned.text)")
        #expect(
            after.remedies.filter { $0.reasonCode == nil }.map(\.english) == [
                "Replace ffdhe2048 for the key exchange on 127.0.0.1 by x25519 or secp256r1 (NCSC 2025-05)."
            ])
        #expect(after.scan?.isComplete == true)
        #expect(after.scan?.versions.map(\.name) == ["TLSv1.2", "TLSv1.3"])
        #expect(
            scanned.text.contains("accepts TLSv1.3 (good): TLS_AES_256_GCM_SHA384 (good)"), "\(scanned.text)")
        #expect(server.transcript.mails.isEmpty)
        try await server.stop()
    }

    struct Hostile: Sendable, CustomTestStringConvertible {
        let rule: String
        var answers: [ScriptedStep: ScriptedAnswer] = [:]
        var backend: StartTLSBackend?
        let code: SessionFailure.Code?
        var finding: Finding?
        /// The step at which it is waited for in vain; nil: it is not.
        var silentAt: String?
        var testDescription: String { rule }
    }

    static let hostile: [Hostile] = [
        Hostile(
            rule: "a banner without end",
            answers: [.connect: .raw(String(repeating: "220-no end\r\n", count: 20_000))],
            code: .protocolViolation),
        Hostile(
            rule: "no banner", answers: [.connect: .silence], code: .timeout, silentAt: "greeting"),
        Hostile(rule: "closed at once", answers: [.connect: .close], code: .connectionLost),
        Hostile(rule: "refused", answers: [.connect: .reply("554 no")], code: .greetingRefused),
        Hostile(
            rule: "too many connections", answers: [.connect: .replyThenClose("421 4.7.0 slow down")],
            code: .greetingRefused),
        Hostile(
            rule: "an answer to EHLO without end",
            answers: [.ehlo: .raw(String(repeating: "250-X-KEYWORD\r\n", count: 20_000))],
            code: .protocolViolation),
        Hostile(rule: "no STARTTLS", answers: [.ehlo: .reply("250 peer.test")], code: .startTLSNotOffered),
        Hostile(rule: "STARTTLS refused", answers: [.startTLS: .reply("454 no")], code: .startTLSRefused),
        Hostile(
            rule: "octets behind the 220", answers: [.startTLS: .raw("220 go\r\n250 injected\r\n")],
            code: .startTLSInjection, finding: .starttlsInjection),
        Hostile(
            rule: "octets behind the 220, in a later segment",
            backend: .octets(Array("250 injected\r\n".utf8) + [22, 3, 3, 0, 4, 2, 0, 0, 0]),
            code: .startTLSInjection, finding: .starttlsInjection),
        Hostile(
            rule: "cleartext for TLS", backend: .octets(Array("250 hello\r\n".utf8)),
            code: .protocolViolation, silentAt: "TLS"),
        Hostile(rule: "a certificate of 3 MB", backend: .octets(hugeCertificate), code: .protocolViolation),
        Hostile(
            rule: "one octet at a time", backend: .trickle([22, 3, 3, 0x3f, 0xff, 2, 0, 0x3f, 0]),
            code: .timeout, silentAt: "TLS"),
        Hostile(rule: "an alert for everything", backend: .octets([21, 3, 3, 0, 2, 2, 40]), code: nil),
    ]

    /// A Certificate that announces more than any may have.
    private static let hugeCertificate: [UInt8] = [22, 3, 3, 0, 4, 11, 0x30, 0, 0]

    /// - step: what each reply may take; all together may take ten times as much.
    private static func scan(_ row: Hostile, step: Duration) async throws -> HostScan {
        let prober = prober {
            $0.step = step
            $0.host = step * 10
        }
        let scan: HostScan
        if let backend = row.backend {
            let front = try await StartTLSFront.start(backend)
            scan = await prober.scan(try front.address, serverName: "mx.example.nl")
            try await front.stop()
        } else {
            var script = SMTPScript()
            script.tls = try server(try TestAuthority(), from: .tls12, to: .tls13)
            script.answers = row.answers.mapValues { Array(repeating: $0, count: 300) }
            let server = try await ScriptedSMTPServer.start(script)
            scan = await prober.scan(try server.address, serverName: "mx.example.nl")
            try await server.stop()
        }
        return scan
    }

    @Test(arguments: hostile) func `a hostile host ends in a report with a reason`(row: Hostile) async throws
    {
        var scan: HostScan
        if row.silentAt == nil {
            scan = try await Self.scan(row, step: .seconds(60))
        } else {
            // Only who must be waited for in vain is given little time, and more where a busy machine does not get as far in it.
            scan = try await Self.scan(row, step: .milliseconds(200))
            for patience in [2, 20] where scan.failure?.step != row.silentAt {
                scan = try await Self.scan(row, step: .seconds(patience))
            }
            #expect(scan.failure?.step == row.silentAt, "\(scan)")
        }
        #expect(scan.failure?.code == row.code, "\(scan)")
        #expect(scan.report.isComplete == (row.code == nil))
        #expect(scan.report.versions.isEmpty)
        #expect(ScanFacts(scan).findings() == Set([row.finding].compactMap { $0 }))
    }

    @Test func `a host that answers nothing does not hold up others, and the bound of all connections holds`()
        async throws
    {
        var script = SMTPScript()
        script.tls = try Self.server(try TestAuthority(), from: .tls12, to: .tls13)
        let good = try await ScriptedSMTPServer.start(script)
        script.answers = [.connect: Array(repeating: .silence, count: 50)]
        let silent = try await ScriptedSMTPServer.start(script)
        let prober = Self.prober {
            $0.connections = 3
            $0.step = .seconds(2)
            $0.host = .seconds(30)
        }
        async let stuck = prober.scan(try silent.address, serverName: nil)
        async let first = prober.scan(try good.address, serverName: nil)
        async let again = prober.scan(try good.address, serverName: nil)
        let (a, b) = try await (first, again)
        #expect(a.report.isComplete && a.report == b.report)
        #expect(good.transcript.connections == a.report.handshakes, "it was scanned twice")
        #expect(try await stuck.failure?.code == .timeout)
        try await good.stop()
        try await silent.stop()
    }

    @Test(arguments: [
        ([3, 3], true), ([3], false), ([2, 3], true), ([2, 2], false), ([1, 3], false), ([], false),
    ]) func `a rollover is two records of usage 3, or one beside one of usage 2`(
        usages: [UInt8], isRollover: Bool
    ) {
        let records = usages.enumerated().map { index, usage in
            TLSARecord(
                usage: usage, selector: 1, matchingType: 1,
                data: Array(repeating: UInt8(index), count: 32))
        }
        #expect(DANEReference(records: records, baseDomain: "mx.test").isRollover == isRollover)
    }
}

/// OpenSSL's own server on a port of 127.0.0.1.
private struct OpenSSLServer {
    let port: Int
    private let process: ChildProcess
    private let folder: String

    static func start(_ identity: TestIdentity, _ arguments: [String]) async throws -> OpenSSLServer {
        let folder = NSTemporaryDirectory() + "zegel-prober-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(identity.chainPEM).write(to: URL(filePath: folder + "/cert.pem"))
        try Data(try identity.privateKeyPEM).write(to: URL(filePath: folder + "/key.pem"))
        let process = try await ChildProcess.start(
            [
                "openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-cert", "cert.pem", "-key",
                "key.pem",
            ] + arguments,
            environment: ["OPENSSL_CONF": "/dev/null"], directory: folder, output: folder + "/output")
        let port = try await RealServerProbeTests.port(of: process, output: folder + "/output")
        return OpenSSLServer(port: port, process: process, folder: folder)
    }

    func end() {
        process.signal(SIGKILL)
        try? FileManager.default.removeItem(atPath: folder)
    }
}
