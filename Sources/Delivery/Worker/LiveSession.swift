// An open session and what it was found to be. It is shared only by deliveries of one lane (recipient domain and ruleset), to the
// same host, address, set of TLSA records and MTA-STS policy, as long as the route still names them (design §9).

import Foundation
import SMTP
import SmartTLS

/// A session with its verdict.
struct LiveSession: Sendable {
    /// The longest that one session is used: what was judged on it is then judged anew.
    static let longest: Duration = .seconds(300)
    /// How often a reused session's route is looked at again.
    static let routeCheck: Duration = .seconds(1)

    let session: OutboundSession
    /// The host, its address, what was found and concluded.
    let site: HostSite
    /// The host as the route named it.
    let host: RouteHost
    /// Its address, with the TLSA records that the verdict rests on.
    let address: RouteAddress
    /// What MTA-STS said of the domain.
    let sts: MTASTSStatus
    /// The scan that its verdict rests on too.
    let scan: RecordedScan?
    /// What the connection showed.
    let sighting: ScanSighting?
    let openedAt: ContinuousClock.Instant
    /// When the route last named this host and address.
    var routedAt: ContinuousClock.Instant

    /// Whether another message of the lane may go over it, the route aside.
    func isUsable(at now: ContinuousClock.Instant) -> Bool {
        session.isReusable && site.verdict.outcome == .deliver && now - openedAt < Self.longest
    }

    /// Whether the route must be asked again first.
    func needsRoute(at now: ContinuousClock.Instant) -> Bool { now - routedAt >= Self.routeCheck }

    /// Whether a route names this host and address, with the same proof of its name, the same TLSA records and policy, and the same
    /// to say of the domain's NTA 7516 record.
    func isOn(_ route: Route) -> Bool {
        if let nta = route.nta, !site.findings.findings.contains(nta) { return false }
        return sts.isSame(as: route.sts)
            && route.hosts.contains { other in
                other.name == host.name && other.referenceName == host.referenceName
                    && other.provenance == host.provenance && other.port == host.port
                    && other.addresses.contains(address)
            }
    }
}
