// Against servers that others wrote, one after the other: each is a process that takes its time to start.

import DNS
import HTTPClient
import Lab
import TLS
import Testing

@Suite(.serialized) struct RealServerTests {
    private let policy = Array(
        "version: STSv1\r\nmode: enforce\r\nmx: mx.peer.test\r\nmax_age: 86400\r\n".utf8)

    /// A server of the version with these files, and where it is.
    private func start(
        _ version: HTTPResponse.Version, _ fixture: ClientFixture, _ files: [String: [UInt8]]
    ) async throws -> (server: RealServer, url: String) {
        let server =
            version == .http2
            ? try await RealServer.nghttpd(fixture, files: files, arguments: ["--echo-upload"])
            : try await RealServer.python(fixture, files: files)
        return (server, "https://\(ClientFixture.host):\(server.port)")
    }

    @Test(arguments: [HTTPResponse.Version.http1, .http2])
    func `a policy is fetched with its type, over the protocol that the server picks`(
        version: HTTPResponse.Version
    )
        async throws
    {
        let fixture = try ClientFixture()
        let (server, url) = try await start(version, fixture, ["mta-sts.txt": policy])
        defer { server.stop() }
        let client = try fixture.client()
        let response = try await client.get("\(url)/mta-sts.txt")
        #expect(response.status == 200)
        #expect(response.version == version)
        #expect(response.body == policy)
        #expect(response.fields.mediaType == "text/plain")
        #expect(response.address.description == "127.0.0.1")
        #expect(response.evidence.verification == .valid)
        #expect(response.evidence.nameMatched == true)
        #expect(response.evidence.serverName == ClientFixture.host)
        #expect(response.evidence.alpn == (version == .http2 ? "h2" : nil))
        let missing = try await client.get("\(url)/nothing")
        #expect(missing.status == 404)
        #expect(!server.log.lowercased().contains("accept-encoding"))
        client.shutDown()
    }

    @Test(arguments: [HTTPResponse.Version.http1, .http2])
    func `the last octet allowed is taken, one more is too large`(version: HTTPResponse.Version) async throws
    {
        let fixture = try ClientFixture()
        let large = [UInt8](repeating: 65, count: 64 << 10)
        let (server, url) = try await start(version, fixture, ["full.txt": large, "more.txt": large + [66]])
        defer { server.stop() }
        let client = try fixture.client()
        #expect(try await client.get("\(url)/full.txt").body == large)
        #expect(await client.failure("\(url)/more.txt")?.code == .tooLarge)
        #expect(
            try await client.get("\(url)/more.txt", maximumBodyBytes: 1 << 20).body.count == large.count + 1)
        client.shutDown()
    }

    @Test(arguments: [HTTPResponse.Version.http1, .http2])
    func `a large body goes out and comes back`(version: HTTPResponse.Version) async throws {
        let fixture = try ClientFixture()
        let (server, url) = try await start(version, fixture, [:])
        defer { server.stop() }
        let client = try fixture.client()
        // Over several windows and frames, with every octet at its place.
        let body = (0..<700_001).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let response = try await client.send(
            HTTPRequest(
                .post, try HTTPSURL("\(url)/echo"), fields: ["content-type": "application/octet-stream"],
                body: body),
            HTTPLimits(maximumBodyBytes: 1 << 20, deadline: .seconds(20)))
        #expect((200...201).contains(response.status))
        #expect(response.body == body)
        client.shutDown()
    }

    @Test(arguments: [HTTPResponse.Version.http1, .http2])
    func `HEAD has an announced length and no body`(version: HTTPResponse.Version) async throws {
        let fixture = try ClientFixture()
        let large = [UInt8](repeating: 65, count: 100_000)
        let (server, url) = try await start(version, fixture, ["large.txt": large])
        defer { server.stop() }
        let client = try fixture.client()
        let response = try await client.send(
            HTTPRequest(.head, try HTTPSURL("\(url)/large.txt")),
            HTTPLimits(maximumBodyBytes: 10, deadline: .seconds(20)))
        #expect(response.status == 200)
        #expect(response.fields["content-length"] == "100000")
        #expect(response.body.isEmpty)
        client.shutDown()
    }

    @Test func `the whole way: a signed zone, a validating resolver, a server; a forged zone leads nowhere`()
        async throws
    {
        let fixture = try ClientFixture()
        let names = try await NameServerLab.start([
            LabZone(ClientFixture.host, .signed, "@ A 127.0.0.1"),
            LabZone("forged.test", .altered(name: "@", type: "A"), "@ A 127.0.0.1"),
        ])
        let loopback = try #require(IPAddress("127.0.0.1"))
        let resolver = try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: loopback, port: names.port)],
                trustAnchor: .file(names.trustAnchor)))
        let (server, url) = try await start(.http2, fixture, ["mta-sts.txt": policy])
        defer { server.stop() }
        let client = try fixture.client(resolver: resolver)
        #expect(try await client.get("\(url)/mta-sts.txt").body == policy)
        let forged = try #require(await client.failure("https://forged.test:\(server.port)/"))
        #expect(forged.code == .dnsFailure)
        #expect(forged.reason.contains("bogus"))
        #expect(await client.failure("https://nothing.\(ClientFixture.host)/")?.code == .noAddress)
        client.shutDown()
        await names.stop()
    }

    @Test(arguments: [301, 302, 307, 308])
    func `RFC 8461 §3.3: a redirect is an answer, and nobody follows it`(status: Int) async throws {
        let fixture = try ClientFixture()
        let (server, url) = try await start(.http1, fixture, [:])
        defer { server.stop() }
        let client = try fixture.client()
        let response = try await client.get("\(url)/status/\(status)")
        #expect(response.status == status)
        #expect(response.fields["location"] == "https://elsewhere.test/")
        #expect(fixture.resolver.questions == 2)
        client.shutDown()
    }

    @Test(arguments: [HTTPResponse.Version.http1, .http2])
    func `many at once keep to the bound of a host, and every one gets its own answer`(
        version: HTTPResponse.Version
    )
        async throws
    {
        let fixture = try ClientFixture()
        let files = Dictionary(uniqueKeysWithValues: (0..<20).map { ("\($0).txt", Array("body \($0)".utf8)) })
        let (server, url) = try await start(version, fixture, files)
        defer { server.stop() }
        let client = try fixture.client { $0.maximumConnectionsPerHost = 2 }
        let isRight = try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<60 {
                group.addTask {
                    let response = try await client.get("\(url)/\(number % 20).txt")
                    return response.body == Array("body \(number % 20)".utf8)
                }
            }
            return try await group.reduce(true) { $0 && $1 }
        }
        #expect(isRight)
        client.shutDown()
    }
}
