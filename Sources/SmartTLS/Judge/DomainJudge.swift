// Examines every host of a recipient domain, as a delivery would, and says what that comes to. Nothing is sent. A scan, one that
// workers have kept or a new one, adds what else a host accepts; verdicts rest on the connection that a delivery would have, and on
// a scan only where the ruleset asks for it.

import DNS
import Foundation
import NIOCore
import Policy
import Settings
import TLS

/// Judges recipient domains.
public struct DomainJudge: Sendable {
    private let router: Router
    private let examiner: HostExaminer
    private let prober: HostProber?
    private let scans: (any HostScanReading)?
    private let port: Int

    /// - Parameters:
    ///   - prober: scans hosts that have STARTTLS; nil: it is not asked what else they accept.
    ///   - scans: what workers have found; nil: nothing is known of it.
    ///   - port: `delivery.port`, for the records that a report names.
    public init(
        router: Router, examiner: HostExaminer, prober: HostProber? = nil,
        scans: (any HostScanReading)? = nil,
        port: Int
    ) {
        self.router = router
        self.examiner = examiner
        self.prober = prober
        self.scans = scans
        self.port = port
    }

    /// A judge as configured, with the shorter patience that somebody who waits for a report has.
    ///
    /// - Parameters:
    ///   - probes: whether hosts can be asked for everything that they accept.
    ///   - source: the local address to do that from; nil: as deliveries do.
    ///   - scans: what workers have found.
    /// - Throws: `DNSConfigurationError`, `TLSError`, or Foundation's error for a file of roots that cannot be read.
    public init(
        _ delivery: DeliverySettings, _ dns: DNSSettings, _ policies: PolicySettings, _ nta: NTASettings,
        group: any EventLoopGroup, probes: Bool = false, from source: String? = nil,
        scans: (any HostScanReading)? = nil
    ) throws {
        let resolver = try UnboundResolver(DNSConfiguration(dns))
        self.init(
            router: Router(
                resolver: resolver, staticRoutes: delivery.routes, port: delivery.port,
                policies: MTASTSPolicies(
                    resolver: resolver, store: NoEarlierPolicies(),
                    fetcher: try MTASTSFetcher(
                        policies, resolver: resolver, group: group, deadline: .seconds(30)),
                    observe: { _ in }),
                ownName: delivery.hostName),
            examiner: HostExaminer(
                group: group, tls: try .examining(trustRoots: delivery.trustRoots),
                heloName: delivery.hostName, sourceAddress: delivery.sourceAddress, port: delivery.port,
                eea: EEANetworks(nta),
                timeouts: SessionTimeouts(
                    connect: .seconds(15), greeting: .seconds(30), hello: .seconds(30),
                    handshake: .seconds(30))),
            prober: probes
                ? HostProber(
                    group: group, heloName: delivery.hostName,
                    sourceAddress: source ?? delivery.sourceAddress) : nil,
            scans: scans, port: delivery.port)
    }

    /// The report on a domain.
    ///
    /// - Parameters:
    ///   - domain: as people write it; it is brought to lower-case A-labels by the router.
    ///   - rulesets: those to judge under.
    ///   - probes: whether hosts are asked for everything that they accept, where no scan that counts is kept.
    public func report(
        on domain: String, under rulesets: [Ruleset], probes: Bool = true
    ) async -> DomainReport {
        let heeding = rulesets.filter { $0.nta != nil }
        if heeding.isEmpty || heeding.count == rulesets.count {
            return await report(on: domain, under: rulesets, heedsNTA: !heeding.isEmpty, probes)
        }
        if let route = try? await router.route(to: domain, heedsNTA: true), route.origin != .nta {
            // The same hosts, with what else there is to say.
            return await report(on: route, under: rulesets, probes)
        }
        let others = rulesets.filter { $0.nta == nil }
        let ordinary = await report(on: domain, under: others, heedsNTA: false, probes)
        return ordinary.joined(with: await report(on: domain, under: heeding, heedsNTA: true, probes))
    }

