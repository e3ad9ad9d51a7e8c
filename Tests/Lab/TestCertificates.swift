// Certificate authorities and certificates for tests, good and bad in each way that a judge tells apart. All of them
// are made in memory, with P-256 keys unless a test asks for a weak one.

import Crypto
import CryptoExtras
import Foundation
import SwiftASN1
import X509

/// A certificate with its key and the issuers that its owner presents.
public struct TestIdentity: Sendable {
    /// The certificate itself.
    public var certificate: Certificate
    /// Its issuers as presented, nearest first.
    public var issuers: [Certificate]
    /// Its key.
    public var key: Certificate.PrivateKey

    /// Leaf first, then issuers: what a server presents.
    public var chainPEM: [UInt8] { pem([certificate] + issuers) }
    /// The key, PKCS #8.
    public var privateKeyPEM: [UInt8] {
        get throws { Array(try key.serializeAsPEM().pemString.utf8) + [0x0A] }
    }
    /// The certificate, DER.
    public var der: [UInt8] { TestIdentity.der(certificate) }

    /// DER of any certificate.
    public static func der(_ certificate: Certificate) -> [UInt8] {
        var serializer = DER.Serializer()
        do { try serializer.serialize(certificate) } catch { return [] }
        return serializer.serializedBytes
    }
}

/// PEM text of several certificates.
private func pem(_ certificates: [Certificate]) -> [UInt8] {
    certificates.flatMap { certificate in
        Array((try? certificate.serializeAsPEM().pemString)?.utf8 ?? "".utf8) + [0x0A]
    }
}

/// An authority that issues test certificates: a root, or an intermediate below one.
public struct TestAuthority: Sendable {
    /// What a certificate is for, when a test wants it wrong.
    public enum Usage: Sendable {
        /// TLS servers.
        case server
        /// TLS clients.
        case client
        /// Neither: signing of code.
        case codeSigning
        /// Signing of OCSP responses for its issuer (RFC 6960 §4.2.2.2).
        case ocspSigning
    }

    /// The authority's own certificate.
    public let certificate: Certificate
    /// What leaves below this authority present behind themselves; empty below a root.
    public let presentedIssuers: [Certificate]
    private let key: Certificate.PrivateKey

