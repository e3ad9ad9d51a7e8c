// The NCSC's TLS guidelines of May 2025, row by row, and the registry of suites that they are applied to.

import Testing

@testable import SmartTLS

@Suite struct GradeTableTests {
    private static let table = GradeTable.ncsc2025
    private static let good = Grade.good
    private static let sufficient = Grade.sufficient
    private static let phaseOut = Grade.phaseOut
    private static let insufficient = Grade.insufficient

    private static func code(_ name: String) throws -> UInt16 {
        try #require(CipherSuite.all.first { $0.name == "TLS_" + name }, "\(name)").code
    }

    @Test func `the table says which edition it is`() { #expect(Self.table.version == "NCSC 2025-05") }

    @Test(arguments: [
        (ProtocolVersion.tls13, good), (.tls12, sufficient), (.tls11, insufficient), (.tls10, insufficient),
        (.ssl3, insufficient),
    ])
    func `TLS version`(version: ProtocolVersion, grade: Grade) { #expect(Self.table.grade(version) == grade) }

    @Test(arguments: [
        ("AES_256_GCM_SHA384", good), ("CHACHA20_POLY1305_SHA256", good), ("AES_128_GCM_SHA256", sufficient),
        ("AES_128_CCM_SHA256", sufficient), ("AES_128_CCM_8_SHA256", insufficient),
        ("SM4_GCM_SM3", insufficient), ("SHA256_SHA256", insufficient),
    ])
    func `TLS 1.3 suites`(name: String, grade: Grade) throws {
        #expect(Self.table.grade(suite: try Self.code(name)) == grade)
    }

    @Test(arguments: [
        ("ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", sufficient),
        ("ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", sufficient),
        ("ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", sufficient),
        ("ECDHE_RSA_WITH_AES_256_GCM_SHA384", sufficient),
        ("ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", sufficient),
        ("ECDHE_RSA_WITH_AES_128_GCM_SHA256", sufficient),
        ("ECDHE_ECDSA_WITH_AES_256_CCM", sufficient), ("ECDHE_ECDSA_WITH_AES_128_CCM", sufficient),
        ("ECDHE_RSA_WITH_AES_256_CBC_SHA384", phaseOut), ("ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", phaseOut),
        ("ECDHE_RSA_WITH_CAMELLIA_256_CBC_SHA384", phaseOut),
        ("ECDHE_ECDSA_WITH_CAMELLIA_128_GCM_SHA256", phaseOut),
        ("ECDHE_RSA_WITH_ARIA_128_GCM_SHA256", phaseOut), ("ECDHE_ECDSA_WITH_ARIA_256_CBC_SHA384", phaseOut),
        ("DHE_RSA_WITH_AES_256_GCM_SHA384", phaseOut), ("DHE_RSA_WITH_AES_128_CBC_SHA256", phaseOut),
        ("DHE_RSA_WITH_AES_128_CCM", phaseOut), ("DHE_RSA_WITH_CAMELLIA_256_CBC_SHA256", phaseOut),
        ("DHE_RSA_WITH_ARIA_128_CBC_SHA256", phaseOut),
        ("DHE_RSA_WITH_CHACHA20_POLY1305_SHA256", phaseOut),
        // Everything else.
        ("ECDHE_RSA_WITH_AES_256_CBC_SHA", insufficient), ("ECDHE_ECDSA_WITH_AES_128_CBC_SHA", insufficient),
        ("DHE_RSA_WITH_AES_256_CBC_SHA", insufficient), ("DHE_RSA_WITH_CAMELLIA_128_CBC_SHA", insufficient),
        ("RSA_WITH_AES_256_GCM_SHA384", insufficient), ("RSA_WITH_AES_128_CBC_SHA", insufficient),
        ("ECDH_ECDSA_WITH_AES_256_GCM_SHA384", insufficient),
        ("DH_RSA_WITH_AES_256_GCM_SHA384", insufficient),
        ("ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", insufficient), ("RSA_WITH_RC4_128_MD5", insufficient),
        ("ECDHE_ECDSA_WITH_AES_128_CCM_8", insufficient), ("DHE_RSA_WITH_AES_256_CCM_8", insufficient),
        ("DHE_DSS_WITH_AES_256_GCM_SHA384", insufficient), ("DH_anon_WITH_AES_256_GCM_SHA384", insufficient),
        ("ECDH_anon_WITH_AES_256_CBC_SHA", insufficient), ("ECDHE_RSA_WITH_NULL_SHA", insufficient),
        ("RSA_WITH_NULL_SHA256", insufficient), ("RSA_EXPORT_WITH_RC4_40_MD5", insufficient),
        ("RSA_EXPORT1024_WITH_DES_CBC_SHA", insufficient),
        ("ECDHE_PSK_WITH_AES_256_GCM_SHA384", insufficient),
        ("DHE_PSK_WITH_CHACHA20_POLY1305_SHA256", insufficient), ("RSA_WITH_SEED_CBC_SHA", insufficient),
        ("KRB5_WITH_DES_CBC_SHA", insufficient),
        ("GOSTR341112_256_WITH_KUZNYECHIK_CTR_OMAC", insufficient),
    ])
    func `TLS 1.2 suites`(name: String, grade: Grade) throws {
        #expect(Self.table.grade(suite: try Self.code(name)) == grade)
    }

    @Test func `a suite that nobody registered is insufficient`() {
        #expect(Self.table.grade(suite: 0xeeee) == .insufficient)
    }

    /// As many suites before TLS 1.3 have each grade as the rows say, counted by hand: 2 × 3 + 2 sufficient; phase
    /// out: 2 × 2 AES, 2 × 4 Camellia, 2 × 4 ARIA; of DHE_RSA 4 AES and 2 CCM, 4 Camellia, 4 ARIA, 1 ChaCha20.
    @Test func `each row covers its suites and no other`() {
        let old = CipherSuite.all.filter { !$0.isTLS13 }
        let counts = Dictionary(grouping: old) { Self.table.grade(suite: $0.code) }.mapValues(\.count)
        #expect(counts[.good] == nil)
        #expect(counts[.sufficient] == 8)
        #expect(counts[.phaseOut] == 35)
    }

    @Test(arguments: [
        ("X25519MLKEM768", good), ("SecP256r1MLKEM768", good), ("SecP384r1MLKEM1024", good),
        ("secp256r1", sufficient), ("secp384r1", sufficient), ("secp521r1", sufficient),
        ("x25519", sufficient),
        ("x448", sufficient), ("brainpoolP256r1", sufficient), ("brainpoolP384r1", sufficient),
        ("brainpoolP512r1", sufficient), ("brainpoolP256r1tls13", sufficient), ("secp224r1", phaseOut),
        ("ffdhe3072", phaseOut), ("ffdhe4096", phaseOut), ("ffdhe6144", phaseOut), ("ffdhe8192", phaseOut),
        ("ffdhe2048", insufficient), ("secp192r1", insufficient), ("sect571k1", insufficient),
        ("secp256k1", insufficient), ("curveSM2", insufficient), ("X25519Kyber768Draft00", insufficient),
    ])
    func `key exchange`(name: String, grade: Grade) throws {
        let group = try #require(NamedGroup.all.first { $0.name == name })
        #expect(Self.table.grade(group: group.code) == grade)
    }

    @Test func `a prime that a server made itself is insufficient at any length`() {
        let own = DiffieHellmanPrime([0] + Array(repeating: 0xff, count: 512))
        #expect(own.bits == 4096 && own.group == nil)
        #expect(Self.table.grade(own) == .insufficient)
    }

    @Test(arguments: [
        (SignatureHash.sha256, good, sufficient), (.sha384, good, sufficient), (.sha512, good, sufficient),
        (.intrinsic, good, sufficient), (.sha224, phaseOut, phaseOut), (.sha1, insufficient, insufficient),
        (.md5, insufficient, insufficient), (.other, insufficient, insufficient),
    ])
    func `hashes, in a key exchange and in a certificate`(
        hash: SignatureHash, exchange: Grade, certificate: Grade
    ) {
        #expect(Self.table.grade(exchangeHash: hash) == exchange)
        for algorithm in [SignatureScheme.Algorithm.rsa, .ecdsa, .eddsa] {
            let scheme = SignatureScheme(algorithm, hash)
            #expect(Self.table.grade(certificateSignature: scheme) == certificate)
        }
        #expect(Self.table.grade(certificateSignature: SignatureScheme(.other, hash)) == .insufficient)
    }

    @Test(arguments: [
        (GradeTable.CertificateKey.rsa(bits: 4096), sufficient), (.rsa(bits: 3072), sufficient),
        (.rsa(bits: 3071), phaseOut), (.rsa(bits: 2048), phaseOut), (.rsa(bits: 2047), insufficient),
        (.rsa(bits: 1024), insufficient), (.curve(23), sufficient), (.curve(24), sufficient),
        (.curve(25), sufficient), (.curve(26), sufficient), (.curve(27), sufficient),
        (.curve(28), sufficient),
        (.edwards, sufficient), (.curve(21), phaseOut), (.curve(22), insufficient),
        (.curve(19), insufficient),
        (.other, insufficient),
    ])
    func `certificate keys`(key: GradeTable.CertificateKey, grade: Grade) {
        #expect(Self.table.grade(key) == grade)
    }

    @Test func `compression, renegotiation, early data, extended master secret`() {
        #expect(Self.table.grade(compression: false) == .good)
        #expect(Self.table.grade(compression: true) == .insufficient)
        let order: [GradeTable.Renegotiation] = [.none, .clientLimited, .clientUnlimited, .insecure]
        #expect(order.map(Self.table.grade) == [.good, .sufficient, .phaseOut, .insufficient])
        #expect(Self.table.grade(earlyData: false) == .good)
        #expect(Self.table.grade(earlyData: true) == .insufficient)
        #expect(Self.table.grade(extendedMasterSecret: true) == .good)
        #expect(Self.table.grade(extendedMasterSecret: false) == .insufficient)
    }

    private static let schemes: [(UInt16, SignatureScheme)] = [
        (0x0403, SignatureScheme(.ecdsa, .sha256)), (0x0501, SignatureScheme(.rsa, .sha384)),
        (0x0806, SignatureScheme(.rsa, .sha512)), (0x0809, SignatureScheme(.rsa, .sha256)),
        (0x081b, SignatureScheme(.ecdsa, .sha384)), (0x0807, SignatureScheme(.eddsa, .intrinsic)),
        (0x0301, SignatureScheme(.rsa, .sha224)), (0x0201, SignatureScheme(.rsa, .sha1)),
        (0x0101, SignatureScheme(.rsa, .md5)), (0x0202, SignatureScheme(.other, .sha1)),
        (0x0900, SignatureScheme(.other, .other)),
    ]

    @Test(arguments: schemes)
    func `signature algorithms by number`(code: UInt16, scheme: SignatureScheme) {
        #expect(SignatureScheme(code: code) == scheme)
    }

    @Test func `grades are ordered`() {
        #expect(Grade.allCases.sorted() == [.insufficient, .phaseOut, .sufficient, .good])
    }
}

@Suite struct HostGradeTests {
    private static func report() -> ProbeReport {
        var report = ProbeReport()
        report.suites = [.tls13: [0x1302, 0x1303]]
        report.groups = [.tls13: [0x11ec]]
        return report
    }

    @Test func `a host is worth no more than the worst that it accepts`() {
        var report = Self.report()
        #expect(HostGrade(report).overall == .good)
        report.groups[.tls13]?.append(29)
        #expect(HostGrade(report).overall == .sufficient)
        #expect(HostGrade(report, keys: [.rsa(bits: 2048)]).overall == .phaseOut)
        report.suites[.tls12] = [0xc02f]
        report.hasExtendedMasterSecret = true
        (report.compresses, report.isRenegotiationSecure) = (false, true)
        report.exchangeSignatures = [0x0804]
        #expect(HostGrade(report).overall == .sufficient)
        report.exchangeSignatures.insert(0x0201)
        #expect(HostGrade(report).overall == .insufficient)
    }

    @Test func `each shortcoming is named`() {
        var report = Self.report()
        report.suites[.tls12] = [0x002f, 0xeeee]
        (report.compresses, report.isRenegotiationSecure) = (true, false)
        report.hasExtendedMasterSecret = false
        report.primes = [DiffieHellmanPrime(Array(repeating: 0xff, count: 128))]
        let grade = HostGrade(report, signatures: [SignatureScheme(.rsa, .sha1)])
        let bad = grade.parameters.filter { $0.grade == .insufficient }.map(\.description)
        #expect(
            bad == [
                "cipher suite TLS_RSA_WITH_AES_128_CBC_SHA: insufficient",
                "cipher suite 0xeeee: insufficient",
                "key exchange group DH prime of 1024 bits: insufficient", "compression on: insufficient",
                "renegotiation insecure: insufficient", "extended master secret absent: insufficient",
                "certificate signature rsa sha1: insufficient",
            ])
        #expect(grade.guidelines == "NCSC 2025-05")
    }

    @Test func `of nothing known there is no grade`() { #expect(HostGrade(ProbeReport()).overall == nil) }
}
