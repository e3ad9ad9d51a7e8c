// Hosts of MTA-STS policies: Python's own HTTPS server, once for each address, each with its certificate and its one answer.

import Foundation
import Lab

/// A policy host.
struct PolicyHost: Sendable {
    /// Of loopback.
    var address: String
    var identity: TestIdentity
    var status = 200
    var type = "text/plain"
    /// Where a redirect leads.
    var location: String?
    var body: String
}

/// Policy hosts on one port, as a child process.
final class PolicyHosts: Sendable {
    let port: Int
    private let process: ChildProcess
    private let folder: URL

    static func start(_ hosts: [PolicyHost]) async throws -> PolicyHosts {
        let folder = FileManager.default.temporaryDirectory.appending(path: "policy-hosts-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var list: [[String: String]] = []
        for (number, host) in hosts.enumerated() {
            let certificate = folder.appending(path: "\(number).pem")
            let key = folder.appending(path: "\(number).key")
            try Data(host.identity.chainPEM).write(to: certificate)
            try Data(host.identity.privateKeyPEM).write(to: key)
            list.append([
                "address": host.address, "certificate": certificate.path, "key": key.path,
                "status": "\(host.status)", "type": host.type, "location": host.location ?? "",
                "body": host.body,
            ])
        }
        let file = folder.appending(path: "hosts.json")
        try JSONEncoder().encode(list).write(to: file)
        let log = folder.appending(path: "log").path
        for _ in 0..<5 {
            // Somebody else may take a free port first: the process then ends, and another one is tried.
            let port = Int(try freePort())
            let process = try await ChildProcess.start(
                ["python3", "-c", script, "\(port)", file.path], output: log)
            let started = PolicyHosts(process, folder, port)
            try await eventually("the policy hosts listen or end", within: .seconds(60)) {
                !process.isRunning || started.log.contains("listen \(port)")
            }
            if process.isRunning { return started }
        }
        throw LabError("no policy hosts: \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
    }

    private init(_ process: ChildProcess, _ folder: URL, _ port: Int) {
        self.process = process
        self.folder = folder
        self.port = port
    }

    /// They are away from now on.
    func stop() async {
        process.signal(SIGKILL)
        _ = await process.waitForExit(within: .seconds(10))
        try? FileManager.default.removeItem(at: folder)
    }

    /// What they were asked: `<address> <path>`, one a line.
    var log: String { (try? String(contentsOf: folder.appending(path: "log"), encoding: .utf8)) ?? "" }

    private static let script = """
        import http.server, json, socketserver, ssl, sys, threading
        port = int(sys.argv[1])
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
        def serve(host):
            class Handler(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"
                def do_GET(self):
                    print(host["address"], self.path, flush=True)
                    body = host["body"].replace("{P}", str(port)).encode()
                    self.send_response(int(host["status"]))
                    if host["location"]:
                        self.send_header("Location", host["location"].replace("{P}", str(port)))
                    self.send_header("Content-Type", host["type"])
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                def log_message(self, *arguments):
                    pass
            server = Server((host["address"], port), Handler)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(host["certificate"], host["key"])
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        for host in json.load(open(sys.argv[2])):
            serve(host)
        print(f"listen {port}", flush=True)
        threading.Event().wait()
        """
}
