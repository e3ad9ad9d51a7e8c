// The probe's plan driven over TCP against OpenSSL's own server: real answers to the ClientHello that is written here,
// and exactly what the server was configured with is found.

import Foundation
import Lab
import NIOCore
import NIOPosix
import Testing

@testable import SmartTLS

/// Collects a server's first flight.
private final class FlightHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    private var reader = ServerHelloReader()
    private var answer: EventLoopPromise<ProbePlan.Answer>?

    init(_ answer: EventLoopPromise<ProbePlan.Answer>) { self.answer = answer }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch reader.consume(unwrapInboundIn(data).readableBytesView) {
        case .needMore: break
        case .flight(let flight): end(context, .flight(flight))
        case .alert(let alert): end(context, .alert(alert))
        case .failure: end(context, .failed)
        }
    }

    func channelInactive(context: ChannelHandlerContext) { end(context, .closed) }
    func errorCaught(context: ChannelHandlerContext, error: any Error) { end(context, .closed) }

    private func end(_ context: ChannelHandlerContext, _ result: ProbePlan.Answer) {
        answer?.succeed(result)
        answer = nil
        context.close(promise: nil)
    }
}

@Suite struct RealServerProbeTests {
    struct Row: Sendable, CustomTestStringConvertible {
        let rule: String
        let arguments: [String]
        var suites: [ProtocolVersion: Set<UInt16>]
        var groups: [ProtocolVersion: Set<UInt16>]
        var prefersOwnOrder: [ProtocolVersion: Bool]
        var prime: UInt16?
        var chains = 1
        var testDescription: String { rule }
    }

    private static let old: Set<UInt16> = [0xc009, 0xc013, 0x0033]

    /// `rsa`, `ecdsa`: certificate and key; `dh`: parameters.
    static let rows: [Row] = [
        Row(
            rule: "TLS 1.2 with RSA, the server's order",
            arguments: [
                "-cert", "rsa.pem", "-key", "rsa.key", "-tls1_2", "-serverpref", "-groups", "P-256:X25519",
                "-cipher",
                "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-SHA384:DHE-RSA-AES256-GCM-SHA384:AES128-SHA:@SECLEVEL=0",
            ],
            suites: [.tls12: [0xc02f, 0xc028, 0x009f, 0x002f]], groups: [.tls12: [23, 29]],
            prefersOwnOrder: [.tls12: true]),
        Row(
            rule: "TLS 1.0 to 1.2, RSA and ECDSA side by side, a prime of RFC 7919, the client's order",
            arguments: [
                "-cert", "ecdsa.pem", "-key", "ecdsa.key", "-dcert", "rsa.pem", "-dkey", "rsa.key",
                "-dhparam",
                "dh.pem", "-min_protocol", "TLSv1", "-max_protocol", "TLSv1.2", "-groups",
                "P-256:P-384:X25519",
                "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:DHE-RSA-AES128-SHA:@SECLEVEL=0",
            ],
            suites: [.tls10: old, .tls11: old, .tls12: old], groups: [.tls12: [23, 24, 29]],
            prefersOwnOrder: [.tls10: false, .tls11: false, .tls12: false], prime: 256, chains: 2),
        Row(
            rule: "TLS 1.2 with ECDSA alone: the curve of the certificate cannot be taken away",
            arguments: [
                "-cert", "ecdsa.pem", "-key", "ecdsa.key", "-tls1_2", "-groups", "P-384:X25519:P-256:P-521",
                "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384",
            ],
            suites: [.tls12: [0xc02c]], groups: [.tls12: [23, 24, 25, 29]], prefersOwnOrder: [:]),
        Row(
            rule: "TLS 1.3: the groups from HelloRetryRequests",
            arguments: [
                "-cert", "ecdsa.pem", "-key", "ecdsa.key", "-tls1_3", "-groups", "X25519:P-521:ffdhe3072",
                "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256",
            ],
            suites: [.tls13: [0x1301, 0x1303]], groups: [.tls13: [25, 29, 257]],
            prefersOwnOrder: [.tls13: false], chains: 0),
    ]

    @Test(arguments: rows) func `the plan finds what OpenSSL was configured with`(row: Row) async throws {
        let folder = NSTemporaryDirectory() + "zegel-probe-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let authority = try TestAuthority()
        for name in ["rsa", "ecdsa"] where row.arguments.contains(name + ".pem") {
            let key = name == "rsa" ? try TestAuthority.rsaKey() : nil
            let identity = try authority.issue(["mx.example.nl"], key: key)
            try Data(identity.chainPEM).write(to: URL(filePath: "\(folder)/\(name).pem"))
            try Data(try identity.privateKeyPEM).write(to: URL(filePath: "\(folder)/\(name).key"))
        }
        if row.prime != nil {
            try await ChildProcess.run(
                [
                    "openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048",
                    "-out",
                    folder + "/dh.pem",
                ])
        }
        let output = folder + "/output"
        let server = try await ChildProcess.start(
            ["openssl", "s_server", "-accept", "127.0.0.1:0", "-www"] + row.arguments,
            environment: ["OPENSSL_CONF": "/dev/null"], directory: folder, output: output)
        defer { server.signal(SIGKILL) }
        let port = try await Self.port(of: server, output: output)

        var plan = ProbePlan(serverName: "mx.example.nl")
        var generator = SystemRandomNumberGenerator()
        while let hello = plan.next() {
            plan.received(try await Self.shake(hello.record(using: &generator), port: port))
        }
        let report = plan.report
        #expect(report.isComplete)
        #expect(report.suites.mapValues(Set.init) == row.suites)
        #expect(report.groups.mapValues(Set.init) == row.groups)
        #expect(report.prefersOwnOrder == row.prefersOwnOrder)
        #expect(report.chains.count == row.chains)
        if let prime = row.prime { #expect(report.primes.map(\.group) == [prime]) }
        if report.versions != [.tls13] {
            #expect(report.compresses == false && report.isRenegotiationSecure == true)
            #expect(report.hasExtendedMasterSecret == true)
        }
        #expect(report.handshakes < 40, "\(report.handshakes)")
    }

    /// Waits until it says where it listens.
    static func port(of server: ChildProcess, output: String) async throws -> Int {
        let until = ContinuousClock.now + .seconds(20)
        while ContinuousClock.now < until, server.isRunning {
            let text = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
            if let match = text.firstMatch(of: #/ACCEPT 127\.0\.0\.1:(\d+)\n/#),
                let port = Int(match.output.1)
            {
                return port
            }
            try await Task.sleep(for: .milliseconds(5))
        }
        throw LabError((try? String(contentsOfFile: output, encoding: .utf8)) ?? "no server")
    }

    private static func shake(_ hello: [UInt8], port: Int) async throws -> ProbePlan.Answer {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let answer = loop.makePromise(of: ProbePlan.Answer.self)
        let deadline = loop.scheduleTask(in: .seconds(10)) { answer.succeed(.failed) }
        defer { deadline.cancel() }
        let channel = try await ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(FlightHandler(answer))
                }
            }
            .connect(host: "127.0.0.1", port: port).get()
        try? await channel.writeAndFlush(ByteBuffer(bytes: hello))
        return try await answer.futureResult.get()
    }
}
