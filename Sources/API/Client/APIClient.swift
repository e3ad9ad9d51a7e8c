// A small HTTPS client for operators' commands: one request, one connection, one answer, a deadline.

import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import TLS

/// Why the API gave no answer that can be used.
public struct APIClientError: Error, Sendable, CustomStringConvertible {
    /// HTTP status, nil when there was no answer at all.
    public var status: Int?
    /// A sentence for people; the API's own where there is one.
    public var description: String
}

/// Asks the API of a cluster.
public struct APIClient: Sendable {
    /// Longest answer, in bytes.
    static let answerLimit = 16 << 20

    private let host: String
    private let port: Int
    private let key: String
    private let tls: TLSContext
    private let deadline: Duration

    /// A client of the API at `url`.
    ///
    /// - Parameters:
    ///   - url: `https://host:port`, without a path.
    ///   - key: the API key, `zegel_…`.
    ///   - authoritiesPEM: who may vouch for the server: the cluster's CA. The name in `url` must be in its certificate.
    ///   - deadline: for one request, connecting included.
    /// - Throws: `APIClientError` for another kind of URL, `TLSError` for authorities that are no certificates.
    public init(url: String, key: String, authoritiesPEM: [UInt8], deadline: Duration = .seconds(15)) throws {
        guard let components = URLComponents(string: url), components.scheme == "https",
            let host = components.host, !host.isEmpty, ["", "/"].contains(components.path)
        else { throw APIClientError(status: nil, description: "'\(url)' is no https://host:port") }
        self.host = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
        self.port = components.port ?? 443
        self.key = key
        self.tls = try TLSContext.client(trust: .pem(authoritiesPEM), alpn: ["http/1.1"])
        self.deadline = deadline
    }

    /// One message with its recipients and timeline; nil when there is none of that id.
    public func message(_ id: String) async throws -> MessageBody? {
        do {
            return try await get("/v1/messages/\(Self.encoded(id))", as: MessageBody.self)
        } catch let error as APIClientError where error.status == 404 {
            return nil
        }
    }

    /// The evidence of one message, octet for octet; nil when there is none (yet).
    public func evidence(_ id: String) async throws -> [UInt8]? {
        do {
            return try await octets("/v1/messages/\(Self.encoded(id))/evidence", within: deadline)
        } catch let error as APIClientError where error.status == 404 {
            return nil
        }
    }

    /// A page of the feed.
    ///
    /// - Parameters:
    ///   - cursor: empty for the start.
    ///   - limit: 1 … 1000.
    ///   - wait: seconds to wait when there is nothing, at most 30.
    public func events(after cursor: String, limit: Int = 100, wait: Int = 0) async throws -> EventPageBody {
        try await get(
            "/v1/events?after=\(Self.encoded(cursor))&limit=\(limit)&wait=\(wait)", as: EventPageBody.self,
            patience: .seconds(wait))
    }

    private static func encoded(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(.init(charactersIn: "-_.")))
            ?? ""
    }

    private func get<Body: Decodable>(
        _ path: String, as type: Body.Type, patience: Duration = .zero
    ) async throws -> Body {
        let bytes = try await octets(path, within: deadline + patience)
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw APIClientError(
                status: 200, description: "the API's answer is not what this version understands")
        }
    }

    private func octets(_ path: String, within deadline: Duration) async throws -> [UInt8] {
        let (status, bytes) = try await exchange(path, within: deadline)
        guard status == 200 else {
            let problem = try? JSONDecoder().decode(ProblemText.self, from: Data(bytes))
            throw APIClientError(
                status: status,
                description: problem.map { "\($0.title): \($0.detail)" } ?? "the API answered \(status)")
        }
        return bytes
    }

    private func exchange(_ path: String, within deadline: Duration) async throws -> (Int, [UInt8]) {
        let (tls, host) = (tls, host)
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let promise = loop.makePromise(of: (Int, [UInt8]).self)
        let timeout = TimeAmount.nanoseconds(Int64(deadline / .nanoseconds(1)))
        // Whatever happens to the connection, the promise is kept: by the answer, by an error or by this timer.
        let timer = loop.scheduleTask(in: timeout) {
            promise.fail(
                APIClientError(status: nil, description: "the API at \(host) does not answer in time"))
        }
        let connecting = ClientBootstrap(group: loop).connectTimeout(timeout)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    try pipeline.addHandler(
                        TLSHandler(
                            client: tls, serverName: host, verification: .require(name: host),
                            handshakeTimeout: timeout))
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(AnswerHandler(promise: promise))
                }
            }
            .connect(host: host, port: port)
        let head = HTTPRequestHead(
            version: .http1_1, method: .GET, uri: path,
            headers: [
                "Host": host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)",
                "Authorization": "Bearer \(key)", "Accept": "application/json", "Connection": "close",
            ])
        connecting.whenFailure { error in
            promise.fail(
                APIClientError(
                    status: nil, description: "the API at \(host):\(port) cannot be reached: \(error)"))
        }
        connecting.whenSuccess { channel in
            channel.write(HTTPClientRequestPart.head(head), promise: nil)
            channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        }
        defer {
            timer.cancel()
            connecting.whenSuccess { $0.close(promise: nil) }
        }
        return try await promise.futureResult.get()
    }
}

/// What a client reads of a problem.
private struct ProblemText: Decodable {
    var title: String
    var detail: String
}

/// Gathers one answer.
private final class AnswerHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let promise: EventLoopPromise<(Int, [UInt8])>
    private var status = 0
    private var body: [UInt8] = []

    init(promise: EventLoopPromise<(Int, [UInt8])>) { self.promise = promise }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): status = Int(head.status.code)
        case .body(let buffer):
            guard body.count + buffer.readableBytes <= APIClient.answerLimit else {
                promise.fail(APIClientError(status: status, description: "the API's answer is too long"))
                return context.close(promise: nil)
            }
            body.append(contentsOf: buffer.readableBytesView)
        case .end: promise.succeed((status, body))
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        promise.fail(APIClientError(status: nil, description: "the connection to the API failed: \(error)"))
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        // Too late to matter when the answer was complete.
        promise.fail(
            APIClientError(status: nil, description: "the API closed the connection without an answer"))
    }
}
