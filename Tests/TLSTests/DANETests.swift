// TLSA records over real handshakes: RFC 7671 and RFC 7672 row by row, and that the outcome stands apart from what
// trusted roots say.

import Foundation
import Lab
import NIOCore
import TLS
import Testing

@Suite(.timeLimit(.minutes(2))) struct DANETests {
    enum Expected: Sendable, Equatable {
        case matched(depth: Int), notMatched([ChainFault.Kind]), noUsableRecords
    }

    struct Row: Sendable, CustomTestStringConvertible {
        var rule: String
        var identity: TestIdentity
        var records: [TLSARecord]
        var furtherNames: [String] = []
        var expected: Expected
        var testDescription: String { rule }
    }

    static let root = Result { try TestAuthority() }

    static func rows() throws -> [Row] {
        let root = try root.get()
        let stranger = try TestAuthority(name: "Stranger")
        let below = try stranger.intermediate(name: "Stranger's Intermediate")
        let past = Date.now - 3_600
        let good = try root.issue(["mx.test"])
        let worst = try TestAuthority.selfSigned(["other.test"], from: past - 9, to: past)
        let anchored = try below.issue(["mx.test"])
        let anchor = TLSARecord.matching(below.certificate, usage: 2)
        let other = TLSARecord.matching(try TestAuthority.selfSigned(["x.test"]).certificate)
        var rows: [Row] = []
        for selector: UInt8 in [0, 1] {
            for type: UInt8 in [0, 1, 2] {
                rows.append(
                    Row(
                        rule: "RFC 6698 §2.1: 3 \(selector) \(type)", identity: good,
                        records: [.matching(good.certificate, selector: selector, matchingType: type)],
                        expected: .matched(depth: 0)))
            }
        }
        rows += [
            Row(
                rule: "RFC 7671 §5.1: DANE-EE asks for no name, date or issuer", identity: worst,
                records: [.matching(worst.certificate)], expected: .matched(depth: 0)),
            Row(
                rule: "DANE-EE of another key", identity: good, records: [other],
                expected: .notMatched([.other])),
            Row(
                rule: "RFC 7671 §8.1: roll-over, one of two matches", identity: good,
                records: [other, .matching(good.certificate)], expected: .matched(depth: 0)),
            Row(
                rule: "DANE-TA of a presented intermediate", identity: anchored, records: [anchor],
                expected: .matched(depth: 1)),
            Row(
                rule: "DANE-TA of a presented root",
                identity: try below.issue(["mx.test"], presentsRoot: stranger),
                records: [.matching(stranger.certificate, usage: 2, selector: 0)],
                expected: .matched(depth: 2)),
            Row(
                rule: "RFC 7672 §3.1.2: a trust anchor by digest that is not presented is no match",
                identity: anchored, records: [.matching(stranger.certificate, usage: 2)],
                expected: .notMatched([.unknownIssuer, .other])),
            Row(
                rule: "RFC 7672 §3.2.2: below DANE-TA the name counts",
                identity: try below.issue(["other.test"]),
                records: [anchor], expected: .notMatched([.wrongName])),
            Row(
                rule: "RFC 7672 §3.2.2: the next-hop domain is a name too",
                identity: try below.issue(["other.test"]), records: [anchor], furtherNames: ["other.test"],
                expected: .matched(depth: 1)),
            Row(
                rule: "RFC 7671 §5.2: below DANE-TA dates count",
                identity: try below.issue(["mx.test"], from: past - 9, to: past), records: [anchor],
                expected: .notMatched([.expired])),
            Row(
                rule: "RFC 7672 §3.1.3: PKIX usages are not usable", identity: good,
                records: [.matching(good.certificate, usage: 1), .matching(root.certificate, usage: 0)],
                expected: .noUsableRecords),
            Row(
                rule: "unknown parameters are not usable", identity: good,
                records: [
                    TLSARecord(usage: 3, selector: 9, matchingType: 1, data: Array(repeating: 0, count: 32)),
                    TLSARecord(
                        usage: 3, selector: 1, matchingType: 200, data: Array(repeating: 0, count: 32)),
                    TLSARecord(usage: 7, selector: 1, matchingType: 1, data: Array(repeating: 0, count: 32)),
                ], expected: .noUsableRecords),
            Row(
                rule: "malformed data is not usable", identity: good,
                records: [
                    TLSARecord(usage: 3, selector: 1, matchingType: 1, data: [1, 2, 3]),
                    TLSARecord(usage: 3, selector: 1, matchingType: 1, data: []),
                    TLSARecord(usage: 3, selector: 0, matchingType: 0, data: [0x30, 0x00]),
                ], expected: .noUsableRecords),
            Row(
                rule: "an unusable record beside a usable one does not count", identity: good,
                records: [.matching(good.certificate, usage: 1), other], expected: .notMatched([.other])),
        ]
        return try rows + agility(good) + anchors(stranger, below)
    }

    /// RFC 7671 §9: among records of one usage and selector the strongest digest counts, and full data always.
    private static func agility(_ good: TestIdentity) -> [Row] {
        func right(_ selector: UInt8, _ type: UInt8) -> TLSARecord {
            .matching(good.certificate, selector: selector, matchingType: type)
        }
        func wrong(_ selector: UInt8, _ type: UInt8) -> TLSARecord {
            TLSARecord(
                usage: 3, selector: selector, matchingType: type,
                data: Array(repeating: 9, count: type == 1 ? 32 : 64))
        }
        let rows: [(String, [TLSARecord], Expected)] = [
            ("the weaker digest does not count", [right(1, 1), wrong(1, 2)], .notMatched([.other])),
            ("the stronger digest counts", [wrong(1, 1), right(1, 2)], .matched(depth: 0)),
            ("selectors stand apart", [wrong(1, 2), right(0, 1)], .matched(depth: 0)),
            ("full data always counts", [wrong(1, 2), right(1, 0)], .matched(depth: 0)),
            (
                "a malformed stronger digest hides nothing",
                [
                    right(1, 1), TLSARecord(usage: 3, selector: 1, matchingType: 2, data: [9, 9]),
                ], .matched(depth: 0)
            ),
            (
                "usages stand apart",
                [right(1, 1), .matching(good.certificate, usage: 2, selector: 1, matchingType: 2)],
                .matched(depth: 0)
            ),
        ]
        return rows.map {
            Row(rule: "RFC 7671 §9: \($0)", identity: good, records: $1, expected: $2)
        }
    }

    /// RFC 7671 §5.2, RFC 7672 §3.1.2: what an anchor may be, and what is checked below it.
    private static func anchors(_ root: TestAuthority, _ below: TestAuthority) throws -> [Row] {
        let leaf = try below.issue(["mx.test"])
        let bare = try below.issue(["mx.test"], presentsIssuers: false)
        let anchor = TLSARecord.matching(below.certificate, usage: 2)
        let other = TLSARecord.matching(try TestAuthority.selfSigned(["x.test"]).certificate)
        var jumbled = try below.issue(["mx.test"])
        jumbled.issuers = [
            try TestAuthority(name: "Padding").certificate, root.certificate,
            try TestAuthority(name: "More padding").certificate, below.certificate,
        ]
        let short = try TestAuthority(name: "No authority below", pathLength: 0)
        let rsa = try below.issue(["mx.test"], key: TestAuthority.rsaKey())
        let both = [TLSARecord.matching(leaf.certificate), .matching(rsa.certificate)]
        return [
            Row(
                rule: "2 0 0 of an authority that is not presented", identity: bare,
                records: [.matching(below.certificate, usage: 2, selector: 0, matchingType: 0)],
                expected: .matched(depth: 1)),
            Row(
                rule: "2 1 0, a bare key that is not presented", identity: bare,
                records: [.matching(below.certificate, usage: 2, selector: 1, matchingType: 0)],
                expected: .matched(depth: 0)),
            Row(
                rule: "a DANE-TA record of the leaf itself is no match", identity: leaf,
                records: [.matching(leaf.certificate, usage: 2)],
                expected: .notMatched([.unknownIssuer, .other])),
            Row(
                rule: "a jumbled chain with strangers in it", identity: jumbled,
                records: [.matching(root.certificate, usage: 2)], expected: .matched(depth: 2)),
            Row(
                rule: "the path length of the anchor counts",
                identity: try short.intermediate().issue(["mx.test"], presentsRoot: short),
                records: [.matching(short.certificate, usage: 2)], expected: .notMatched([.wrongPurpose])),
            Row(
                rule: "below DANE-TA the certificate must be for servers",
                identity: try below.issue(["mx.test"], usage: .client), records: [anchor],
                expected: .notMatched([.wrongPurpose])),
            Row(
                rule: "below DANE-TA the common name is no name",
                identity: try below.issue(["other.test"], commonName: "mx.test"), records: [anchor],
                expected: .notMatched([.wrongName])),
            Row(
                rule: "DANE-TA matches where DANE-EE does not", identity: leaf, records: [other, anchor],
                expected: .matched(depth: 1)),
            Row(
                rule: "DANE-EE matches where DANE-TA does not", identity: leaf,
                records: [.matching(leaf.certificate), .matching(short.certificate, usage: 2)],
                expected: .matched(depth: 0)),
            Row(
                rule: "a host with two certificates: its ECDSA one", identity: leaf, records: both,
                expected: .matched(depth: 0)),
            Row(
                rule: "a host with two certificates: its RSA one", identity: rsa, records: both,
                expected: .matched(depth: 0)),
        ]
    }

    @Test(arguments: try rows()) func outcome(_ row: Row) async throws {
        let server = try TLSContext.server(
            certificateChainPEM: row.identity.chainPEM, privateKeyPEM: row.identity.privateKeyPEM)
        let client = try TLSContext.client(trust: .pem(Self.root.get().rootPEM))
        func evidence(_ dane: DANEReference?) async throws -> PeerEvidence {
            let pair = try await LoopbackPair.tls(
                server: server, client: client, verification: .record(name: "mx.test", dane: dane))
            let seen = try await pair.evidence().client
            try await pair.close()
            return seen
        }
        let reference = DANEReference(
            records: row.records, baseDomain: "mx.test", furtherNames: row.furtherNames)
        let seen = try await evidence(reference)
        let plain = try await evidence(nil)
        let found: Expected
        switch seen.dane {
        case .matched(let record, let depth):
            #expect(row.records.contains(record))
            found = .matched(depth: depth)
        case .notMatched(let faults): found = .notMatched(ChainVerification.failed(faults).kinds)
        case .noUsableRecords: found = .noUsableRecords
        case nil:
            Issue.record("no outcome")
            return
        }
        #expect(found == row.expected, "\(String(describing: seen.dane))")
        // What trusted roots and names say is the same with and without records.
        #expect(seen.verification == plain.verification)
        #expect(seen.nameMatched == plain.nameMatched)
        #expect(plain.dane == nil)
        // The same chain judged again without its connection gives the same.
        let again = try ChainJudgement(
            chain: seen.chain, anchors: seen.anchor.map { [$0] } ?? [],
            at: Int(Date.now.timeIntervalSince1970),
            name: "mx.test", dane: reference)
        #expect(again.dane == seen.dane)
        #expect(again.verification == seen.verification)
        #expect(again.nameMatched == seen.nameMatched)
    }
}
