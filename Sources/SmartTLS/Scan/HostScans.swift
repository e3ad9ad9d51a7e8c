// The scans of recipient hosts, for the deliveries of one process: what others have found is read in batches and remembered, what
// nobody knows is scanned by whoever gets the lease. When to do what is `HostScanEntry`'s word.
//
// No delivery ever waits for a scan, and none asks the database by itself while its host is known: one loop reads, claims, keeps and
// invalidates for all.

import Foundation
import NIOCore

/// What happened, for whoever counts.
public enum HostScanOccurrence: Sendable, Hashable {
    /// A scan counted for a connection.
    case hit
    /// There was none that counts.
    case miss
    /// One was made and kept.
    case scanned(isComplete: Bool)
    /// One was made, and what is kept is better.
    case scannedInVain
    /// A delivery saw something else than the scan was made with.
    case invalidated(HostScanChange)
    /// Somebody else scans, or has just done so.
    case leftToOthers
    /// A scan took longer than its lease, and somebody else has it now.
    case leaseLost
    /// The store could not be read or written.
    case storeFailed
}

/// Scans by site.
public actor HostScans {
    /// The bounds (law 9).
    struct Bounds: Sendable {
        var entry = HostScanEntry.Limits()
        /// How long a lease lasts without being renewed: for so long nobody scans after a scanner that is gone.
        var lease: Duration = .seconds(30)
        /// Sites that are remembered.
        var entries = 10_000
        /// Sites of one statement.
        var batch = 500
        /// Sites that are scanned at once.
        var scans = 16
        /// The longest that a delivery waits for what is read.
        var patience: Duration = .seconds(2)
        /// Between looks at what is due.
        var tick: Duration = .seconds(1)
        /// After the store failed.
        var pause: Duration = .seconds(1)
    }

    private struct Waiter {
        let continuation: CheckedContinuation<Void, Never>
        let until: ContinuousClock.Instant
    }

    private struct Running {
        var isOurs = true
    }

    private let store: any HostScanStore
    private let life: ClosedRange<Duration>
    private let scan: @Sendable (ScanSite) async -> HostScan
    private let observe: @Sendable (HostScanOccurrence) -> Void
    private let bounds: Bounds
    private let now: @Sendable () -> ContinuousClock.Instant
    private let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    private var entries: [ScanSite: HostScanEntry] = [:]
    private var unread: Set<ScanSite> = []
    /// Sites with which something has happened since the last turn; all of them are looked at once a tick.
    private var touched: Set<ScanSite> = []
    private var sweptAt: ContinuousClock.Instant?
    private var contradicted: [ScanSite: (version: Int64, sighting: ScanSighting)] = [:]
    private var waiters: [ScanSite: [Waiter]] = [:]
    private var running: [ScanSite: Running] = [:]
    private var renewedAt: ContinuousClock.Instant
    private var pausedUntil: ContinuousClock.Instant?
    private var hasEnded = false

    /// Sets up the scans; nothing is read or scanned before `run()`.
    ///
    /// - Parameters:
    ///   - store: what all workers share.
    ///   - prober: scans; what it keeps by itself would only be older.
    ///   - life: the shortest and the longest that a scan holds.
    ///   - observe: hears what happened.
    public init(
        store: any HostScanStore, prober: HostProber, life: ClosedRange<Duration>,
        observe: @escaping @Sendable (HostScanOccurrence) -> Void
    ) {
        self.init(store: store, scan: { await prober.scan($0) }, life: life, observe: observe)
    }

    init(
        store: any HostScanStore, scan: @escaping @Sendable (ScanSite) async -> HostScan,
        life: ClosedRange<Duration>, observe: @escaping @Sendable (HostScanOccurrence) -> Void = { _ in },
        bounds: Bounds = Bounds(),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { ContinuousClock.now }
    ) {
        self.store = store
        self.scan = scan
        self.life = life
        self.observe = observe
        self.bounds = bounds
        self.now = now
        renewedAt = now()
        (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: For deliveries

    /// A connection to this site is about to be made: what is not known of it is read meanwhile.
    public func prepare(_ site: ScanSite) {
        if entries[site]?.isKnown(at: now()) ?? false { return }
        unread.insert(site)
        wake.yield()
    }

    /// The scan that counts for a connection which showed this; nil: there is none, and one is made beside the delivery.
    ///
    /// - Parameter waits: whether to wait a moment for what is being read. For a scan nobody waits.
    public func counting(for site: ScanSite, _ sighting: ScanSighting, waits: Bool) async -> HeldScan? {
        if waits, !hasEnded, !(entries[site]?.isKnown(at: now()) ?? false) {
            unread.insert(site)
            wake.yield()
            await withCheckedContinuation { continuation in
                waiters[site, default: []].append(
                    Waiter(continuation: continuation, until: now() + bounds.patience))
            }
        }
        let time = now()
        var entry = entries[site] ?? HostScanEntry()
        let version = entry.version
        let use = entry.use(sighting, at: time)
        let isKnown = entry.isKnown(at: time)
        entries[site] = entry
        if entries.count > bounds.entries { makeRoom() }
        if !isKnown { unread.insert(site) }
        switch use {
        case .holds(let held) where isKnown:
            observe(.hit)
            if entry.demand(at: time, bounds.entry) == .ahead {
                touched.insert(site)
                wake.yield()
            }
            return held
        case .holds, .none:
            observe(.miss)
        case .changed(let change):
            observe(.invalidated(change))
            contradicted[site] = (version, sighting)
        }
        touched.insert(site)
        wake.yield()
        return nil
    }

    /// Sites that are remembered.
    var rememberedCount: Int { entries.count }

    // MARK: The loop

    /// Reads, claims, scans and keeps, until the task is cancelled. Scans under way are then left, and `resign()` gives them up.
    public func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { [wake, bounds] in
                while !Task.isCancelled {
                    try? await Task.sleep(for: bounds.tick)
                    wake.yield()
                    await self.endPatience()
                }
            }
            for await _ in wakes {
                if let pausedUntil, now() < pausedUntil { continue }
                do {
                    for (site, sighting) in try await turn() {
                        group.addTask { await self.carryOut(site, sighting) }
                    }
                } catch {
                    if Task.isCancelled { break }
                    observe(.storeFailed)
                    pausedUntil = now() + bounds.pause
                    // Nobody waits for a store that does not answer.
                    endPatience(of: Array(waiters.keys))
                }
            }
            group.cancelAll()
        }
        hasEnded = true
        endPatience(of: Array(waiters.keys))
    }

    /// Gives up the leases of scans that were left when `run()` ended.
    public func resign() async {
        let sites = Array(running.keys)
        running = [:]
        // Otherwise they lapse.
        if !sites.isEmpty { try? await store.release(sites) }
    }

    /// One turn; answers what to scan now.
    private func turn() async throws -> [(ScanSite, ScanSighting)] {
        try await invalidate()
        let time = now()
        if sweptAt.map({ time - $0 >= bounds.tick }) ?? true {
            sweptAt = time
            for (site, entry) in entries {
                if entry.isDue(at: time, bounds.entry) { unread.insert(site) }
                touched.insert(site)
            }
        }
        try await read()
        try await renew()
        return try await claim()
    }

    private func invalidate() async throws {
        if contradicted.isEmpty { return }
        let seen = Dictionary(
            contradicted.prefix(bounds.batch).map { ($0.key, $0.value) }, uniquingKeysWith: { $1 })
        try await store.invalidate(seen)
        for site in seen.keys {
            contradicted[site] = nil
            unread.insert(site)
        }
        if !contradicted.isEmpty { wake.yield() }
    }

    private func read() async throws {
        if unread.isEmpty { return }
        // What was contradicted meanwhile is read once the store knows it.
        let sites = Array(unread.filter { contradicted[$0] == nil }.prefix(bounds.batch))
        if sites.isEmpty { return }
        let rows = try await store.rows(sites)
        let read = now()
        for site in sites where contradicted[site] == nil {
            unread.remove(site)
            touched.insert(site)
            entries[site, default: HostScanEntry()].take(rows[site], at: read, bounds.entry)
        }
        endPatience(of: sites)
        if entries.count > bounds.entries { makeRoom() }
        if !unread.isEmpty { wake.yield() }
    }

    private func renew() async throws {
        let ours = running.filter(\.value.isOurs).map(\.key)
        guard !ours.isEmpty, now() - renewedAt > bounds.lease / 3 else { return }
        renewedAt = now()
        let renewed = try await store.renew(ours, lease: bounds.lease)
        let time = now()
        for site in ours {
            if renewed.contains(site) {
                entries[site]?.began(at: time, lease: bounds.lease)
            } else if running[site] != nil {
                running[site]?.isOurs = false
                observe(.leaseLost)
            }
        }
    }

    private func claim() async throws -> [(ScanSite, ScanSighting)] {
        let time = now()
        var free = bounds.scans - running.count
        var wanted: [ScanSite: Int64] = [:]
        for site in touched where free > 0 && running[site] == nil {
            let demand = entries[site]?.demand(at: time, bounds.entry)
            guard demand == .now || demand == .ahead else { continue }
            wanted[site] = entries[site]?.version
            free -= 1
        }
        // Those for which there is no room now are found again when a scan ends.
        touched.removeAll(keepingCapacity: true)
        if wanted.isEmpty { return [] }
        let claimed = try await store.claim(wanted, lease: bounds.lease)
        let begun = now()
        var scans: [(ScanSite, ScanSighting)] = []
        for site in wanted.keys {
            guard claimed.contains(site) else {
                observe(.leftToOthers)
                entries[site]?.yielded(at: begun, bounds.entry)
                unread.insert(site)
                continue
            }
            entries[site]?.began(at: begun, lease: bounds.lease)
            if running.isEmpty { renewedAt = begun }
            running[site] = Running()
            guard let sighting = entries[site]?.sighting else { continue }
            scans.append((site, sighting))
        }
        if scans.count < wanted.count { wake.yield() }
        return scans
    }

    // MARK: One scan

    private func carryOut(_ site: ScanSite, _ sighting: ScanSighting) async {
        // A scan that nobody waits for any more ends by its own bounds.
        let (results, result) = AsyncStream<HostScan>.makeStream(bufferingPolicy: .bufferingNewest(1))
        let scan = scan
        Task {
            result.yield(await scan(site))
            result.finish()
        }
        var found: HostScan?
        for await result in results { found = result }
        guard let found, !Task.isCancelled else { return }
        do {
            try await keep(found, of: site, sighting)
        } catch {
            if !Task.isCancelled { observe(.storeFailed) }
            entries[site]?.gaveUp(at: now(), bounds.entry)
        }
        if Task.isCancelled { return }
        running[site] = nil
        sweptAt = nil
        wake.yield()
    }

    private func keep(_ found: HostScan, of site: ScanSite, _ sighting: ScanSighting) async throws {
        let facts = ScanFacts(found)
        let entry = entries[site] ?? HostScanEntry()
        let octets = try CanonicalJSON.encode(facts)
        guard octets.count <= ScanFacts.most, entry.isWorthKeeping(facts, at: now()) else {
            observe(.scannedInVain)
            try await store.release([site])
            entries[site]?.gaveUp(at: now(), bounds.entry)
            return
        }
        let certificates = entry.certificates(found, sighting)
        func record(_ madeAt: Date) -> RecordedScan {
            RecordedScan(madeAt: madeAt, certificates: certificates, tlsa: sighting.tlsa, facts: octets)
        }
        let life = HostScanEntry.life(sighting.ttl, isComplete: facts.isComplete, within: self.life)
        guard let kept = try await store.keep(record(Date()), of: site, freshFor: life) else {
            if running[site]?.isOurs ?? false { observe(.leaseLost) }
            entries[site]?.yielded(at: now(), bounds.entry)
            unread.insert(site)
            return
        }
        observe(.scanned(isComplete: facts.isComplete))
        entries[site]?.kept(
            HeldScan(record(kept.madeAt), facts), version: kept.version, freshFor: life, at: now(),
            bounds.entry)
    }

    // MARK: Bounds

    private func endPatience(of sites: [ScanSite]) {
        for site in sites {
            for waiter in waiters.removeValue(forKey: site) ?? [] { waiter.continuation.resume() }
        }
    }

    private func endPatience() {
        let time = now()
        for (site, all) in waiters {
            for waiter in all where waiter.until <= time { waiter.continuation.resume() }
            let left = all.filter { $0.until > time }
            waiters[site] = left.isEmpty ? nil : left
        }
    }

    /// Forgets the tenth that was used longest ago. What they were is in the store.
    private func makeRoom() {
        let idle = entries.filter { running[$0.key] == nil && waiters[$0.key] == nil }
        let oldest = idle.sorted { one, other in
            guard let left = one.value.usedAt, let right = other.value.usedAt else {
                return one.value.usedAt == nil && other.value.usedAt != nil
            }
            return left < right
        }
        for (site, _) in oldest.prefix(entries.count - bounds.entries * 9 / 10) { entries[site] = nil }
    }
}

extension HostProber {
    /// What a site accepts.
    func scan(_ site: ScanSite) async -> HostScan {
        guard let address = try? SocketAddress(ipAddress: site.address.description, port: site.port) else {
            return HostScan(failure: SessionFailure(.unreachable, step: "scan"))
        }
        return await scan(address, serverName: site.host)
    }
}
