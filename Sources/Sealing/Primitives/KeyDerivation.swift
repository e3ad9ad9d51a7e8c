// How a key gives others: HKDF-Expand with SHA-256 (RFC 5869 §2.3) to 64 bytes, from keys that are already uniformly random
// (§3.3: extraction may be skipped). 64 bytes are two blocks of it:
//   T(1) = HMAC(key, info ‖ 0x01), T(2) = HMAC(key, T(1) ‖ info ‖ 0x02)
// It is made of `KeyedHash`, keyed once, because swift-crypto's `HKDF.expand` keys its HMAC for each block and copies byte by
// byte, which costs several times as much; a test holds the two against each other.

import Crypto
import Foundation

/// Derivation of two keys from one.
enum KeyDerivation {
    /// 64 bytes of HKDF-Expand as two halves.
    static func expand(_ key: SymmetricKey, info: [UInt8]) -> (first: SymmetricKey, second: SecretBytes) {
        var input = info
        input.append(1)
        let keyed = KeyedHash(key)
        var hmac = keyed
        hmac.update(input)
        let first = hmac.finalize()
        hmac = keyed
        first.withUnsafeBytes { hmac.update($0) }
        input[input.count - 1] = 2
        hmac.update(input)
        let second = hmac.finalize()
        return (first.withUnsafeBytes { SymmetricKey(data: $0) }, SecretBytes(copying: second))
    }

    /// As above, from key bytes in a buffer of ours.
    static func expand(_ key: SecretBytes, info: [UInt8]) -> (first: SymmetricKey, second: SecretBytes) {
        expand(SymmetricKey(data: key), info: info)
    }
}
