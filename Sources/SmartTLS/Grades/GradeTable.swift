// The TLS guidelines of the Dutch National Cyber Security Centre as a table: what each parameter of a server is worth.
// What the table does not name is insufficient. A later edition is another value of this type; a verdict names the
// edition by `version`.

/// One edition of the guidelines.
struct GradeTable: Sendable {
    /// A row for cipher suites before TLS 1.3. A suite belongs to the first row that has all of its parts.
    struct SuiteRow: Sendable {
        let exchange: CipherSuite.KeyExchange
        let authentication: Set<CipherSuite.Authentication>
        let ciphers: Set<CipherSuite.Cipher>
        let modes: Set<CipherSuite.Mode>
        let grade: Grade
    }

    /// How a certificate's key is used and how strong it is.
    enum CertificateKey: Sendable, Hashable, Codable {
        /// RSA with a modulus of so many bits.
        case rsa(bits: Int)
        /// A curve, by its number in `supported_groups`.
        case curve(UInt16)
        /// Ed25519 or Ed448.
        case edwards
        /// DSA and whatever else there is.
        case other
    }

    /// Who may start another handshake on a connection.
    enum Renegotiation: Sendable, Hashable, CaseIterable {
        /// RFC 5746 is not supported.
        case insecure
        /// The client may, without end.
        case clientUnlimited
        /// The client may, ten times at most.
        case clientLimited
        /// The client may not.
        case none
    }

    /// The edition.
    let version: String
    let versions: [ProtocolVersion: Grade]
    let tls13Suites: [UInt16: Grade]
    let suites: [SuiteRow]
    /// By number; also what a prime of RFC 7919 is worth.
    let groups: [UInt16: Grade]
    /// Of the signature of a key exchange before TLS 1.3.
    let exchangeHashes: [SignatureHash: Grade]
    /// Of the signature of a certificate by RSA, ECDSA or EdDSA.
    let certificateHashes: [SignatureHash: Grade]
    /// RSA keys with at least so many bits, the longest first.
    let rsaKeys: [(bits: Int, grade: Grade)]
    let certificateCurves: [UInt16: Grade]
    let edwardsKeys: Grade
    let renegotiation: [Renegotiation: Grade]

    /// Of a protocol version.
    func grade(_ version: ProtocolVersion) -> Grade { versions[version] ?? .insufficient }

    /// Of a suite, by its number.
    func grade(suite code: UInt16) -> Grade {
        guard let suite = CipherSuite.with(code: code) else { return .insufficient }
        if suite.isTLS13 { return tls13Suites[code] ?? .insufficient }
        let hasSHA2 = suite.hash == .sha256 || suite.hash == .sha384
        guard hasSHA2, !suite.isExport else { return .insufficient }
        let row = suites.first { row in
            row.exchange == suite.keyExchange && row.authentication.contains(suite.authentication)
                && row.ciphers.contains(suite.cipher) && row.modes.contains(suite.mode)
        }
        return row?.grade ?? .insufficient
    }

    /// Of a group, by its number.
    func grade(group code: UInt16) -> Grade { groups[code] ?? .insufficient }

    /// Of a prime before TLS 1.3: one of RFC 7919, or insufficient whatever its length.
    func grade(_ prime: DiffieHellmanPrime) -> Grade { prime.group.map(grade(group:)) ?? .insufficient }

    /// Of the hash in the signature of a key exchange before TLS 1.3.
    func grade(exchangeHash hash: SignatureHash) -> Grade { exchangeHashes[hash] ?? .insufficient }

    /// Of the signature of a certificate.
    func grade(certificateSignature scheme: SignatureScheme) -> Grade {
        scheme.algorithm == .other ? .insufficient : certificateHashes[scheme.hash] ?? .insufficient
    }

    /// Of the key of a certificate.
    func grade(_ key: CertificateKey) -> Grade {
        switch key {
        case .rsa(let bits): rsaKeys.first { bits >= $0.bits }?.grade ?? .insufficient
        case .curve(let code): certificateCurves[code] ?? .insufficient
        case .edwards: edwardsKeys
        case .other: .insufficient
        }
    }

    /// Of compression (CRIME).
    func grade(compression isOn: Bool) -> Grade { isOn ? .insufficient : .good }

    /// Of renegotiation.
    func grade(_ renegotiation: Renegotiation) -> Grade { self.renegotiation[renegotiation] ?? .insufficient }

    /// Of data before the handshake ends (RFC 8446 §2.3).
    func grade(earlyData isOn: Bool) -> Grade { isOn ? .insufficient : .good }

    /// Of the extended master secret in TLS 1.2 (RFC 7627).
    func grade(extendedMasterSecret isSupported: Bool) -> Grade { isSupported ? .good : .insufficient }
}
