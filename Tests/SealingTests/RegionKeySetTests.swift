// Key sets: nothing but a set of the pinned root, whole, in time and not older than the last is taken.

import Crypto
import Foundation
import Testing

@testable import Sealing

@Suite("Region key sets")
struct RegionKeySetTests {
    let root = Curve25519.Signing.PrivateKey()

    private func open(
        _ bytes: [UInt8], root other: Curve25519.Signing.PrivateKey? = nil, now: Date = testNow,
        atLeast: Int64 = 0
    ) throws(RegionKeySetError) -> RegionKeySet {
        try RegionKeySet.open(bytes, root: (other ?? root).publicKey, now: now, atLeastVersion: atLeast)
    }

    /// A set whose "public keys" are short, so that every bit can be tried.
    private func small(_ keys: [(String, KeyPurpose, Int32, [UInt8])], version: Int64 = 7) throws
        -> RegionKeySet
    {
        try RegionKeySet(
            version: version, issued: testNow, expires: testNow.addingTimeInterval(3600),
            keys: keys.map { region, purpose, epoch, key in
                RegionKey(
                    region: region, purpose: purpose, epoch: epoch, notBefore: KeyEpoch.start(of: epoch),
                    notAfter: KeyEpoch.start(of: epoch + 1), algorithm: .xwing, publicKey: key)
            })
    }

    private let two: [(String, KeyPurpose, Int32, [UInt8])] = [
        ("a", .content, testEpoch, [1]), ("a", .metadata, testEpoch, [2]),
    ]

    @Test("a signed set comes back as it was")
    func roundTrip() throws {
        let set = try keySet(MemoryKeyService(region: "b"), MemoryKeyService(region: "a"))
        let opened = try open(set.signed(by: root))
        #expect(opened == set)
        #expect(opened.regions == ["a", "b"])
    }

    @Test("unsigned, wrongly signed, or with any bit turned or byte cut: refused")
    func tampering() throws {
        let set = try small(two)
        let signed = try set.signed(by: root)
        #expect(throws: RegionKeySetError.badSignature) { try open(signed, root: .init()) }
        #expect(throws: RegionKeySetError.badSignature) { try open(set.encoded()) }
        #expect(throws: RegionKeySetError.malformed) { try open([]) }
        for bit in 0..<signed.count * 8 {
            #expect(throws: RegionKeySetError.badSignature, "bit \(bit)") {
                try open(signed.flipping(bit: bit))
            }
        }
        for count in 0..<signed.count {
            #expect(throws: RegionKeySetError.self) { try open(Array(signed.prefix(count))) }
        }
        #expect(throws: RegionKeySetError.badSignature) { try open(signed + [0]) }
    }

    @Test("a signature over the same bytes for another use is no signature of a set")
    func domainSeparation() throws {
        let payload = try small(two).encoded()
        let bare = try payload + Array(root.signature(for: payload))
        #expect(throws: RegionKeySetError.badSignature) { try open(bare) }
    }

    @Test("expired, from the future, or older than the last one seen: refused")
    func time() throws {
        let signed = try small(two).signed(by: root)
        #expect(throws: RegionKeySetError.expired) { try open(signed, now: testNow.addingTimeInterval(3600)) }
        #expect(throws: RegionKeySetError.notYetValid) {
            try open(signed, now: testNow.addingTimeInterval(-301))
        }
        _ = try open(signed, now: testNow.addingTimeInterval(-299))
        #expect(throws: RegionKeySetError.rolledBack(version: 7, atLeast: 8)) { try open(signed, atLeast: 8) }
        _ = try open(signed, atLeast: 7)
    }

    @Test("two keys for one region, purpose and epoch, or one key twice: refused")
    func duplicates() {
        #expect(throws: RegionKeySetError.duplicateKey) {
            try small([("a", .content, 1, [1]), ("a", .content, 1, [2])])
        }
        #expect(throws: RegionKeySetError.duplicateKey) {
            try small([("a", .content, 1, [1]), ("b", .content, 1, [1])])
        }
    }

    /// Signs altered payloads with the right root: what the decoder itself must refuse.
    private func resigned(_ change: (inout [UInt8]) -> Void) throws -> [UInt8] {
        var payload = try small(two).encoded()
        change(&payload)
        return try payload
            + Array(root.signature(for: Array("zegel/1 region key set".utf8) + [0] + payload))
    }

    @Test(
        "rightly signed but not canonical, of another format or with an unknown algorithm: refused as a whole"
    )
    func decoding() throws {
        #expect(throws: RegionKeySetError.malformed) { try open(try resigned { $0.append(0) }) }
        #expect(throws: RegionKeySetError.malformed) { try open(try resigned { $0.removeLast() }) }
        #expect(throws: RegionKeySetError.malformed) { try open(try resigned { $0[0] ^= 1 }) }
        #expect(throws: RegionKeySetError.unknownAlgorithm("key set format 2")) {
            try open(try resigned { $0[4] = 2 })
        }
        let name = Array("xwing".utf8)
        #expect(throws: RegionKeySetError.unknownAlgorithm("ywing-mlkem768-x25519/aes-256-gcm")) {
            try open(
                try resigned { bytes in
                    let at = bytes.indices.first { bytes[$0...].starts(with: name) } ?? 0
                    bytes[at] = UInt8(ascii: "y")
                })
        }
        #expect(throws: RegionKeySetError.malformed) {
            // The two keys in the other order.
            try open(
                try resigned { bytes in
                    let header = 37
                    let half = (bytes.count - header) / 2
                    let first = Array(bytes[header..<header + half])
                    bytes.replaceSubrange(header..<header + half, with: bytes[(header + half)...])
                    bytes.replaceSubrange((header + half)..., with: first)
                })
        }
    }

    @Test("epochs are whole days since 1970 in UTC, before it too")
    func epochs() {
        #expect(KeyEpoch.containing(Date(timeIntervalSince1970: 0)) == 0)
        #expect(KeyEpoch.containing(Date(timeIntervalSince1970: 86399.9)) == 0)
        #expect(KeyEpoch.containing(Date(timeIntervalSince1970: 86400)) == 1)
        #expect(KeyEpoch.containing(Date(timeIntervalSince1970: -1)) == -1)
        #expect(KeyEpoch.containing(Date(timeIntervalSince1970: 1_000_000), seconds: 60) == 16666)
        #expect(KeyEpoch.start(of: 20417) == Date(timeIntervalSince1970: 20417 * 86400))
    }
}
