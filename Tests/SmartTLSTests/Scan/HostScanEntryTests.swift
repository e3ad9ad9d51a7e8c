// When a scan counts for a connection and when one is made: rows of a time, a state and what follows.

import Foundation
import Testing

@testable import SmartTLS

@Suite struct HostScanEntryTests {
    static let start = ContinuousClock.now
    static let limits = HostScanEntry.Limits()
    static let seen = ScanSighting(certificate: "aa", tlsa: "01", ttl: .seconds(3600))

    static func facts(complete: Bool = true, versions: [ProtocolVersion] = [.tls12, .tls13]) -> ScanFacts {
        var report = ProbeReport()
        for version in versions { report.suites[version] = [version == .tls13 ? 0x1301 : 0xc02f] }
        report.isComplete = complete
        report.hasExtendedMasterSecret = true
        return ScanFacts(HostScan(report: report))
    }

    static func record(
        _ certificates: [String] = ["aa"], tlsa: String? = "01", complete: Bool = true
    ) throws -> RecordedScan {
        RecordedScan(
            madeAt: Date(timeIntervalSince1970: 1_000), certificates: certificates, tlsa: tlsa,
            facts: try CanonicalJSON.encode(facts(complete: complete)))
    }

    /// A row as it may be read.
    struct Row: Sendable {
        var age: Double = 0
        var freshFor: Double = 1_000
        var invalidatedAgo: Double?
        var leasedFor: Double?
        var hasScan = true

        func stored(_ version: Int64 = 1) throws -> StoredHostScan {
            let scan = try HostScanEntryTests.record()
            return StoredHostScan(
                version: version, result: hasScan ? Array(scan.facts) : nil,
                certificates: [[0xaa]], tlsa: [0x01], madeAt: hasScan ? Date() : nil, age: age,
                freshFor: freshFor, invalidatedAgo: invalidatedAgo, leasedFor: leasedFor)
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        let rule: String
        /// What is read at the start; nil: no row.
        var row: Row?
        /// When a delivery uses it; nil: never.
        var used: Double? = 0
        /// When is asked.
        var at: Double = 1
        let demand: HostScanEntry.Demand
        var testDescription: String { rule }
    }

    static let cases: [Case] = [
        Case(rule: "a host that nobody knows is scanned", row: nil, demand: .now),
        Case(rule: "not before a delivery has seen it", row: nil, used: nil, demand: .no),
        Case(rule: "fresh: nothing to do", row: Row(age: 100), at: 1, demand: .no),
        Case(rule: "at four fifths of its time: ahead", row: Row(age: 800, freshFor: 200), demand: .ahead),
        Case(rule: "just before that: not yet", row: Row(age: 790, freshFor: 210), demand: .no),
        Case(
            rule: "ahead only where it was used since it was made", row: Row(age: 800, freshFor: 200),
            used: nil, demand: .no),
        Case(rule: "its time is over: now", row: Row(age: 1_000, freshFor: 0), demand: .now),
        Case(
            rule: "its time is over and nobody has used it: left in peace", row: Row(age: 1_000, freshFor: 0),
            used: nil, demand: .no),
        Case(
            rule: "it runs out while it is remembered", row: Row(age: 900, freshFor: 10), used: 11, at: 12,
            demand: .now),
        Case(
            rule: "invalidated: now", row: Row(age: 100, freshFor: -1, invalidatedAgo: 5), demand: .now),
        Case(
            rule: "invalidated a moment after it was made: after a rest",
            row: Row(age: 10, freshFor: -1, invalidatedAgo: 5), at: 1, demand: .no),
        Case(
            rule: "invalidated by another since it was used here: what was seen here is older",
            row: Row(age: 100, freshFor: -1, invalidatedAgo: 5), used: -6, demand: .no),
        Case(
            rule: "the rest is over", row: Row(age: 10, freshFor: -1, invalidatedAgo: 5), at: 51,
            demand: .now),
        Case(
            rule: "somebody else scans: waited for", row: Row(leasedFor: 30, hasScan: false), at: 29,
            demand: .wait),
        Case(
            rule: "a scanner that is gone leaves a lease that ends", row: Row(leasedFor: 30, hasScan: false),
            at: 31, demand: .now),
        Case(rule: "a lease that has ended is none", row: Row(leasedFor: -5, hasScan: false), demand: .now),
        Case(
            rule: "somebody else refreshes ahead", row: Row(age: 900, freshFor: 100, leasedFor: 5),
            demand: .wait),
    ]

    @Test(arguments: cases) func `whether to scan`(row: Case) throws {
        var entry = HostScanEntry()
        if let used = row.used, used < 0 { _ = entry.use(Self.seen, at: Self.start + .seconds(used)) }
        entry.take(try row.row?.stored(), at: Self.start, Self.limits)
        if let used = row.used, used >= 0 { _ = entry.use(Self.seen, at: Self.start + .seconds(used)) }
        #expect(entry.demand(at: Self.start + .seconds(row.at), Self.limits) == row.demand)
    }

    @Test func `nothing is scanned before the store was asked`() {
        var entry = HostScanEntry()
        _ = entry.use(Self.seen, at: Self.start)
        #expect(entry.demand(at: Self.start, Self.limits) == .no)
        #expect(!entry.isKnown(at: Self.start) && entry.isDue(at: Self.start, Self.limits))
    }

    struct UseCase: Sendable, CustomTestStringConvertible {
        let rule: String
        var certificates = ["aa"]
        var tlsa: String? = "01"
        var freshFor: Double = 100
        var at: Double = 1
        let holds: Bool
        var change: HostScanChange?
        var testDescription: String { rule }
    }

