// The certificate authority of a cluster's own members, and in a local cluster of its nodes. Nobody outside of the cluster trusts it.

import Crypto
import Foundation
import SwiftASN1
import X509

/// A small certificate authority that lies in a folder of its own.
///
/// The authority lives ten years and is made once. Certificates live 90 days, or as long as is said, and are made anew when less than a
/// third of that is left, or other names are wanted.
public struct LocalAuthority: Sendable {
    /// A certificate and its key.
    public struct Identity: Sendable, Codable {
        /// The path of the certificate (PEM), the leaf first.
        public var certificate: String
        /// The path of the private key (PEM, PKCS #8).
        public var key: String
    }

    private static let day: TimeInterval = 86_400

    private let certificate: Certificate
    private let key: Certificate.PrivateKey
    private let folder: String
    /// How long a certificate lives.
    private let life: TimeInterval

    /// The path of the authority's certificate (PEM), which those who trust it read.
    public var path: String { folder + "/ca.pem" }

    /// The authority in `folder`, made when there is none.
    /// - Parameters:
    ///   - name: what it is called when it is made.
    ///   - days: how long the certificates that it gives live.
    public init(
        folder: String, name: String = "Zegel local authority", days: Int = 90, now: Date = Date()
    ) throws(ClusterError) {
        self.folder = folder
        life = TimeInterval(days) * Self.day
        let (certificatePath, keyPath) = (folder + "/ca.pem", folder + "/ca.key")
        if let certificateText = try ClusterFiles.text(certificatePath),
            let keyText = try ClusterFiles.text(keyPath)
        {
            guard let certificate = try? Certificate(pemEncoded: certificateText),
                let key = try? P256.Signing.PrivateKey(pemRepresentation: keyText)
            else { throw ClusterError(.state, "\(certificatePath) or \(keyPath) is damaged") }
            self.certificate = certificate
            self.key = Certificate.PrivateKey(key)
            return
        }
        let fresh = P256.Signing.PrivateKey()
        let key = Certificate.PrivateKey(fresh)
        self.key = key
        do {
            let name = try DistinguishedName { CommonName(name) }
            let certificate = try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: key.publicKey,
                notValidBefore: now - 3600, notValidAfter: now + 3650 * 86_400, issuer: name, subject: name,
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: key.publicKey)
                }, issuerPrivateKey: key)
            try ClusterFiles.write(fresh.pemRepresentation + "\n", to: keyPath)
            try ClusterFiles.write(
                try certificate.serializeAsPEM().pemString + "\n", to: certificatePath, mode: 0o644)
            self.certificate = certificate
        } catch let error as ClusterError {
            throw error
        } catch {
            throw ClusterError(.state, "cannot make the local authority: \(error)")
        }
    }

    /// A server certificate in the file `name`, valid for these DNS names and IPv4 addresses.
    /// - Parameters:
    ///   - place: the folder of the file; nil: the authority's own.
    ///   - connects: it is shown to servers too, as `name`.
    public func identity(
        _ name: String, in place: String? = nil, names: [String], addresses: [String] = [],
        connects: Bool = false,
        now: Date = Date()
    ) throws(ClusterError) -> Identity {
        let place = place ?? folder
        let identity = Identity(certificate: "\(place)/\(name).pem", key: "\(place)/\(name).key")
        if let kept = try ClusterFiles.text(identity.certificate), try ClusterFiles.text(identity.key) != nil,
            let certificate = try? Certificate(pemEncoded: kept),
            certificate.notValidAfter.timeIntervalSince(now) > life / 3,
            certificate.issuer == self.certificate.subject, isSigned(certificate),
            let wanted = try? Self.alternativeNames(names, addresses),
            (try? certificate.extensions.subjectAlternativeNames) == wanted
        {
            return identity
        }
        do {
            let leaf = P256.Signing.PrivateKey()
            let publicKey = Certificate.PublicKey(leaf.publicKey)
            let certificate = try Certificate(
                version: .v3, serialNumber: Certificate.SerialNumber(), publicKey: publicKey,
                notValidBefore: now - 3600, notValidAfter: now + life, issuer: self.certificate.subject,
                subject: try DistinguishedName { CommonName(connects ? name : names.first ?? name) },
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: try Certificate.Extensions {
                    Critical(BasicConstraints.notCertificateAuthority)
                    Critical(KeyUsage(digitalSignature: true))
                    try ExtendedKeyUsage(connects ? [.serverAuth, .clientAuth] : [.serverAuth])
                    SubjectKeyIdentifier(hash: publicKey)
                    AuthorityKeyIdentifier(
                        keyIdentifier: try self.certificate.extensions.subjectKeyIdentifier?.keyIdentifier)
                    try Self.alternativeNames(names, addresses)
                }, issuerPrivateKey: key)
            // The key first: a reader that finds the new certificate finds its key.
            try ClusterFiles.write(leaf.pemRepresentation + "\n", to: identity.key)
            try ClusterFiles.write(
                try certificate.serializeAsPEM().pemString + "\n", to: identity.certificate, mode: 0o644)
            return identity
        } catch let error as ClusterError {
            throw error
        } catch {
            throw ClusterError(.state, "cannot make the certificate \(name): \(error)")
        }
    }

    /// When a certificate ends; nil: it cannot be read.
    func end(of identity: Identity) -> Date? {
        guard let text = try? ClusterFiles.text(identity.certificate) else { return nil }
        return (try? Certificate(pemEncoded: text))?.notValidAfter
    }

    /// Another authority of the same name may have signed it: by the key that is told apart.
    private func isSigned(_ leaf: Certificate) -> Bool {
        guard let own = try? certificate.extensions.subjectKeyIdentifier?.keyIdentifier else { return false }
        return (try? leaf.extensions.authorityKeyIdentifier?.keyIdentifier) == own
    }

    private static func alternativeNames(_ names: [String], _ addresses: [String]) throws
        -> SubjectAlternativeNames
    {
        SubjectAlternativeNames(
            try names.map { .dnsName($0) }
                + addresses.map { text in
                    let bytes = text.split(separator: ".").compactMap { UInt8($0) }
                    guard bytes.count == 4 else { throw ClusterError(.usage, "\(text) is no IPv4 address") }
                    return .ipAddress(ASN1OctetString(contentBytes: bytes[...]))
                })
    }
}
