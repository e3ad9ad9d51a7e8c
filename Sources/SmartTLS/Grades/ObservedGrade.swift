// Grades of what a connection showed: of its own parameters, and of the certificates that came with it.

import TLS

extension ProbeReport {
    /// What one finished handshake says of what the host accepts.
    init(observed peer: PeerEvidence) {
        self.init()
        let version: ProtocolVersion =
            switch peer.version {
            case .tls10: .tls10
            case .tls11: .tls11
            case .tls12: .tls12
            case .tls13: .tls13
            }
        handshakes = 1
        // Zero is a suite that encrypts nothing, and what is not known is worth as much.
        suites[version] = [CipherSuite.all.first { $0.name == peer.cipherSuite }?.code ?? 0]
        if let name = peer.keyExchangeGroup {
            let known = NamedGroup.all.first { $0.name.lowercased() == name.lowercased() }
            groups[version] = [known?.code ?? 0]
        }
        if version == .tls12, let name = peer.signatureAlgorithm {
            let parts = name.split(separator: "+")
            let families: [Substring: UInt16] = ["RSA": 1, "RSA-PSS": 1, "ECDSA": 3]
            let hashes: [Substring: UInt16] = [
                "MD5": 1, "SHA1": 2, "SHA224": 3, "SHA256": 4, "SHA384": 5, "SHA512": 6,
            ]
            if let family = parts.first.flatMap({ families[$0] }),
                let hash = parts.last.flatMap({ hashes[$0] })
            {
                exchangeSignatures = [hash << 8 | family]
            } else if name.uppercased().hasPrefix("ED") {
                exchangeSignatures = [0x0807]
            }
        }
    }
}

extension HostGrade {
    /// Grades what is known of a host and of the chains it presented, its own certificate first in each.
    init(_ report: ProbeReport, chains: [[[UInt8]]], table: GradeTable = .ncsc2025) {
        let parameters = CertificateParameters(chains: chains)
        self.init(report, keys: parameters.keys, signatures: parameters.signatures, table: table)
    }
}

extension GradeTable.CertificateKey {
    /// The key of a certificate.
    init(_ key: CertificateDescription.Key) {
        switch key {
        case .rsa(let bits): self = .rsa(bits: bits)
        case .curve(let name):
            self = NamedGroup.all.first { $0.name.lowercased() == name }.map { .curve($0.code) } ?? .other
        case .edwards: self = .edwards
        case .other: self = .other
        }
    }
}

extension SignatureScheme {
    /// How a certificate is signed.
    init(_ certificate: CertificateDescription) {
        let hashes: [String: SignatureHash] = [
            "MD5": .md5, "SHA1": .sha1, "SHA224": .sha224, "SHA256": .sha256, "SHA384": .sha384,
            "SHA512": .sha512,
        ]
        let hash = certificate.hash.flatMap { hashes[$0] } ?? .other
        switch certificate.signer {
        case .rsa: self.init(.rsa, hash)
        case .ecdsa: self.init(.ecdsa, hash)
        case .edwards: self.init(.eddsa, .intrinsic)
        case .other: self.init(.other, hash)
        }
    }
}
