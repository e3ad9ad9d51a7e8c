// The HTTPS API of a region: routes, and what each of them answers.

import DNS
import Foundation
import Hummingbird
import HummingbirdCore
import Ledger
import Logging
import NIOCore
import Observability
import Policy
import Sealing
import ServiceLifecycle
import Settings
import TLS

import struct SmartTLS.DomainJudge

/// Serves `/v1/events`, `/v1/messages/{id}`, `/v1/messages/{id}/evidence`, `/v1/judge`, `/v1/openapi.json`, `/healthz` and `/readyz` over TLS.
public struct APIServer: Service, CustomStringConvertible {
    private let listen: HostPort
    private let maximumConnections: Int
    private let tls: TLSContext
    private let feed: EventFeed
    private let finder: MessageFinder
    private let bodies: BodyWriter
    private let authenticator: Authenticator
    private let desk: JudgeDesk?
    private let readiness: Readiness
    private let logger: Logger
    private let onBound: @Sendable (Int) -> Void

    /// Makes a server for one address.
    ///
    /// - Parameters:
    ///   - listen: host and port; port 0 takes a free one.
    ///   - settings: limits.
    ///   - tls: certificate and key.
    ///   - ledgers: one per shard, on members of this region.
    ///   - control: where API keys are.
    ///   - keys: the key service; it must open metadata keys.
    ///   - region: whose keys that service holds.
    ///   - judge: makes reports on domains; nil: this node makes none.
    ///   - rulesets: those that reports are made under.
    ///   - onBound: called with the port once it listens.
    public init(
        listen: HostPort, settings: APISettings, tls: TLSContext, ledgers: [EventLedger],
        control: ControlLedger,
        keys: any KeyService, region: String, judge: DomainJudge? = nil, rulesets: [Ruleset] = [],
        readiness: Readiness, logger: Logger,
        onBound: @escaping @Sendable (Int) -> Void = { _ in }
    ) {
        self.listen = listen
        self.maximumConnections = settings.maximumConnections
        self.tls = tls
        self.feed = EventFeed(ledgers)
        self.bodies = BodyWriter(
            opener: MetadataOpener(service: keys, region: region, logger: logger))
        self.finder = MessageFinder(ledgers: self.feed.ledgers)
        self.authenticator = Authenticator(ratePerSecond: settings.ratePerSecond) {
            try await control.apiKey($0)
        }
        self.desk = judge.map { JudgeDesk($0, rulesets: rulesets) }
        self.readiness = readiness
        self.logger = logger
        self.onBound = onBound
    }

    /// Its name in the log.
    public var description: String { "api" }

    /// Serves until graceful shutdown; requests in hand are answered.
    public func run() async throws {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let tls = tls
        let application = Application(
            router: router(),
            server: HTTPServerBuilder { responder in
                HTTPSChannel(
                    base: HTTP1Channel(
                        responder: responder,
                        configuration: .init(
                            idleTimeout: .seconds(75),
                            httpDecoderConfiguration: .init(
                                maxHeaderFieldSize: 32_768, maxHeaderListSize: 65_536,
                                maxHeaderFieldCount: 100))),
                    context: tls)
            },
            configuration: ApplicationConfiguration(
                address: .hostname(listen.host, port: listen.port), serverName: nil,
                availableConnectionsDelegate: MaximumAvailableConnections(maximumConnections)),
            onServerRunning: { channel in
                logger.info("api listens", metadata: ["port": "\(channel.localAddress?.port ?? 0)"])
                onBound(channel.localAddress?.port ?? 0)
            }, logger: quiet)
        do { try await application.run() } catch let error as IOError { throw CannotListen(listen, error) }
    }

