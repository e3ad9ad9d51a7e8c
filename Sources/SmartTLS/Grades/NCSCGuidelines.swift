// "ICT-beveiligingsrichtlijnen voor Transport Layer Security", edition 2025-05, as internet.nl applies it.

extension GradeTable {
    /// The edition of May 2025, which superseded version 2.1 of January 2021.
    static let ncsc2025 = GradeTable(
        version: "NCSC 2025-05",
        versions: [.tls13: .good, .tls12: .sufficient],
        tls13Suites: [
            0x1302: .good, 0x1303: .good,
            0x1301: .sufficient, 0x1304: .sufficient,
        ],
        suites: [
            SuiteRow(
                exchange: .ecdhe, authentication: [.ecdsa, .rsa], ciphers: [.aes], modes: [.gcm],
                grade: .sufficient),
            SuiteRow(
                exchange: .ecdhe, authentication: [.ecdsa, .rsa], ciphers: [.chacha20], modes: [.poly1305],
                grade: .sufficient),
            SuiteRow(
                exchange: .ecdhe, authentication: [.ecdsa], ciphers: [.aes], modes: [.ccm],
                grade: .sufficient),
            SuiteRow(
                exchange: .ecdhe, authentication: [.ecdsa, .rsa], ciphers: [.aes], modes: [.cbc],
                grade: .phaseOut),
            SuiteRow(
                exchange: .ecdhe, authentication: [.ecdsa, .rsa], ciphers: [.camellia, .aria],
                modes: [.gcm, .cbc], grade: .phaseOut),
            SuiteRow(
                exchange: .dhe, authentication: [.rsa], ciphers: [.aes, .camellia, .aria, .chacha20],
                modes: [.gcm, .ccm, .cbc, .poly1305], grade: .phaseOut),
        ],
        groups: [
            // Hybrids with ML-KEM.
            0x11eb: .good, 0x11ec: .good, 0x11ed: .good,
            // secp256r1, secp384r1, secp521r1; x25519, x448; brainpool, before TLS 1.3 and in it.
            23: .sufficient, 24: .sufficient, 25: .sufficient, 29: .sufficient, 30: .sufficient,
            26: .sufficient, 27: .sufficient, 28: .sufficient,
            31: .sufficient, 32: .sufficient, 33: .sufficient,
            // secp224r1; ffdhe3072 to ffdhe8192.
            21: .phaseOut, 257: .phaseOut, 258: .phaseOut, 259: .phaseOut, 260: .phaseOut,
        ],
        exchangeHashes: [
            .sha256: .good, .sha384: .good, .sha512: .good, .intrinsic: .good, .sha224: .phaseOut,
        ],
        certificateHashes: [
            .sha256: .sufficient, .sha384: .sufficient, .sha512: .sufficient, .intrinsic: .sufficient,
            .sha224: .phaseOut,
        ],
        rsaKeys: [(3072, .sufficient), (2048, .phaseOut)],
        certificateCurves: [
            23: .sufficient, 24: .sufficient, 25: .sufficient, 26: .sufficient, 27: .sufficient,
            28: .sufficient, 21: .phaseOut,
        ],
        edwardsKeys: .sufficient,
        renegotiation: [.none: .good, .clientLimited: .sufficient, .clientUnlimited: .phaseOut])
}
