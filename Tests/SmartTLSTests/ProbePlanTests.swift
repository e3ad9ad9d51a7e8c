// The plan of a probe against servers made up at random: it finds what each accepts, no more and no less.

import Foundation
import Lab
import Testing

@testable import SmartTLS

/// A server in memory with known capabilities.
struct SimulatedServer {
    var suites: [ProtocolVersion: [UInt16]] = [:]
    var groups13: [UInt16] = []
    var groups: [UInt16] = []
    /// The curve of its ECDSA certificate.
    var curve: UInt16 = 23
    var prefersOwnOrder = false
    var prefersOwnGroups = false
    var compresses = false
    var hasExtendedMasterSecret = false
    var isRenegotiationSecure = false
    /// How it refuses, save a version that it does not know.
    var refusal = ProbePlan.Answer.closed
    var refusesVersion = ProbePlan.Answer.closed

    func answer(_ hello: ClientHello) -> ProbePlan.Answer {
        // The highest version that it has and the client does not exceed; before TLS 1.3 that may be an older one.
        let offered = hello.versions.upperBound
        let known = suites.keys.filter { offered == .tls13 ? $0 == .tls13 : $0 <= offered }
        guard let version = known.max() else { return refusesVersion }
        let own = suites[version] ?? []
        let common = (prefersOwnOrder ? own : hello.suites).filter {
            own.contains($0) && hello.suites.contains($0)
        }
        for code in common {
            guard let suite = CipherSuite.with(code: code) else { continue }
            var flight = ServerFlight(version: version, suite: code)
            let mine = version == .tls13 ? groups13 : groups
            let order = prefersOwnGroups ? mine : hello.groups
            let group = order.first { mine.contains($0) && hello.groups.contains($0) }
            if version == .tls13 {
                guard let group else { continue }
                (flight.group, flight.isRetryRequest) = (group, true)
                return .flight(flight)
            }
            // RFC 8422 §5.1: an ECDSA certificate needs its curve among those offered.
            if suite.authentication == .ecdsa, !hello.groups.contains(curve) { continue }
            if suite.keyExchange == .ecdhe {
                guard let group else { continue }
                flight.group = group
            }
            flight.compresses = compresses && hello.offersCompression
            flight.hasExtendedMasterSecret = hasExtendedMasterSecret && hello.offersExtendedMasterSecret
            flight.isRenegotiationSecure = isRenegotiationSecure
            flight.chain = suite.authentication == .anonymous ? [] : [[suite.authentication == .rsa ? 1 : 2]]
            return .flight(flight)
        }
        return refusal
    }

    /// One with any capabilities.
    init(using generator: inout some RandomNumberGenerator) {
        func some<T>(_ all: [T], _ range: ClosedRange<Int>) -> [T] {
            Array(all.shuffled(using: &generator).prefix(Int.random(in: range, using: &generator)))
        }
        for version in ProtocolVersion.allCases where Bool.random(using: &generator) {
            let allowed = CipherSuite.all.filter { $0.isAllowed(in: version) }.map(\.code)
            let most = Int.random(in: 1...30, using: &generator)
            suites[version] = some(allowed, 1...most)
        }
        groups13 = some(NamedGroup.offered(in: .tls13).map(\.code), 1...12)
        groups = some(NamedGroup.offered(in: .tls12).map(\.code), 1...12)
        curve = groups[0]
        groups.shuffle(using: &generator)
        prefersOwnOrder = Bool.random(using: &generator)
        prefersOwnGroups = Bool.random(using: &generator)
        compresses = Bool.random(using: &generator)
        hasExtendedMasterSecret = Bool.random(using: &generator)
        isRenegotiationSecure = Bool.random(using: &generator)
        let alert = { (code: UInt8) in ProbePlan.Answer.alert(TLSAlert(level: 2, code: code)) }
        refusal = Bool.random(using: &generator) ? .closed : alert(TLSAlert.handshakeFailure)
        refusesVersion =
            [.closed, alert(TLSAlert.handshakeFailure), alert(TLSAlert.protocolVersion)]
            .randomElement(using: &generator) ?? .closed
    }

    /// The newest older version with suites on curves, and those suites.
    var onCurves: (version: ProtocolVersion, suites: [CipherSuite])? {
        for version in suites.keys.sorted(by: >) where version < .tls13 {
            let onCurves = (suites[version] ?? []).compactMap(CipherSuite.with).filter {
                $0.keyExchange == .ecdhe
            }
            if !onCurves.isEmpty { return (version, onCurves) }
        }
        return nil
    }
}

@Suite struct ProbePlanTests {
    /// Runs a plan to its end; each handshake fails first with this chance in 100, but never twice.
    private static func run(
        _ plan: ProbePlan, against server: SimulatedServer, failing chance: Int = 0,
        using generator: inout some RandomNumberGenerator
    ) -> ProbeReport {
        var plan = plan
        var failedBefore = false
        while let hello = plan.next() {
            failedBefore = !failedBefore && Int.random(in: 0..<100, using: &generator) < chance
            plan.received(failedBefore ? .failed : server.answer(hello))
        }
        return plan.report
    }