    private func router() -> Router<BasicRequestContext> {
        let router = Router()
        router.add(middleware: ProblemMiddleware(logger: logger))
        router.get("/healthz") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "text/plain; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: "ok\n")))
        }
        router.get("/readyz") { _, _ in NodeStatusServer.readiness(readiness) }
        router.get("/v1/openapi.json") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "application/json"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: OpenAPIDocument.json)))
        }
        router.get("/v1/events") { request, _ in try await events(request) }
        router.get("/v1/messages/:id") { request, context in
            try await message(request, id: context.parameters.get("id") ?? "")
        }
        router.get("/v1/messages/:id/evidence") { request, context in
            try await evidence(request, id: context.parameters.get("id") ?? "")
        }
        router.get("/v1/judge") { request, _ in try await judge(request) }
        return router
    }

    // MARK: Events

    private func events(_ request: Request) async throws -> Response {
        let caller = try await authenticator.authenticate(request.headers, for: .readEvents)
        let query = request.uri.queryParameters
        // A misspelt 'after' that is passed over would start the feed again without a word.
        if let unknown = query.first(where: { !["after", "limit", "wait"].contains($0.key) })?.key {
            throw Problem.badRequest(
                "'\(unknown.prefix(64))' is no parameter of this feed: after, limit, wait.")
        }
        let cursor: FeedCursor
        do {
            cursor = try FeedCursor(query["after"].map(String.init) ?? "")
        } catch {
            throw Problem.badRequest(
                "'after' is no cursor of this feed; leave it out to read from the start.")
        }
        let limit = try Self.number(query["limit"], named: "limit", 1...1000, otherwise: 100)
        let wait = try Self.number(query["wait"], named: "wait", 0...30, otherwise: 0)
        let floor = try ReadPosition(request.headers, shards: shards)
        let page: FeedPage
        do {
            page = try await feed.page(
                after: cursor, tenant: caller.tenant, limit: limit, wait: .seconds(wait), floor: floor)
        } catch is EventFeed.Refusal {
            throw Problem.badRequest(
                "'after' is a cursor of another cluster; leave it out to read from the start.")
        }
        let ledgers = Dictionary(
            feed.ledgers.map { ($0.shard, $0.notBefore(page.seen.positions[$0.shard])) },
            uniquingKeysWith: { first, _ in first })
        let body = EventPageBody(
            events: try await bodies.events(page.items, in: ledgers), next: page.next.text,
            unread: page.unread.isEmpty ? nil : page.unread)
        var more = [(ReadPosition.header, page.seen.text)]
        if page.isFull {
            // RFC 8288: only when more is there now.
            more.append(("Link", "</v1/events?after=\(body.next)&limit=\(limit)>; rel=\"next\""))
        }
        return try Self.json(body, Self.headers(caller, more))
    }

    // MARK: Messages

    private var shards: [String] { feed.ledgers.map(\.shard) }

    private func message(_ request: Request, id text: String) async throws -> Response {
        let (caller, found) = try await find(request, id: text)
        return try Self.json(
            try await bodies.message(found.record, in: found.ledger), Self.headers(caller, found.headers))
    }

    private func evidence(_ request: Request, id text: String) async throws -> Response {
        let (caller, found) = try await find(request, id: text)
        guard let file = try await bodies.evidence(found.record, in: found.ledger) else {
            throw Problem.notFound("Nothing of this message was delivered or refused yet.")
        }
        // Its own octets: a reader checks them one by one.
        return Response(
            status: .ok, headers: Self.headers(caller, found.headers),
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try file.encoded())))
    }

    private func find(_ request: Request, id text: String) async throws -> (Principal, FoundMessage) {
        let caller = try await authenticator.authenticate(request.headers, for: .readMessages)
        guard let id = UUID(uuidString: text) else { throw Problem.badRequest("A message id is a UUID.") }
        let floor = try ReadPosition(request.headers, shards: shards)
        guard let found = try await finder.find(id, tenant: caller.tenant, floor: floor) else {
            throw Problem.notFound("No message has this id.")
        }
        return (caller, found)
    }

    // MARK: Judge

    private func judge(_ request: Request) async throws -> Response {
        let caller = try await authenticator.authenticate(request.headers, for: .judge)
        guard let desk else { throw Problem.notFound("This node makes no reports on domains (api.judge).") }
        guard let text = request.uri.queryParameters["domain"], let domain = try? DomainName(String(text)),
            domain.isHostName
        else { throw Problem.badRequest("'domain' is a domain name.") }
        let probes: Bool
        switch request.uri.queryParameters["scan"] {
        case nil, "kept": probes = false
        case "fresh": probes = true
        default: throw Problem.badRequest("'scan' is kept or fresh.")
        }
        do {
            return try Self.json(
                try await desk.report(on: domain.text, probes: probes), Self.headers(caller))
        } catch is JudgeDesk.Busy {
            throw Problem.unavailable("Too many reports are being made; ask again in a moment.")
        }
    }

    // MARK: Parts

    private static func number(
        _ text: Substring?, named name: String, _ range: ClosedRange<Int>, otherwise: Int
    ) throws -> Int {
        guard let text else { return otherwise }
        guard let value = Int(text), range.contains(value) else {
            throw Problem.badRequest(
                "'\(name)' is a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return value
    }

    private static func headers(_ caller: Principal, _ more: [(String, String)] = []) -> HTTPFields {
        var headers: HTTPFields = [.contentType: "application/json"]
        let rate = [
            ("X-RateLimit-Limit", "\(caller.rate.limit)"),
            ("X-RateLimit-Remaining", "\(caller.rate.remaining)"),
            ("X-RateLimit-Reset", "\(Int(caller.rate.reset.timeIntervalSince1970.rounded(.up)))"),
        ]
        for (name, value) in rate + more {
            if let field = HTTPFields.Element.Name(name) { headers[field] = value }
        }
        return headers
    }

    private static func json(_ body: some Encodable, _ headers: HTTPFields) throws -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes, .sortedKeys]
        return Response(
            status: .ok, headers: headers,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try encoder.encode(body))))
    }
}
