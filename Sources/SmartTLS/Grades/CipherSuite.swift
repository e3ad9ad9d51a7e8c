// A cipher suite and what it is made of, read from its registered name: the name says key exchange, signature,
// cipher, mode and hash, so that no property is typed in by hand beside it. A suite of TLS 1.3 names cipher and hash
// only; the rest is negotiated elsewhere.

/// A registered cipher suite.
struct CipherSuite: Sendable, Hashable, CustomStringConvertible {
    /// How the keys come about.
    enum KeyExchange: Sendable, Hashable {
        /// Negotiated by TLS 1.3, always ephemeral (or with a shared key).
        case tls13
        /// Encrypted to the server's RSA key.
        case rsa
        /// Diffie-Hellman with the key of the certificate.
        case dh
        /// Ephemeral Diffie-Hellman.
        case dhe
        /// Diffie-Hellman on a curve with the key of the certificate.
        case ecdh
        /// Ephemeral Diffie-Hellman on a curve.
        case ecdhe
        /// A shared key, alone or with one of the others.
        case psk
        /// A shared key and ephemeral Diffie-Hellman.
        case dhePSK
        /// A shared key and ephemeral Diffie-Hellman on a curve.
        case ecdhePSK
        /// Kerberos, SRP, ECCPWD, GOST.
        case other
    }

    /// What shows that the server is who it says.
    enum Authentication: Sendable, Hashable {
        /// Told elsewhere (TLS 1.3).
        case tls13
        /// A certificate with an RSA key.
        case rsa
        /// A certificate with a DSA key.
        case dss
        /// A certificate with an elliptic curve key.
        case ecdsa
        /// Nothing.
        case anonymous
        /// A shared key, password or ticket.
        case other
    }

    /// The cipher.
    enum Cipher: String, Sendable, Hashable, CaseIterable {
        case aes = "AES"
        case aria = "ARIA"
        case camellia = "CAMELLIA"
        case chacha20 = "CHACHA20"
        case tripleDES = "3DES"
        case des = "DES"
        case des40 = "DES40"
        case rc4 = "RC4"
        case rc2 = "RC2"
        case idea = "IDEA"
        case seed = "SEED"
        case sm4 = "SM4"
        case aegis = "AEGIS"
        /// No encryption.
        case null = "NULL"
        /// GOST 28147, Kuznyechik, Magma.
        case gost = "GOST"
    }

    /// How the cipher is used.
    enum Mode: Sendable, Hashable {
        case cbc
        case gcm
        case ccm
        /// CCM with a tag of 8 octets (RFC 6655 §4).
        case ccm8
        case poly1305
        /// A stream, nothing, or a mode of its own.
        case other
    }

    /// The hash of the MAC, and of the key derivation from TLS 1.2 on.
    enum Hash: Sendable, Hashable {
        case md5
        case sha1
        case sha256
        case sha384
        case sha512
        case other
    }

    /// Its number on the wire.
    let code: UInt16
    /// Its name in IANA's registry.
    let name: String
    /// How the keys come about.
    let keyExchange: KeyExchange
    /// What shows that the server is who it says.
    let authentication: Authentication
    /// The cipher.
    let cipher: Cipher
    /// How the cipher is used.
    let mode: Mode
    /// Its hash.
    let hash: Hash
    /// Whether its keys were weakened for export.
    let isExport: Bool

    /// Reads a name without `TLS_`.
    init(code: UInt16, registered text: Substring) {
        self.code = code
        name = "TLS_" + text
        let parts = text.split(separator: "_")
        let with = parts.firstIndex(of: "WITH")
        let exchange = parts[..<(with ?? 0)].filter { !$0.hasPrefix("EXPORT") }.joined(separator: "_")
        isExport = parts.contains { $0.hasPrefix("EXPORT") }
        (keyExchange, authentication) = with == nil ? (.tls13, .tls13) : Self.exchange(exchange)
        let cipher = parts[(with.map { $0 + 1 } ?? 0)...]
        self.cipher = Self.cipher(cipher)
        (mode, hash) = (Self.mode(cipher), Self.hash(cipher))
    }

    /// Whether only TLS 1.3 has it.
    var isTLS13: Bool { keyExchange == .tls13 }

    /// Whether it may be negotiated in this version: AEAD and SHA-2 came with TLS 1.2 (RFC 5246 §5, RFC 5288 §4),
    /// and TLS 1.3 has suites of its own (RFC 8446 §4.1.2).
    func isAllowed(in version: ProtocolVersion) -> Bool {
        switch version {
        case .tls13: isTLS13
        case .tls12: !isTLS13
        case .tls11, .tls10, .ssl3: !isTLS13 && (hash == .sha1 || hash == .md5)
        }
    }

    /// Its name.
    var description: String { name }

    private static func exchange(_ text: String) -> (KeyExchange, Authentication) {
        switch text {
        case "RSA": (.rsa, .rsa)
        case "DH_DSS": (.dh, .dss)
        case "DH_RSA": (.dh, .rsa)
        case "DHE_DSS": (.dhe, .dss)
        case "DHE_RSA": (.dhe, .rsa)
        case "DH_anon": (.dhe, .anonymous)
        case "ECDH_ECDSA": (.ecdh, .ecdsa)
        case "ECDH_RSA": (.ecdh, .rsa)
        case "ECDHE_ECDSA": (.ecdhe, .ecdsa)
        case "ECDHE_RSA": (.ecdhe, .rsa)
        case "ECDH_anon": (.ecdhe, .anonymous)
        case "PSK", "RSA_PSK": (.psk, .other)
        case "DHE_PSK", "PSK_DHE": (.dhePSK, .other)
        case "ECDHE_PSK": (.ecdhePSK, .other)
        default: (.other, .other)
        }
    }

    private static func cipher(_ parts: ArraySlice<Substring>) -> Cipher {
        // `DES_CBC_40` of Kerberos is DES40 under another name; `SHA256_SHA256` encrypts nothing (RFC 9150).
        guard let first = parts.first, !first.hasPrefix("SHA") else { return .null }
        if first == "DES", parts.contains("40") { return .des40 }
        return Cipher(rawValue: String(first)) ?? .gost
    }

    private static func mode(_ parts: ArraySlice<Substring>) -> Mode {
        if parts.contains("CBC") { return .cbc }
        if parts.contains("GCM") { return .gcm }
        if parts.contains("POLY1305") { return .poly1305 }
        guard parts.contains("CCM") else { return .other }
        return parts.contains("8") ? .ccm8 : .ccm
    }

    private static func hash(_ parts: ArraySlice<Substring>) -> Hash {
        switch parts.last {
        case "MD5": .md5
        case "SHA": .sha1
        case "SHA256", "CCM", "8": .sha256
        case "SHA384": .sha384
        case "SHA512": .sha512
        default: .other
        }
    }
}
