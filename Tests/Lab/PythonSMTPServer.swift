// A recipient host on Python's `ssl`, for what our own server has no word for: groups, suites of TLS 1.3, two certificates side by
// side. It speaks SMTP up to the second EHLO.

import Foundation
import TLS

/// A host as a child process. Stops with its last reference.
public final class PythonSMTPServer: Sendable {
    /// What it offers; nil: what OpenSSL offers by itself.
    public struct Offer: Sendable, Hashable {
        /// Groups of the key exchange, with colons between.
        public var groups: String?
        /// Suites of TLS 1.3, with colons between.
        public var suites: String?
        /// The oldest version.
        public var oldest = TLSVersion.tls12
        /// The newest version.
        public var newest = TLSVersion.tls13
        /// What OpenSSL offers by itself.
        public init(groups: String? = nil, suites: String? = nil) {
            (self.groups, self.suites) = (groups, suites)
        }
    }

    private let process: ChildProcess
    private let folder: URL

    /// Starts a host; it listens when this returns.
    /// - identities: its certificates, each with another kind of key.
    public static func start(
        _ identities: [TestIdentity], _ offer: Offer, on address: String, port: Int
    ) async throws -> PythonSMTPServer {
        let folder = FileManager.default.temporaryDirectory.appending(path: "smtp-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var arguments = [address, "\(port)", name(offer.oldest), name(offer.newest)]
        for (number, identity) in identities.enumerated() {
            let file = folder.appending(path: "\(number).pem")
            try Data(identity.privateKeyPEM + identity.chainPEM).write(to: file)
            arguments.append(file.path)
        }
        let lines = [offer.groups.map { "Groups = \($0)" }, offer.suites.map { "Ciphersuites = \($0)" }]
        let settings = folder.appending(path: "openssl.cnf")
        try
            ("openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = ours\n[ours]\n"
            + lines.compactMap { $0 }.joined(separator: "\n") + "\n")
            .write(to: settings, atomically: true, encoding: .utf8)
        let log = folder.appending(path: "log").path
        let process = try await ChildProcess.start(
            ["python3", "-c", script] + arguments, environment: ["OPENSSL_CONF": settings.path], output: log)
        let server = PythonSMTPServer(process, folder)
        func said() -> String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }
        try await eventually("a host on Python listens", within: .seconds(60)) {
            guard process.isRunning else { throw LabError("a host on Python: \(said())") }
            return said().contains("listening")
        }
        return server
    }

    private init(_ process: ChildProcess, _ folder: URL) { (self.process, self.folder) = (process, folder) }

    deinit { stop() }

    /// Stops it.
    public func stop() {
        process.signal(SIGKILL)
        try? FileManager.default.removeItem(at: folder)
    }

    private static func name(_ version: TLSVersion) -> String {
        switch version {
        case .tls10: "TLSv1"
        case .tls11: "TLSv1_1"
        case .tls12: "TLSv1_2"
        case .tls13: "TLSv1_3"
        }
    }

    private static let script = """
        import socketserver, ssl, sys
        address, port, oldest, newest, *files = sys.argv[1:]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version, context.maximum_version = ssl.TLSVersion[oldest], ssl.TLSVersion[newest]
        for file in files:
            context.load_cert_chain(file)
        class Host(socketserver.BaseRequestHandler):
            def handle(self):
                connection, offers = self.request, b"250-python.test\\r\\n250 STARTTLS\\r\\n"
                connection.sendall(b"220 python.test ESMTP\\r\\n")
                reader = connection.makefile("rb")
                while line := reader.readline(1000):
                    verb = line.split(None, 1)[:1]
                    if verb == [b"EHLO"]:
                        connection.sendall(offers)
                    elif verb == [b"STARTTLS"]:
                        connection.sendall(b"220 go\\r\\n")
                        connection, offers = context.wrap_socket(connection, server_side=True), b"250 python.test\\r\\n"
                        reader = connection.makefile("rb")
                    elif verb == [b"QUIT"]:
                        connection.sendall(b"221 bye\\r\\n")
                        return
                    else:
                        connection.sendall(b"502 what?\\r\\n")
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = allow_reuse_address = True
            def handle_error(self, request, client):
                pass
        server = Server((address, int(port)), Host)
        print("listening", flush=True)
        server.serve_forever()
        """
}
