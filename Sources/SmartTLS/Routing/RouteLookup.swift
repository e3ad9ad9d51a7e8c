// The lookups behind one route, in the order that RFC 5321 §5.1 gives: MX, else the domain itself, then the
// addresses of each host, and the TLSA records that go with them (RFC 7672 §2.2). What failed stays apart from what is not there: a failure makes the route wait, and
// never makes it fall back to something weaker (design law 2).
import DNS
import Policy
import SMTP

/// One domain's way through DNS.
struct RouteLookup {
    /// Keeps the answers about the domain; those about a host are kept with the host.
    let resolver: AnswerRecorder
    let ownName: DomainName?
    /// Where hosts are connected to that have no port of their own.
    let port: Int
    /// The present month, in UTC, where the NTA 7516 record of the domain counts; nil: it is not asked for.
    var month: Month?

    /// A route or its absence, and for how many seconds that may be kept; nil: not at all.
    struct Result: Sendable {
        let outcome: Swift.Result<Route, RoutingFailure>
        let ttl: UInt32?

        /// The same, with the answers about the domain that it was made of, and when they were asked for in milliseconds since 1970.
        func with(_ lookups: [DNSAnswer], at time: Int64) -> Result {
            guard case .success(var route) = outcome else { return self }
            (route.lookups, route.routedAt) = (lookups, time)
            return Result(outcome: .success(route), ttl: ttl)
        }

        /// The same, with what the domain's NTA 7516 record says, for no longer than that holds.
        func with(_ standing: NTALookup.Standing) -> Result {
            let ttl = ttl.map { min($0, standing.answer.ttl) }
            guard case .success(var route) = outcome else { return Result(outcome: outcome, ttl: ttl) }
            route.nta = standing.finding
            return Result(outcome: .success(route), ttl: ttl)
        }
    }

    /// What became of one host.
    private enum HostResult: Sendable {
        /// `gap`: one family of its addresses could not be looked up.
        case found(RouteHost, gap: RouteGap?, ttl: UInt32?)
        case absent(ttl: UInt32)
        case failed(RouteGap)
    }

    /// How the name of a host became known, and what goes with that.
    private struct Designation {
        let provenance: NameProvenance
        /// What DNSSEC says of it.
        let security: DNSSecurity
        /// Further names for a certificate below a DANE-TA record (RFC 7672 §3.2.2).
        let names: [DomainName]
    }

    /// Looks up the route to a domain in lower-case A-labels.
    func route(to domain: DomainName) async -> Result {
        guard let month else { return await ordinaryRoute(to: domain) }
        switch await NTALookup(resolver: resolver).run(domain, month) {
        case .failure(let failure): return Result(outcome: .failure(.temporary(failure)), ttl: nil)
        case .success(let standing):
            guard !standing.exchanges.isEmpty else {
                return await ordinaryRoute(to: domain).with(standing)
            }
            // These and no others, whatever becomes of them: the ordinary MX is no place for what goes there.
            switch MailExchangers(standing.exchanges, of: domain, ownName: ownName) {
            case .none(let failure): return Result(outcome: .failure(failure), ttl: standing.answer.ttl)
            case .hosts(let exchangers):
                return await route(to: domain, .nta, exchangers, standing.answer).with(standing)
            }
        }
    }

