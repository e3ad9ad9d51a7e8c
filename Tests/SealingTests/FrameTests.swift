// Framed content: any change to any bit, place, order or context is seen, and nothing after it is opened.

import Foundation
import Testing

@testable import Sealing

@Suite("Frames of content")
struct FrameTests {
    let context = SealingContext.test(.content)

    private func seal(
        _ parts: [[UInt8]], context: SealingContext? = nil, seed: String = "key", frameSize: Int = 64
    ) throws -> [[UInt8]] {
        let context = context ?? self.context
        var sealer = try FrameSealer(
            key: testMessageKey(context, seed: seed), context: context, frameSize: frameSize)
        var frames: [[UInt8]] = []
        for (index, part) in parts.enumerated() {
            frames.append(try sealer.seal(part, isLast: index == parts.count - 1))
        }
        return frames
    }

    /// Opens frames to the end: the plaintext, or the error.
    private func open(
        _ frames: [[UInt8]], context: SealingContext? = nil, key: MessageKey? = nil
    ) throws(SealingError) -> [UInt8] {
        let context = context ?? self.context
        var opener = FrameOpener(key: key ?? testMessageKey(context), context: context)
        var plain: [UInt8] = []
        for frame in frames { plain += try opener.open(frame).bytes }
        try opener.finish()
        return plain
    }

    private static let three: [[UInt8]] = [Array("first ".utf8), Array("second ".utf8), Array("third".utf8)]

    @Test(
        "content of any size comes back as it was",
        arguments: [0, 1, 15, 16, 17, 63, 64, 65, 128, 1000, 4096])
    func sizes(count: Int) throws {
        let body = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        var parts = stride(from: 0, to: count, by: 64).map { Array(body[$0..<min($0 + 64, count)]) }
        if parts.isEmpty { parts = [[]] }
        let frames = try seal(parts)
        #expect(try open(frames) == body)
        #expect(frames.map(\.count).reduce(0, +) == count + 23 * frames.count + 64)
    }

    @Test("every single bit of every frame is authenticated: turning one is an integrity failure")
    func everyBit() throws {
        let frames = try seal(Self.three)
        for (number, frame) in frames.enumerated() {
            for bit in 0..<frame.count * 8 {
                var altered = frames
                altered[number] = frame.flipping(bit: bit)
                #expect(throws: SealingError.integrityFailure, "frame \(number), bit \(bit)") {
                    try open(altered)
                }
            }
        }
    }

    @Test("every shortening and lengthening of a frame is an integrity failure")
    func lengths() throws {
        let frames = try seal(Self.three)
        for (number, frame) in frames.enumerated() {
            for length in 0..<frame.count {
                var altered = frames
                altered[number] = Array(frame.prefix(length))
                #expect(throws: SealingError.integrityFailure) { try open(altered) }
            }
            for more in 1...40 {
                var altered = frames
                altered[number] = frame + [UInt8](repeating: 0, count: more)
                #expect(throws: SealingError.integrityFailure) { try open(altered) }
            }
        }
    }

    @Test(
        "frames missing, repeated, in another order or added are an integrity failure",
        arguments: [
            ("last missing", [0, 1]), ("middle missing", [0, 2]), ("first missing", [1, 2]), ("none", []),
            ("swapped", [0, 2, 1]), ("first swapped", [1, 0, 2]), ("repeated", [0, 1, 1, 2]),
            ("first repeated", [0, 0, 1, 2]), ("last repeated", [0, 1, 2, 2]),
            ("one after the last", [0, 1, 2, 1]),
            ("last alone", [2]),
        ])
    func order(name: String, indices: [Int]) throws {
        let frames = try seal(Self.three)
        #expect(throws: SealingError.integrityFailure, "\(name)") { try open(indices.map { frames[$0] }) }
    }

    @Test("frames of another message, tenant or key do not fit, alone or among the right ones")
    func swaps() throws {
        let right = try seal(Self.three)
        let others: [(String, [[UInt8]], SealingContext)] = [
            ("message", try seal(Self.three, context: .test(.content, message: UUID())), .test(.content)),
            ("tenant", try seal(Self.three, context: .test(.content, tenant: "other")), .test(.content)),
            ("key", try seal(Self.three, seed: "another"), context),
            ("same key, other salt", try seal(Self.three), context),
        ]
        for (name, frames, _) in others {
            for number in 0..<3 {
                var mixed = right
                mixed[number] = frames[number]
                #expect(throws: SealingError.integrityFailure, "\(name), frame \(number)") { try open(mixed) }
            }
        }
        for (name, frames, context) in others.dropLast() {
            #expect(throws: SealingError.integrityFailure, "\(name)") { try open(frames, context: context) }
        }
    }

    @Test("after a failure the opener opens nothing more, not even what is right")
    func failsForGood() throws {
        let frames = try seal(Self.three)
        var opener = FrameOpener(key: testMessageKey(context), context: context)
        _ = try opener.open(frames[0])
        #expect(throws: SealingError.integrityFailure) { try opener.open(frames[1].flipping(bit: 100)) }
        #expect(throws: SealingError.integrityFailure) { try opener.open(frames[1]) }
    }

    @Test("a sealer refuses frames after the last, frames too large and keys of another context or purpose")
    func misuse() throws {
        let key = testMessageKey(context)
        #expect(throws: SealingError.self) {
            _ = try FrameSealer(key: key, context: .test(.content, tenant: "other"))
        }
        #expect(throws: SealingError.self) {
            _ = try FrameSealer(key: testMessageKey(.test(.metadata)), context: .test(.metadata))
        }
        #expect(throws: SealingError.self) { _ = try FrameSealer(key: key, context: context, frameSize: 0) }
        var sealer = try FrameSealer(key: key, context: context, frameSize: 8)
        #expect(throws: SealingError.limitReached("plaintext of a frame")) {
            try sealer.seal([UInt8](repeating: 1, count: 9), isLast: false)
        }
        _ = try sealer.seal([1], isLast: true)
        #expect(throws: SealingError.misuse("a frame after the last")) { try sealer.seal([1], isLast: true) }
    }

    @Test("the same content sealed twice has nothing in common, nor shows its plaintext")
    func freshSalt() throws {
        let once = try seal(Self.three)
        let twice = try seal(Self.three)
        for (left, right) in zip(once, twice) {
            #expect(
                left.dropFirst(FrameFormat.shortHeaderCount) != right.dropFirst(FrameFormat.shortHeaderCount))
        }
    }
}
