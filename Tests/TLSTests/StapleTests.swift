// What a stapled OCSP response says of a certificate, made by OpenSSL's own responder.

import Foundation
import Lab
import TLS
import Testing

@Suite(.timeLimit(.minutes(1))) struct StapleTests {
    @Test func `only what the issuer signed about this certificate, for this time, says anything`()
        async throws
    {
        let root = try TestAuthority()
        let authority = try root.intermediate()
        let leaf = try authority.issue(["mx.test"])
        let chain = [leaf.der, TestIdentity.der(authority.certificate)]
        let now = Int(Date.now.timeIntervalSince1970)
        func status(_ response: [UInt8], at time: Int? = nil, chain other: [[UInt8]]? = nil) -> StapledStatus
        {
            StapledStatus(response, chain: other ?? chain, anchor: nil, at: time ?? now)
        }
        let good = try await OCSPResponder.response(about: leaf, by: authority, .good)
        let revoked = try await OCSPResponder.response(about: leaf, by: authority, .revoked)
        #expect(status(good) == .good)
        #expect(status(revoked) == .revoked)
        #expect(status(try await OCSPResponder.response(about: leaf, by: authority, .unknown)) == .unknown)
        let days = 86_400
        #expect(status(good, at: now + 2 * days) == .stale, "it was for a day")
        #expect(status(good, at: now - days) == .stale, "it is of tomorrow")
        #expect(status(revoked, at: now + 90 * days) == .revoked, "a revocation is not taken back")

        #expect(status(good, chain: [leaf.der]) == .invalid, "nobody knows the issuer")
        #expect(
            StapledStatus(good, chain: [leaf.der], anchor: TestIdentity.der(authority.certificate), at: now)
                == .good, "a root may be the issuer")
        let other = try authority.issue(["mx.test"])
        #expect(status(good, chain: [other.der, chain[1]]) == .invalid, "it is about another certificate")

        func signed(_ usage: TestAuthority.Usage, by issuer: TestAuthority) async throws -> StapledStatus {
            let signer = try issuer.issue(["ocsp.test"], usage: usage)
            let response = try await OCSPResponder.response(
                about: leaf, by: authority, .revoked,
                signedBy: (signer.chainPEM, try signer.privateKeyPEM))
            return status(response)
        }
        #expect(try await signed(.ocspSigning, by: authority) == .revoked, "RFC 6960 §4.2.2.2: delegated")
        #expect(try await signed(.server, by: authority) == .invalid, "a server of the same issuer")
        #expect(try await signed(.ocspSigning, by: root) == .invalid, "delegated by another")

        #expect(status([]) == .invalid && status([0x30, 3, 10, 1, 3]) == .invalid, "no answer")
        #expect(status(Array(repeating: 0x30, count: 1 << 20)) == .invalid)
        for place in stride(from: 0, to: good.count, by: 7) {
            var altered = good
            altered[place] ^= 0x10
            let found = status(altered)
            #expect(found == .invalid || found == .good, "octet \(place)")
            var cut = good
            cut.removeLast(good.count - place)
            #expect(status(cut) == .invalid)
        }
    }
}
