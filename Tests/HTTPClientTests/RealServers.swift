// Servers that others wrote: nghttpd for HTTP/2, Python's http.server for HTTP/1.1, each with a certificate of the lab.

import Foundation
import Lab

/// A real server as a child process, until `stop`.
final class RealServer: Sendable {
    let port: Int
    let folder: ScratchFolder
    private let process: ChildProcess

    private init(_ process: ChildProcess, _ folder: ScratchFolder, _ port: Int) {
        self.process = process
        self.folder = folder
        self.port = port
    }

    /// Ends it; what is left over ends with the tests.
    func stop() { process.signal(SIGKILL) }

    /// What it has printed.
    var log: String { (try? String(contentsOfFile: "\(folder.path)/log", encoding: .utf8)) ?? "" }

    /// nghttp2's own server. It serves these files.
    static func nghttpd(
        _ fixture: ClientFixture, files: [String: [UInt8]], arguments: [String] = []
    ) async throws -> RealServer {
        try await start(fixture, files) { port, certificate, key, documents in
            ["nghttpd", "-v", "-a", "127.0.0.1", "-d", documents] + arguments
                + ["\(port)", key, certificate]
        }
    }

    /// Python's server, HTTP/1.1 without ALPN. It serves these files, answers `/status/N` with that status and a Location,
    /// and sends what is posted to it back.
    static func python(_ fixture: ClientFixture, files: [String: [UInt8]]) async throws -> RealServer {
        try await start(fixture, files) { port, certificate, key, documents in
            ["python3", "-c", script, "\(port)", certificate, key, documents]
        }
    }

    private static func start(
        _ fixture: ClientFixture, _ files: [String: [UInt8]],
        _ command: (Int, String, String, String) -> [String]
    ) async throws -> RealServer {
        let identity = try fixture.authority.issue([ClientFixture.host])
        let folder = try ScratchFolder()
        let certificate = try folder.write("certificate.pem", identity.chainPEM)
        let key = try folder.write("key.pem", identity.privateKeyPEM)
        let documents = "\(folder.path)/documents"
        try FileManager.default.createDirectory(atPath: documents, withIntermediateDirectories: false)
        for (name, bytes) in files { _ = try folder.write("documents/\(name)", bytes) }
        let log = "\(folder.path)/log"
        for _ in 0..<5 {
            // Somebody else may take a free port first: the server then ends, and another one is tried.
            let port = Int(try freePort())
            let process = try await ChildProcess.start(
                command(port, certificate, key, documents), output: log)
            let server = RealServer(process, folder, port)
            try await eventually("the server listens or ends", within: .seconds(60)) {
                !process.isRunning || server.log.contains("listen 127.0.0.1:\(port)")
            }
            if process.isRunning { return server }
        }
        throw LabError(
            "the server does not start: \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
    }

    private static let script = """
        import functools, http.server, socketserver, ssl, sys
        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def do_GET(self):
                if not self.path.startswith("/status/"):
                    return super().do_GET()
                self.send_response(int(self.path.split("/")[2]))
                self.send_header("Location", "https://elsewhere.test/")
                self.send_header("Content-Length", "0")
                self.end_headers()
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(201)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            def log_message(self, format, *arguments):
                print(self.requestline, *self.headers.items(), flush=True)
        port, certificate, key, documents = sys.argv[1:]
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128
        server = Server(("127.0.0.1", int(port)), functools.partial(Handler, directory=documents))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print(f"listen 127.0.0.1:{port}", flush=True)
        server.serve_forever()
        """
}
