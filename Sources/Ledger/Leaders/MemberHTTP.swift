// HTTPS to what runs beside the members of a shard: Patroni and etcd.

import DNS
import HTTPClient
import NIOCore
import TLS

/// Connections to the Patronis and the etcds of one cluster.
public struct MemberHTTP: Sendable {
    private let http: HTTPClient

    /// Connections to those whose certificates `authorityPEM` vouches for.
    /// - Parameter identity: who asks; nil: nobody, who may change nothing.
    /// - Throws: `TLSError` for certificates that cannot be used.
    public init(authorityPEM: [UInt8], identity: HTTPClientIdentity? = nil, group: any EventLoopGroup) throws
    {
        var configuration = HTTPClientConfiguration()
        // Members live in the operator's own networks; their certificates are what is checked.
        configuration.addressPolicy = AddressPolicy(allowed: ["0.0.0.0/0", "::/0"].compactMap(CIDR.init))
        configuration.maximumConnectionsPerHost = 8
        configuration.connectTimeout = .seconds(1)
        http = try HTTPClient(
            trust: .pem(authorityPEM), identity: identity, resolver: NoNames(), group: group,
            configuration: configuration)
    }

    /// Ends idle connections.
    public func shutDown() { http.shutDown() }

    /// One request, and its whole answer of up to 1 MiB.
    /// - Parameter body: JSON, or nothing.
    func send(
        _ method: HTTPRequest.Method, _ url: String, body: [UInt8] = [], limit: Duration
    ) async throws -> HTTPResponse {
        var request = HTTPRequest(method, try HTTPSURL(url), body: body)
        if !body.isEmpty { request.fields.append("content-type", "application/json") }
        return try await http.send(request, HTTPLimits(maximumBodyBytes: 1 << 20, deadline: limit))
    }
}

/// Members are named by address.
private struct NoNames: DNSResolving {
    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        throw DNSFailure(.resolverFailed, "names of members are not looked up")
    }
}
