// From a judged connection to its record.

import DNS
import Foundation
import Policy
import TLS

extension Judgement {
    /// Writes down what a judgement rested on.
    ///
    /// - Parameters:
    ///   - time: when, in milliseconds since 1970.
    ///   - route: the route to the recipient domain, with its lookups.
    ///   - host: the host of it.
    ///   - address: the address of the host.
    ///   - port: `delivery.port`.
    ///   - exclusion: by which configured network the address is outside the European Economic Area.
    ///   - peer: what the handshake showed; nil: there was no TLS.
    ///   - absence: why there was none.
    ///   - scan: the scan that is among the findings.
    public init(
        at time: Int64, route: Route, host: RouteHost, address: RouteAddress, port: Int,
        exclusion: String?, peer: PeerEvidence?, absence: TLSAbsence?, scan: RecordedScan? = nil,
        ruleset: Ruleset,
        findings: HostFindings, verdict: Verdict
    ) {
        self.format = Judgement.format
        self.madeAt = time
        self.domain = route.domain
        self.configured =
            route.origin == .configured ? ConfiguredHost(host: host.name, port: host.port ?? port) : nil
        self.port = port
        self.lookups = route.lookups.and(host.lookups).map(RecordedLookup.init)
        self.routedAt = route.routedAt
        self.policy = RecordedPolicy(route.policy)
        self.host = host.name
        self.address = address.address.description
        self.exclusion = exclusion
        self.connection = peer.map { peer in
            Connection(
                version: peer.version.description, cipherSuite: peer.cipherSuite, cipherBits: peer.cipherBits,
                isForwardSecret: peer.isForwardSecret, keyExchangeGroup: peer.keyExchangeGroup,
                signatureAlgorithm: peer.signatureAlgorithm, serverName: peer.serverName,
                // All of them: the one that counts may be the last. OpenSSL takes chains of 100 KB at most.
                chain: peer.chain.map(CanonicalJSON.digest),
                anchor: peer.anchor.map(CanonicalJSON.digest), staple: peer.staple.map { Data($0) })
        }
        self.absence = absence
        self.scan = scan
        self.ruleset = ruleset
        self.findings = findings
        self.verdict = verdict
    }

    /// The octets of a digest in hexadecimal; none where it is no hexadecimal text.
    public static func octets(of digest: String) -> [UInt8] {
        let digits = digest.compactMap(\.hexDigitValue)
        guard digits.count == digest.count, digits.count.isMultiple(of: 2) else { return [] }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }

    /// The certificates that a record refers to, by digest.
    public static func certificates(of peer: PeerEvidence?) -> [String: [UInt8]] {
        guard let peer else { return [:] }
        let all = peer.chain + (peer.anchor.map { [$0] } ?? [])
        return Dictionary(all.map { (CanonicalJSON.digest($0), $0) }, uniquingKeysWith: { one, _ in one })
    }
}
