// Ids, secret buffers and canonical bytes.

import Crypto
import Foundation
import Testing

@testable import Sealing

@Suite("Primitives")
struct PrimitiveTests {
    @Test("UUIDv7 has the time, version 7 and variant of RFC 9562")
    func uuid() {
        // The moment of RFC 9562 appendix A.6, 017F22E279B0.
        let id = UUIDv7.make(at: Date(timeIntervalSince1970: 1_645_557_742)).uuidString
        #expect(id.hasPrefix("017F22E2-79B0-7"))
        let variant = id[id.index(id.startIndex, offsetBy: 19)]
        #expect("89AB".contains(variant))
        #expect(UUIDv7.make(at: Date(timeIntervalSince1970: -5)).uuidString.hasPrefix("00000000-0000-7"))
    }

    @Test("ids keep growing within a millisecond, over its end and over a small step back of the clock")
    func uuidOrder() {
        var sequence = UUIDv7.Sequence()
        var last: (UInt64, UInt16) = (0, 0)
        var disorder = 0
        for step in 0..<20_000 {
            let next = sequence.next(
                at: 1000 + UInt64(step % 7), seed: UInt16(truncatingIfNeeded: step &* 977))
            if next <= last { disorder += 1 }
            last = next
        }
        #expect(disorder == 0)
        let far = sequence.next(at: 5_000_000, seed: 0xFFFF)
        #expect(far == (5_000_000, 0x7FF))
        #expect(sequence.next(at: 1000, seed: 3) == (1000, 3))
    }

    @Test("a keyed hash is HMAC with SHA-256 as swift-crypto has it, for keys and inputs of any length")
    func keyedHash() {
        for keyCount in [0, 1, 20, 31, 32, 63, 64, 65, 131, 200] {
            for count in [0, 1, 55, 56, 64, 119, 1000] {
                let key = (0..<keyCount).map { _ in UInt8.random(in: 0...255) }
                let input = (0..<count).map { _ in UInt8.random(in: 0...255) }
                var hash = key.withUnsafeBytes { KeyedHash($0) }
                hash.update(Array(input.prefix(count / 3)))
                hash.update(Array(input.dropFirst(count / 3)))
                let expected = HMAC<SHA256>.authenticationCode(for: input, using: SymmetricKey(data: key))
                #expect(hash.finalize().elementsEqual(expected))
            }
        }
    }

    @Test("RFC 4231 §4.2, §4.3 and §4.7: HMAC-SHA-256 of the test cases")
    func keyedHashVectors() {
        for (key, data, expected) in [
            (
                [UInt8](repeating: 0x0B, count: 20), "Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
            ),
            (
                Array("Jefe".utf8), "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            ),
            (
                [UInt8](repeating: 0xAA, count: 131),
                "Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
            ),
        ] {
            var hash = key.withUnsafeBytes { KeyedHash($0) }
            hash.update(Array(data.utf8))
            #expect(hash.finalize().map { String(format: "%02x", $0) }.joined() == expected)
        }
    }

    @Test("derivation is HKDF-Expand with SHA-256 as swift-crypto has it")
    func derivation() {
        for count in [0, 1, 100, 300] {
            let key = SymmetricKey(size: .bits256)
            let info = RandomSource.system.bytes(count)
            let expected = HKDF<SHA256>.expand(pseudoRandomKey: key, info: info, outputByteCount: 64)
            let (first, second) = KeyDerivation.expand(key, info: info)
            let both = first.withUnsafeBytes { [UInt8]($0) } + second.withUnsafeBytes { [UInt8]($0) }
            #expect(expected.withUnsafeBytes { [UInt8]($0) } == both)
        }
    }

    @Test("many threads make no id twice")
    func uuidConcurrency() async {
        let all = await withTaskGroup(of: [UUID].self) { group in
            for _ in 0..<8 { group.addTask { (0..<5000).map { _ in UUIDv7.make(at: Date()) } } }
            return await group.reduce(into: Set<UUID>()) { $0.formUnion($1) }
        }
        #expect(all.count == 40_000)
    }

    @Test("secret bytes show in no description, dump or mirror")
    func redacted() {
        let secret = SecretBytes(copying: Array("canary-key-bytes".utf8))
        var dumped = ""
        dump(secret, to: &dumped)
        let key = testMessageKey(.test(.content))
        dump(key, to: &dumped)
        for text in ["\(secret)", String(reflecting: secret), dumped, "\(key)", String(reflecting: key)] {
            #expect(!text.contains("canary"))
            #expect(!text.contains("99"), "\(text)")
        }
        #expect(Mirror(reflecting: secret).children.isEmpty)
        #expect(Mirror(reflecting: key).children.isEmpty)
    }

    @Test("secret bytes are equal when all bytes are")
    func equality() {
        let left = SecretBytes(copying: [1, 2, 3] as [UInt8])
        #expect(left == SecretBytes(copying: [1, 2, 3] as [UInt8]))
        #expect(left != SecretBytes(copying: [1, 2, 4] as [UInt8]))
        #expect(left != SecretBytes(copying: [1, 2] as [UInt8]))
    }

    @Test("erasing overwrites the storage itself")
    func erasure() {
        let block = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
        defer { block.deallocate() }
        block.copyBytes(from: [UInt8](repeating: 0xAA, count: 64))
        Erasure.erase(block)
        #expect(block.allSatisfy { $0 == 0 })
        var array: [UInt8] = [1, 2, 3]
        Erasure.erase(&array)
        #expect(array.isEmpty)
    }

    @Test("a reader refuses what is short, long, too large or no text")
    func reader() {
        var writer = ByteWriter()
        writer.text("é")
        writer.integer(UInt16(513))
        var reader = ByteReader(writer.bytes)
        #expect(throws: Never.self) {
            #expect(try reader.text(limit: 2) == "é")
            #expect(try reader.integer(UInt16.self) == 513)
            try reader.end()
        }
        var tight = ByteReader(writer.bytes)
        #expect(throws: ByteReader.Malformed.self) { try tight.text(limit: 1) }
        var short = ByteReader([0, 0, 0, 9, 1])
        #expect(throws: ByteReader.Malformed.self) { try short.variable(limit: 100) }
        var bad = ByteReader([0, 0, 0, 1, 0xFF])
        #expect(throws: ByteReader.Malformed.self) { try bad.text(limit: 100) }
        #expect(throws: ByteReader.Malformed.self) { try ByteReader([1]).end() }
    }
}
