// Signature algorithms by their number in `signature_algorithms` (RFC 5246 §7.4.1.4.1, RFC 8446 §4.2.3, RFC 8422
// §5.1.3): before TLS 1.3 a hash and an algorithm in an octet each, later one number with the same values where both
// have it.

/// The hash under a signature.
enum SignatureHash: String, Sendable, Hashable, Codable, CaseIterable {
    case md5
    case sha1
    case sha224
    case sha256
    case sha384
    case sha512
    /// The algorithm has its own, at least as strong as SHA-256 (EdDSA, RFC 8032).
    case intrinsic
    /// None that is known here.
    case other
}

/// An algorithm and its hash.
struct SignatureScheme: Sendable, Hashable, Codable, CustomStringConvertible {
    /// What signs.
    enum Algorithm: String, Sendable, Hashable, Codable {
        case rsa
        case ecdsa
        case eddsa
        /// DSA, none, or what is not known here.
        case other
    }

    /// What signs.
    let algorithm: Algorithm
    /// The hash of what is signed.
    let hash: SignatureHash

    /// Takes both.
    init(_ algorithm: Algorithm, _ hash: SignatureHash) { (self.algorithm, self.hash) = (algorithm, hash) }

    /// Reads a number from the wire.
    init(code: UInt16) {
        switch code {
        case 0x0804, 0x0809, 0x081a: self.init(code == 0x081a ? .ecdsa : .rsa, .sha256)
        case 0x0805, 0x080a, 0x081b: self.init(code == 0x081b ? .ecdsa : .rsa, .sha384)
        case 0x0806, 0x080b, 0x081c: self.init(code == 0x081c ? .ecdsa : .rsa, .sha512)
        case 0x0807, 0x0808: self.init(.eddsa, .intrinsic)
        default:
            let algorithms: [UInt16: Algorithm] = [1: .rsa, 3: .ecdsa]
            let hashes: [UInt16: SignatureHash] = [
                1: .md5, 2: .sha1, 3: .sha224, 4: .sha256, 5: .sha384, 6: .sha512,
            ]
            self.init(algorithms[code & 0xff] ?? .other, hashes[code >> 8] ?? .other)
        }
    }

    /// What is offered: PSS, EdDSA, and each of RSA, DSA and ECDSA with each hash, the strong before the weak.
    static let offered: [UInt16] = [
        0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x0804, 0x0805, 0x0806, 0x0809, 0x080a, 0x080b, 0x081a,
        0x081b,
        0x081c, 0x0401, 0x0501, 0x0601, 0x0402, 0x0502, 0x0602, 0x0303, 0x0301, 0x0302, 0x0203, 0x0201,
        0x0202,
        0x0101,
    ]

    /// Both parts.
    var description: String { "\(algorithm) \(hash)" }
}
