// All that is checked of a certificate is checked for one moment, which the evidence tells: else a certificate that ends in the middle
// of a handshake could not be judged again.

import Foundation
import Lab
import NIOCore
import Testing

@testable import TLS

@Suite struct MomentOfCheckTests {
    /// What a client sees that checks for the moment `offset` seconds from now, of a certificate for the next hour.
    private func evidence(_ offset: Int) throws -> PeerEvidence {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"], from: .now - 60, to: .now + 3_600)
        let server = try TLSConnection(
            context: .server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: try identity.privateKeyPEM),
            serverName: nil, verification: .record(name: nil))
        let client = try TLSConnection(
            context: .client(trust: .pem(root.rootPEM)), serverName: "mx.test",
            verification: .record(name: "mx.test"), checkedAt: time(nil) + offset)
        for _ in 0..<8 {
            for (one, other) in [(client, server), (server, client)] {
                if case .failed(let error) = one.handshake() { throw error }
                if let bytes = one.takeCiphertext(ByteBufferAllocator()) { #expect(other.feed(bytes)) }
            }
        }
        return client.evidence()
    }

    @Test(arguments: [(0, true), (3_000, true), (4_000, false), (-120, false)])
    func `the handshake and its repetition see what held at that moment`(offset: Int, holds: Bool) throws {
        let seen = try evidence(offset)
        #expect((seen.verification == .valid) == holds)
        let moment = try #require(seen.checkedAt)
        #expect(abs(moment - time(nil) - offset) < 60)
        let again = try ChainJudgement(
            chain: seen.chain, anchors: seen.anchor.map { [$0] } ?? [], at: moment, name: "mx.test", dane: nil
        )
        #expect(again.verification == seen.verification)
    }
}
