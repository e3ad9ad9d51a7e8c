// The registry of cipher suites against OpenSSL's own list of those it has, and what names say.

import Foundation
import Lab
import Testing

@testable import SmartTLS

@Suite struct CipherSuiteTests {
    @Test func `numbers and names are there once`() {
        #expect(Set(CipherSuite.all.map(\.code)).count == CipherSuite.all.count)
        #expect(Set(CipherSuite.all.map(\.name)).count == CipherSuite.all.count)
        #expect(CipherSuite.all.map(\.code) == CipherSuite.all.map(\.code).sorted())
    }

    /// `0xC0,0x2F - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 - ECDHE-… TLSv1.2 Kx=ECDH Au=RSA Enc=AESGCM(128) Mac=AEAD`
    @Test
    func `OpenSSL knows each of its suites by the same number and name, and has it made of the same parts`()
        async throws
    {
        let output = NSTemporaryDirectory() + "zegel-ciphers-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: output) }
        let child = try await ChildProcess.start(
            ["openssl", "ciphers", "-V", "-stdname", "ALL:COMPLEMENTOFALL:eNULL:@SECLEVEL=0"], output: output)
        #expect(await child.waitForExit(within: .seconds(20)) == 0)
        let lines = try String(contentsOfFile: output, encoding: .utf8).split(separator: "\n")
        #expect(lines.count > 100)
        for line in lines {
            let words = line.split(separator: " ")
            let code = UInt16(words[0].replacing("0x", with: "").replacing(",", with: ""), radix: 16)
            let suite = try #require(CipherSuite.all.first { $0.code == code }, "\(line)")
            #expect(suite.name == words[2])
            #expect(suite.isTLS13 == words.contains("TLSv1.3"), "\(line)")
            #expect(suite.isAllowed(in: .tls12) != suite.isTLS13)
            let exchange = words.first { $0.hasPrefix("Kx=") }.map { String($0.dropFirst(3)) } ?? ""
            switch suite.keyExchange {
            case .tls13: #expect(exchange == "any", "\(line)")
            case .rsa: #expect(exchange == "RSA", "\(line)")
            case .dhe: #expect(exchange == "DH", "\(line)")
            case .ecdhe: #expect(exchange == "ECDH", "\(line)")
            case .psk: #expect(exchange == "PSK" || exchange == "RSAPSK", "\(line)")
            case .dhePSK: #expect(exchange == "DHEPSK", "\(line)")
            case .ecdhePSK: #expect(exchange == "ECDHEPSK", "\(line)")
            case .other: #expect(exchange == "SRP", "\(line)")
            case .dh, .ecdh: Issue.record("OpenSSL has no static Diffie-Hellman: \(line)")
            }
            let encryption = words.first { $0.hasPrefix("Enc=") }.map { String($0.dropFirst(4)) } ?? ""
            let names = [
                CipherSuite.Cipher.null: "None", .tripleDES: "3DES", .chacha20: "CHACHA20", .aria: "ARIA",
            ]
            let expected = names[suite.cipher] ?? suite.cipher.rawValue
            #expect(encryption.uppercased().hasPrefix(expected.uppercased()), "\(line)")
            if suite.mode == .ccm8 { #expect(encryption.contains("CCM8"), "\(line)") }
            let macs = [CipherSuite.Hash.sha1: "SHA1", .md5: "MD5", .sha256: "SHA256", .sha384: "SHA384"]
            if let mac = words.first(where: { $0.hasPrefix("Mac=") })?.dropFirst(4), mac != "AEAD" {
                #expect(macs[suite.hash] == String(mac), "\(line)")
            }
        }
    }

    @Test(arguments: [
        (
            "TLS_DH_anon_WITH_AES_128_CBC_SHA", CipherSuite.KeyExchange.dhe,
            CipherSuite.Authentication.anonymous
        ),
        ("TLS_DHE_DSS_EXPORT1024_WITH_RC4_56_SHA", .dhe, .dss), ("TLS_ECDH_RSA_WITH_NULL_SHA", .ecdh, .rsa),
        ("TLS_PSK_DHE_WITH_AES_128_CCM_8", .dhePSK, .other),
        ("TLS_SRP_SHA_RSA_WITH_AES_128_CBC_SHA", .other, .other),
    ])
    func `a name says key exchange and signature`(
        name: String, exchange: CipherSuite.KeyExchange, authentication: CipherSuite.Authentication
    ) throws {
        let suite = try #require(CipherSuite.all.first { $0.name == name })
        #expect(suite.keyExchange == exchange && suite.authentication == authentication)
        #expect(suite.isExport == name.contains("EXPORT"))
    }

    @Test func `suites of TLS 1.2 and 1.3 are not offered in older versions`() throws {
        let gcm = try #require(CipherSuite.with(code: 0xc02f))
        #expect(ProtocolVersion.allCases.filter(gcm.isAllowed) == [.tls12])
        let cbc = try #require(CipherSuite.with(code: 0x002f))
        #expect(ProtocolVersion.allCases.filter(cbc.isAllowed) == [.ssl3, .tls10, .tls11, .tls12])
        let new = try #require(CipherSuite.with(code: 0x1301))
        #expect(ProtocolVersion.allCases.filter(new.isAllowed) == [.tls13])
    }
}
