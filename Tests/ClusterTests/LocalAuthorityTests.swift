// The certificates of a local cluster.

import Foundation
import Testing
import X509

@testable import Cluster

@Suite("The local authority signs what clients of a local cluster can check")
struct LocalAuthorityTests {
    @Test(
        "a server certificate: signed by the authority, for every name and address, not an authority itself")
    func contents() async throws {
        let folder = try TemporaryFolder()
        let now = Date()
        let identity = try LocalAuthority(folder: folder.path, now: now)
            .identity("server", names: ["localhost", "mx.demo.test"], addresses: ["127.0.0.1"], now: now)
        let authority = try Certificate(
            pemEncoded: String(contentsOfFile: folder.path + "/ca.pem", encoding: .utf8))
        let leaf = try Certificate(pemEncoded: String(contentsOfFile: identity.certificate, encoding: .utf8))
        #expect(authority.publicKey.isValidSignature(leaf.signature, for: leaf))
        let names = try #require(try leaf.extensions.subjectAlternativeNames)
        #expect(names.map { "\($0)" }.count == 3)
        #expect(names.contains(.dnsName("localhost")) && names.contains(.dnsName("mx.demo.test")))
        #expect(try leaf.extensions.basicConstraints == .notCertificateAuthority)
        #expect(try authority.extensions.basicConstraints == .isCertificateAuthority(maxPathLength: 0))
        #expect(leaf.notValidBefore <= now && leaf.notValidAfter > now + 80 * 86_400)
        for (path, mode) in [
            (identity.key, 0o600), (folder.path + "/ca.key", 0o600), (identity.certificate, 0o644),
        ] {
            #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == mode)
        }
    }

    @Test("kept while it is good; made anew when it ends soon or other names are wanted; the authority stays")
    func renewal() throws {
        let folder = try TemporaryFolder()
        let now = Date()
        func serial(_ names: [String], at moment: Date) throws -> String {
            let identity = try LocalAuthority(folder: folder.path, now: moment).identity(
                "server", names: names, now: moment)
            return
                "\(try Certificate(pemEncoded: String(contentsOfFile: identity.certificate, encoding: .utf8)).serialNumber)"
        }
        let first = try serial(["localhost"], at: now)
        let authority = try String(contentsOfFile: folder.path + "/ca.pem", encoding: .utf8)
        #expect(try serial(["localhost"], at: now + 50 * 86_400) == first)
        let renewed = try serial(["localhost"], at: now + 61 * 86_400)
        #expect(renewed != first)
        #expect(try serial(["localhost", "other"], at: now + 61 * 86_400) != renewed)
        #expect(try String(contentsOfFile: folder.path + "/ca.pem", encoding: .utf8) == authority)
    }
}