    static let uses: [UseCase] = [
        UseCase(rule: "the same certificate and records", holds: true),
        UseCase(rule: "one of several certificates", certificates: ["00", "aa", "ff"], holds: true),
        UseCase(rule: "another certificate", certificates: ["bb"], holds: false, change: .certificate),
        UseCase(rule: "other records", tlsa: "02", holds: false, change: .tlsa),
        UseCase(
            rule: "records where there were provably none", tlsa: TLSAStatus.absent.digest, holds: false,
            change: .tlsa),
        UseCase(rule: "records that the domain which led to the scan did not show", tlsa: nil, holds: true),
        UseCase(rule: "its time is over", freshFor: 1, holds: false),
    ]

    @Test(arguments: uses) func `whether it counts for a connection`(row: UseCase) throws {
        var entry = HostScanEntry()
        let scan = try #require(HeldScan(Self.record(row.certificates, tlsa: row.tlsa)))
        entry.kept(
            scan, version: 7, freshFor: .seconds(row.freshFor), at: Self.start, Self.limits)
        let use = entry.use(Self.seen, at: Self.start + .seconds(row.at))
        switch use {
        case .holds(let held): #expect(row.holds && held == scan)
        case .none: #expect(!row.holds && row.change == nil)
        case .changed(let change):
            #expect(change == row.change)
            // It counts for nobody any more, and what was known of the host goes with the next scan.
            guard case .none = entry.use(Self.seen, at: Self.start + .seconds(row.at)) else {
                Issue.record("it counts again")
                return
            }
            #expect(
                entry.certificates(HostScan(), Self.seen) == ["aa"] + row.certificates.filter { $0 != "aa" })
        }
    }

    @Test func `who saw the change scans, though the store learnt of it after that`() throws {
        var entry = HostScanEntry()
        let scan = try #require(HeldScan(Self.record(["bb"])))
        entry.kept(scan, version: 1, freshFor: .seconds(500), at: Self.start, Self.limits)
        let later = Self.start + .seconds(100)
        guard case .changed = entry.use(Self.seen, at: later) else {
            Issue.record("no change was seen")
            return
        }
        entry.take(
            try Row(age: 101, freshFor: -1, invalidatedAgo: 0.5).stored(2), at: later + .seconds(1),
            Self.limits)
        #expect(entry.demand(at: later + .seconds(1), Self.limits) == .now)
    }

    @Test func `a scan that nobody contradicted remembers no certificates of the one before`() throws {
        var entry = HostScanEntry()
        let scan = try #require(HeldScan(Self.record(["aa", "bb"])))
        entry.kept(scan, version: 1, freshFor: .seconds(100), at: Self.start, Self.limits)
        _ = entry.use(Self.seen, at: Self.start)
        #expect(entry.certificates(HostScan(), Self.seen) == ["aa"])
    }

    @Test func `one that is not complete replaces none that is and still counts`() throws {
        var entry = HostScanEntry()
        #expect(entry.isWorthKeeping(Self.facts(complete: false), at: Self.start))
        let scan = try #require(HeldScan(Self.record()))
        entry.kept(scan, version: 1, freshFor: .seconds(100), at: Self.start, Self.limits)
        #expect(!entry.isWorthKeeping(Self.facts(complete: false), at: Self.start))
        #expect(entry.isWorthKeeping(Self.facts(), at: Self.start))
        #expect(entry.isWorthKeeping(Self.facts(complete: false), at: Self.start + .seconds(100)))
    }

    @Test(arguments: [
        (300, true, 3_600), (7_200, true, 7_200), (604_800, true, 86_400), (7_200, false, 3_600),
    ]) func `it holds as long as DNS says, within bounds; one that is not complete for the least`(
        ttl: Int, isComplete: Bool, life: Int
    ) {
        #expect(
            HostScanEntry.life(
                .seconds(ttl), isComplete: isComplete, within: .seconds(3_600) ... .seconds(86_400))
                == .seconds(life))
    }

    @Test func `after a scan that came to nothing the host has a rest`() throws {
        var entry = HostScanEntry()
        entry.take(nil, at: Self.start, Self.limits)
        _ = entry.use(Self.seen, at: Self.start)
        entry.began(at: Self.start, lease: .seconds(30))
        #expect(entry.demand(at: Self.start + .seconds(29), Self.limits) == .wait)
        entry.gaveUp(at: Self.start + .seconds(29), Self.limits)
        #expect(entry.demand(at: Self.start + .seconds(88), Self.limits) == .no)
        #expect(entry.demand(at: Self.start + .seconds(90), Self.limits) == .now)
    }

    @Test func `who was too late looks at once for what came of it, and does not ask again`() throws {
        var entry = HostScanEntry()
        entry.take(nil, at: Self.start, Self.limits)
        _ = entry.use(Self.seen, at: Self.start)
        #expect(!entry.isDue(at: Self.start, Self.limits))
        entry.yielded(at: Self.start, Self.limits)
        #expect(entry.isDue(at: Self.start, Self.limits))
        #expect(entry.demand(at: Self.start, Self.limits) == .wait)
    }

    @Test func `what is in use is read again before it is forgotten, and what is not is left`() throws {
        var entry = HostScanEntry()
        entry.take(try Row().stored(), at: Self.start, Self.limits)
        #expect(entry.isKnown(at: Self.start + .seconds(14)) && !entry.isKnown(at: Self.start + .seconds(15)))
        #expect(!entry.isDue(at: Self.start + .seconds(12), Self.limits), "nobody uses it")
        _ = entry.use(Self.seen, at: Self.start + .seconds(1))
        #expect(!entry.isDue(at: Self.start + .seconds(9), Self.limits))
        #expect(entry.isDue(at: Self.start + .seconds(10), Self.limits))
        #expect(!entry.isDue(at: Self.start + .seconds(62), Self.limits), "nobody uses it any more")
    }
}
