// Nothing is ever downgraded (law 2): mail to a domain that was served well a moment ago, with somebody in the middle. What must not
// leave is looked for in every octet that the middle and the attacker's own hosts were told.

import DNS
import Foundation
import Lab
import NIOPosix
import Policy
import SmartTLS
import TLS
import Testing

@testable import Delivery

@Suite(.timeLimit(.minutes(4))) struct DowngradeTests {
    /// A row with its hosts.
    private struct Stage: Sendable {
        let attack: Attack
        let site: Attack.Site
        let identity: TestIdentity
        let host: ScriptedSMTPServer
        let front: Interceptor
        let impostor: ScriptedSMTPServer?
        var name: String { "\(attack.what), \(attack.world.rawValue)" }
    }

    private static func secret(_ site: Attack.Site, _ ruleset: String) -> String {
        "OCTETS-OF-CONTENT-\(site.number)-\(ruleset)"
    }

    private static func stage(
        _ attack: Attack, _ site: Attack.Site, _ authority: TestAuthority, port: Int
    ) async throws -> Stage {
        let identity =
            attack.world == .dane
            ? try TestAuthority.selfSigned(["mx.\(site.domain)"]) : try authority.issue(["mx.\(site.domain)"])
        var script = SMTPScript()
        script.tls = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM,
            minimumVersion: attack.takesOldVersions ? .tls10 : .tls12,
            ciphers: attack.takesOldVersions ? .encrypted : .forwardSecret)
        let host = try await ScriptedSMTPServer.start(script, on: site.host, port: port)
        return Stage(
            attack: attack, site: site, identity: identity, host: host,
            front: try await Interceptor.start(to: host.address, on: site.front, port: port),
            impostor: try await impostor(attack, site, authority, port: port))
    }

    private static func impostor(
        _ attack: Attack, _ site: Attack.Site, _ authority: TestAuthority, port: Int
    ) async throws -> ScriptedSMTPServer? {
        guard let kind = attack.impostor else { return nil }
        let identity =
            kind == .trustedElsewhere
            ? try authority.issue([site.evil]) : try TestAuthority.selfSigned(["mx.\(site.domain)"])
        var script = SMTPScript()
        script.tls = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM,
            minimumVersion: kind == .old ? .tls10 : .tls12,
            ciphers: kind == .old ? .encrypted : .forwardSecret,
            maximumVersion: kind == .old ? .tls11 : .tls13)
        return try await ScriptedSMTPServer.start(script, on: site.impostor, port: port)
    }

    private static func zones(_ stages: [Stage], port: Int) -> [LabZone] {
        var zones = stages.map { stage in
            var text = "@ MX 10 mx\nmx A \(stage.site.front)\n"
            switch stage.attack.world {
            case .dane:
                let record = TLSARecord.matching(stage.identity.certificate)
                text += "_\(port)._tcp.mx TLSA \(record.zoneText)\n"
            case .plain: break
            case .sts: text += "_mta-sts TXT \"v=STSv1; id=1\"\nmta-sts A \(stage.site.web)\n"
            }
            return LabZone(stage.site.domain, stage.attack.world == .dane ? .signed : .unsigned, text)
        }
        zones.append(
            LabZone(
                "evil.test", .unsigned,
                stages.map { "mx\($0.site.number) A \($0.site.impostor)\n" }.joined()))
        return zones
    }

    private static func policy(naming host: String) -> String {
        "version: STSv1\r\nmode: enforce\r\nmx: \(host)\r\nmax_age: 86400\r\n"
    }

    private static func resolver(_ port: UInt16, _ anchor: String) throws -> UnboundResolver {
        try UnboundResolver(
            DNSConfiguration(
                forwarders: [.init(address: try #require(IPAddress("127.0.0.1")), port: port)],
                trustAnchor: .file(anchor)))
    }

    @Test func `somebody in the middle gets nothing`() async throws {
        let lab = try await WorkerLab()
        let port = Int(try freePort())
        var made: [Stage] = []
        for (number, attack) in Attack.rows.enumerated() {
            made.append(try await Self.stage(attack, Attack.Site(number: number), lab.authority, port: port))
        }
        let stages = made
        let names = try await NameServerLab.start(Self.zones(stages, port: port))
        let hosts = try await PolicyHosts.start(
            try stages.filter { $0.attack.world == .sts }.map { stage in
                PolicyHost(
                    address: stage.site.web,
                    identity: try lab.authority.issue(["mta-sts.\(stage.site.domain)"]),
                    body: Self.policy(naming: "mx.\(stage.site.domain)"))
            })
        try await serveBefore(lab, stages, names, policyPort: hosts.port, port: port)
        await hosts.stop()

        // Now somebody steps in between.
        let liar = try await ForgingNameServer.start(to: names.port)
        for stage in stages {
            if let impostor = stage.impostor {
                stage.front.change(stage.attack.connections(try impostor.address))
            } else if let host = try? stage.host.address {
                stage.front.change(stage.attack.connections(host))
            }
            stage.front.forget()
            for answer in stage.attack.answers {
                let name = answer.name.replacing("{D}", with: stage.site.domain).replacing(
                    "{P}", with: "\(port)")
                liar.forge(name, DNSRecordType(rawValue: answer.type), answer.forgery(stage.site))
            }
        }
        let later = try await PolicyHosts.start(
            try stages.filter { $0.attack.world == .sts && $0.attack.policyHost != .away }.map { stage in
                let isSwapped = stage.attack.policyHost == .swapped
                let name = "mta-sts.\(stage.site.domain)"
                return PolicyHost(
                    address: stage.site.web,
                    identity: isSwapped
                        ? try TestAuthority.selfSigned([name]) : try lab.authority.issue([name]),
                    body: Self.policy(naming: isSwapped ? stage.site.evil : "mx.\(stage.site.domain)"))
            })
        try await attack(
            lab, stages, try Self.resolver(liar.port, names.trustAnchor), policyPort: later.port, port: port)
        for stage in stages {
            for answer in stage.attack.answers {
                let name = answer.name.replacing("{D}", with: stage.site.domain).replacing(
                    "{P}", with: "\(port)")
                #expect(
                    liar.asked["\(name) \(answer.type)"] != nil, "\(stage.name): \(name) was never asked for")
            }
            try await stage.front.stop()
            try await stage.host.stop()
            try await stage.impostor?.stop()
        }
        await later.stop()
        await liar.stop()
        await names.stop()
    }

    /// The world is sound: every host takes mail under the strictest ruleset that it satisfies.
    private func serveBefore(
        _ lab: WorkerLab, _ stages: [Stage], _ names: NameServerLab, policyPort: Int, port: Int
    ) async throws {
        let resolver = try Self.resolver(names.port, names.trustAnchor)
        let served = stages.filter(\.attack.wasServed)
        for stage in served {
            _ = try await lab.accept(
                from: nil, to: ["r@\(stage.site.domain)"],
                ruleset: stage.attack.world == .dane ? "nta7516" : "secure")
        }
        let worker = try await lab.worker(
            routes: [:],
            settings: ["delivery.port=\(port)", "delivery.retry=1h", "policy.port=\(policyPort)"],
            resolver: resolver)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(60)) { seen in
                seen.filter(\.endsAttempt).count == served.count
            }
        }
        #expect(events.filter(\.endsAttempt).allSatisfy { $0.kind == "delivered" })
        for stage in served {
            #expect(stage.host.transcript.mails.count == 1, "\(stage.name): not sound before the attack")
        }
        let judge = DomainJudge(
            router: Router(
                resolver: resolver, port: port,
                policies: try lab.policies(settings: ["policy.port=\(policyPort)"], resolver: resolver)),
            examiner: HostExaminer(
                group: MultiThreadedEventLoopGroup.singleton,
                tls: try TLSContext.client(trust: .pem(lab.authority.rootPEM), minimumVersion: .tls10),
                heloName: "zegel.test", sourceAddress: nil, port: port, timeouts: SessionTimeouts()),
            prober: HostProber(
                group: MultiThreadedEventLoopGroup.singleton, heloName: "zegel.test", sourceAddress: nil),
            port: port)
        for stage in stages where stage.attack.wasScanned {
            let report = await judge.report(on: stage.site.domain, under: [.secure])
            #expect(report.verdicts["secure"]?.outcome == .deliver, "\(stage.name): the scan")
            #expect(report.hosts.first?.scan?.isComplete == true, "\(stage.name): the scan")
        }
    }

    private func attack(
        _ lab: WorkerLab, _ stages: [Stage], _ resolver: UnboundResolver, policyPort: Int, port: Int
    ) async throws {
        var messages: [UUID: (Stage, String)] = [:]
        for stage in stages {
            for ruleset in stage.attack.ends.keys {
                let text = "Subject: secret\r\n\r\n\(Self.secret(stage.site, ruleset))\r\n"
                let id = try await lab.accept(
                    from: nil, to: ["r@\(stage.site.domain)"], ruleset: ruleset, content: Array(text.utf8))
                messages[id] = (stage, ruleset)
            }
        }
        let worker = try await lab.worker(
            name: "worker-2", routes: [:],
            settings: ["delivery.port=\(port)", "delivery.retry=1h", "policy.port=\(policyPort)"],
            resolver: resolver)
        let ids = Set(messages.keys)
        let events = try await lab.working([worker]) {
            try await lab.events(within: .seconds(90)) { seen in
                Set(seen.filter(\.endsAttempt).map(\.message)).isSuperset(of: ids)
            }
        }
        for (id, (stage, ruleset)) in messages {
            let end = events.first { $0.message == id && $0.endsAttempt }
            #expect(
                end.map { "\($0.kind) \($0.reason ?? "")" } == stage.attack.ends[ruleset],
                "\(stage.name), \(ruleset): \(end?.detail?.explanation ?? "")")
        }
        for stage in stages {
            nothingLeft(stage)
            let ends = stage.attack.ends.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
            print("  \(stage.name): \(ends.joined(separator: ", "))")
        }
    }

    /// Neither MAIL FROM nor an octet of content reached the middle, the attacker's host, or the true one on a way that is not sound.
    private func nothingLeft(_ stage: Stage) {
        let front = stage.front.transcript
        let wasServed = stage.attack.wasServed ? 1 : 0
        let allowed: Set = ["EHLO", "HELO", "STARTTLS", "QUIT", "RSET"]
        for ruleset in stage.attack.ends.keys where !stage.attack.byDesign.contains(ruleset) {
            let secret = Self.secret(stage.site, ruleset)
            #expect(!front.saw(secret), "\(stage.name), \(ruleset): content in clear")
            for host in [stage.host, stage.impostor].compactMap(\.self) {
                let told = host.transcript.mails.contains {
                    $0.content.firstRange(of: Array(secret.utf8)) != nil
                }
                #expect(!told, "\(stage.name), \(ruleset): content at a host")
            }
        }
        let mails = [stage.host, stage.impostor].compactMap { $0?.transcript.mails.count }.reduce(0, +)
        #expect(mails == wasServed + stage.attack.byDesign.count, "\(stage.name)")
        let begun = [stage.host, stage.impostor].compactMap { host in
            host?.transcript.commands.filter { $0.hasPrefix("MAIL") }.count
        }.reduce(0, +)
        #expect(begun == wasServed + stage.attack.byDesign.count, "\(stage.name): MAIL")
        if stage.attack.byDesign.isEmpty {
            #expect(!front.saw("MAIL FROM"), "\(stage.name): MAIL in clear")
            let said = Set(front.inClear.map { String($0.prefix { $0 != " " }).uppercased() })
            #expect(said.isSubset(of: allowed), "\(stage.name): \(said)")
        }
        // No second try with less: one connection a message, each with the newest version, none with an earlier session.
        #expect(front.connections <= stage.attack.ends.count, "\(stage.name)")
        #expect(front.hellos.allSatisfy(HelloSurgery.offersTLS13), "\(stage.name)")
        #expect(!front.hellos.contains(where: HelloSurgery.offersResumption), "\(stage.name)")
    }
}
