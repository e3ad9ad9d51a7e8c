// A session of TLS that the right host began lets no other host in: the certificate is shown on every connection.

import DNS
import Foundation
import Lab
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(2))) struct ResumptionTests {
    @Test(arguments: ["1.2", "1.3"])
    func `tickets of the right host are worth nothing to a host with its ticket keys and another certificate`(
        version: String
    ) async throws {
        let lab = try await WorkerLab()
        let right = try TestAuthority.selfSigned(["mx.test"])
        let wrong = try TestAuthority.selfSigned(["mx.test"])
        let host = try await TicketHost.start(right, thenOn: wrong, version: version)
        let record = TLSARecord.matching(right.certificate)
        let table = DNSTable([
            "bar.test MX": .mx("10 mx.test", security: .secure),
            "mx.test A": .addresses("127.0.0.1", security: .secure),
            "_\(host.port)._tcp.mx.test TLSA": .records(
                [
                    .tlsa(
                        usage: record.usage, selector: record.selector, matchingType: record.matchingType,
                        data: record.data)
                ], .secure),
        ])
        let worker = try await lab.worker(
            routes: [:], settings: ["delivery.port=\(host.port)", "delivery.retry=1h"], resolver: table)
        let events = try await lab.working([worker]) {
            for count in 1...2 {
                _ = try await lab.accept(from: nil, to: ["r@bar.test"], ruleset: "nta7516")
                _ = try await lab.events { $0.filter(\.endsAttempt).count == count }
            }
            return try await lab.events()
        }
        #expect(
            events.filter(\.endsAttempt).map { "\($0.kind) \($0.reason ?? "")" } == [
                "delivered dane-authenticated", "deferred tlsa-invalid",
            ])
        let log = host.log
        #expect(log.count { $0.hasPrefix("tls ") } == 2)
        #expect(
            log.filter { $0.hasPrefix("tls ") }.allSatisfy { $0 == "tls \(version) reused False" }, "\(log)")
        #expect(log.count { $0.hasPrefix("MAIL") } == 1 && log.count { $0 == "DATA" } == 1, "\(log)")
        await host.stop()
    }
}

/// Python's TLS behind a mail host: it hands out tickets, takes one message, hangs up, and goes on with another certificate under the
/// same ticket keys.
private final class TicketHost: Sendable {
    let port: Int
    private let process: ChildProcess
    private let folder: URL

    static func start(
        _ first: TestIdentity, thenOn second: TestIdentity, version: String
    ) async throws -> TicketHost {
        let folder = FileManager.default.temporaryDirectory.appending(path: "ticket-host-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        for (number, identity) in [first, second].enumerated() {
            try Data(identity.chainPEM + (try identity.privateKeyPEM)).write(
                to: folder.appending(path: "\(number).pem"))
        }
        let log = folder.appending(path: "log").path
        for _ in 0..<5 {
            let port = Int(try freePort())
            let process = try await ChildProcess.start(
                ["python3", "-u", "-c", script, "\(port)", version], directory: folder.path, output: log)
            let started = TicketHost(process, folder, port)
            try await eventually("the host listens or ends", within: .seconds(30)) {
                !process.isRunning || started.log.contains("listen \(port)")
            }
            if process.isRunning { return started }
        }
        throw LabError("no host: \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
    }

    private init(_ process: ChildProcess, _ folder: URL, _ port: Int) {
        (self.process, self.folder, self.port) = (process, folder, port)
    }

    var log: [String] {
        ((try? String(contentsOf: folder.appending(path: "log"), encoding: .utf8)) ?? "")
            .split(separator: "\n").map(String.init)
    }

    func stop() async {
        process.signal(SIGKILL)
        _ = await process.waitForExit(within: .seconds(10))
        try? FileManager.default.removeItem(at: folder)
    }

    private static let script = """
        import socket, ssl, sys
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        version = ssl.TLSVersion.TLSv1_2 if sys.argv[2] == "1.2" else ssl.TLSVersion.TLSv1_3
        context.minimum_version = context.maximum_version = version
        listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
        print(f"listen {sys.argv[1]}")
        def serve(connection):
            connection.sendall(b"220 mx.test\\r\\n")
            lines = connection.makefile("rb")
            def take():
                line = lines.readline().decode().strip()
                print(line)
                return line
            while take() != "STARTTLS":
                connection.sendall(b"250-mx.test\\r\\n250 STARTTLS\\r\\n")
            connection.sendall(b"220 go\\r\\n")
            secure = context.wrap_socket(connection, server_side=True)
            print("tls", sys.argv[2], "reused", secure.session_reused)
            lines = secure.makefile("rb")
            while line := take():
                if line == "DATA":
                    secure.sendall(b"354 go on\\r\\n")
                    while lines.readline() != b".\\r\\n":
                        pass
                    secure.sendall(b"250 taken\\r\\n")
                    secure.unwrap()
                    return
                secure.sendall(b"250 mx.test\\r\\n")
        for number in range(100):
            context.load_cert_chain(f"{min(number, 1)}.pem")
            connection, _ = listener.accept()
            try:
                serve(connection)
            except OSError:
                pass
            connection.close()
        """
}
