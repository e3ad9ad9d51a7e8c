// The door to MTA-STS: which policy is in force for a recipient domain. What holds and when to fetch is `MTASTSCacheEntry`'s word;
// here are the record's lookup, the fetch, what is remembered in the process and beyond it, and their bounds.
//
// A domain is worked on once at a time, whoever asks. A policy that is in force never waits for its refresh.
import DNS
import Foundation
import Policy

/// What happened, for whoever counts.
public enum MTASTSOccurrence: Sendable, Hashable {
    /// A policy was fetched.
    case fetched
    /// A fetch failed, by its type in RFC 8460.
    case failed(ReasonCode)
    /// A fetch was given up for our own load.
    case gaveUp
    /// A refresh ahead was put off: too many are under way.
    case refreshShed
    /// The store could not be read or written.
    case storeFailed
}

/// Policies by recipient domain.
public actor MTASTSPolicies {
    /// The bounds (law 9).
    struct Bounds: Sendable {
        /// Patterns, domains, and 256 octets each of their records' answers that are remembered in the process.
        var weight = 100_000
        /// Refreshes ahead at once.
        var refreshes = 16
        /// The longest that the answer for a record is used again, whatever its TTL says.
        var record: TimeInterval = 300
    }

    private struct Record {
        let lookup: MTASTSCacheEntry.Lookup
        let unknown: MTASTSUnknown?
        let until: Date
        var answer: DNSAnswer?
    }

    private struct Kept {
        var entry: MTASTSCacheEntry
        var record: Record
        var weight: Int { 1 + (entry.held?.policy.mx.count ?? 0) + (record.answer?.packet.count ?? 0) / 256 }
    }

    private let resolver: any DNSResolving
    private let store: any MTASTSStore
    private let fetch: @Sendable (DomainName) async -> MTASTSFetched
    private let observe: @Sendable (MTASTSOccurrence) -> Void
    private let now: @Sendable () -> Date
    private let bounds: Bounds
    private var kept: [DomainName: Kept] = [:]
    private var weight = 0
    private var underWay: [DomainName: Task<MTASTSStanding, Never>] = [:]
    private var refreshing = 0

    /// Sets up the door.
    ///
    /// - Parameters:
    ///   - resolver: answers for the records.
    ///   - store: what outlives the process.
    ///   - fetcher: fetches policies.
    ///   - observe: hears what happened.
    public init(
        resolver: any DNSResolving, store: any MTASTSStore, fetcher: MTASTSFetcher,
        observe: @escaping @Sendable (MTASTSOccurrence) -> Void
    ) {
        self.init(
            resolver: resolver, store: store, fetch: { await fetcher.fetch($0) }, observe: observe,
            now: { Date() })
    }

    init(
        resolver: any DNSResolving, store: any MTASTSStore,
        fetch: @escaping @Sendable (DomainName) async -> MTASTSFetched,
        observe: @escaping @Sendable (MTASTSOccurrence) -> Void = { _ in },
        now: @escaping @Sendable () -> Date,
        bounds: Bounds = Bounds()
    ) {
        self.resolver = resolver
        self.store = store
        self.fetch = fetch
        self.observe = observe
        self.now = now
        self.bounds = bounds
    }

    /// What is in force for a recipient domain. Waits for a fetch only where nothing else can be known.
    ///
    /// - Parameter domain: the recipient's own, in lower-case A-labels.
    public func standing(of domain: String) async -> MTASTSStanding {
        // What is no domain name has no record; routing says what it is.
        guard let name = try? DomainName(domain), name.isHostName else {
            return MTASTSStanding(.absent, askedAt: now())
        }
        if let standing = remembered(name) { return standing }
        let standing = await work(on: name)
        // What was read from the store may be due for a refresh.
        _ = remembered(name)
        return standing
    }

    /// Refreshes, until the task is cancelled, policies whose time is nearly over though no mail has asked for them.
    public func refreshContinually() async {
        while true {
            // Workers that were started together do not come together.
            try? await Task.sleep(for: .seconds(300) * Double.random(in: 0.8...1.2))
            if Task.isCancelled { return }
            await refreshDue()
        }
    }

    /// One round: as many as may be under way, and no waiting for them.
    func refreshDue() async {
        do {
            for domain in try await store.due(at: now(), limit: bounds.refreshes) {
                if let name = try? DomainName(domain) { refresh(name) }
            }
        } catch {
            observe(.storeFailed)
        }
    }

    /// How much is remembered, in patterns and domains.
    var rememberedWeight: Int { weight }

    /// The answer without waiting; nil where there is none. Starts a refresh where one is due.
    private func remembered(_ domain: DomainName) -> MTASTSStanding? {
        let time = now()
        guard var known = kept[domain], time < known.record.until, known.record.until <= time + bounds.record
        else { return nil }
        switch known.entry.demand(for: domain, known.record.lookup, now: time) {
        case .now: return nil
        case .ahead: refresh(domain)
        case .no: break
        }
        return Self.standing(
            known.entry.settle(for: domain, known.record.lookup, .none, now: time), known.record, at: time)
    }

    private func refresh(_ domain: DomainName) {
        guard underWay[domain] == nil else { return }
        guard refreshing < bounds.refreshes else { return observe(.refreshShed) }
        refreshing += 1
        Task {
            _ = await work(on: domain, refreshes: true)
            refreshing -= 1
        }
    }

    /// Works on a domain, once at a time.
    private func work(on domain: DomainName, refreshes: Bool = false) async -> MTASTSStanding {
        if let task = underWay[domain] { return await task.value }
        let task = Task { await find(domain, refreshes: refreshes) }
        underWay[domain] = task
        let standing = await task.value
        underWay[domain] = nil
        return standing
    }

    private func find(_ domain: DomainName, refreshes: Bool) async -> MTASTSStanding {
        async let looked = record(of: domain)
        // Another worker may have fetched what this one lacks, or holds an older one of.
        var entry = kept[domain]?.entry ?? MTASTSCacheEntry(policyDomain: domain)
        do {
            if let stored = try await store.policy(of: domain.text)?.held { entry.take(stored) }
        } catch {
            observe(.storeFailed)
            if entry.held?.isExpired(at: now()) ?? true {
                return Self.standing(
                    MTASTSUnknown(isBogus: false, detail: "what is held of \(domain) cannot be read"),
                    await looked, at: now())
            }
        }
        let record = await looked
        var fetched = MTASTSCacheEntry.Fetch.none
        var gaveUp: String?
        let demand = entry.demand(for: domain, record.lookup, now: now())
        if demand == .now || (demand == .ahead && refreshes) {
            switch await fetch(domain) {
            case .policy(let policy):
                observe(.fetched)
                fetched = .policy(policy)
            case .failed(let reason, let detail):
                observe(.failed(reason))
                fetched = .failed(reason, detail)
            case .gaveUp(let why):
                observe(.gaveUp)
                gaveUp = why
            }
        }
        let time = now()
        let inForce = entry.settle(for: domain, record.lookup, fetched, now: time)
        if case .policy = fetched, let held = entry.held {
            do { try await store.keep(StoredMTASTSPolicy(held, of: domain)) } catch { observe(.storeFailed) }
        }
        if let gaveUp, case .nothing = inForce {
            return Self.standing(MTASTSUnknown(isBogus: false, detail: gaveUp), record, at: time)
        }
        keep(Kept(entry: entry, record: record), of: domain)
        return Self.standing(inForce, record, at: time)
    }

    private func record(of domain: DomainName) async -> Record {
        // A name that is too long to exist has no record.
        guard let name = domain.below("_mta-sts") else {
            return Record(lookup: .absent, unknown: nil, until: now() + bounds.record)
        }
        do {
            let answer = try await resolver.resolve(name, .txt)
            let until = now() + min(TimeInterval(answer.ttl), bounds.record)
            switch MTASTSRecord.read(answer.records) {
            case .record(let record):
                return Record(lookup: .id(record.id), unknown: nil, until: until, answer: answer)
            case .absent: return Record(lookup: .absent, unknown: nil, until: until, answer: answer)
            }
        } catch {
            let unknown = MTASTSUnknown(isBogus: error.code == .bogus, detail: error.description)
            // Not used again: the next message asks anew.
            return Record(lookup: .failed, unknown: unknown, until: now())
        }
    }

    private static func standing(
        _ inForce: MTASTSCacheEntry.InForce, _ record: Record, at time: Date
    ) -> MTASTSStanding {
        let status: MTASTSStatus =
            switch inForce {
            case .policy(let held): .policy(MTASTSInForce(held))
            case .nothing(nil): .absent
            case .nothing(let why?): .unavailable(why)
            case .unknown: .unknown(record.unknown ?? MTASTSUnknown(isBogus: false, detail: "no answer"))
            }
        return MTASTSStanding(status, record: record.answer, askedAt: time)
    }

    private static func standing(
        _ unknown: MTASTSUnknown, _ record: Record, at time: Date
    ) -> MTASTSStanding {
        MTASTSStanding(.unknown(unknown), record: record.answer, askedAt: time)
    }

    // MARK: What is remembered

    private func keep(_ known: Kept, of domain: DomainName) {
        weight += known.weight - (kept[domain]?.weight ?? 0)
        kept[domain] = known
        guard weight > bounds.weight else { return }
        // The rest is in the store. Those whose record must be looked up anyway go first.
        for (other, value) in kept.sorted(by: { $0.value.record.until < $1.value.record.until }) {
            guard weight > bounds.weight * 9 / 10 else { return }
            kept[other] = nil
            weight -= value.weight
        }
    }
}
