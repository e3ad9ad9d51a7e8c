// Who issues the certificates of the lab: a trusted root, one with an RSA key, and private ones that nobody trusts.

import Foundation
import Lab
import X509

/// A certificate of a host with the authorities behind it, presented or not.
struct Material: Sendable {
    let identity: TestIdentity
    /// The certificate that issued it.
    var authority: Certificate?
    /// Where its chain ends.
    var root: Certificate?
}

/// The authorities of one world.
struct Authorities: Sendable {
    private let trusted: TestAuthority
    private let trustedBelow: TestAuthority
    private let trustedRSA: TestAuthority
    private let stranger: TestAuthority
    private let strangerBelow: TestAuthority
    private let shallow: TestAuthority
    private let rsaKey: Certificate.PrivateKey

    init() throws {
        trusted = try TestAuthority(name: "Trusted")
        trustedBelow = try trusted.intermediate(name: "Trusted, below")
        rsaKey = try TestAuthority.rsaKey()
        trustedRSA = try TestAuthority(name: "Trusted, RSA", key: rsaKey)
        stranger = try TestAuthority(name: "Private")
        strangerBelow = try stranger.intermediate(name: "Private, below")
        shallow = try TestAuthority(name: "Private, nothing below", pathLength: 0)
    }

    /// The roots that are trusted.
    var rootsPEM: [UInt8] { trusted.rootPEM + trustedRSA.rootPEM }

    /// A certificate of a kind, with these names.
    func issue(
        _ kind: CertificateKind, _ names: [String], commonName: String? = nil
    ) throws -> Material {
        let past = Date.now - 3_600
        let future = Date.now + 3_600
        func below(_ authority: TestAuthority, _ root: TestAuthority, _ identity: TestIdentity) -> Material {
            Material(
                identity: identity, authority: authority.certificate, root: root.certificate)
        }
        func proven(
            by authority: TestAuthority, from: Date = .now - 3_600, to: Date = .now + 86_400,
            usage: TestAuthority.Usage = .server, presentsIssuers: Bool = true, root: TestAuthority? = nil
        ) throws -> TestIdentity {
            try authority.issue(
                names, commonName: commonName, from: from, to: to, usage: usage,
                presentsIssuers: presentsIssuers, presentsRoot: root)
        }
        switch kind {
        case .trusted: return below(trusted, trusted, try proven(by: trusted))
        case .trustedBelow: return below(trustedBelow, trusted, try proven(by: trustedBelow))
        case .missingIntermediate:
            return below(trustedBelow, trusted, try proven(by: trustedBelow, presentsIssuers: false))
        case .trustedRSA:
            return below(trustedRSA, trustedRSA, try trustedRSA.issue(names, key: rsaKey))
        case .selfSigned: return Material(identity: try TestAuthority.selfSigned(names))
        case .worst:
            return Material(identity: try TestAuthority.selfSigned(names, from: past - 9, to: past))
        case .expired: return below(trusted, trusted, try proven(by: trusted, from: past - 9, to: past))
        case .notYetValid: return below(trusted, trusted, try proven(by: trusted, from: future))
        case .forClients: return below(trusted, trusted, try proven(by: trusted, usage: .client))
        case .forCode: return below(trusted, trusted, try proven(by: trusted, usage: .codeSigning))
        case .privateBelow: return below(strangerBelow, stranger, try proven(by: strangerBelow))
        case .privateWithRoot:
            return below(strangerBelow, stranger, try proven(by: strangerBelow, root: stranger))
        case .privateExpired:
            return below(
                strangerBelow, stranger,
                try proven(by: strangerBelow, from: past - 9, to: past, root: stranger))
        case .privateNotYetValid:
            return below(strangerBelow, stranger, try proven(by: strangerBelow, from: future, root: stranger))
        case .privateForClients:
            return below(
                strangerBelow, stranger, try proven(by: strangerBelow, usage: .client, root: stranger))
        case .privateShuffled:
            var identity = try proven(by: strangerBelow, root: stranger)
            identity.issuers =
                try [TestAuthority(name: "Padding").certificate] + identity.issuers.reversed()
                + [TestAuthority(name: "More padding").certificate]
            return below(strangerBelow, stranger, identity)
        case .privateTooDeep:
            let deep = try shallow.intermediate(name: "Too deep").intermediate(name: "Far too deep")
            return below(deep, shallow, try proven(by: deep, root: shallow))
        case .impostor:
            let impostor = TestAuthority(impostor: try strangerBelow.issue(["impostor.test"]))
            return below(strangerBelow, stranger, try proven(by: impostor, root: stranger))
        case .trustedImpostor:
            let impostor = TestAuthority(impostor: try trustedBelow.issue(["impostor.test"]))
            return below(trustedBelow, trusted, try proven(by: impostor))
        case .weakKey:
            return below(trusted, trusted, try trusted.issue(names, key: try TestAuthority.weakKey()))
        case .weakSignature:
            return below(
                trustedRSA, trustedRSA, try trustedRSA.issue(names, signature: .sha1WithRSAEncryption))
        }
    }
}
