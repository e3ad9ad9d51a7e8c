// The servers of the lab: mail hosts of every kind on one port, and policy hosts on another, each at an address of its own.

import Foundation
import Lab
import TLS

/// What serves one case.
struct RecipientServers: Sendable {
    private var mail: [ScriptedSMTPServer] = []
    private var fronts: [StartTLSFront] = []
    private var others: [PythonSMTPServer] = []
    private var policies: [ScriptedTLSServer] = []

    /// The names that the first host was asked for by SNI.
    var serverNames: Set<String> { Set(mail.first?.transcript.serverNames ?? []) }

    /// Commands by which a message would have begun.
    var mailCommands: Int {
        mail.reduce(0) { $0 + $1.transcript.commands.count { $0.hasPrefix("MAIL") } }
    }

    static func start(
        _ site: Site, policyPort: Int, _ authorities: Authorities
    ) async throws -> RecipientServers {
        var servers = RecipientServers()
        for (number, host) in site.row.hosts.enumerated() where !host.isDown {
            let (address, material) = (site.addresses[number], site.materials[number])
            if let octets = host.octetsForTLS {
                servers.fronts.append(try await .start(.octets(octets), on: address, port: site.mailPort))
            } else if var offer = host.offer, let material {
                (offer.oldest, offer.newest) = host.versions
                servers.others.append(
                    try await .start(
                        [material.identity] + [site.seconds[number]?.identity].compactMap { $0 }, offer,
                        on: address,
                        port: site.mailPort))
            } else {
                servers.mail.append(
                    try await .start(try script(host, material), on: address, port: site.mailPort))
            }
        }
        if let host = site.row.policyHost, let script = host.script(site.filled(host.policy)) {
            let identity = try authorities.issue(host.certificate, host.names.map(site.row.absolute)).identity
            servers.policies.append(
                try await .start(
                    try .server(
                        certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM),
                    script, on: site.policyAddress, port: policyPort))
        }
        return servers
    }

    func stop() async {
        for server in mail { try? await server.stop() }
        for front in fronts { try? await front.stop() }
        for server in others { server.stop() }
        for server in policies { try? await server.stop() }
    }

    private static func script(_ host: MailHost, _ material: Material?) throws -> SMTPScript {
        var script = SMTPScript()
        script.answers = host.answers.mapValues { Array(repeating: $0, count: 50) }
        guard let material else { return script }
        // Weak certificates and old versions need a server that minds neither.
        let isOld = host.versions.oldest != .tls12 && host.versions.oldest != .tls13
        let isWeak = host.certificate == .weakKey || host.certificate == .weakSignature
        script.tls = try .server(
            certificateChainPEM: material.identity.chainPEM,
            privateKeyPEM: try material.identity.privateKeyPEM, minimumVersion: host.versions.oldest,
            ciphers: host.suites.map { .list($0 + ":@SECLEVEL=0") }
                ?? (isOld || isWeak ? .list("ALL:!aNULL:@SECLEVEL=0") : .forwardSecret),
            maximumVersion: host.versions.newest)
        return script
    }
}

extension PolicyHost {
    /// What its server does on a connection; nil: there is none.
    fileprivate func script(_ body: String) -> [TLSScriptStep]? {
        func answer(_ status: Int = 200, type: String = "text/plain", fields: String = "") -> [UInt8] {
            let head =
                "HTTP/1.1 \(status) As Ordered\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n"
            return Array((head + fields + "\r\n" + body).utf8)
        }
        switch behaviour {
        case .serves: return [.awaitRequest(1), .send(answer())]
        case .status(let status, let fields):
            return [.awaitRequest(1), .send(answer(status, fields: fields))]
        case .type(let type): return [.awaitRequest(1), .send(answer(type: type))]
        case .truncated: return [.awaitRequest(1), .send(answer().dropLast(20)), .cut]
        case .silent: return []
        case .down: return nil
        }
    }
}