    private func ordinaryRoute(to domain: DomainName) async -> Result {
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

    /// Looks up the one host of a static route. Where mail goes is the operator's word; whether the domain takes part in NTA 7516
    /// is not.
    func route(to domain: String, through host: String, port: Int) async -> Result {
        let result = await configuredRoute(to: domain, through: host, port: port)
        guard let month, let name = try? DomainName(domain) else { return result }
        switch await NTALookup(resolver: resolver).run(name, month) {
        case .failure(let failure): return Result(outcome: .failure(.temporary(failure)), ttl: nil)
        case .success(let standing): return result.with(standing)
        }
    }

    private func configuredRoute(to domain: String, through host: String, port: Int) async -> Result {
        if let address = IPAddress(host) {
            // An address has no name of its own: the certificate must carry the recipient domain.
            let only = RouteHost(
                name: host, referenceName: domain, provenance: .proven, port: port, preference: 0,
                addresses: [RouteAddress(address, .secure, tlsa: .absent)])
            return Result(outcome: .success(.configured(domain, only, nil)), ttl: .max)
        }
        guard let name = try? DomainName(host) else {
            return Result(
                outcome: .failure(.noHost("the static route of \(domain) names no host")), ttl: .max)
        }
        let designation = Designation(provenance: .proven, security: .secure, names: [name])
        switch await addresses(of: name, preference: 0, port: port, designation) {
        case .found(let host, let gap, let ttl):
            return Result(outcome: .success(.configured(domain, host, gap)), ttl: ttl)
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
        let designation = Designation(
            provenance: isProven ? .proven : .unproven, security: answer.security,
            names: [domain, answer.canonicalName])
        let results = await withTaskGroup(of: (Int, HostResult).self) { group in
            for (index, exchanger) in exchangers.enumerated() {
                group.addTask {
                    let result = await addresses(
                        of: exchanger.name, preference: exchanger.preference, port: nil, designation)
                    return (index, result)
                }
            }
            return await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
        var hosts: [RouteHost] = []
        var gaps: [RouteGap] = []
        var ttl = answer.ttl
        var isComplete = true
        for result in results {
            switch result {
            case .found(let host, let gap, let hostTTL):
                hosts.append(host)
                if let gap { gaps.append(gap) }
                if let hostTTL { ttl = min(ttl, hostTTL) } else { isComplete = false }
            case .absent(let hostTTL): ttl = min(ttl, hostTTL)
            case .failed(let gap):
                gaps.append(gap)
                // The better host may be back any moment.
                isComplete = false
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
        return Result(outcome: .success(route), ttl: isComplete ? ttl : nil)
    }

    /// Both families side by side; one that fails does not spoil the other (RFC 7672 §2.1.1 judges them apart), and stays a gap: what
    /// it hides may be good enough where the other is refused.
    private func addresses(
        of name: DomainName, preference: UInt16, port: Int?, _ designation: Designation
    ) async -> HostResult {
        let resolver = resolver.apart()
        async let six = lookUp(name, .aaaa, resolver)
        async let four = lookUp(name, .a, resolver)
        let answers = await [six, four]
        var addresses: [RouteAddress] = []
        var ttl = UInt32.max
        var isComplete = true
        var known: [(answer: DNSAnswer, status: TLSAStatus)] = []
        var failure: DNSFailure?
        for answer in answers {
            switch answer {
            case .success(let answer):
                ttl = min(ttl, answer.ttl)
                guard case .records(let records) = answer.outcome else { continue }
                let status: TLSAStatus
                if let same = known.first(where: { $0.answer.leadsWhere(answer) }) {
                    status = same.status
                } else {
                    let search = TLSADiscovery(
                        host: name, port: port ?? self.port, hostSecurity: designation.security,
                        address: answer, names: designation.names)
                    let found = await TLSALookup(resolver: resolver).run(search)
                    if let foundTTL = found.ttl { ttl = min(ttl, foundTTL) } else { isComplete = false }
                    status = found.status
                    known.append((answer, status))
                }
                for case .address(let address) in records {
                    addresses.append(RouteAddress(address, answer.security, tlsa: status))
                }
            case .failure(let error): failure = failure ?? error
            }
        }
        let gap = failure.map { RouteGap(host: name.text, failure: $0) }
        if addresses.isEmpty { return gap.map { .failed($0) } ?? .absent(ttl: ttl) }
        let host = RouteHost(
            name: name.text, referenceName: name.text, provenance: designation.provenance, port: port,
            preference: preference,
            addresses: Array(RouteHost.alternating(addresses).prefix(RouteLimits.addresses)),
            lookups: resolver.answers)
        return .found(host, gap: gap, ttl: isComplete ? (gap == nil ? ttl : min(ttl, 30)) : nil)
    }

    private func lookUp(
        _ name: DomainName, _ type: DNSRecordType, _ resolver: AnswerRecorder
    ) async -> Swift.Result<DNSAnswer, DNSFailure> {
        do {
            return .success(try await resolver.resolve(name, type))
        } catch {
            return .failure(error)
        }
    }
}

extension DNSAnswer {
    /// Whether the TLSA records are the same as with another answer for the same host.
    fileprivate func leadsWhere(_ other: DNSAnswer) -> Bool {
        security == other.security && canonicalName == other.canonicalName
    }
}

extension Route {
    fileprivate static func configured(_ domain: String, _ host: RouteHost, _ gap: RouteGap?) -> Route {
        Route(
            domain: domain, origin: .configured, security: .secure, hosts: [host],
            gaps: gap.map { [$0] } ?? [])
    }
}
