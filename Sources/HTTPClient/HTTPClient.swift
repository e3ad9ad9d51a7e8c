// The one door through which Zegel asks other machines over HTTPS: MTA-STS policies, key services, webhooks, object stores.
//
// Promises: the certificate is always checked, chain and host name, before a request exists on the connection; no address
// outside of the public Internet is connected to unless the operator named its network, and the address that is judged is
// the one that is connected to; nothing is followed; every exchange is bounded in octets, fields and time, whatever the
// server does. What an answer means is the caller's business.

import DNS
import NIOCore
import Synchronization
import TLS

/// Bounds of a client as a whole.
public struct HTTPClientConfiguration: Sendable {
    /// Which addresses may be connected to.
    public var addressPolicy = AddressPolicy()
    /// Most connections at once, idle ones included.
    public var maximumConnections = 64
    /// Most connections to one host and port at once.
    public var maximumConnectionsPerHost = 4
    /// Most requests that wait besides those that have a connection.
    public var maximumWaiting = 256
    /// How long a connection is kept for the next request to the same host, port and address.
    public var idleTimeout = Duration.seconds(30)
    /// How long after its handshake a connection still takes another request: what was checked then is checked anew.
    public var connectionLifetime = Duration.seconds(600)
    /// For one attempt to connect, and again for its TLS handshake.
    public var connectTimeout = Duration.seconds(5)
    /// Most addresses of a host that are tried for one request.
    public var maximumAddresses = 4

    /// The defaults.
    public init() {}
}

/// A certificate that a client shows to servers that ask for one.
public struct HTTPClientIdentity: Sendable {
    /// PEM: the certificate, the leaf first.
    public var certificateChainPEM: [UInt8]
    /// PEM: its private key.
    public var privateKeyPEM: [UInt8]

    /// An identity from the octets of both files.
    public init(certificateChainPEM: [UInt8], privateKeyPEM: [UInt8]) {
        self.certificateChainPEM = certificateChainPEM
        self.privateKeyPEM = privateKeyPEM
    }
}

/// An HTTP client over TLS: HTTP/2 where the server picks it, else HTTP/1.1. One value serves many tasks.
public final class HTTPClient: Sendable {
    private let configuration: HTTPClientConfiguration
    private let tls: TLSContext
    private let resolver: any DNSResolving
    private let group: any EventLoopGroup
    private let pool: ConnectionPool

    /// Makes a client; nothing is connected to yet.
    /// - trust: who may vouch for servers.
    /// - identity: who this client is, for servers that ask; nil: nobody.
    /// - resolver: who resolves names.
    /// - group: whose event loops carry the connections.
    /// - Throws: when the roots cannot be read.
    public init(
        trust: TLSContext.TrustRoots, identity: HTTPClientIdentity? = nil, resolver: any DNSResolving,
        group: any EventLoopGroup,
        configuration: HTTPClientConfiguration = HTTPClientConfiguration()
    ) throws(TLSError) {
        self.configuration = configuration
        self.resolver = resolver
        self.group = group
        tls = try TLSContext.client(
            trust: trust, alpn: NegotiationHandler.protocols, ciphers: .forwardSecret,
            certificateChainPEM: identity?.certificateChainPEM, privateKeyPEM: identity?.privateKeyPEM)
        pool = ConnectionPool(
            total: configuration.maximumConnections, perHost: configuration.maximumConnectionsPerHost,
            waiting: configuration.maximumWaiting, idleTimeout: configuration.idleTimeout)
    }

    /// Sends one request and waits for its whole answer. A request that does the same when done twice, or that the server
    /// turned away unread, goes out a second time where a kept connection proved to be dead.
    ///
    /// Cancelling the task ends the exchange.
    /// - Throws: why there is no answer.
    public func send(
        _ request: HTTPRequest, _ limits: HTTPLimits
    ) async throws(HTTPClientError) -> HTTPResponse {
        try request.validate()
        try pool.enter()
        defer { pool.leave() }
        let progress = Progress()
        let ends = ContinuousClock.now + limits.deadline
        let result = await withTaskGroup(of: Result<HTTPResponse, HTTPClientError>?.self) { group in
            group.addTask {
                do throws(HTTPClientError) {
                    return .success(try await self.perform(request, limits, progress))
                } catch {
                    return .failure(error)
                }
            }
            group.addTask {
                try? await Task.sleep(until: ends, clock: .continuous)
                return nil
            }
            let first = await group.next()
            group.cancelAll()
            return first ?? nil
        }
        if let result, !Task.isCancelled { return try result.get() }
        if Task.isCancelled { throw HTTPClientError(.cancelled, "the caller gave up") }
        throw HTTPClientError(.deadline, "not over within \(limits.deadline), while \(progress.words)")
    }

    /// Takes in nothing more, ends idle connections and turns away who waits; exchanges that run come to their end.
    public func shutDown() { pool.close() }

    // MARK: Steps

