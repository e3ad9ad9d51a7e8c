// The door to routing: static routes first, then DNS; each domain is looked up once at a time, and what came of it
// is kept for its TTL within bounds.
import DNS
import Foundation
import Policy
import SMTP
import Settings

/// Finds the hosts that take mail for a domain.
public actor Router {
    private struct Kept {
        let outcome: Result<Route, RoutingFailure>
        let until: ContinuousClock.Instant
        /// Of the DNS messages that the route was made of.
        let octets: Int

        init(outcome: Result<Route, RoutingFailure>, until: ContinuousClock.Instant) {
            self.outcome = outcome
            self.until = until
            let route = try? outcome.get()
            let lookups = (route?.lookups ?? []) + (route?.hosts.flatMap(\.lookups) ?? [])
            octets = lookups.reduce(0) { $0 + $1.packet.count }
        }
    }

    /// Routes that heed NTA 7516 are others than those that do not.
    private struct Destination: Hashable {
        let domain: String
        let heedsNTA: Bool
    }

    private let resolver: any DNSResolving
    private let ownName: DomainName?
    private let port: Int
    private let staticRoutes: [String: HostPort]
    private let policies: MTASTSPolicies?
    private let now: @Sendable () -> ContinuousClock.Instant
    private let date: @Sendable () -> Date
    private var generator: any RandomNumberGenerator & Sendable
    private var kept: [Destination: Kept] = [:]
    private var underWay: [Destination: Task<RouteLookup.Result, Never>] = [:]

    /// Sets up routing.
    ///
    /// - Parameters:
    ///   - resolver: answers the lookups.
    ///   - staticRoutes: `delivery.routes`; they win over DNS.
    ///   - port: `delivery.port`, for which TLSA records are looked up where a static route names no other.
    ///   - policies: what MTA-STS says of domains; without it every route says that it was not asked, and nothing goes to
    ///     hosts that DNS named and TLSA records do not prove.
    ///   - ownName: `delivery.hostname`, by which a loop to this host is seen.
    ///   - generator: decides the order among equals.
    ///   - now: the clock by which TTLs run out.
    ///   - date: the calendar by which NTA 7516 records are valid.
    public init(
        resolver: any DNSResolving, staticRoutes: [StaticRoute] = [], port: Int = 25,
        policies: MTASTSPolicies? = nil, ownName: String? = nil,
        generator: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now },
        date: @escaping @Sendable () -> Date = { Date() }
    ) {
        self.resolver = resolver
        self.ownName = ownName.flatMap { try? DomainName($0) }
        self.port = port
        self.staticRoutes = Dictionary(staticRoutes.map { ($0.domain, $0.target) }, uniquingKeysWith: { $1 })
        self.policies = policies
        self.generator = generator
        self.now = now
        self.date = date
    }

    /// The hosts to try, in order; a new random order among equals each time.
    ///
    /// - Parameters:
    ///   - domain: the recipient domain in lower-case A-labels (`MailDomain.lane`), or an address literal.
    ///   - heedsNTA: whether its NTA 7516 record counts (`Ruleset.nta`).
    /// - Throws: `RoutingFailure`, temporary when a lookup failed, final when DNS says that there is no way.
    public func route(to domain: String, heedsNTA: Bool = false) async throws(RoutingFailure) -> Route {
        async let policy = policy(for: domain)
        let destination = Destination(domain: domain, heedsNTA: heedsNTA)
        let outcome: Result<Route, RoutingFailure>
        if let entry = kept[destination], entry.until > now() {
            outcome = entry.outcome
        } else {
            outcome = try await find(destination).outcome
        }
        var route = try outcome.get().shuffled(using: &generator)
        // A policy is about MX hosts (RFC 8461 §4.1), and a signed record that names others stands in for these.
        let standing = await policy
        route.policy = route.origin == .nta ? MTASTSStanding(.bypassed) : standing
        return route
    }

    /// What MTA-STS says of the domain, whose MX records a static route replaces.
    private func policy(for domain: String) async -> MTASTSStanding {
        if staticRoutes[domain] != nil { return MTASTSStanding(.bypassed) }
        return await policies?.standing(of: domain) ?? MTASTSStanding(.unasked)
    }

    /// The route to a gateway that an operator named for mail to a domain; nothing of it is kept.
    ///
    /// - Throws: `RoutingFailure`, where the gateway has no address or it could not be looked up.
    public func route(
        to domain: String, through gateway: HostPort, heedsNTA: Bool = false
    ) async throws(RoutingFailure) -> Route {
        let recorder = AnswerRecorder(resolver)
        let time = milliseconds
        let lookup = lookup(recorder, heedsNTA: heedsNTA, at: time)
        let result = await lookup.route(to: domain, through: gateway.host, port: gateway.port)
            .with(recorder.answers, at: time)
        var route = try result.outcome.get().shuffled(using: &generator)
        route.policy = MTASTSStanding(.bypassed)
        return route
    }

    /// How many routes and absences are kept.
    var keptCount: Int { kept.count }
    /// Octets of the DNS messages that are kept with them.
    private(set) var keptOctets = 0

    private var milliseconds: Int64 { Int64(date().timeIntervalSince1970 * 1000) }

    private func lookup(_ recorder: AnswerRecorder, heedsNTA: Bool, at time: Int64) -> RouteLookup {
        RouteLookup(
            resolver: recorder, ownName: ownName, port: port, month: heedsNTA ? Month(of: time) : nil)
    }

    private func find(_ destination: Destination) async throws(RoutingFailure) -> RouteLookup.Result {
        if let task = underWay[destination] { return await task.value }
        let domain = destination.domain
        let recorder = AnswerRecorder(resolver)
        let time = milliseconds
        let lookup = lookup(recorder, heedsNTA: destination.heedsNTA, at: time)
        let task: Task<RouteLookup.Result, Never>
        if let target = staticRoutes[domain] {
            task = Task {
                await lookup.route(to: domain, through: target.host, port: target.port)
                    .with(recorder.answers, at: time)
            }
        } else {
            let name = try Router.name(of: domain)
            task = Task { await lookup.route(to: name).with(recorder.answers, at: time) }
        }
        underWay[destination] = task
        let result = await task.value
        underWay[destination] = nil
        keep(result, for: destination)
        return result
    }

    private func keep(_ result: RouteLookup.Result, for destination: Destination) {
        guard let ttl = result.ttl, ttl > 0 else {
            forget(destination)
            return
        }
        var longest = RouteLimits.longestAbsence
        if case .success = result.outcome { longest = RouteLimits.longest }
        // A record may be valid this month and not the next.
        if destination.heedsNTA { longest = min(longest, Month.remainder(at: date())) }
        let time = now()
        let entry = Kept(outcome: result.outcome, until: time + min(.seconds(Int64(ttl)), longest))
        forget(destination)
        if kept.count >= RouteLimits.cached || keptOctets + entry.octets > RouteLimits.cachedOctets {
            makeRoom(at: time)
        }
        kept[destination] = entry
        keptOctets += entry.octets
    }

    private func forget(_ destination: Destination) {
        keptOctets -= kept.removeValue(forKey: destination)?.octets ?? 0
    }

    /// Drops what has run out, and if that is too little the tenth that runs out first.
    private func makeRoom(at time: ContinuousClock.Instant) {
        for (destination, entry) in kept.sorted(by: { $0.value.until < $1.value.until }) {
            let isFull =
                kept.count > RouteLimits.cached * 9 / 10 || keptOctets > RouteLimits.cachedOctets * 9 / 10
            guard isFull || entry.until <= time else { return }
            forget(destination)
        }
    }

    private static func name(of domain: String) throws(RoutingFailure) -> DomainName {
        guard !domain.hasPrefix("[") else {
            throw RoutingFailure(
                reason: .addressLiteral, status: EnhancedStatusCode(5, 1, 2),
                detail: "the recipient's domain is an address literal")
        }
        guard let name = try? DomainName(domain), name.isHostName else {
            throw RoutingFailure(
                reason: .domainInvalid, status: EnhancedStatusCode(5, 1, 2),
                detail: "the recipient's domain is no domain name")
        }
        return name
    }
}