    private func report(
        on domain: String, under rulesets: [Ruleset], heedsNTA: Bool, _ probes: Bool
    ) async -> DomainReport {
        let route: Route
        do {
            route = try await router.route(to: domain, heedsNTA: heedsNTA)
        } catch {
            let outcome: Verdict.Outcome = error.isTemporary ? .defer : .refuse
            return DomainReport(
                domain: domain, origin: nil, dnssec: nil, hosts: [],
                verdicts: rulesets.mapped { _ in DomainReport.Conclusion(outcome, error.reason) },
                detail: error.detail)
        }
        return await report(on: route, under: rulesets, probes)
    }

    private func report(
        on route: Route, under rulesets: [Ruleset], _ probes: Bool
    ) async -> DomainReport {
        let sites = route.hosts.flatMap { host in host.addresses.map { (host, $0) } }
        // A report goes without what cannot be read.
        let kept = (try? await scans?.rows(sites.map { examiner.site($0.0, $0.1) })) ?? [:]
        let examined = await withTaskGroup(of: (Int, (HostExaminer.Outcome, ReportedScan?)).self) { group in
            for (index, (host, address)) in sites.enumerated() {
                group.addTask {
                    let outcome = await examiner.examine(route, host, address)
                    guard case .seen(let seen) = outcome else { return (index, (outcome, nil)) }
                    await seen.session?.quit()
                    let row = kept[examiner.site(host, address)]
                    return (index, (outcome, await scan(seen, row, probes)))
                }
            }
            return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
        let hosts = zip(sites, examined).map { site, outcome in
            line(route, site.0, site.1, outcome.0, outcome.1, rulesets)
        }
        let verdicts = rulesets.mapped { ruleset in
            let refusing = Set(
                hosts.filter { $0.failure == nil && $0.verdicts[ruleset.name]?.outcome == .refuse }.map(
                    \.name))
            // As of a delivery: another address of it that cannot be reached makes nobody wait for a host that was refused.
            let counting = zip(examined, hosts).filter { outcome, host in
                guard case .failed(let failure) = outcome.0 else { return true }
                return !failure.isBeforeGreeting || !refusing.contains(host.name)
            }
            return DomainJudge.overall(counting.compactMap { $0.1.verdicts[ruleset.name] }, gaps: route.gaps)
        }
        return DomainReport(
            domain: route.domain, origin: route.origin.rawValue, dnssec: route.security.rawValue,
            hosts: hosts,
            verdicts: verdicts,
            detail: route.gaps.first.map { "\($0.host) could not be looked up: \($0.failure)" })
    }

    private func line(
        _ route: Route, _ host: RouteHost, _ address: RouteAddress, _ outcome: HostExaminer.Outcome,
        _ scan: ReportedScan?, _ rulesets: [Ruleset]
    ) -> DomainReport.Host {
        switch outcome {
        case .failed(let failure):
            let known = HostFindings(
                unconnected: host.referenceName, name: host.provenance, tlsa: address.tlsa, sts: route.sts)
            return DomainReport.Host(
                name: host.name, address: address.address.description, preference: Int(host.preference),
                findings: [], evidence: nil, failure: "\(failure)",
                verdicts: rulesets.mapped { ruleset in
                    // A delivery would not have tried to connect.
                    let foregone = Verdict.foregone(ruleset, known)
                    return DomainReport.Conclusion(.defer, foregone?.reason ?? failure.reason)
                },
                remedies: [], grade: "unknown", scan: nil)
        case .seen(let seen):
            let counting = scan.flatMap { $0.counts ? $0.held : nil }
            let verdicts = rulesets.map { ruleset in
                guard ruleset.scan != nil, let counting else { return seen.verdict(under: ruleset) }
                return seen.adding(counting).verdict(under: ruleset)
            }
            var reasons: [ReasonCode] = []
            for verdict in verdicts {
                for reason in verdict.shortcomings where !reasons.contains(reason) { reasons.append(reason) }
            }
            var findings = Set(seen.findings.findings).union(counting?.facts.findings() ?? [])
            if case .published(let reference) = address.tlsa, reference.isRollover {
                findings.insert(.daneRollover)
            }
            let graded = HostGrade(seen, counting?.facts)
            return DomainReport.Host(
                name: host.name, address: address.address.description, preference: Int(host.preference),
                findings: findings.sorted().map(\.rawValue), evidence: seen.findings.evidence,
                failure: nil,
                verdicts: Dictionary(
                    zip(rulesets, verdicts).map {
                        ($0.name, DomainReport.Conclusion($1.outcome, $1.reason))
                    }, uniquingKeysWith: { one, _ in one }),
                remedies: reasons.compactMap {
                    Remedy(
                        $0, domain: route.domain, host: host, port: host.port ?? port,
                        findings: Set(seen.findings.findings), leaf: seen.peer?.chain.first)
                } + Remedy.advice(graded, host: host.name),
                grade: Self.grade(graded, findings),
                scan: scan.map {
                    HostScanReport($0, $0.counts ? graded : HostGrade($0.held.facts))
                })
        }
    }

    /// What is known of what a host accepts: what workers have kept, and where that does not count, a new scan of what was seen to
    /// have STARTTLS, also where the handshake failed.
    private func scan(_ seen: Examination, _ row: StoredHostScan?, _ probes: Bool) async -> ReportedScan? {
        let kept = row.flatMap { ReportedScan($0, seen.sighting) }
        if let kept, kept.counts { return kept }
        switch seen.absence {
        case nil where seen.peer == nil, .notOffered, .rejected: return kept
        default: break
        }
        guard probes, let prober else { return kept }
        let facts = ScanFacts(await prober.scan(examiner.site(seen.host, seen.address)))
        return ReportedScan(facts, seen.sighting) ?? kept
    }

    /// No TLS at all is no better than the worst of it.
    private static func grade(_ graded: HostGrade, _ findings: Set<Finding>) -> String {
        let lacksTLS = !findings.isDisjoint(with: [
            .starttlsNotOffered, .starttlsRejected, .starttlsInjection,
        ])
        if lacksTLS { return "\(Grade.insufficient)" }
        return graded.overall.map { "\($0)" } ?? "unknown"
    }

    /// A message is delivered when any host is good enough; one that may be later is enough to wait for.
    private static func overall(
        _ conclusions: [DomainReport.Conclusion], gaps: [RouteGap]
    ) -> DomainReport.Conclusion {
        let waits = gaps.map { gap in
            DomainReport.Conclusion(.defer, gap.failure.code == .bogus ? .dnssecInvalid : .dnsFailure)
        }
        let all = conclusions + waits
        return all.first { $0.outcome == .deliver } ?? all.first { $0.outcome == .defer } ?? all.first
            ?? DomainReport.Conclusion(.defer, .validationFailure)
    }
}

extension [Ruleset] {
    fileprivate func mapped(
        _ conclusion: (Ruleset) -> DomainReport.Conclusion
    ) -> [String: DomainReport.Conclusion] {
        Dictionary(map { ($0.name, conclusion($0)) }, uniquingKeysWith: { one, _ in one })
    }
}

/// A report is made of what a domain shows now.
private struct NoEarlierPolicies: MTASTSStore {
    func policy(of domain: String) async -> StoredMTASTSPolicy? { nil }
    func due(at time: Date, limit: Int) async -> [String] { [] }
    func keep(_ policy: StoredMTASTSPolicy) async {}
}

extension HostGrade {
    /// Of a connection and what a scan found besides.
    fileprivate init(_ seen: Examination, _ facts: ScanFacts?) {
        var report = facts?.report ?? ProbeReport()
        if let peer = seen.peer { report.merge(ProbeReport(observed: peer)) }
        let own = CertificateParameters(chains: seen.peer.map { [$0.chain] } ?? [])
        self.init(
            report, keys: (facts?.keys ?? []) + own.keys,
            signatures: (facts?.signatures ?? []) + own.signatures)
    }

    /// Of a scan alone.
    fileprivate init(_ facts: ScanFacts) {
        self.init(facts.report, keys: facts.keys, signatures: facts.signatures)
    }
}
