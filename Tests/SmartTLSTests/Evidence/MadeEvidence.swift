// Evidence of deliveries at any time: made as workers make it, but for the clock and the connection, and changed afterwards.

import DNS
import Foundation
import Lab
import Policy
import TLS
import Testing

@testable import SmartTLS

/// Deliveries at one moment, by DANE to a domain with an NTA 7516 record for that month, and by an MTA-STS policy of one day.
struct MadeEvidence {
    /// When, to the second.
    let time: Date
    private let root: TestAuthority

    /// - Parameter moment: when the connections were made. Certificates hold from a day before it to a day behind it.
    init(at moment: Date) throws {
        time = Date(timeIntervalSince1970: moment.timeIntervalSince1970.rounded(.down))
        root = try TestAuthority(from: time - 86_400, to: time + 86_400)
    }

    /// The milliseconds since 1970.
    var milliseconds: Int64 { Int64(time.timeIntervalSince1970) * 1000 }

    /// Both.
    func file() async throws -> EvidenceFile { try Self.file([try await byDANE(), try await bySTS()]) }

    /// A judgement and the certificates that it refers to.
    typealias Part = (judgement: Judgement, certificates: [String: [UInt8]])

    /// One delivery of each, with the digests that follow from it.
    static func file(_ parts: [Part]) throws -> EvidenceFile {
        var entries: [EvidenceFile.Entry] = []
        var certificates: [String: [UInt8]] = [:]
        for (number, part) in parts.enumerated() {
            let delivery = DeliveryEvidence(
                message: UUID(uuid: (1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16)),
                recipient: Int32(number),
                event: UUID(
                    uuid: (1, 2, 3, 4, 5, 7, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, UInt8(number))),
                kind: "delivered", judgement: try part.judgement.encoded().digest, reply: "250 2.0.0 taken")
            entries.append(.init(delivery, digest: delivery.digest))
            certificates.merge(part.certificates) { one, _ in one }
        }
        return try EvidenceFile(
            deliveries: entries, judgements: try parts.map { try $0.judgement.encoded().octets },
            certificates: certificates.sorted { $0.key < $1.key }.map(\.value))
    }

    /// Under `nta7516`: the record names the host, and a TLSA record the authority, so that dates count (RFC 7671 §5.2).
    func byDANE() async throws -> Part {
        let month = try #require(Month(of: milliseconds))
        let record = "v=NTA7516-1;startdate=\(month);enddate=\(month);ntamx=10 in.bar.test"
        let anchor = TLSARecord.matching(root.certificate, usage: 2)
        let table = DNSTable([
            "bar.test TXT": .records([.txt([Array(record.utf8)])], .secure),
            "bar.test MX": .mx("10 mx.bar.test", security: .secure),
            "in.bar.test A": .addresses("192.0.2.1", security: .secure),
            "in.bar.test AAAA": .nodata(.secure),
            "_25._tcp.in.bar.test TLSA": .records(
                [
                    .tlsa(
                        usage: anchor.usage, selector: anchor.selector, matchingType: anchor.matchingType,
                        data: anchor.data)
                ], .secure),
        ])
        let identity = try root.issue(
            ["in.bar.test"], from: time - 86_400, to: time + 86_400, presentsRoot: root)
        return try await part("bar.test", table, nil, identity, trusting: nil, under: .nta7516)
    }

    /// Under `secure`: an enforced policy names the host, whose certificate leads to a trusted root.
    func bySTS() async throws -> Part {
        let table = DNSTable([
            "foo.test MX": .mx("10 mx.foo.test"), "mx.foo.test A": .addresses("192.0.2.2"),
            "_mta-sts.foo.test TXT": .records([.txt([Array("v=STSv1; id=20251114".utf8)])]),
        ])
        let time = time
        let policies = MTASTSPolicies(
            resolver: table, store: NoPolicyStore(),
            fetch: { _ in
                let body = "version: STSv1\nmode: enforce\nmx: mx.foo.test\nmax_age: 86400\n"
                guard let policy = try? MTASTSPolicy(body: Array(body.utf8)) else {
                    return .failed(.stsPolicyInvalid, "none")
                }
                return .policy(policy)
            },
            now: { time })
        let identity = try root.issue(["mx.foo.test"], from: time - 86_400, to: time + 86_400)
        return try await part("foo.test", table, policies, identity, trusting: root, under: .secure)
    }

    private func part(
        _ domain: String, _ table: DNSTable, _ policies: MTASTSPolicies?, _ identity: TestIdentity,
        trusting root: TestAuthority?, under ruleset: Ruleset
    ) async throws -> Part {
        let time = time
        let router = Router(resolver: table, policies: policies, date: { time })
        let route = try await router.route(to: domain, heedsNTA: ruleset.nta != nil)
        let host = try #require(route.hosts.first)
        let address = try #require(host.addresses.first)
        var records: DANEReference?
        if case .published(let reference) = address.tlsa { records = reference }
        let anchors = root.map { [TestIdentity.der($0.certificate)] } ?? []
        let chain = [identity.der] + identity.issuers.map(TestIdentity.der)
        let name = records?.baseDomain ?? host.referenceName
        let checked = try ChainJudgement(
            chain: chain, anchors: anchors, at: Int(milliseconds / 1000), name: name, dane: records)
        var peer = PeerEvidence(
            version: .tls13, cipherSuite: "TLS_AES_256_GCM_SHA384", isForwardSecret: true, cipherBits: 256,
            keyExchangeGroup: "x25519", signatureAlgorithm: "ECDSA+SHA256", serverName: name, chain: chain,
            staple: nil, checked: checked)
        peer.anchor = anchors.first
        let findings = HostFindings(
            evidence: peer, host: host.referenceName, name: host.provenance, tlsa: address.tlsa,
            sts: route.sts
        ).adding(route.nta)
        let judgement = Judgement(
            at: milliseconds, route: route, host: host, address: address, port: 25, exclusion: nil,
            peer: peer, absence: nil, ruleset: ruleset, findings: findings,
            verdict: Verdict.judge(ruleset, findings))
        return (judgement, Judgement.certificates(of: peer))
    }
}

extension Judgement {
    /// The same record with parts changed, its members by their names.
    func altered(_ change: (inout [String: Any]) -> Void) throws -> Judgement {
        let octets = try encoded().octets
        var object = try #require(try JSONSerialization.jsonObject(with: Data(octets)) as? [String: Any])
        change(&object)
        return try JSONDecoder().decode(
            Judgement.self, from: try JSONSerialization.data(withJSONObject: object))
    }

    /// The same with members of what MTA-STS said changed.
    func alteredPolicy(_ change: (inout [String: Any]) -> Void) throws -> Judgement {
        try altered { object in
            var policy = object["policy"] as? [String: Any] ?? [:]
            change(&policy)
            object["policy"] = policy
        }
    }
}

/// Keeps no policy.
struct NoPolicyStore: MTASTSStore {
    func policy(of domain: String) async -> StoredMTASTSPolicy? { nil }
    func due(at time: Date, limit: Int) async -> [String] { [] }
    func keep(_ policy: StoredMTASTSPolicy) async {}
}
