// AES-256-GCM of swift-crypto on raw buffers, so that plaintext is not copied before it is sealed and copies made while
// opening are erased.

import Crypto
import Foundation

/// Sealing and opening of one buffer with AES-256-GCM (NIST SP 800-38D), 96-bit nonce, 128-bit tag.
enum AuthenticatedEncryption {
    static let nonceCount = 12
    static let tagCount = 16

    /// Appends ciphertext and tag to `output`.
    static func seal(
        _ plaintext: UnsafeRawBufferPointer, key: SymmetricKey, nonce: some DataProtocol,
        associated: [UInt8], into output: inout [UInt8]
    ) throws(SealingError) {
        do {
            let box = try AES.GCM.seal(
                plaintext, using: key, nonce: AES.GCM.Nonce(data: nonce), authenticating: associated)
            box.ciphertext.withUnsafeBytes { output.append(contentsOf: $0) }
            box.tag.withUnsafeBytes { output.append(contentsOf: $0) }
        } catch {
            throw .misuse("AES-GCM refused its input")
        }
    }

    /// As above, for bytes in an owner of their own.
    static func seal(
        _ plaintext: some ContiguousBytes, key: SymmetricKey, nonce: some DataProtocol,
        associated: [UInt8], into output: inout [UInt8]
    ) throws(SealingError) {
        let result = plaintext.withUnsafeBytes { bytes -> Result<Void, SealingError> in
            do throws(SealingError) {
                return .success(
                    try seal(bytes, key: key, nonce: nonce, associated: associated, into: &output))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    /// Opens `sealed` (ciphertext and tag) and hands the plaintext to `body`; the buffer is erased after it.
    static func open<R>(
        _ sealed: ArraySlice<UInt8>, key: SymmetricKey, nonce: some DataProtocol, associated: [UInt8],
        _ body: (UnsafeRawBufferPointer) -> R
    ) throws(SealingError) -> R {
        guard sealed.count >= tagCount else { throw .integrityFailure }
        var plaintext: Data
        do {
            let split = sealed.endIndex - tagCount
            let box = try AES.GCM.SealedBox(
                nonce: AES.GCM.Nonce(data: nonce), ciphertext: sealed[sealed.startIndex..<split],
                tag: sealed[split...])
            plaintext = try AES.GCM.open(box, using: key, authenticating: associated)
        } catch {
            throw .integrityFailure
        }
        defer { Erasure.erase(&plaintext) }
        return plaintext.withUnsafeBytes(body)
    }
}
