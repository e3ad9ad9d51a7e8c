// OCSP responses on the handshake that would carry a message, from OpenSSL's own server, and what becomes of them in a verdict and in
// evidence.

import Foundation
import Lab
import NIOPosix
import Policy
import Settings
import Testing

@testable import SmartTLS
@testable import TLS

@Suite(.timeLimit(.minutes(1))) struct StapledHostTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        /// Nil: no response; octets stand in for one.
        var entry: OCSPResponder.Entry?
        var garbage: [UInt8]?
        var mustStaple = false
        var version = "-tls1_3"
        let finding: Finding?
        let staple: String?
        /// Under `secure`.
        let end: String
        var testDescription: String { rule }
    }

    static let rows: [Row] = [
        Row(rule: "good", entry: .good, finding: nil, staple: "good", end: "deliver tls-authenticated"),
        Row(
            rule: "revoked", entry: .revoked, finding: .revoked, staple: "revoked",
            end: "refuse certificate-revoked"),
        Row(
            rule: "revoked, TLS 1.2", entry: .revoked, version: "-tls1_2", finding: .revoked,
            staple: "revoked",
            end: "refuse certificate-revoked"),
        Row(
            rule: "not known to its issuer", entry: .unknown, finding: nil, staple: "unknown",
            end: "deliver tls-authenticated"),
        Row(rule: "none", finding: nil, staple: nil, end: "deliver tls-authenticated"),
        Row(
            rule: "RFC 7633: none where one is demanded", mustStaple: true, finding: .stapleMissing,
            staple: nil,
            end: "deliver tls-authenticated"),
        Row(
            rule: "RFC 7633: one where one is demanded", entry: .good, mustStaple: true, finding: nil,
            staple: "good", end: "deliver tls-authenticated"),
    ]

    @Test(arguments: rows) func `what a staple comes to`(row: Row) async throws {
        let authority = try TestAuthority()
        let identity = try authority.issue(["mx.test"], mustStaple: row.mustStaple)
        let folder = NSTemporaryDirectory() + "zegel-staple-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data(identity.chainPEM).write(to: URL(filePath: folder + "/cert.pem"))
        try Data(try identity.privateKeyPEM).write(to: URL(filePath: folder + "/key.pem"))
        var arguments: [String] = [row.version]
        if let entry = row.entry {
            let response = try await OCSPResponder.response(about: identity, by: authority, entry)
            try Data(response).write(to: URL(filePath: folder + "/response"))
            arguments += ["-status_file", "response"]
        }
        let server = try await AnsweringOpenSSL.start(in: folder, arguments)
        defer { server.end() }
        let front = try await StartTLSFront.start(.port(server.port))
        let port = try #require(front.address.port)
        let router = Router(
            resolver: DNSTable([:]),
            staticRoutes: [try #require(StaticRoute("mx.test=127.0.0.1:\(port)"))])
        let examiner = HostExaminer(
            group: MultiThreadedEventLoopGroup.singleton,
            tls: try .examining(trust: .pem(authority.rootPEM)), heloName: "zegel.test", sourceAddress: nil,
            port: 25, timeouts: SessionTimeouts(hello: .seconds(10)))
        let route = try await router.route(to: "mx.test")
        let host = try #require(route.hosts.first)
        guard case .seen(let seen) = await examiner.examine(route, host, host.addresses[0]) else {
            throw LabError("no connection")
        }
        seen.session?.close()
        let found = Set(seen.findings.findings).intersection([.revoked, .stapleMissing])
        #expect(found == Set([row.finding].compactMap(\.self)))
        #expect(seen.findings.evidence.ocspStaple == row.staple)
        let verdict = seen.verdict(under: .secure)
        #expect("\(verdict.outcome.rawValue) \(verdict.reason)" == row.end)
        // Evidence comes to the same from itself alone, and not without the response.
        let judgement = try #require(seen.judgement(verdict, under: .secure))
        let certificates = Judgement.certificates(of: seen.peer)
        try await judgement.review(certificates: certificates)
        if row.finding == .revoked {
            let octets = try judgement.encoded().octets
            var object = try #require(try JSONSerialization.jsonObject(with: Data(octets)) as? [String: Any])
            var connection = try #require(object["connection"] as? [String: Any])
            connection["staple"] = nil
            object["connection"] = connection
            let without = try JSONDecoder().decode(
                Judgement.self, from: try JSONSerialization.data(withJSONObject: object))
            await #expect(throws: EvidenceError.self) { try await without.review(certificates: certificates) }
        }
        try await front.stop()
    }

    @Test func `below a DANE-TA record a revoked certificate does not count, beside DANE-EE it does`()
        async throws
    {
        let authority = try TestAuthority()
        let identity = try authority.issue(["mx.test"])
        for (usage, wanted) in [(UInt8(2), Finding.daneChainInvalid), (3, .daneMatchedEE)] {
            let record = TLSARecord(
                usage: usage, selector: 1, matchingType: 1, data: Array(repeating: 1, count: 32))
            let peer = PeerEvidence(
                version: .tls13, cipherSuite: "TLS_AES_256_GCM_SHA384", isForwardSecret: true,
                cipherBits: 256,
                keyExchangeGroup: "x25519", signatureAlgorithm: nil, serverName: "mx.test", alpn: nil,
                chain: [identity.der], verification: .valid, nameMatched: true,
                dane: .matched(record, depth: usage == 2 ? 1 : 0), stapled: .revoked)
            let found = HostFindings(
                evidence: peer, host: "mx.test", name: .proven,
                tlsa: .published(DANEReference(records: [record], baseDomain: "mx.test")), sts: .absent)
            #expect(found.findings.contains(wanted) && found.findings.contains(.revoked))
            #expect(!found.findings.contains(.chainTrusted))
        }
    }

    struct Finished: Sendable, CustomTestStringConvertible {
        let arguments: [String]
        var earlyData: Bool?
        var renegotiations: Int?
        let findings: Set<Finding>
        let grades: [String]
        var testDescription: String { arguments.joined(separator: " ") }
    }

    @Test(arguments: [
        Finished(
            arguments: ["-tls1_3", "-early_data"], earlyData: true, findings: [.acceptsEarlyData],
            grades: ["early data on: insufficient"]),
        Finished(
            arguments: ["-tls1_3"], earlyData: false, findings: [], grades: ["early data off: good"]),
        Finished(
            arguments: ["-tls1_2", "-client_renegotiation"], renegotiations: 11,
            findings: [.clientRenegotiation],
            grades: ["renegotiation without limit for clients: phase out"]),
        Finished(
            arguments: ["-tls1_2"], renegotiations: 0, findings: [],
            grades: ["renegotiation not for clients: good"]),
    ]) func `a scan finds what shows on finished handshakes only`(row: Finished) async throws {
        let identity = try TestAuthority().issue(["mx.test"])
        let folder = NSTemporaryDirectory() + "zegel-finished-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try Data(identity.chainPEM).write(to: URL(filePath: folder + "/cert.pem"))
        try Data(try identity.privateKeyPEM).write(to: URL(filePath: folder + "/key.pem"))
        let server = try await AnsweringOpenSSL.start(in: folder, row.arguments)
        defer { server.end() }
        let front = try await StartTLSFront.start(.port(server.port))
        var limits = ProbeLimits()
        limits.step = .seconds(5)
        limits.host = .seconds(60)
        let prober = HostProber(
            group: MultiThreadedEventLoopGroup.singleton, heloName: "zegel.test", sourceAddress: nil,
            limits: limits)
        let scan = await prober.scan(try front.address, serverName: "mx.test")
        #expect(scan.report.takesEarlyData == row.earlyData, "\(scan)")
        #expect(scan.report.renegotiations == row.renegotiations, "\(scan)")
        #expect(
            ScanFacts(scan).findings().intersection([.acceptsEarlyData, .clientRenegotiation]) == row.findings
        )
        let graded = HostGrade(scan.report).parameters.filter {
            $0.aspect == .earlyData || $0.aspect == .renegotiation
        }
        #expect(graded.map(\.description) == row.grades)
        try await front.stop()
    }

    @Test(arguments: [(0, Grade.good), (1, .sufficient), (10, .sufficient), (11, .phaseOut)])
    func `renegotiation by clients is limited up to ten times`(count: Int, grade: Grade) {
        var report = ProbeReport()
        report.isRenegotiationSecure = true
        report.renegotiations = count
        #expect(HostGrade(report).overall == grade)
        report.isRenegotiationSecure = false
        #expect(HostGrade(report).overall == .insufficient, "insecure, whoever starts it")
    }
}

/// OpenSSL's own server, which answers everything within TLS with 250.
private struct AnsweringOpenSSL {
    let port: Int
    private let process: ChildProcess

    static func start(in folder: String, _ arguments: [String]) async throws -> AnsweringOpenSSL {
        // The loop ends with the reader of its pipe.
        let command =
            "exec openssl s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem "
            + arguments.joined(separator: " ") + " < <(while sleep 0.2; do printf '250 ok\\r\\n'; done)"
        let process = try await ChildProcess.start(
            ["bash", "-c", command], environment: ["OPENSSL_CONF": "/dev/null"], directory: folder,
            output: folder + "/output")
        let port = try await RealServerProbeTests.port(of: process, output: folder + "/output")
        return AnsweringOpenSSL(port: port, process: process)
    }

    func end() { process.signal(SIGKILL) }
}