    @Test func `the plan finds exactly what a server accepts`() {
        let seed =
            ProcessInfo.processInfo.environment["ZEGEL_SEED"].flatMap(UInt64.init)
            ?? UInt64.random(in: 0...UInt64.max)
        print("ProbePlanTests seed \(seed)")
        var generator = SplitMix(seed)
        for round in 0..<40 {
            var server = SimulatedServer(using: &generator)
            // What no prober can see: groups behind the curve of an ECDSA certificate on a server with an order of
            // its own.
            if server.onCurves?.suites.allSatisfy({ $0.authentication == .ecdsa }) == true {
                server.prefersOwnGroups = false
            }
            let chance = round.isMultiple(of: 3) ? 20 : 0
            let report = Self.run(
                ProbePlan(serverName: "mx.nl", limit: 2000), against: server, failing: chance,
                using: &generator)
            let context: Comment = "seed \(seed), round \(round)"
            #expect(report.isComplete, context)
            #expect(report.suites.mapValues(Set.init) == server.suites.mapValues(Set.init), context)
            if server.suites[.tls13] != nil {
                #expect(Set(report.groups[.tls13] ?? []) == Set(server.groups13), context)
            }
            if let (version, _) = server.onCurves {
                #expect(Set(report.groups[version] ?? []) == Set(server.groups), context)
                #expect(Set(report.groups.keys).subtracting([.tls13]) == [version], context)
            }
            for (version, suites) in server.suites {
                #expect(
                    report.prefersOwnOrder[version] == (suites.count > 1 ? server.prefersOwnOrder : nil),
                    context)
            }
            let older = server.suites.keys.contains { $0 < .tls13 }
            #expect(report.compresses == (older ? server.compresses : nil), context)
            #expect(report.hasExtendedMasterSecret == (older ? server.hasExtendedMasterSecret : nil), context)
            #expect(report.isRenegotiationSecure == (older ? server.isRenegotiationSecure : nil), context)
        }
    }

    @Test func `a usual server needs about forty handshakes`() throws {
        var generator = SplitMix(1)
        var server = SimulatedServer(using: &generator)
        server.suites = [
            .tls13: [0x1302, 0x1303, 0x1301],
            .tls12: [0xc030, 0xc02f, 0xcca8, 0xc028, 0xc027, 0x009f, 0x009e],
        ]
        server.groups13 = [29, 23, 24]
        server.groups = [29, 23, 24]
        server.refusal = .alert(TLSAlert(level: 2, code: TLSAlert.handshakeFailure))
        server.refusesVersion = .alert(TLSAlert(level: 2, code: TLSAlert.protocolVersion))
        let report = Self.run(ProbePlan(serverName: nil), against: server, using: &generator)
        #expect(report.isComplete && report.handshakes < 40, "\(report.handshakes)")
    }

    @Test func `the limit holds, and what was not asked is known not to be known`() {
        var generator = SplitMix(2)
        var server = SimulatedServer(using: &generator)
        server.suites[.tls13] = [0x1301]
        for limit in [0, 1, 7] {
            let report = Self.run(
                ProbePlan(serverName: nil, limit: limit), against: server, using: &generator)
            #expect(report.handshakes == limit && !report.isComplete)
        }
    }

    @Test func `a host that is gone is left after three failures`() {
        var plan = ProbePlan(serverName: nil)
        while plan.next() != nil { plan.received(.failed) }
        #expect(plan.report.handshakes == ProbePlan.maximumFailures)
        #expect(!plan.report.isComplete && plan.report.versions.isEmpty)
    }

    @Test func `a server that takes what was not offered is not followed`() {
        var plan = ProbePlan(serverName: nil, versions: [.tls12])
        while let hello = plan.next() {
            let other = hello.suites.contains(0xc02f) ? 0xc030 : 0xc02f
            plan.received(.flight(ServerFlight(version: .tls12, suite: UInt16(other))))
        }
        #expect(plan.report.handshakes < 20)
    }

    @Test func `a server that ignores the groups offered names its own once`() {
        var plan = ProbePlan(serverName: nil, versions: [.tls12])
        while let hello = plan.next() {
            var flight = ServerFlight(version: .tls12, suite: 0xc02f)
            flight.group = 23
            plan.received(hello.suites.contains(0xc02f) ? .flight(flight) : .closed)
        }
        #expect(plan.report.groups == [.tls12: [23]] && plan.report.suites == [.tls12: [0xc02f]])
    }

    @Test func `hosts with RSA and ECDSA present both chains; a server with endless ones is bounded`() {
        var plan = ProbePlan(serverName: nil, versions: [.tls12])
        var count: UInt8 = 0
        while let hello = plan.next() {
            count &+= 1
            var flight = ServerFlight(version: .tls12, suite: hello.suites[0])
            flight.chain = [[count]]
            plan.received(.flight(flight))
        }
        #expect(plan.report.chains.count == ProbePlan.maximumChains)
    }
}
