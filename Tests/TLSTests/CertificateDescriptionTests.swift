// The key and the signature of a certificate, as grades need them.

import Lab
import TLS
import Testing

@Suite struct CertificateDescriptionTests {
    @Test func `RSA and curves are told with their size or name, and how the issuer signed`() throws {
        let authority = try TestAuthority()
        let rsa = try CertificateDescription(
            der: try authority.issue(["mx.test"], key: try TestAuthority.rsaKey()).der)
        #expect(rsa.key == .rsa(bits: 2048))
        #expect(rsa.signer == .ecdsa && rsa.hash == "SHA256" && !rsa.isSelfSigned)
        let weak = try CertificateDescription(
            der: try authority.issue(["mx.test"], key: try TestAuthority.weakKey()).der)
        #expect(weak.key == .rsa(bits: 1024))
        let own = try CertificateDescription(der: try TestAuthority.selfSigned(["mx.test"]).der)
        #expect(own.key == .curve("secp256r1") && own.isSelfSigned)
    }

    @Test func `octets that are no certificate are an error`() {
        #expect(throws: TLSError.self) { try CertificateDescription(der: [0x30, 0x03, 1, 2, 3]) }
    }
}
