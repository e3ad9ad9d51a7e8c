// What the tests of the client share: an authority, a table of names, a client that may connect to loopback.

import DNS
import Foundation
import HTTPClient
import Lab
import NIOPosix
import Synchronization
import TLS

/// Answers from a table of texts; what is not in it does not exist.
final class NameTable: DNSResolving {
    private let addresses: Mutex<[String: [String]]>
    private let failing: Set<DNSRecordType>
    private let asked = Mutex(0)

    init(_ addresses: [String: [String]], failing: Set<DNSRecordType> = []) {
        self.addresses = Mutex(addresses)
        self.failing = failing
    }

    /// Questions so far.
    var questions: Int { asked.withLock { $0 } }

    /// Changes its mind.
    func set(_ name: String, _ texts: [String]) { addresses.withLock { $0[name] = texts } }

    func resolve(_ name: DomainName, _ type: DNSRecordType) async throws(DNSFailure) -> DNSAnswer {
        asked.withLock { $0 += 1 }
        if failing.contains(type) { throw DNSFailure(.servfail, "\(name) \(type): as the test wants it") }
        guard let texts = addresses.withLock({ $0[name.text] }) else {
            return DNSAnswer(name: name, type: type, outcome: .nxdomain, ttl: 60)
        }
        let records = texts.compactMap { IPAddress($0) }.filter { $0.isIPv6 == (type == .aaaa) }
            .map { DNSRecord.address($0) }
        return DNSAnswer(
            name: name, type: type, outcome: records.isEmpty ? .nodata : .records(records), ttl: 60)
    }
}

/// A root, and certificates below it for `peer.test`.
struct ClientFixture {
    static let host = "peer.test"
    let authority: TestAuthority
    let resolver: NameTable

    init(_ names: [String: [String]] = [ClientFixture.host: ["127.0.0.1"]]) throws {
        authority = try TestAuthority()
        resolver = NameTable(names)
    }

    /// A server's side with a good certificate, unless another is given.
    func server(_ identity: TestIdentity? = nil, alpn: [String]) throws -> TLSContext {
        let identity = try identity ?? authority.issue([Self.host])
        return try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM, alpn: alpn)
    }

    /// A client that trusts the root and may connect to loopback.
    func client(
        allowed: [String] = ["127.0.0.0/8", "::1/128"], resolver: (any DNSResolving)? = nil,
        _ change: (inout HTTPClientConfiguration) -> Void = { _ in }
    ) throws -> HTTPClient {
        var configuration = HTTPClientConfiguration()
        configuration.addressPolicy = AddressPolicy(allowed: allowed.compactMap { CIDR($0) })
        change(&configuration)
        return try HTTPClient(
            trust: .pem(authority.rootPEM), resolver: resolver ?? self.resolver,
            group: MultiThreadedEventLoopGroup.singleton, configuration: configuration)
    }
}

extension HTTPClient {
    /// GET, within bounds that no honest test reaches unless it sets its own.
    func get(
        _ url: String, maximumBodyBytes: Int = 64 << 10, deadline: Duration = .seconds(20)
    ) async throws(HTTPClientError) -> HTTPResponse {
        try await send(
            HTTPRequest(.get, try HTTPSURL(url)),
            HTTPLimits(maximumBodyBytes: maximumBodyBytes, deadline: deadline))
    }

    /// How GET fails; nil: it does not.
    func failure(
        _ url: String, maximumBodyBytes: Int = 64 << 10, deadline: Duration = .seconds(20)
    ) async -> HTTPClientError? {
        do throws(HTTPClientError) {
            _ = try await get(url, maximumBodyBytes: maximumBodyBytes, deadline: deadline)
            return nil
        } catch {
            return error
        }
    }
}

/// A folder that goes when the test ends.
final class ScratchFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/zegel-http-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else { throw LabError("no temporary folder") }
        path = String(cString: made)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a file and says where it is.
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = "\(path)/\(name)"
        try Data(bytes).write(to: URL(filePath: file))
        return file
    }
}
