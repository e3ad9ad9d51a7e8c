// Each way in which a server's certificate can be wrong, over a real handshake: what the evidence says, that a
// recording client goes on, and that a requiring one does not.

import Foundation
import Lab
import NIOCore
import TLS
import Testing

@Suite(.timeLimit(.minutes(2))) struct CertificateFaultTests {
    struct Row: Sendable, CustomTestStringConvertible {
        var rule: String
        var identity: TestIdentity
        var kinds: [ChainFault.Kind]
        var nameMatched = true
        var askedName = "mx.test"
        var testDescription: String { rule }
    }

    static let root = Result { try TestAuthority() }

    static func rows() throws -> [Row] {
        let root = try root.get()
        let intermediate = try root.intermediate()
        let stranger = try TestAuthority(name: "Stranger")
        let strangerBelow = try stranger.intermediate(name: "Stranger's Intermediate")
        let past = Date.now - 3_600
        let future = Date.now + 3_600
        var altered = try root.issue(["mx.test"])
        altered.issuers = [try TestAuthority().certificate]
        return [
            Row(rule: "valid", identity: try root.issue(["mx.test"]), kinds: []),
            Row(
                rule: "valid below an intermediate", identity: try intermediate.issue(["mx.test"]), kinds: []),
            Row(rule: "superfluous certificates do no harm", identity: altered, kinds: []),
            Row(
                rule: "root presented too", identity: try intermediate.issue(["mx.test"], presentsRoot: root),
                kinds: []),
            Row(
                rule: "self-signed", identity: try TestAuthority.selfSigned(["mx.test"]), kinds: [.selfSigned]
            ),
            Row(
                rule: "self-signed, expired and wrong name at once",
                identity: try TestAuthority.selfSigned(["other.test"], from: past - 9, to: past),
                kinds: [.selfSigned, .expired], nameMatched: false),
            Row(
                rule: "expired", identity: try root.issue(["mx.test"], from: past - 9, to: past),
                kinds: [.expired]),
            Row(
                rule: "not yet valid", identity: try root.issue(["mx.test"], from: future),
                kinds: [.notYetValid]),
            Row(
                rule: "wrong name", identity: try root.issue(["other.test"]), kinds: [], nameMatched: false),
            Row(
                rule: "expired and wrong name",
                identity: try root.issue(["other.test"], from: past - 9, to: past), kinds: [.expired],
                nameMatched: false),
            Row(
                rule: "missing intermediate",
                identity: try intermediate.issue(["mx.test"], presentsIssuers: false),
                kinds: [.missingIntermediate]),
            Row(
                rule: "unknown root, presented",
                identity: try strangerBelow.issue(["mx.test"], presentsRoot: stranger),
                kinds: [.selfSignedInChain]),
            Row(
                rule: "unknown root, not presented", identity: try strangerBelow.issue(["mx.test"]),
                kinds: [.unknownIssuer]),
            Row(
                rule: "unknown root and expired",
                identity: try strangerBelow.issue(["mx.test"], from: past - 9, to: past),
                kinds: [.unknownIssuer, .expired]),
            Row(
                rule: "weak key", identity: try root.issue(["mx.test"], key: TestAuthority.weakKey()),
                kinds: [.weak]),
            Row(
                rule: "wrong purpose", identity: try root.issue(["mx.test"], usage: .client),
                kinds: [.wrongPurpose]),
            Row(
                rule: "RFC 6125 §6.4.4: the common name is no name",
                identity: try root.issue(["other.test"], commonName: "mx.test"), kinds: [], nameMatched: false
            ),
            Row(
                rule: "wildcard of one label", identity: try root.issue(["*.mail.test"]), kinds: [],
                askedName: "mx.mail.test"),
            Row(
                rule: "wildcard covers one label only", identity: try root.issue(["*.mail.test"]), kinds: [],
                nameMatched: false, askedName: "a.mx.mail.test"),
            Row(
                rule: "RFC 6125 §6.4.3: no partial wildcards", identity: try root.issue(["m*.mail.test"]),
                kinds: [], nameMatched: false, askedName: "mx.mail.test"),
            Row(
                rule: "IP address", identity: try root.issue(["127.0.0.1"]), kinds: [], askedName: "127.0.0.1"
            ),
            Row(
                rule: "IP address differs", identity: try root.issue(["127.0.0.1"]), kinds: [],
                nameMatched: false, askedName: "127.0.0.2"),
        ]
    }

    @Test(arguments: try rows()) func recordedAndRequired(_ row: Row) async throws {
        let server = try TLSContext.server(
            certificateChainPEM: row.identity.chainPEM, privateKeyPEM: row.identity.privateKeyPEM,
            ciphers: .encrypted)
        let client = try TLSContext.client(trust: .pem(Self.root.get().rootPEM))
        let pair = try await LoopbackPair.tls(
            server: server, client: client, serverName: row.askedName,
            verification: .record(name: row.askedName))
        let (seen, _) = try await pair.evidence()
        #expect(seen.verification.kinds == row.kinds, "\(seen.verification)")
        #expect(seen.nameMatched == row.nameMatched)
        #expect(seen.chain.first == row.identity.der)
        try await pair.close()
        // Judged again without its connection, then and a year later, it is what it was.
        let again = try ChainJudgement(
            chain: seen.chain, anchors: seen.anchor.map { [$0] } ?? [],
            at: Int(Date.now.timeIntervalSince1970), name: row.askedName, dane: nil)
        #expect(again.verification == seen.verification)
        #expect(again.nameMatched == seen.nameMatched)

        let required = try await LoopbackPair.tls(
            server: server, client: client, serverName: row.askedName,
            verification: .require(name: row.askedName))
        if row.kinds.isEmpty, row.nameMatched {
            let (seen, _) = try await required.evidence()
            #expect(seen.verification == .valid)
        } else {
            try await eventually("refusal") { !required.clientRecord.tlsErrors.isEmpty }
            #expect(required.clientRecord.tlsErrors.first?.code == .certificateRejected)
            #expect(required.clientRecord.contents.evidence == nil)
            try await eventually("alert") { !required.serverRecord.tlsErrors.isEmpty }
            try await eventually("end") { required.clientRecord.contents.ended }
        }
        try await required.close()
    }

    @Test func withoutRootsNothingIsValid() async throws {
        let identity = try Self.root.get().issue(["mx.test"])
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM)
        let pair = try await LoopbackPair.tls(server: server, client: .client(trust: .none))
        let (seen, _) = try await pair.evidence()
        #expect(seen.verification.kinds == [.missingIntermediate])
        try await pair.close()
    }
}
