// One TLS connection to one address of one host, its certificate checked before it exists as a value.

import DNS
import NIOCore
import NIOPosix
import Synchronization
import TLS

/// A connection that takes one exchange at a time.
struct HTTPConnection: Sendable {
    let channel: any Channel
    let origin: Origin
    let address: IPAddress
    let evidence: PeerEvidence
    let version: HTTPResponse.Version
    /// When its certificate was checked.
    let opened = ContinuousClock.now

    var id: ObjectIdentifier { ObjectIdentifier(channel) }

    /// Sends a request and waits for its outcome. Cancelling the task ends the connection.
    func exchange(_ request: HTTPRequest, _ limits: HTTPLimits) async -> ExchangeOutcome {
        let promise = channel.eventLoop.makePromise(of: ExchangeOutcome.self)
        channel.writeAndFlush(Exchange(request: request, limits: limits, promise: promise)).whenFailure { _ in
            // The channel was closed before its handler saw the request.
            promise.succeed(ExchangeOutcome.notSent)
        }
        return await withTaskCancellationHandler {
            (try? await promise.futureResult.get()) ?? .notSent
        } onCancel: {
            ConnectionEnd.cut(channel)
        }
    }

    /// Opens a connection, checks the server's certificate and agrees on a protocol. Cancelling the task ends it.
    ///
    /// - Throws: `connectRefused`, `connectTimeout`, `unreachable`; `certificateRejected`, `tlsFailure`; `cancelled`.
    static func open(
        _ origin: Origin, _ address: IPAddress, _ tls: TLSContext, on group: any EventLoopGroup,
        timeout: Duration
    ) async throws(HTTPClientError) -> HTTPConnection {
        let loop = group.next()
        let negotiated = loop.makePromise(of: HTTPConnection.self)
        let patience = TimeAmount(timeout)
        let opening = Opening()
        let bootstrap = ClientBootstrap(group: loop).connectTimeout(patience)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let name = origin.host.text
                    let budget = WireBudget()
                    try channel.pipeline.syncOperations.addHandlers([
                        TLSHandler(
                            client: tls, serverName: name, verification: .record(name: name),
                            handshakeTimeout: patience, closeTimeout: .seconds(1)),
                        budget, NegotiationHandler(origin, address, budget, negotiated),
                    ])
                    opening.attach(channel)
                }
            }
        let result: Result<HTTPConnection, HTTPClientError> = await withTaskCancellationHandler {
            do {
                let target = try SocketAddress(ipAddress: address.description, port: origin.port)
                _ = try await bootstrap.connect(to: target).get()
            } catch {
                let error = HTTPClientError(connecting: error)
                // Settled already where the handler was there; a second word is ignored.
                negotiated.fail(error)
                return .failure(error)
            }
            do {
                return .success(try await negotiated.futureResult.get())
            } catch {
                return .failure(HTTPClientError(pipeline: error, .tlsFailure))
            }
        } onCancel: {
            opening.cancel()
        }
        do throws(HTTPClientError) {
            return try result.get()
        } catch {
            var error = error
            error.address = address
            throw error
        }
    }
}

extension ExchangeOutcome {
    /// The connection was gone before the request reached it.
    static let notSent = ExchangeOutcome(
        answer: .failure(HTTPClientError(.connectionClosed, "the connection is closed")), repetition: .any)
}

/// The channel of a connection that is being opened, so that it can be given up.
private final class Opening: Sendable {
    private let state = Mutex<(channel: (any Channel)?, isCancelled: Bool)>((nil, false))

    func attach(_ channel: any Channel) {
        let isCancelled = state.withLock {
            $0.channel = channel
            return $0.isCancelled
        }
        if isCancelled { channel.close(promise: nil) }
    }

    func cancel() {
        let channel = state.withLock {
            $0.isCancelled = true
            return $0.channel
        }
        if let channel { ConnectionEnd.cut(channel) }
    }
}

/// Ends connections that are of no more use to anybody at once, without a farewell that a hostile server could draw out.
enum ConnectionEnd {
    /// On the channel's own event loop.
    static func cut(_ context: ChannelHandlerContext) {
        if let tls = try? context.pipeline.syncOperations.context(handlerType: TLSHandler.self) {
            // From its context a close goes on below the TLS handler.
            tls.close(mode: .all, promise: nil)
        } else {
            context.close(promise: nil)
        }
    }

    /// From any thread.
    static func cut(_ channel: any Channel) {
        channel.eventLoop.execute {
            if let tls = try? channel.pipeline.syncOperations.context(handlerType: TLSHandler.self) {
                tls.close(mode: .all, promise: nil)
            } else {
                channel.close(promise: nil)
            }
        }
    }
}

extension HTTPClientError {
    /// Of a failed attempt to connect.
    fileprivate init(connecting error: any Error) {
        switch error {
        case let error as HTTPClientError: self = error
        case ChannelError.connectTimeout:
            self.init(.connectTimeout, "no answer to the connection attempt")
        case let error as IOError where error.errnoCode == ECONNREFUSED:
            self.init(.connectRefused, "nobody listens there")
        case let error as IOError where error.errnoCode == ETIMEDOUT:
            self.init(.connectTimeout, "no answer to the connection attempt")
        case let error as IOError:
            self.init(.unreachable, String(cString: strerror(error.errnoCode)))
        default: self.init(.unreachable, "the connection attempt failed")
        }
    }

    /// Of an error that a pipeline reports and that no handler of ours has named.
    init(tls error: any Error, _ fallback: Code) {
        switch error {
        case let error as TLSError where error.code == .truncated:
            self.init(.connectionClosed, "the connection was cut without a TLS farewell")
        case let error as TLSError: self.init(.tlsFailure, error.description)
        case is IOError: self.init(.connectionClosed, "the connection broke")
        default: self.init(fallback, "the connection failed")
        }
    }
}
