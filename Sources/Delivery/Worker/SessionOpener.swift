// Opens a session to one address of a host and has it judged before anything is sent: the verdict is on this very connection
// (law 2).

import Foundation
import Policy
import SmartTLS

/// Opens and judges sessions.
struct SessionOpener: Sendable {
    /// What came of one address.
    enum Result: Sendable {
        /// A session that the verdict says to deliver over.
        case open(LiveSession)
        /// The verdict is certain without a connection: its TLSA records are not known, or MTA-STS excludes it.
        case foregone(HostSite)
        /// The host was judged, and not good enough.
        case judged(HostSite)
        /// It could not be reached, or broke the protocol.
        case failed(SessionFailure)
    }

    let examiner: HostExaminer
    /// What is known of hosts beside their connections.
    var scans: ScanDesk?

    /// Opens a session and judges it. Where the verdict is certain before, no connection is made.
    func open(_ route: Route, _ host: RouteHost, _ address: RouteAddress, _ ruleset: Ruleset) async -> Result
    {
        let known = HostFindings(
            unconnected: host.referenceName, name: host.provenance, tlsa: address.tlsa, sts: route.sts)
        if let verdict = Verdict.foregone(ruleset, known) {
            return .foregone(
                HostSite(
                    host: host.name, address: address.address.description, findings: known, verdict: verdict,
                    judgement: nil))
        }
        let place = examiner.site(host, address)
        await scans?.prepare(place, ruleset)
        var examination: Examination
        switch await examiner.examine(route, host, address) {
        case .failed(let failure): return .failed(failure)
        case .seen(let seen): examination = seen
        }
        let scan = await scans?.counting(for: place, examination.sighting, ruleset)
        if let scan { examination = examination.adding(scan) }
        let verdict = examination.verdict(under: ruleset)
        // Only what ends in a delivery or a refusal needs evidence.
        let judgement =
            verdict.outcome == .defer ? nil : examination.judgement(verdict, under: ruleset)
        let site = HostSite(
            host: host.name, address: address.address.description, findings: examination.findings,
            verdict: verdict,
            judgement: judgement.flatMap { try? SiteJudgement($0, peer: examination.peer) })
        guard let session = examination.session else { return .judged(site) }
        guard verdict.outcome == .deliver else {
            await session.quit()
            return .judged(site)
        }
        return .open(
            LiveSession(
                session: session, site: site, host: host, address: address, sts: route.sts,
                scan: scan?.record, sighting: examination.sighting, openedAt: .now, routedAt: .now))
    }

    /// Whether what counts of scans is still what the session was judged with.
    func stillCounts(_ live: LiveSession, under ruleset: Ruleset) async -> Bool {
        guard let scans else { return true }
        let scan = await scans.counting(
            for: examiner.site(live.host, live.address), live.sighting, ruleset)
        return scan?.record == live.scan
    }
}