    /// A new self-signed root.
    /// - name: its common name.
    /// - pathLength: how many authorities may stand between it and a leaf; nil: any number.
    /// - key: its key; default a new P-256 one.
    /// - from, to: its validity.
    public init(
        name: String = "Test Root", pathLength: Int? = nil, key: Certificate.PrivateKey? = nil,
        from: Date = .now - 86_400, to: Date = .now + 10 * 86_400
    ) throws {
        let key = key ?? Certificate.PrivateKey(P256.Signing.PrivateKey())
        let subject = try distinguishedName(name)
        certificate = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: key.publicKey,
            notValidBefore: from, notValidAfter: to, issuer: subject,
            subject: subject, signatureAlgorithm: key.ordinarySignature,
            extensions: try authorityExtensions(key.publicKey, pathLength), issuerPrivateKey: key)
        self.key = key
        presentedIssuers = []
    }

    private init(certificate: Certificate, key: Certificate.PrivateKey, presentedIssuers: [Certificate]) {
        self.certificate = certificate
        self.key = key
        self.presentedIssuers = presentedIssuers
    }

    /// The owner of an ordinary certificate, who issues others with it though it is no authority.
    public init(impostor identity: TestIdentity) {
        self.init(
            certificate: identity.certificate, key: identity.key,
            presentedIssuers: [identity.certificate] + identity.issuers)
    }

    /// The authority's key, PKCS #8, for programs that sign in its name.
    public var privateKeyPEM: [UInt8] {
        get throws { Array(try key.serializeAsPEM().pemString.utf8) + [0x0A] }
    }

    /// The authority's certificate, for `TLSContext.TrustRoots.pem`.
    public var rootPEM: [UInt8] { pem([certificate]) }

    /// A new authority below this one. Leaves that it issues present its certificate.
    public func intermediate(name: String = "Test Intermediate") throws -> TestAuthority {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let below = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: key.publicKey,
            notValidBefore: .now - 86_400, notValidAfter: .now + 10 * 86_400, issuer: certificate.subject,
            subject: try distinguishedName(name), signatureAlgorithm: self.key.ordinarySignature,
            extensions: try authorityExtensions(key.publicKey, nil), issuerPrivateKey: self.key)
        return TestAuthority(certificate: below, key: key, presentedIssuers: [below] + presentedIssuers)
    }

    /// A leaf below this authority.
    /// - names: DNS names, or IPv4 addresses in dotted form, of its subject alternative names.
    /// - commonName: the subject's; default the first name.
    /// - from, to: its validity.
    /// - usage: its extended key usage.
    /// - key: its key; default a new P-256 one.
    /// - presentsIssuers: false leaves the intermediates away, as misconfigured servers do.
    /// - presentsRoot: true adds the root, as some servers do.
    /// - signature: how it is signed; default what goes with the authority's key, with SHA-256.
    /// - mustStaple: true demands an OCSP response (RFC 7633).
    public func issue(
        _ names: [String], commonName: String? = nil, from: Date = .now - 3_600, to: Date = .now + 86_400,
        usage: Usage = .server, key: Certificate.PrivateKey? = nil, presentsIssuers: Bool = true,
        presentsRoot root: TestAuthority? = nil, signature: Certificate.SignatureAlgorithm? = nil,
        mustStaple: Bool = false
    ) throws -> TestIdentity {
        let leafKey = key ?? Certificate.PrivateKey(P256.Signing.PrivateKey())
        let leaf = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: leafKey.publicKey, notValidBefore: from,
            notValidAfter: to, issuer: certificate.subject,
            subject: try distinguishedName(commonName ?? names.first ?? "nobody"),
            signatureAlgorithm: signature ?? self.key.ordinarySignature,
            extensions: try leafExtensions(names, usage, mustStaple: mustStaple),
            issuerPrivateKey: self.key)
        let issuers = (presentsIssuers ? presentedIssuers : []) + (root.map { [$0.certificate] } ?? [])
        return TestIdentity(certificate: leaf, issuers: issuers, key: leafKey)
    }

    /// A leaf that is its own issuer.
    public static func selfSigned(
        _ names: [String], from: Date = .now - 3_600, to: Date = .now + 86_400
    ) throws -> TestIdentity {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let subject = try distinguishedName(names.first ?? "nobody")
        let leaf = try Certificate(
            version: .v3, serialNumber: .init(), publicKey: key.publicKey, notValidBefore: from,
            notValidAfter: to, issuer: subject, subject: subject, signatureAlgorithm: .ecdsaWithSHA256,
            extensions: try leafExtensions(names, .server), issuerPrivateKey: key)
        return TestIdentity(certificate: leaf, issuers: [], key: key)
    }

    /// An RSA key of 1024 bits: too weak by any grade.
    public static func weakKey() throws -> Certificate.PrivateKey {
        Certificate.PrivateKey(try _RSA.Signing.PrivateKey(unsafeKeySize: .init(bitCount: 1024)))
    }

    /// An RSA key of 2048 bits.
    public static func rsaKey() throws -> Certificate.PrivateKey {
        Certificate.PrivateKey(try _RSA.Signing.PrivateKey(keySize: .bits2048))
    }
}

extension Certificate.PrivateKey {
    /// With SHA-256.
    fileprivate var ordinarySignature: Certificate.SignatureAlgorithm {
        supportedSignatureAlgorithms.contains(.ecdsaWithSHA256) ? .ecdsaWithSHA256 : .sha256WithRSAEncryption
    }
}

private func distinguishedName(_ commonName: String) throws -> DistinguishedName {
    try DistinguishedName { CommonName(commonName) }
}

private func authorityExtensions(
    _ key: Certificate.PublicKey, _ pathLength: Int?
) throws -> Certificate.Extensions {
    try Certificate.Extensions {
        Critical(BasicConstraints.isCertificateAuthority(maxPathLength: pathLength))
        Critical(KeyUsage(keyCertSign: true, cRLSign: true))
        SubjectKeyIdentifier(hash: key)
    }
}

private func leafExtensions(
    _ names: [String], _ usage: TestAuthority.Usage, mustStaple: Bool = false
) throws -> Certificate.Extensions {
    let purpose: ExtendedKeyUsage.Usage =
        switch usage {
        case .server: .serverAuth
        case .client: .clientAuth
        case .codeSigning: .codeSigning
        case .ocspSigning: .ocspSigning
        }
    var extensions = try Certificate.Extensions {
        Critical(BasicConstraints.notCertificateAuthority)
        Critical(KeyUsage(digitalSignature: true, keyEncipherment: true))
        try ExtendedKeyUsage([purpose])
        if !names.isEmpty { SubjectAlternativeNames(names.map(alternativeName)) }
    }
    if mustStaple {
        // TLS feature 5, status_request.
        try extensions.append(
            Certificate.Extension(
                oid: [1, 3, 6, 1, 5, 5, 7, 1, 24], critical: false, value: [0x30, 3, 2, 1, 5]))
    }
    return extensions
}

private func alternativeName(_ name: String) -> GeneralName {
    let octets = name.split(separator: ".").compactMap { UInt8($0) }
    guard octets.count == 4 else { return .dnsName(name) }
    return .ipAddress(ASN1OctetString(contentBytes: octets[...]))
}
