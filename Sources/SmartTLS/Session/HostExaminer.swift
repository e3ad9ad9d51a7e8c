// Opens a connection to one address of a host and reads what it shows, before anything of a message is sent. Failures are told
// apart: what says something about the host's TLS is a finding, the rest is only "not now".

import Foundation
import NIOCore
import Policy
import TLS

/// What one connection to a host showed.
public struct Examination: Sendable {
    /// The route that led to the host.
    public let route: Route
    /// The host.
    public let host: RouteHost
    /// Its address.
    public let address: RouteAddress
    /// `delivery.port`.
    let port: Int
    /// When, in milliseconds since 1970: with TLS the moment at which its certificates were checked.
    let time: Int64
    /// What was found.
    public internal(set) var findings: HostFindings
    /// The scan of the host that is among the findings; nil: none is.
    var scan: RecordedScan?
    /// What the handshake showed; nil: there was no TLS, or no connection at all.
    public let peer: PeerEvidence?
    /// Why there was no TLS; nil: there was, or no connection was made.
    public let absence: TLSAbsence?
    /// By which configured network the address is outside the European Economic Area; nil: none says so.
    let exclusion: String?
    /// The session, where it is open still: whoever asked for the examination ends it.
    public let session: OutboundSession?

    /// What the findings come to under a ruleset.
    public func verdict(under ruleset: Ruleset) -> Verdict { Verdict.judge(ruleset, findings) }

    /// The record of a verdict; nil where no connection was made.
    public func judgement(_ verdict: Verdict, under ruleset: Ruleset) -> Judgement? {
        guard peer != nil || absence != nil else { return nil }
        return Judgement(
            at: time, route: route, host: host, address: address, port: port, exclusion: exclusion,
            peer: peer, absence: absence, scan: scan, ruleset: ruleset, findings: findings, verdict: verdict)
    }
}

/// Examines hosts by connecting to them.
public struct HostExaminer: Sendable {
    /// What came of one address.
    public enum Outcome: Sendable {
        /// Something is known of the host's TLS.
        case seen(Examination)
        /// It could not be reached, or broke the protocol.
        case failed(SessionFailure)
    }

    private let group: any EventLoopGroup
    private let tls: TLSContext
    private let heloName: String
    private let sourceAddress: String?
    private let port: Int
    private let eea: EEANetworks
    private let timeouts: SessionTimeouts

    /// Sets up connecting.
    ///
    /// - Parameters:
    ///   - tls: the roots that chains are checked against, and what is offered.
    ///   - heloName: our name in EHLO.
    ///   - sourceAddress: the local address of its family to connect from; nil: the system's choice.
    ///   - port: `delivery.port`.
    ///   - eea: by which addresses are outside the European Economic Area.
    public init(
        group: any EventLoopGroup, tls: TLSContext, heloName: String, sourceAddress: String?, port: Int,
        eea: EEANetworks = EEANetworks(), timeouts: SessionTimeouts
    ) {
        self.group = group
        self.tls = tls
        self.heloName = heloName
        self.sourceAddress = sourceAddress
        self.port = port
        self.eea = eea
        self.timeouts = timeouts
    }

    /// What a scan of this address of the host would be kept under.
    public func site(_ host: RouteHost, _ address: RouteAddress) -> ScanSite {
        ScanSite(host, address, port: port)
    }

    /// Connects, up to the second EHLO. Where the TLSA records of the address are not known, no connection is made.
    public func examine(_ route: Route, _ host: RouteHost, _ address: RouteAddress) async -> Outcome {
        let time = Int64(Date().timeIntervalSince1970 * 1000)
        let exclusion = eea.exclusion(of: address.address)
        func seen(
            _ findings: HostFindings, peer: PeerEvidence? = nil, absence: TLSAbsence? = nil,
            session: OutboundSession? = nil
        ) -> Outcome {
            .seen(
                Examination(
                    route: route, host: host, address: address, port: port,
                    time: peer?.checkedAt.map { Int64($0) * 1000 } ?? time,
                    findings: findings.adding(route.nta).adding(exclusion.map { _ in .outsideEEA }),
                    peer: peer, absence: absence, exclusion: exclusion, session: session))
        }
        func without(_ absence: TLSAbsence, _ session: OutboundSession? = nil) -> Outcome {
            let findings = HostFindings(
                absence: absence, host: host.referenceName, name: host.provenance, tlsa: address.tlsa,
                sts: route.sts)
            return seen(findings, absence: absence, session: session)
        }
        var records: DANEReference?
        switch address.tlsa {
        case .published(let reference): records = reference
        case .absent, .insecure: break
        case .unknown:
            return seen(
                HostFindings(
                    unconnected: host.referenceName, name: host.provenance, tlsa: address.tlsa,
                    sts: route.sts))
        }
        let target: SessionTarget
        do {
            target = SessionTarget(
                hostName: host.name,
                address: try SocketAddress(
                    ipAddress: address.address.description, port: host.port ?? port),
                sourceAddress: source(for: address), heloName: heloName, tls: .opportunistic(tls),
                // RFC 7672 §8.1: with TLSA records the name to ask for is their base domain.
                serverName: records?.baseDomain ?? host.referenceName, dane: records)
        } catch {
            return .failed(SessionFailure(.unreachable, step: "connect", detail: "\(error)"))
        }
        let session: OutboundSession
        do {
            session = try await OutboundSession.open(target, on: group, timeouts: timeouts)
        } catch {
            guard error.code == .handshakeFailed || error.code == .startTLSInjection else {
                return .failed(error)
            }
            // A connection that ended in the handshake says nothing of the host's security: deferred, like any lost one.
            if error.code == .handshakeFailed,
                error.tls.map({ $0.code == .closedInHandshake || $0.code == .handshakeTimeout }) ?? true
            {
                return .failed(error)
            }
            return without(error.tls.map { TLSAbsence($0) } ?? .handshakeFailed(error.description))
        }
        guard let peer = session.evidence else {
            return without(session.extensions.startTLS ? .rejected : .notOffered, session)
        }
        let findings = HostFindings(
            evidence: peer, host: host.referenceName, name: host.provenance, tlsa: address.tlsa,
            sts: route.sts)
        return seen(findings, peer: peer, session: session)
    }

    /// The configured source address, where it is of the same family.
    private func source(for address: RouteAddress) -> String? {
        guard let sourceAddress, sourceAddress.contains(":") == address.address.isIPv6 else { return nil }
        return sourceAddress
    }
}
