// All recipients of the lab in one running world: signed zones on NSD, faults before it, mail hosts and policy hosts on loopback,
// and the judge of `zegel judge` in front of them.

import DNS
import Foundation
import Lab
import NIOPosix
import Policy
import Settings
import SmartTLS
import TLS

/// A running world.
package final class RecipientWorld: Sendable {
    /// Our own name, which some MX records point at.
    package static let ownName = "out.own.test"

    /// The port of all mail hosts.
    package let mailPort: Int
    /// The port of all policy hosts.
    package let policyPort: Int
    /// Where DNS questions are answered, on 127.0.0.1.
    package let dnsPort: UInt16
    /// The file with the DS record of `test.`
    package let trustAnchor: String
    /// The PEM file of the roots that are trusted.
    package let trustRoots: String
    private let folder: URL
    private let sites: [String: Site]
    private let servers: [String: RecipientServers]
    private let names: NameServerLab
    private let front: FaultyNameServer
    private let resolver: UnboundResolver

    /// Builds the world of these cases.
    /// - mailPort: of all mail hosts; nil: any that is free.
    package static func build(_ cases: [RecipientCase], mailPort: Int? = nil) async throws -> RecipientWorld {
        let authorities = try Authorities()
        let port = try mailPort ?? Int(freePort())
        let policyPort = Int(try freePort())
        let sites = try cases.enumerated().map {
            try Site($1, number: $0, mailPort: port, authorities)
        }
        async let names = NameServerLab.start(sites.flatMap(\.zones))
        let servers = try await withThrowingTaskGroup(of: (String, RecipientServers).self) { group in
            for site in sites {
                group.addTask {
                    (site.row.name, try await .start(site, policyPort: policyPort, authorities))
                }
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        let front = try await FaultyNameServer.start(
            before: try await names.port,
            Dictionary(sites.flatMap(\.faults), uniquingKeysWith: { one, _ in one }))
        let folder = FileManager.default.temporaryDirectory.appending(path: "recipients-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data(authorities.rootsPEM).write(to: folder.appending(path: "roots.pem"))
        return try await RecipientWorld(
            sites, servers, names, front, mailPort: port, policyPort: policyPort, folder: folder)
    }

    private init(
        _ sites: [Site], _ servers: [String: RecipientServers], _ names: NameServerLab,
        _ front: FaultyNameServer, mailPort: Int, policyPort: Int, folder: URL
    ) throws {
        self.sites = Dictionary(sites.map { ($0.row.name, $0) }, uniquingKeysWith: { one, _ in one })
        (self.servers, self.names, self.front) = (servers, names, front)
        (self.mailPort, self.policyPort, self.folder) = (mailPort, policyPort, folder)
        (dnsPort, trustAnchor) = (front.port, names.trustAnchor)
        trustRoots = folder.appending(path: "roots.pem").path
        resolver = try Self.resolver(front.port, names.trustAnchor, patience: nil)
    }

    /// Ends all of it.
    package func end() async {
        for server in servers.values { await server.stop() }
        await front.stop()
        await names.stop()
        try? FileManager.default.removeItem(at: folder)
    }

    /// What the recipient comes to, by the code of `zegel judge`.
    package func report(on row: RecipientCase) async throws -> DomainReport {
        guard let site = sites[row.name] else { throw LabError("\(row.name) is not of this world") }
        let group = MultiThreadedEventLoopGroup.singleton
        // What never answers is not waited for as long as what is slow on a busy machine.
        let patience: Duration? = row.isSilent ? .seconds(3) : nil
        let resolver =
            row.needsOwnResolver
            ? try Self.resolver(dnsPort, trustAnchor, patience: patience) : self.resolver
        var settings = PolicySettings(try Settings(assignments: ["policy.port=\(policyPort)"]))
        settings.trustRoots = trustRoots
        settings.allowedNetworks = [NetworkBlock("127.0.0.0/8")].compactMap { $0 }
        let fetcher = try MTASTSFetcher(
            settings, resolver: resolver, group: group, deadline: patience ?? .seconds(60))
        defer { fetcher.shutDown() }
        let route = row.route.map { "\(row.domain)=\(site.filled($0))" }
        let limit = patience ?? .seconds(60)
        let judge = DomainJudge(
            router: Router(
                resolver: resolver, staticRoutes: [route.flatMap { StaticRoute($0) }].compactMap { $0 },
                port: mailPort,
                policies: MTASTSPolicies(
                    resolver: resolver, store: HeldPolicies(row.heldPolicy.map(site.filled), of: row.domain),
                    fetcher: fetcher, observe: { _ in }),
                ownName: Self.ownName),
            examiner: HostExaminer(
                group: group, tls: try .examining(trustRoots: trustRoots), heloName: "zegel.test",
                sourceAddress: nil, port: mailPort,
                timeouts: SessionTimeouts(connect: limit, greeting: limit, hello: limit, handshake: limit)),
            port: mailPort)
        return await judge.report(on: row.domain, under: RulesetBook().all)
    }

    /// Commands by which a message would have begun at its hosts: a judge sends none.
    package func mailCommands(at row: RecipientCase) -> Int { servers[row.name]?.mailCommands ?? 0 }

    /// The names that the first host of a case was asked for by SNI.
    package func serverNames(at row: RecipientCase) -> Set<String> { servers[row.name]?.serverNames ?? [] }

    /// The address of a mail host of a case, and the one chain that it presents in PEM; nil: there is no such host.
    package func host(_ number: Int, of row: RecipientCase) -> (address: String, chain: [UInt8]?)? {
        guard let site = sites[row.name], site.addresses.indices.contains(number) else { return nil }
        let chain = site.seconds[number] == nil ? site.materials[number]?.identity.chainPEM : nil
        return (site.addresses[number], chain)
    }

    private static func resolver(
        _ port: UInt16, _ trustAnchor: String, patience: Duration?
    ) throws -> UnboundResolver {
        guard let address = IPAddress("127.0.0.1") else { throw LabError("no address") }
        var configuration = DNSConfiguration(
            forwarders: [.init(address: address, port: port)], trustAnchor: .file(trustAnchor))
        configuration.queryDeadline = patience ?? .seconds(60)
        return try UnboundResolver(configuration)
    }
}

/// What is held of one domain from an earlier day.
private struct HeldPolicies: MTASTSStore {
    private let held: StoredMTASTSPolicy?

    init(_ body: String?, of domain: String) {
        held = body.map {
            StoredMTASTSPolicy(
                domain: domain, id: "0", body: Array($0.utf8), fetchedAt: .now - 3_600,
                expiresAt: .now + 3_600)
        }
    }

    func policy(of domain: String) async -> StoredMTASTSPolicy? { held?.domain == domain ? held : nil }
    func due(at time: Date, limit: Int) async -> [String] { [] }
    func keep(_ policy: StoredMTASTSPolicy) async {}
}
