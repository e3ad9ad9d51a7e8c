// Sealed fields, wrapped message keys, digests and tags.

import Crypto
import Foundation
import Testing

@testable import Sealing

@Suite("Sealed fields")
struct FieldTests {
    let context = SealingContext.test(.metadata)

    @Test("every single bit, cut and addition is an integrity failure")
    func everyBit() throws {
        let key = testMessageKey(context)
        let plain = Array("jan@example.test".utf8)
        let sealed = try SealedField.seal(plain, key: key, context: context, field: "address/0")
        #expect(sealed.count == plain.count + SealedField.overhead)
        #expect(try SealedField.open(sealed, key: key, context: context, field: "address/0") == plain)
        var altered = (0..<sealed.count * 8).map { sealed.flipping(bit: $0) }
        altered += (0..<sealed.count).map { Array(sealed.prefix($0)) }
        altered.append(sealed + [0])
        for bytes in altered {
            #expect(throws: SealingError.integrityFailure) {
                try SealedField.open(bytes, key: key, context: context, field: "address/0")
            }
        }
    }

    @Test(
        "a field does not open under another name, message, tenant or key",
        arguments: [
            ("name", "address/1", SealingContext.test(.metadata), "key"),
            ("longer name", "address/00", .test(.metadata), "key"),
            ("message", "address/0", .test(.metadata, message: UUID()), "key"),
            ("tenant", "address/0", .test(.metadata, tenant: "demo2"), "key"),
            ("key", "address/0", .test(.metadata), "another"),
        ])
    func bound(what: String, field: String, other: SealingContext, seed: String) throws {
        let sealed = try SealedField.seal(
            [1, 2, 3], key: testMessageKey(context), context: context, field: "address/0")
        #expect(throws: SealingError.integrityFailure, "\(what)") {
            try SealedField.open(sealed, key: testMessageKey(other, seed: seed), context: other, field: field)
        }
    }

    @Test("a content key seals no fields, and a field too long is refused")
    func misuse() throws {
        let content = SealingContext.test(.content)
        #expect(throws: SealingError.self) {
            try SealedField.seal([1], key: testMessageKey(content), context: content, field: "envelope")
        }
        #expect(throws: SealingError.self) {
            try SealedField.seal(
                [UInt8](repeating: 0, count: SealedField.maximumCount + 1), key: testMessageKey(context),
                context: context, field: "envelope")
        }
    }
}

@Suite("Wrapped message keys")
struct WrappedMessageKeyTests {
    let context = SealingContext.test(.content)
    let batch = UUID()
    let wrappingKey = SymmetricKey(size: .bits256)

    private func make() throws -> (MessageKey, WrappedMessageKey) {
        try WrappedMessageKey.make(
            batchKeyID: batch, index: 5, wrappingKey: wrappingKey, context: context, random: .system)
    }

    @Test("every single bit and every cut is an integrity failure")
    func everyBit() throws {
        let (key, wrapped) = try make()
        #expect(wrapped.bytes.count == WrappedMessageKey.byteCount)
        let opened = try wrapped.open(wrappingKey: wrappingKey, context: context)
        #expect(opened.working == key.working)
        var altered = (0..<wrapped.bytes.count * 8).map { wrapped.bytes.flipping(bit: $0) }
        altered += (0..<wrapped.bytes.count).map { Array(wrapped.bytes.prefix($0)) }
        altered.append(wrapped.bytes + [0])
        for bytes in altered {
            #expect(throws: SealingError.integrityFailure) {
                try WrappedMessageKey(batchKeyID: batch, index: 5, bytes: bytes).open(
                    wrappingKey: wrappingKey, context: context)
            }
        }
    }

    @Test("it opens only under its own key, index, batch, tenant, message and purpose")
    func bound() throws {
        let (_, wrapped) = try make()
        var other = wrapped
        other.index = 6
        #expect(throws: SealingError.integrityFailure) {
            try other.open(wrappingKey: wrappingKey, context: context)
        }
        other = wrapped
        other.batchKeyID = UUID()
        #expect(throws: SealingError.integrityFailure) {
            try other.open(wrappingKey: wrappingKey, context: context)
        }
        #expect(throws: SealingError.integrityFailure) {
            try wrapped.open(wrappingKey: SymmetricKey(size: .bits256), context: context)
        }
        for context in [
            SealingContext.test(.metadata), .test(.content, tenant: "x"), .test(.content, message: UUID()),
        ] {
            #expect(throws: SealingError.integrityFailure) {
                try wrapped.open(wrappingKey: wrappingKey, context: context)
            }
        }
    }
}

@Suite("Digests and tags")
struct DigestTests {
    private func hash(_ text: String) -> ContentHash {
        var hasher = ContentHasher()
        for byte in text.utf8 { hasher.update([byte]) }
        return hasher.finish()
    }

    @Test("the content digest needs the message's key: another message with the same content has another")
    func keyed() throws {
        let context = SealingContext.test(.content)
        let other = SealingContext.test(.content, message: UUID())
        let digest = try KeyedDigest.content(hash("body"), key: testMessageKey(context), context: context)
        #expect(digest.count == 32)
        #expect(
            try digest == KeyedDigest.content(hash("body"), key: testMessageKey(context), context: context))
        #expect(
            try digest != KeyedDigest.content(hash("body."), key: testMessageKey(context), context: context))
        #expect(try digest != KeyedDigest.content(hash("body"), key: testMessageKey(other), context: other))
        #expect(digest != Array(SHA256.hash(data: Array("body".utf8))))
        #expect(throws: SealingError.self) {
            try KeyedDigest.content(hash("body"), key: testMessageKey(context), context: other)
        }
    }

    @Test("a replay tag is the same for the same transaction and key of the day, and for nothing else")
    func replay() {
        let day = [UInt8](repeating: 7, count: 32)
        let tag = ReplayTag.make(dailyKey: day, envelope: Array("a b".utf8), content: hash("body"))
        #expect(tag == ReplayTag.make(dailyKey: day, envelope: Array("a b".utf8), content: hash("body")))
        #expect(tag.count == 32)
        let different = [
            ReplayTag.make(
                dailyKey: [UInt8](repeating: 8, count: 32), envelope: Array("a b".utf8), content: hash("body")
            ),
            ReplayTag.make(dailyKey: day, envelope: Array("a".utf8), content: hash(" bbody")),
            ReplayTag.make(dailyKey: day, envelope: Array("a b".utf8), content: hash("body ")),
            ReplayTag.make(dailyKey: day, envelope: [], content: hash("a bbody")),
        ]
        for other in different { #expect(other != tag) }
    }
}