    private func perform(
        _ request: HTTPRequest, _ limits: HTTPLimits, _ progress: Progress
    ) async throws(HTTPClientError) -> HTTPResponse {
        let origin = Origin(request.url)
        progress.note("resolving the name")
        let addresses = try await self.addresses(of: origin.host)
        let (connection, wasIdle) = try await self.connection(origin, addresses, takesIdle: true, progress)
        let outcome = await exchange(request, limits, connection, progress)
        let repeats =
            switch outcome.repetition {
            case .no: false
            case .idempotent: wasIdle && request.method.isIdempotent
            case .any: true
            }
        guard repeats, !Task.isCancelled, case .failure = outcome.answer else {
            return try response(outcome, connection)
        }
        let (fresh, _) = try await self.connection(origin, addresses, takesIdle: false, progress)
        return try response(await exchange(request, limits, fresh, progress), fresh)
    }

    private func exchange(
        _ request: HTTPRequest, _ limits: HTTPLimits, _ connection: HTTPConnection, _ progress: Progress
    ) async -> ExchangeOutcome {
        progress.note("waiting for the answer")
        let outcome = await connection.exchange(request, limits)
        let isYoung = ContinuousClock.now - connection.opened < configuration.connectionLifetime
        pool.giveBack(connection, isReusable: outcome.isReusable && isYoung && !Task.isCancelled)
        return outcome
    }

    private func response(
        _ outcome: ExchangeOutcome, _ connection: HTTPConnection
    ) throws(HTTPClientError) -> HTTPResponse {
        switch outcome.answer {
        case .success(let message):
            return HTTPResponse(
                status: message.status, fields: message.fields, body: message.body,
                version: connection.version, address: connection.address, evidence: connection.evidence)
        case .failure(var error):
            error.address = connection.address
            error.evidence = connection.evidence
            throw error
        }
    }

    /// A connection to one of the addresses: an idle one, else the first that can be made.
    private func connection(
        _ origin: Origin, _ addresses: [IPAddress], takesIdle: Bool, _ progress: Progress
    ) async throws(HTTPClientError) -> (connection: HTTPConnection, wasIdle: Bool) {
        progress.note("waiting for a free connection")
        if case .idle(let connection) = try await pool.place(origin, addresses, takesIdle: takesIdle) {
            return (connection, true)
        }
        progress.note("connecting")
        var failure = HTTPClientError(.noAddress, "the host has no address")
        for address in addresses {
            do throws(HTTPClientError) {
                let connection = try await HTTPConnection.open(
                    origin, address, tls, on: group, timeout: configuration.connectTimeout)
                // Whoever holds it then, a closed connection is idle no longer.
                connection.channel.closeFuture.whenComplete { [pool] _ in pool.expire(connection) }
                return (connection, false)
            } catch {
                failure = error
            }
            // Only where nobody answered may another address do better.
            guard [.connectRefused, .connectTimeout, .unreachable].contains(failure.code), !Task.isCancelled
            else { break }
        }
        pool.release(origin)
        throw failure
    }

    /// The addresses that may be connected to, IPv6 first, at most so many of them.
    private func addresses(of host: HTTPSURL.Host) async throws(HTTPClientError) -> [IPAddress] {
        let found: [IPAddress]
        switch host {
        case .address(let address): found = [address]
        case .name(let name): found = try await resolve(name)
        }
        var permitted: [IPAddress] = []
        var refusal: (address: IPAddress, network: SpecialPurposeNetwork)?
        for address in found {
            switch configuration.addressPolicy.judge(address) {
            case .permitted: permitted.append(address)
            case .refused(let network): refusal = refusal ?? (address, network)
            }
        }
        if permitted.isEmpty, let refusal {
            var error = HTTPClientError(
                .addressRefused,
                "\(refusal.address) is in \(refusal.network.block), \(refusal.network.purpose)")
            error.address = refusal.address
            throw error
        }
        return Self.spread(permitted, configuration.maximumAddresses)
    }

    private func resolve(_ name: DomainName) async throws(HTTPClientError) -> [IPAddress] {
        async let six = lookUp(name, .aaaa)
        async let four = lookUp(name, .a)
        let answers = [await six, await four]
        var found: [IPAddress] = []
        var failure: DNSFailure?
        for answer in answers {
            switch answer {
            case .success(let addresses): found += addresses
            case .failure(let error): failure = failure ?? error
            }
        }
        // One family that answers is enough to reach the host; without any, a failure is not an absence.
        guard found.isEmpty else { return found }
        if let failure { throw HTTPClientError(.dnsFailure, failure.description) }
        throw HTTPClientError(.noAddress, "the host has no address")
    }

    private func lookUp(_ name: DomainName, _ type: DNSRecordType) async -> Result<[IPAddress], DNSFailure> {
        do throws(DNSFailure) {
            let answer = try await resolver.resolve(name, type)
            return .success(
                answer.records.compactMap { if case .address(let address) = $0 { address } else { nil } })
        } catch {
            return .failure(error)
        }
    }

    /// The first addresses in their order, with at least one of each family that there is.
    static func spread(_ addresses: [IPAddress], _ most: Int) -> [IPAddress] {
        let six = addresses.filter(\.isIPv6)
        let four = addresses.filter { !$0.isIPv6 }
        let taken = six.prefix(max(most - four.count, four.isEmpty ? most : most / 2))
        return Array(taken + four.prefix(max(1, most - taken.count)))
    }
}

/// What an exchange is at, for whoever asks why it took so long.
private final class Progress: Sendable {
    private let step = Mutex("starting")

    var words: String { step.withLock { $0 } }
    func note(_ words: String) { step.withLock { $0 = words } }
}
