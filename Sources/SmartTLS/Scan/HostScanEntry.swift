// What a worker knows of the scan of one site, and what follows from it: whether it counts for a connection, and whether to scan. A
// value: time comes in, and whoever reads, claims and scans is `HostScans`.
//
// - A scan counts for a connection that shows a certificate and TLSA records that it was made with, until its time is over.
//   Whoever sees others has seen that the host changed: it counts no more, here at once and everywhere with the next look.
// - A site is scanned when a delivery has used it since its last scan and that one is over, contradicted or in the last fifth of its
//   time. What nobody writes to any more is left in peace.
// - Whoever saw a change makes the scan that follows it. What others saw before that is as old as the scan that is over, and would
//   only be contradicted again: they scan when they have used the site since.
// - Whoever else scans is waited for, for as long as the lease goes; a scanner that is gone leaves a lease that ends.
// - A site is not scanned again before a rest, whatever is seen of it: hosts behind one address may show certificates in turn. So
//   those that were seen in a contradiction stay with the next scan.

import Foundation

/// The state of one site.
struct HostScanEntry: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// The bounds of knowing and asking.
    struct Limits: Sendable {
        /// How long a row that was read counts as known: within it others' invalidations are seen.
        var memory: Duration = .seconds(15)
        /// The part of a scan's time after which it is made anew.
        var ahead = 0.8
        /// Between two scans of one site.
        var rest: Duration = .seconds(60)
        /// Between looks while somebody else scans.
        var look: Duration = .seconds(1)
        /// How long an entry that nobody uses is read again.
        var interest: Duration = .seconds(60)
    }

    /// A scan and its time, by the clock of this process.
    struct Held: Sendable {
        let scan: HeldScan
        let from: Instant
        let until: Instant
    }

    /// Whether a scan counts for a connection.
    enum Use: Sendable {
        /// It does.
        case holds(HeldScan)
        /// There is none, or its time is over.
        case none
        /// The host has changed since.
        case changed(HostScanChange)
    }

    /// Whether to scan.
    enum Demand: Sendable, Hashable {
        /// No.
        case no
        /// Somebody scans.
        case wait
        /// There is nothing that counts.
        case now
        /// What counts will soon be over.
        case ahead
    }

    /// Which row it is, for comparing and setting.
    private(set) var version: Int64 = 0
    /// What counts now.
    private(set) var held: Held?
    /// Certificates that the next scan is to remember, beside those that it sees.
    private(set) var former: [String] = []
    /// What the last connection showed.
    private(set) var sighting: ScanSighting?
    /// When that was.
    private(set) var usedAt: Instant?
    /// Whether this process saw the host change, and nothing has come of it yet.
    private var sawChange = false
    private var lastScan: Instant?
    private var rests: Instant?
    private var leasedUntil: Instant?
    private var knownUntil: Instant?
    private var lookAt: Instant?

    /// Nothing is known yet.
    init() {}

    /// Takes up what was read; nil: there is no row.
    mutating func take(_ row: StoredHostScan?, at now: Instant, _ limits: Limits) {
        knownUntil = now + limits.memory
        leasedUntil = row?.leasedFor.map { now + $0 }
        lookAt = now + (leasedUntil == nil ? limits.memory * 2 / 3 : min(limits.look, limits.memory * 2 / 3))
        guard let row else {
            (version, held, former, lastScan) = (0, nil, [], nil)
            return
        }
        let isSame = row.version == version
        version = row.version
        guard let scan = row.scan else {
            (held, lastScan) = (nil, nil)
            return
        }
        lastScan = now - row.age
        former = row.invalidatedAgo == nil ? [] : scan.certificates
        if let ago = row.invalidatedAgo {
            held = nil
            if !sawChange, let usedAt, usedAt <= now - ago { (sighting, self.usedAt) = (nil, nil) }
            return
        }
        sawChange = false
        guard row.freshFor > .zero else {
            held = nil
            return
        }
        let until = now + row.freshFor
        if isSame, let held {
            // The same scan need not be read again.
            self.held = Held(scan: held.scan, from: held.from, until: until)
        } else {
            held = HeldScan(scan).map { Held(scan: $0, from: now - row.age, until: until) }
        }
    }

    /// Whether what was read is recent enough to go by.
    func isKnown(at now: Instant) -> Bool { knownUntil.map { now < $0 } ?? false }

    /// Whether it is time to read it again, since it is in use.
    func isDue(at now: Instant, _ limits: Limits) -> Bool {
        guard let usedAt, now - usedAt < limits.interest else { return false }
        return lookAt.map { now >= $0 } ?? true
    }

    /// A connection to the site showed this: does the scan count for it?
    mutating func use(_ sighting: ScanSighting, at now: Instant) -> Use {
        // The next scan is kept with the TLSA records, whoever of those that share the host saw them.
        self.sighting = ScanSighting(
            certificate: sighting.certificate, tlsa: sighting.tlsa ?? self.sighting?.tlsa, ttl: sighting.ttl)
        usedAt = now
        guard let held else { return .none }
        if let change = held.scan.record.contradiction(sighting) {
            former = held.scan.record.certificates
            self.held = nil
            sawChange = true
            return .changed(change)
        }
        return now < held.until ? .holds(held.scan) : .none
    }

    /// Whether to scan.
    func demand(at now: Instant, _ limits: Limits) -> Demand {
        guard knownUntil != nil, sighting != nil, let usedAt else { return .no }
        if let leasedUntil, now < leasedUntil { return .wait }
        if let rests, now < rests { return .no }
        if let lastScan, usedAt <= lastScan || now - lastScan < limits.rest { return .no }
        guard let held, now < held.until else { return .now }
        return now - held.from >= (held.until - held.from) * limits.ahead ? .ahead : .no
    }

    /// Somebody else was quicker: what came of it is in the row.
    mutating func yielded(at now: Instant, _ limits: Limits) {
        leasedUntil = now + limits.look
        lookAt = now
    }

    /// The lease is this process's.
    mutating func began(at now: Instant, lease: Duration) { leasedUntil = now + lease }

    /// The scan came to nothing that is worth keeping.
    mutating func gaveUp(at now: Instant, _ limits: Limits) {
        leasedUntil = nil
        rests = now + limits.rest
        lookAt = now
    }

    /// The scan of this process is kept.
    mutating func kept(
        _ scan: HeldScan, version: Int64, freshFor: Duration, at now: Instant, _ limits: Limits
    ) {
        (self.version, former, leasedUntil, lastScan) = (version, [], nil, now)
        sawChange = false
        held = Held(scan: scan, from: now, until: now + freshFor)
        knownUntil = now + limits.memory
        lookAt = now + limits.memory * 2 / 3
    }

    /// Whether a scan is worth keeping: one that is not complete takes nothing away from one that is and still counts.
    func isWorthKeeping(_ facts: ScanFacts, at now: Instant) -> Bool {
        guard let held, now < held.until, held.scan.facts.isComplete else { return true }
        return facts.isComplete
    }

    /// The certificates that a scan is kept with: that which led to it, those that it saw, and those of a contradiction.
    func certificates(_ scan: HostScan, _ sighting: ScanSighting) -> [String] {
        let seen = scan.report.chains.compactMap(\.first).map(CanonicalJSON.digest)
        var all: [String] = []
        for digest in [sighting.certificate] + seen + former where !all.contains(digest) {
            all.append(digest)
        }
        return Array(all.prefix(RecordedScan.mostCertificates))
    }

    /// How long a scan holds: as the DNS answers say, within bounds; one that is not complete no longer than the least.
    static func life(_ ttl: Duration, isComplete: Bool, within bounds: ClosedRange<Duration>) -> Duration {
        isComplete ? min(max(ttl, bounds.lowerBound), bounds.upperBound) : bounds.lowerBound
    }
}
