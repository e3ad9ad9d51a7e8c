// The groups in which keys are exchanged, by their number in `supported_groups` (RFC 8422 §5.1.1, RFC 7919 §2,
// RFC 8446 §4.2.7, RFC 8734, RFC 8998, draft-ietf-tls-ecdhe-mlkem).
import Crypto

/// A registered group: a curve, a finite field, or a hybrid with a post-quantum mechanism.
struct NamedGroup: Sendable, Hashable, CustomStringConvertible {
    /// Its number on the wire.
    let code: UInt16
    /// Its registered name.
    let name: String

    /// All of them, by number.
    static let all: [NamedGroup] = {
        let curves = """
            sect163k1 sect163r1 sect163r2 sect193r1 sect193r2 sect233k1 sect233r1 sect239k1 sect283k1 sect283r1
            sect409k1 sect409r1 sect571k1 sect571r1 secp160k1 secp160r1 secp160r2 secp192k1 secp192r1 secp224k1
            secp224r1 secp256k1 secp256r1 secp384r1 secp521r1 brainpoolP256r1 brainpoolP384r1 brainpoolP512r1
            x25519 x448 brainpoolP256r1tls13 brainpoolP384r1tls13 brainpoolP512r1tls13
            """
        let rest: [(UInt16, String)] = [
            (41, "curveSM2"), (256, "ffdhe2048"), (257, "ffdhe3072"), (258, "ffdhe4096"), (259, "ffdhe6144"),
            (260, "ffdhe8192"), (512, "MLKEM512"), (513, "MLKEM768"), (514, "MLKEM1024"),
            (0x11eb, "SecP256r1MLKEM768"), (0x11ec, "X25519MLKEM768"), (0x11ed, "SecP384r1MLKEM1024"),
            (0x6399, "X25519Kyber768Draft00"),
        ]
        let numbered = curves.split(whereSeparator: \.isWhitespace).enumerated().map { index, name in
            NamedGroup(code: UInt16(index + 1), name: String(name))
        }
        return numbered + rest.map { NamedGroup(code: $0.0, name: $0.1) }
    }()

    /// Those that may be negotiated in this version: TLS 1.3 dropped the older curves, and the versions before it
    /// know none of its own (RFC 8446 §4.2.7, RFC 8734 §2). Fields before TLS 1.3 come with the server's own prime.
    static func offered(in version: ProtocolVersion) -> [NamedGroup] {
        version == .tls13
            ? all.filter { (23...25).contains($0.code) || $0.code >= 29 } : all.filter { $0.code <= 30 }
    }

    /// The name of a number, or the number itself.
    static func name(of code: UInt16) -> String { names[code] ?? "group \(code)" }

    private static let names = Dictionary(all.map { ($0.code, $0.name) }) { first, _ in first }

    /// Its name.
    var description: String { name }
}

/// The prime with which a server does Diffie-Hellman before TLS 1.3.
struct DiffieHellmanPrime: Sendable, Hashable, Codable, CustomStringConvertible {
    /// Its length.
    let bits: Int
    /// The group of RFC 7919 that it belongs to; nil for any other, such as one that the server made itself.
    let group: UInt16?

    /// Reads a big-endian number.
    init(_ prime: some Sequence<UInt8>) {
        let octets = Array(prime.drop { $0 == 0 })
        bits = octets.isEmpty ? 0 : octets.count * 8 - octets[0].leadingZeroBitCount
        let digest = SHA256.hash(data: octets).prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        group = Self.groups[digest]
    }

    /// The first 64 bits of the SHA-256 of each prime of RFC 7919 appendix A.
    private static let groups: [UInt64: UInt16] = [
        0x9cd3_b7f3_3687_2f46: 256, 0x0eaf_67db_3a83_9156: 257, 0x4648_4142_24ac_881b: 258,
        0x227a_c906_6b3d_dd9e: 259, 0x770b_14ef_af6f_0499: 260,
    ]

    /// The group, or the length.
    var description: String { group.map(NamedGroup.name) ?? "DH prime of \(bits) bits" }
}
