// The lookups behind one route, in the order that RFC 5321 §5.1 gives: MX, else the domain itself, then the
// addresses of each host. What failed stays apart from what is not there: a failure makes the route wait, and
// never makes it fall back to something weaker (design law 2).
import DNS
import Policy
import SMTP

/// One domain's way through DNS.
struct RouteLookup {
    let resolver: any DNSResolving
    let ownName: DomainName?

    /// A route or its absence, and for how many seconds that may be kept; nil: not at all.
    struct Result: Sendable {
        let outcome: Swift.Result<Route, RoutingFailure>
        let ttl: UInt32?
    }

    /// What became of one host.
    private enum HostResult: Sendable {
        case found(RouteHost, ttl: UInt32)
        case absent(ttl: UInt32)
        case failed(RouteGap)
    }

    /// Looks up the route to a domain in lower-case A-labels.
    func route(to domain: DomainName) async -> Result {
        let answer: DNSAnswer
        do {
            answer = try await resolver.resolve(domain, .mx)
        } catch {
            return Result(outcome: .failure(.temporary(error)), ttl: nil)
        }
        switch answer.outcome {
        case .nxdomain:
            let failure = RoutingFailure(
                reason: .noSuchDomain, status: EnhancedStatusCode(5, 1, 2), detail: "\(domain) does not exist"
            )
            return Result(outcome: .failure(failure), ttl: answer.ttl)
        case .nodata:
            let own = MailExchangers.Exchanger(preference: 0, name: domain)
            return await route(to: domain, .implicitMX, [own], answer)
        case .records(let records):
            switch MailExchangers(records, of: domain, ownName: ownName) {
            case .none(let failure): return Result(outcome: .failure(failure), ttl: answer.ttl)
            case .hosts(let exchangers): return await route(to: domain, .mx, exchangers, answer)
            }
        }
    }

    /// Looks up the one host of a static route.
    func route(to domain: String, through host: String, port: Int) async -> Result {
        if let address = IPAddress(host) {
            // An address has no name of its own: the certificate must carry the recipient domain.
            let only = RouteHost(
                name: host, referenceName: domain, provenance: .proven, port: port, preference: 0,
                addresses: [RouteAddress(address, .secure)], canonicalName: host)
            return Result(outcome: .success(.configured(domain, only)), ttl: .max)
        }
        guard let name = try? DomainName(host) else {
            return Result(
                outcome: .failure(.noHost("the static route of \(domain) names no host")), ttl: .max)
        }
        switch await addresses(of: name, preference: 0, port: port, provenance: .proven) {
        case .found(let host, let ttl): return Result(outcome: .success(.configured(domain, host)), ttl: ttl)
        case .absent(let ttl): return Result(outcome: .failure(.noHost("\(name) has no address")), ttl: ttl)
        case .failed(let gap): return Result(outcome: .failure(.temporary(gap.failure)), ttl: nil)
        }
    }

    private func route(
        to domain: DomainName, _ origin: Route.Origin, _ exchangers: [MailExchangers.Exchanger],
        _ answer: DNSAnswer
    ) async -> Result {
        // The domain itself is what the sender wrote, so its name needs no proof; an MX name does.
        let isProven = origin == .implicitMX || answer.security == .secure
        let results = await withTaskGroup(of: (Int, HostResult).self) { group in
            for (index, exchanger) in exchangers.enumerated() {
                group.addTask {
                    let result = await addresses(
                        of: exchanger.name, preference: exchanger.preference, port: nil,
                        provenance: isProven ? .proven : .unproven)
                    return (index, result)
                }
            }
            return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
        var hosts: [RouteHost] = []
        var gaps: [RouteGap] = []
        var ttl = answer.ttl
        for result in results {
            switch result {
            case .found(let host, let hostTTL):
                hosts.append(host)
                ttl = min(ttl, hostTTL)
            case .absent(let hostTTL): ttl = min(ttl, hostTTL)
            case .failed(let gap): gaps.append(gap)
            }
        }
        if hosts.isEmpty, let gap = gaps.first {
            return Result(outcome: .failure(.temporary(gap.failure)), ttl: nil)
        }
        if hosts.isEmpty {
            return Result(outcome: .failure(.noHost("\(domain): no mail host has an address")), ttl: ttl)
        }
        let route = Route(
            domain: domain.text, origin: origin, security: answer.security, hosts: hosts, gaps: gaps)
        // With a gap the better host may be back any moment.
        return Result(outcome: .success(route), ttl: gaps.isEmpty ? ttl : nil)
    }

    /// Both families side by side; one that fails does not spoil the other (RFC 7672 §2.1.1 judges them apart).
    private func addresses(
        of name: DomainName, preference: UInt16, port: Int?, provenance: NameProvenance
    ) async -> HostResult {
        async let six = lookUp(name, .aaaa)
        async let four = lookUp(name, .a)
        let answers = await [six, four]
        var addresses: [RouteAddress] = []
        var ttl = UInt32.max
        var canonicalName = name
        var failure: DNSFailure?
        for answer in answers {
            switch answer {
            case .success(let answer):
                ttl = min(ttl, answer.ttl)
                if case .records = answer.outcome { canonicalName = answer.canonicalName }
                for case .address(let address) in answer.records {
                    addresses.append(RouteAddress(address, answer.security))
                }
            case .failure(let error): failure = failure ?? error
            }
        }
        if addresses.isEmpty {
            return failure.map { .failed(RouteGap(host: name.text, failure: $0)) } ?? .absent(ttl: ttl)
        }
        let host = RouteHost(
            name: name.text, referenceName: name.text, provenance: provenance, port: port,
            preference: preference,
            addresses: Array(RouteHost.alternating(addresses).prefix(RouteLimits.addresses)),
            canonicalName: canonicalName.text)
        return .found(host, ttl: failure == nil ? ttl : min(ttl, 30))
    }

    private func lookUp(_ name: DomainName, _ type: DNSRecordType) async
        -> Swift.Result<DNSAnswer, DNSFailure>
    {
        do {
            return .success(try await resolver.resolve(name, type))
        } catch {
            return .failure(error)
        }
    }
}

extension Route {
    fileprivate static func configured(_ domain: String, _ host: RouteHost) -> Route {
        Route(domain: domain, origin: .configured, security: .secure, hosts: [host], gaps: [])
    }
}
