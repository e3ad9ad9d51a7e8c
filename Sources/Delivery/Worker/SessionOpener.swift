// Opens a session to one address of a host and has it judged before anything is sent: the verdict is on this very connection
// (law 2). Failures are told apart: what says something about the host's TLS is a finding, the rest is only "not now".

import Foundation
import NIOCore
import Policy
import SMTP
import Settings
import SmartTLS
import TLS

/// Opens and judges sessions.
struct SessionOpener: Sendable {
    /// What came of one address.
    enum Result: Sendable {
        /// A session that the verdict says to deliver over.
        case open(LiveSession)
        /// The host was judged, and not good enough.
        case judged(HostSite)
        /// It could not be reached, or broke the protocol.
        case failed(SessionFailure)
    }

    let group: any EventLoopGroup
    let tls: TLSContext
    let heloName: String
    let sourceAddress: String?
    let port: Int
    let timeouts: SessionTimeouts

    /// Opens a session and judges it. Where its TLSA records are not known, no connection is made.
    func open(_ route: Route, _ host: RouteHost, _ address: RouteAddress, _ ruleset: Ruleset) async -> Result
    {
        let text = address.address.description
        var records: DANEReference?
        switch address.tlsa {
        case .published(let reference): records = reference
        case .absent, .insecure: break
        case .unknown(let failure):
            let findings = HostFindings(unknown: failure, host: host.referenceName, name: host.provenance)
            return .judged(
                HostSite(
                    host: host.name, address: text, findings: findings,
                    verdict: Verdict.judge(ruleset, findings), judgement: nil))
        }
        let target: SessionTarget
        do {
            target = SessionTarget(
                hostName: host.name, address: try SocketAddress(ipAddress: text, port: host.port ?? port),
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
            let absence = error.tls.map { TLSAbsence($0) } ?? .handshakeFailed(error.description)
            return .judged(judged(route, host, address, ruleset, .absence(absence)))
        }
        let seen =
            session.evidence.map { Seen.peer($0) }
            ?? .absence(session.extensions.startTLS ? .rejected : .notOffered)
        let site = judged(route, host, address, ruleset, seen)
        guard site.verdict.outcome == .deliver else {
            await session.quit()
            return .judged(site)
        }
        return .open(
            LiveSession(
                session: session, site: site, host: host, address: address, openedAt: .now, routedAt: .now))
    }

    /// What a connection showed of TLS.
    private enum Seen {
        case peer(PeerEvidence)
        case absence(TLSAbsence)
    }

    /// The verdict on what was seen, and the record of it.
    private func judged(
        _ route: Route, _ host: RouteHost, _ address: RouteAddress, _ ruleset: Ruleset, _ seen: Seen
    ) -> HostSite {
        let findings: HostFindings
        var peer: PeerEvidence?
        var absence: TLSAbsence?
        switch seen {
        case .peer(let evidence):
            peer = evidence
            findings = HostFindings(
                evidence: evidence, host: host.referenceName, name: host.provenance, tlsa: address.tlsa)
        case .absence(let reason):
            absence = reason
            findings = HostFindings(
                absence: reason, host: host.referenceName, name: host.provenance, tlsa: address.tlsa)
        }
        let verdict = Verdict.judge(ruleset, findings)
        // Only what ends in a delivery or a refusal needs evidence.
        let judgement =
            verdict.outcome == .defer
            ? nil
            : try? SiteJudgement(
                Judgement(
                    at: Int64(Date().timeIntervalSince1970 * 1000), route: route, host: host,
                    address: address,
                    port: port, peer: peer, absence: absence, ruleset: ruleset, findings: findings,
                    verdict: verdict), peer: peer)
        return HostSite(
            host: host.name, address: address.address.description, findings: findings, verdict: verdict,
            judgement: judgement)
    }

    /// The configured source address, where it is of the same family.
    private func source(for address: RouteAddress) -> String? {
        guard let sourceAddress, sourceAddress.contains(":") == address.address.isIPv6 else { return nil }
        return sourceAddress
    }
}
