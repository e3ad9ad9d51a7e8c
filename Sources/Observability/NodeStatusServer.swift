// What a node says of itself over plain HTTP, to Prometheus and to whoever decides whether it gets work.
import Foundation
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle
import Settings

/// Serves `/metrics`, `/healthz` (the process answers) and `/readyz` (503 and the conditions that fail) on
/// `metrics.listen`, without TLS: bind it to loopback or to a network that only operators reach.
public struct NodeStatusServer: Service, CustomStringConvertible {
    private let listen: HostPort
    private let name: String
    private let readiness: Readiness
    private let metrics: MetricsRegistry
    private let logger: Logger
    private let onBound: @Sendable (Int) -> Void

    /// Makes the server; `run()` binds it.
    ///
    /// - Parameters:
    ///   - listen: host and port; port 0 takes a free one.
    ///   - name: the executable, a label of `zegel_build_info`.
    ///   - onBound: called with the port once it listens.
    public init(
        listen: HostPort, name: String, readiness: Readiness, metrics: MetricsRegistry, logger: Logger,
        onBound: @escaping @Sendable (Int) -> Void = { _ in }
    ) {
        self.listen = listen
        self.name = name
        self.readiness = readiness
        self.metrics = metrics
        self.logger = logger
        self.onBound = onBound
    }

    /// Its name in the log.
    public var description: String { "status" }

    /// Serves until graceful shutdown.
    public func run() async throws {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let router = Router()
        // Also at the root: the listener has this one purpose, and its bare URL is what a cluster's endpoints name.
        for path in ["/", "/metrics"] {
            router.get(RouterPath(path)) { _, _ in
                Self.answer(.ok, exposition(), "text/plain; version=0.0.4; charset=utf-8")
            }
        }
        router.get("/healthz") { _, _ in Self.answer(.ok, "ok\n", "text/plain; charset=utf-8") }
        router.get("/readyz") { _, _ in Self.readiness(readiness) }
        let application = Application(
            router: router,
            configuration: ApplicationConfiguration(
                address: .hostname(listen.host, port: listen.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(64)),
            onServerRunning: { onBound($0.localAddress?.port ?? 0) }, logger: quiet)
        do { try await application.run() } catch let error as IOError { throw CannotListen(listen, error) }
    }

    /// `/readyz` as every node answers it: 200, or 503 with the conditions that fail.
    public static func readiness(_ readiness: Readiness) -> Response {
        let failing = readiness.failing
        var line = JSONLine()
        line.key("ready")
        line.raw(failing.isEmpty ? "true" : "false")
        line.key("failing")
        line.raw("[")
        for (i, one) in failing.enumerated() {
            if i > 0 { line.raw(",") }
            line.raw("{\"condition\":")
            line.quote(one.condition)
            line.raw(",\"reason\":")
            line.quote(one.reason)
            line.raw("}")
        }
        line.raw("]")
        let text = String(decoding: line.finished(), as: UTF8.self)
        return answer(failing.isEmpty ? .ok : .serviceUnavailable, text, "application/json")
    }

    private func exposition() -> String {
        var text = metrics.exposition()
        ProcessMetrics.append(to: &text)
        MetricsRegistry.appendHead(
            "zegel_ready", "gauge", "Whether every condition of this node holds.", to: &text)
        text.appendSample("zegel_ready", "", readiness.isReady ? "1" : "0")
        MetricsRegistry.appendHead("zegel_build_info", "gauge", "Version and role of this node.", to: &text)
        text.appendSample("zegel_build_info", #"role="\#(name)",version="\#(Release.version)""#, "1")
        MetricsRegistry.appendHead(
            "zegel_log_dropped_lines_total", "counter", "Log lines dropped because their reader was slow.",
            to: &text)
        text.appendSample("zegel_log_dropped_lines_total", "", "\(LogBootstrap.writer.dropped)")
        return text
    }

    private static func answer(_ status: HTTPResponse.Status, _ text: String, _ type: String) -> Response {
        Response(
            status: status, headers: [.contentType: type, .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }
}
