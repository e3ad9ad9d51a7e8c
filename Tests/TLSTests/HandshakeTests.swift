// Handshakes over loopback sockets: what each side learns of the other.

import Lab
import NIOCore
import TLS
import Testing

@Suite(.timeLimit(.minutes(2))) struct HandshakeTests {
    @Test func bothSidesLearnVersionSuiteGroupNamesAndChain() async throws {
        let root = try TestAuthority()
        let identity = try root.intermediate().issue(["mx.test"])
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
            alpn: ["h2", "http/1.1"])
        let client = try TLSContext.client(trust: .pem(root.rootPEM), alpn: ["http/1.1", "h2"])
        let pair = try await LoopbackPair.tls(server: server, client: client)
        let (seen, ours) = try await pair.evidence()
        #expect(seen.version == .tls13)
        #expect(seen.cipherSuite.hasPrefix("TLS_"))
        #expect(seen.isForwardSecret)
        #expect(seen.cipherBits >= 128)
        #expect(seen.keyExchangeGroup == "x25519")
        #expect(seen.signatureAlgorithm == "ECDSA+SHA256")
        #expect(seen.alpn == "h2")
        #expect(seen.serverName == "mx.test")
        #expect(seen.verification == .valid)
        #expect(seen.nameMatched == true)
        #expect(seen.chain == [identity.der] + identity.issuers.map(TestIdentity.der))
        #expect(seen.leafMatches(name: "MX.test."))
        #expect(!seen.leafMatches(name: "other.test"))
        #expect(ours.serverName == "mx.test")
        #expect(ours.alpn == "h2")
        #expect(ours.keyExchangeGroup == "x25519")
        #expect(ours.verification == .notPresented)
        #expect(ours.chain.isEmpty)
        #expect(ours.nameMatched == nil)
        try await pair.client.send("hello")
        try await eventually("hello") { pair.serverRecord.text == "hello" }
        try await pair.server.send("world")
        try await eventually("world") { pair.clientRecord.text == "world" }
        try await pair.close()
    }

    @Test("RFC 9325 §4.1: a finite field below 2048 bits keeps no secret, whatever the suite calls itself")
    func shortField() async throws {
        let root = try TestAuthority()
        // OpenSSL takes a field of 1024 bits beside a key of 1024 bits.
        let identity = try root.issue(["mx.test"], key: TestAuthority.weakKey())
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
            ciphers: .list("DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0"), maximumVersion: .tls12)
        let client = try TLSContext.client(trust: .pem(root.rootPEM))
        let pair = try await LoopbackPair.tls(server: server, client: client)
        let (seen, _) = try await pair.evidence()
        #expect(seen.cipherSuite == "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256")
        let (group, isForwardSecret) = (seen.keyExchangeGroup, seen.isForwardSecret)
        #expect(group == "dh-1024" && !isForwardSecret)
        try await pair.close()
    }

    @Test(
        arguments: [
            ("ECDHE-RSA-AES256-GCM-SHA384", true, "x25519"), ("AES128-SHA256", false, nil),
            ("DHE-RSA-AES128-GCM-SHA256", true, "modp_"),
        ] as [(String, Bool, String?)])
    func evidenceTellsForwardSecrecyInTLS12(suite: String, isForwardSecret: Bool, group: String?) async throws
    {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"], key: TestAuthority.rsaKey())
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
            ciphers: .list(suite),
            maximumVersion: .tls12)
        let client = try TLSContext.client(trust: .pem(root.rootPEM))
        let pair = try await LoopbackPair.tls(server: server, client: client)
        let (seen, ours) = try await pair.evidence()
        #expect(seen.version == .tls12)
        #expect(seen.isForwardSecret == isForwardSecret)
        if let group {
            #expect(seen.keyExchangeGroup?.hasPrefix(group) == true)
        } else {
            #expect(seen.keyExchangeGroup == nil)
        }
        #expect(ours.isForwardSecret == isForwardSecret)
        try await pair.close()
    }

    @Test func clientThatDemandsForwardSecrecyGetsNoOtherSuite() async throws {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"], key: TestAuthority.rsaKey())
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
            ciphers: .list("AES128-SHA256"), maximumVersion: .tls12)
        let client = try TLSContext.client(trust: .pem(root.rootPEM), ciphers: .forwardSecret)
        let pair = try await LoopbackPair.tls(server: server, client: client)
        try await eventually("failure") { !pair.clientRecord.tlsErrors.isEmpty }
        #expect(pair.clientRecord.contents.evidence == nil)
        try await pair.close()
    }

    @Test func oldVersionsAreSeenByAClientThatAllowsThemAndFailOneThatDoesNot() async throws {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"], key: TestAuthority.rsaKey())
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
            minimumVersion: .tls10,
            ciphers: .encrypted, maximumVersion: .tls11)
        let lenient = try TLSContext.client(trust: .pem(root.rootPEM), minimumVersion: .tls10)
        let pair = try await LoopbackPair.tls(server: server, client: lenient)
        let (seen, _) = try await pair.evidence()
        #expect(seen.version == .tls11)
        #expect(seen.verification == .valid)
        try await pair.close()

        let strict = try TLSContext.client(trust: .pem(root.rootPEM))
        let refused = try await LoopbackPair.tls(server: server, client: strict)
        try await eventually("failure") { !refused.clientRecord.tlsErrors.isEmpty }
        #expect(refused.clientRecord.tlsErrors.first?.code == .protocolVersion)
        try await refused.close()
    }

    @Test func clientCertificateIsAskedForOnlyWhenAuthoritiesAreGiven() async throws {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"])
        let ours = try root.issue(["proxy.test"], usage: .client)
        let stranger = try TestAuthority(name: "Stranger").issue(["proxy.test"], usage: .client)
        let rows:
            [(asks: Bool, presents: TestIdentity?, finds: ChainVerification?, kinds: [ChainFault.Kind])] = [
                (false, ours, .notPresented, []),
                (true, nil, .notPresented, []),
                (true, ours, .valid, []),
                (true, stranger, nil, [.missingIntermediate]),
            ]
        for row in rows {
            let server = try TLSContext.server(
                certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM,
                clientAuthoritiesPEM: row.asks ? root.rootPEM : nil)
            let client = try TLSContext.client(
                trust: .pem(root.rootPEM), certificateChainPEM: row.presents?.chainPEM,
                privateKeyPEM: row.presents?.privateKeyPEM)
            let pair = try await LoopbackPair.tls(server: server, client: client)
            let (_, seen) = try await pair.evidence()
            if let finds = row.finds { #expect(seen.verification == finds) }
            #expect(seen.verification.kinds == row.kinds)
            #expect(seen.chain.first == (row.asks ? row.presents?.der : nil))
            if row.presents != nil, row.asks { #expect(seen.leafMatches(name: "proxy.test")) }
            try await pair.close()
        }
    }

    @Test func noProtocolInCommonIsFatal() async throws {
        let root = try TestAuthority()
        let identity = try root.issue(["mx.test"])
        let server = try TLSContext.server(
            certificateChainPEM: identity.chainPEM, privateKeyPEM: identity.privateKeyPEM, alpn: ["h2"])
        let client = try TLSContext.client(trust: .pem(root.rootPEM), alpn: ["smtp"])
        let pair = try await LoopbackPair.tls(server: server, client: client)
        try await eventually("failure") { !pair.clientRecord.tlsErrors.isEmpty }
        // no_application_protocol, RFC 7301 §3.2
        #expect(pair.clientRecord.tlsErrors.first?.peerAlert == 120)
        try await pair.close()
        // A client without ALPN is served.
        let plain = try await LoopbackPair.tls(
            server: server, client: TLSContext.client(trust: .pem(root.rootPEM)))
        let (seen, _) = try await plain.evidence()
        #expect(seen.alpn == nil)
        try await plain.close()
    }

    @Test func brokenMaterialIsNamed() throws {
        let root = try TestAuthority()
        let one = try root.issue(["mx.test"])
        let other = try root.issue(["mx.test"])
        func code(_ chain: [UInt8], _ key: [UInt8]) -> TLSError.Code? {
            do throws(TLSError) {
                _ = try TLSContext.server(certificateChainPEM: chain, privateKeyPEM: key)
                return nil
            } catch { return error.code }
        }
        #expect(code(one.chainPEM, try one.privateKeyPEM) == nil)
        #expect(code(one.chainPEM, try other.privateKeyPEM) == .keyMismatch)
        #expect(code(one.chainPEM, Array("nonsense".utf8)) == .invalidPrivateKey)
        #expect(code(Array("nonsense".utf8), try one.privateKeyPEM) == .invalidCertificate)
        #expect(code([], []) == .invalidCertificate)
        #expect(code(Array(one.chainPEM.prefix(300)), try one.privateKeyPEM) == .invalidCertificate)
    }
}
