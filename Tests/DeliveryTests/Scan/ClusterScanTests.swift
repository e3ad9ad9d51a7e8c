// Scans shared by the processes of a cluster, on a real PostgreSQL and real TLS hosts: one scan for all, refreshed ahead, ended by
// what anybody sees, and not lost with anybody.

import Foundation
import Lab
import SmartTLS
import TLS
import Testing

@testable import Delivery
@testable import SmartTLS

@Suite(.timeLimit(.minutes(3))) struct ClusterScanTests {
    /// A host that really speaks TLS, and what it shows.
    private static func host(
        _ lab: WorkerLab, _ name: String = "mx.test"
    ) async throws -> (server: ScriptedSMTPServer, site: ScanSite, sighting: ScanSighting) {
        let identity = try lab.authority.issue([name])
        let server = try await lab.host(name) { script in
            script.tls = try? TLSContext.server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM)
        }
        return (server, try ScanSite(name, server), ScanSighting(identity))
    }

    private static func row(_ lab: WorkerLab, _ column: String) async throws -> Int {
        try await lab.count("SELECT (\(column))::bigint FROM ledger.host_scan LIMIT 1")
    }

    @Test("two workers that meet the same cold host make one scan, and both have what it found")
    func once() async throws {
        let lab = try await WorkerLab()
        let (server, site, sighting) = try await Self.host(lab)
        let (one, other) = (ScanProcess(lab), ScanProcess(lab))
        try await ScanProcess.running([one, other]) {
            async let first = one.scans.counting(for: site, sighting, waits: true)
            async let second = other.scans.counting(for: site, sighting, waits: true)
            // Cold: nobody waits for the scan.
            let cold = await [first, second]
            #expect(cold == [nil, nil])
            let found = try await one.counting(site, sighting)
            #expect(try await other.counting(site, sighting) == found)
            #expect(found.facts.isComplete && found.facts.versions.map(\.version) == [.tls12, .tls13])
            #expect(found.record.certificates == [sighting.certificate])
            #expect(server.transcript.connections == found.facts.handshakes, "it was scanned twice")
        }
        #expect(one.begun.count + other.begun.count == 1)
        #expect(one.count(.scanned(isComplete: true)) + other.count(.scanned(isComplete: true)) == 1)
        #expect(server.transcript.mails.isEmpty)
        try await server.stop()
    }

    @Test("three processes that all meet the same forty cold hosts make forty scans")
    func many() async throws {
        let lab = try await WorkerLab()
        let (server, _, sighting) = try await Self.host(lab)
        let sites = try (0..<40).map { try ScanSite("mx\($0).test", server) }
        let processes = (0..<3).map { _ in ScanProcess(lab, scan: { _ in ScanProcess.plain() }) }
        try await ScanProcess.running(processes) {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for process in processes {
                    for site in sites.shuffled() {
                        group.addTask { _ = try await process.counting(site, sighting) }
                    }
                }
                try await group.waitForAll()
            }
        }
        #expect(processes.flatMap(\.begun).count == 40)
        #expect(Set(processes.flatMap(\.begun)) == Set(sites))
        try await server.stop()
    }

    @Test("what is in use is scanned again before its time is over; what nobody uses is not")
    func ahead() async throws {
        let lab = try await WorkerLab()
        let (server, used, sighting) = try await Self.host(lab)
        let idle = try ScanSite("idle.test", server)
        let process = ScanProcess(
            lab, life: .seconds(60) ... .seconds(60),
            change: {
                $0.entry.ahead = 0.01
                // On a busy machine a task may sleep for longer than the usual memory of these tests.
                $0.entry.memory = .seconds(10)
            },
            scan: { _ in ScanProcess.plain() })
        try await ScanProcess.running([process]) {
            _ = await process.scans.counting(for: idle, sighting, waits: true)
            let first = try await process.counting(used, sighting)
            let misses = process.count(.miss)
            var second = first
            try await eventually("it is refreshed", within: .seconds(50)) {
                // At no moment is there none.
                second = try #require(await process.scans.counting(for: used, sighting, waits: true))
                return second.record.madeAt != first.record.madeAt
            }
            #expect(second.record.madeAt < first.record.madeAt + 60_000)
            #expect(process.count(.miss) == misses)
        }
        #expect(process.begun.count { $0 == used } >= 2 && process.begun.count { $0 == idle } == 1)
        try await server.stop()
    }

    @Test("a scan whose time is over counts no more, and another is made")
    func expiry() async throws {
        let lab = try await WorkerLab()
        let (server, site, sighting) = try await Self.host(lab)
        let process = ScanProcess(lab, scan: { _ in ScanProcess.plain() })
        try await ScanProcess.running([process]) {
            let first = try await process.counting(site, sighting)
            try await lab.tamper("UPDATE ledger.host_scan SET fresh_until = now() - interval '1 second'")
            let misses = process.count(.miss)
            try await eventually("another is made") {
                await process.scans.counting(for: site, sighting, waits: true).map {
                    $0.record.madeAt > first.record.madeAt
                } ?? false
            }
            #expect(process.count(.miss) > misses)
        }
        #expect(process.begun.count == 2)
        try await server.stop()
    }

    @Test("other TLSA records, seen by one, end the scan for all; a rescan with these follows")
    func records() async throws {
        let lab = try await WorkerLab()
        let identity = try lab.authority.issue(["mx.test"])
        let (server, site, _) = try await Self.host(lab)
        @Sendable func sighting(_ octet: String) -> ScanSighting {
            ScanSighting(identity, tlsa: String(repeating: octet, count: 32))
        }
        let (one, other) = (
            ScanProcess(lab, scan: { _ in ScanProcess.plain() }),
            ScanProcess(lab, scan: { _ in ScanProcess.plain() })
        )
        try await ScanProcess.running([one, other]) {
            let first = try await one.counting(site, sighting("01"))
            #expect(try await other.counting(site, sighting("01")) == first)
            // It counts at once no more where the change was seen …
            #expect(await one.scans.counting(for: site, sighting("02"), waits: true) == nil)
            let second = try await one.counting(site, sighting("02"))
            #expect(second.record.tlsa == sighting("02").tlsa)
            #expect(second.record.certificates == first.record.certificates)
            // … and soon elsewhere.
            try await eventually("the other knows the new one") {
                await other.scans.counting(for: site, sighting("02"), waits: true)?.record == second.record
            }
        }
        #expect(one.count(.invalidated(.tlsa)) == 1)
        #expect(one.begun.count + other.begun.count == 2)
        try await server.stop()
    }

    @Test("a host that shows two certificates in turn comes to rest with both")
    func inTurn() async throws {
        let lab = try await WorkerLab()
        let (server, site, _) = try await Self.host(lab)
        let sightings = try (0..<2).map { _ in ScanSighting(try lab.authority.issue(["mx.test"])) }
        let process = ScanProcess(lab, scan: { _ in ScanProcess.plain() })
        try await ScanProcess.running([process]) {
            _ = try await process.counting(site, sightings[0])
            let both = try await process.counting(site, sightings[1])
            #expect(both.record.certificates == sightings.map(\.certificate).sorted())
            for _ in 0..<10 {
                for sighting in sightings {
                    #expect(await process.scans.counting(for: site, sighting, waits: true) != nil)
                }
            }
        }
        #expect(process.begun.count == 2 && process.count(.invalidated(.certificate)) == 1)
        try await server.stop()
    }

    @Test("a scanner that dies leaves a lease that ends: another scans then, and not before")
    func dead() async throws {
        let lab = try await WorkerLab()
        let (server, site, sighting) = try await Self.host(lab)
        let gate = ScanGate()
        let dying = ScanProcess(
            lab, change: { $0.lease = .seconds(2) },
            scan: { _ in
                await gate.pass()
                return ScanProcess.plain()
            })
        let heir = ScanProcess(lab, scan: { _ in ScanProcess.plain() })
        try await ScanProcess.running([heir]) {
            try await ScanProcess.running([dying]) {
                #expect(await dying.scans.counting(for: site, sighting, waits: true) == nil)
                try await eventually("it scans") { dying.begun.count == 1 }
                // For longer than a lease lasts: it is renewed, and the other leaves it alone.
                let renewed = try await Self.row(lab, "extract(epoch FROM lease_until) * 1000")
                try await eventually("the lease is renewed twice") {
                    _ = await heir.scans.counting(for: site, sighting, waits: true)
                    return try await Self.row(lab, "extract(epoch FROM lease_until) * 1000") > renewed + 2_000
                }
                #expect(heir.begun.isEmpty)
            }
            // It is dead now, and its lease is still there.
            #expect(try await Self.row(lab, "count(scanner)") == 1)
            _ = try await heir.counting(site, sighting)
            #expect(heir.begun.count == 1)
        }
        gate.open()
        try await server.stop()
    }

    @Test("a scanner that lost its lease keeps nothing, and says so")
    func lost() async throws {
        let lab = try await WorkerLab()
        let (server, site, sighting) = try await Self.host(lab)
        let gate = ScanGate()
        let slow = ScanProcess(
            lab, change: { $0.lease = .seconds(600) },
            scan: { _ in
                await gate.pass()
                var scan = ScanProcess.plain()
                scan.report.suites[.tls10] = [0x002f]
                return scan
            })
        let quick = ScanProcess(lab, scan: { _ in ScanProcess.plain() })
        try await ScanProcess.running([slow, quick]) {
            #expect(await slow.scans.counting(for: site, sighting, waits: true) == nil)
            try await eventually("it scans") { slow.begun.count == 1 }
            try await lab.tamper("UPDATE ledger.host_scan SET lease_until = now() - interval '1 second'")
            let found = try await quick.counting(site, sighting)
            gate.open()
            try await eventually("it hears that its lease is lost") { slow.count(.leaseLost) == 1 }
            #expect(try await slow.counting(site, sighting).findings == found.findings)
            #expect(found.findings == [.scanned])
        }
        #expect(slow.count(.scanned(isComplete: true)) == 0)
        try await server.stop()
    }

    @Test("what was found is there for the first delivery after a restart, without another scan")
    func restart() async throws {
        let lab = try await WorkerLab()
        let (server, site, sighting) = try await Self.host(lab)
        let before = ScanProcess(lab)
        let found = try await ScanProcess.running([before]) { try await before.counting(site, sighting) }
        let after = ScanProcess(lab)
        try await ScanProcess.running([after]) {
            await after.scans.prepare(site)
            #expect(await after.scans.counting(for: site, sighting, waits: true) == found)
        }
        #expect(after.begun.isEmpty && after.seen == [.hit])
        #expect(server.transcript.connections == found.facts.handshakes)
        try await server.stop()
    }
}
