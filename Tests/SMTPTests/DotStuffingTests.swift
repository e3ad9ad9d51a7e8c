// Dot-stuffing against a naive reading of RFC 5321 §4.5.2, over pieces cut anywhere; and the gate against smuggling.

import NIOCore
import Testing

@testable import SMTP

@Suite struct DotStuffingTests {
    private func stuff(_ pieces: [[UInt8]]) throws(DotStuffing.BareLineEnd) -> [UInt8] {
        var stuffing = DotStuffing()
        var output = ByteBuffer()
        for piece in pieces { try stuffing.append(piece, to: &output) }
        try stuffing.finish(&output)
        return Array(output.readableBytesView)
    }

    @Test(
        "RFC 5321 §4.5.2",
        arguments: [
            ("", ""),
            (".", "..\r\n"),
            (".\r\n", "..\r\n"),
            ("a", "a\r\n"),
            ("a\r\n", "a\r\n"),
            ("a\r\n.b\r\n..\r\n", "a\r\n..b\r\n...\r\n"),
            ("\r\n\r\n", "\r\n\r\n"),
            ("a.b\r\n", "a.b\r\n"),
        ])
    func stuffs(_ content: String, _ expected: String) throws {
        #expect(String(decoding: try stuff([Array(content.utf8)]), as: UTF8.self) == expected)
        // The same, byte by byte.
        #expect(String(decoding: try stuff(content.utf8.map { [$0] }), as: UTF8.self) == expected)
    }

    @Test(
        "A bare CR or LF never leaves (SMTP smuggling, both directions)",
        arguments: [
            "\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r.\r\n", "\r\n.\r", "a\rb\r\n", "a\r\r\n", "\n", "\r",
        ])
    func refusesBareLineEnds(_ content: String) {
        let bytes = Array(("x\r\n" + content).utf8)
        #expect(throws: DotStuffing.BareLineEnd.self) { try stuff([bytes]) }
        #expect(throws: DotStuffing.BareLineEnd.self) { try stuff(bytes.map { [$0] }) }
    }

    @Test("Any content in any pieces gives what the rule says")
    func property() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var random = SplitMix(state: seed)
        for _ in 0..<500 {
            var content: [UInt8] = []
            for _ in 0..<random.next(12) {
                for _ in 0..<random.next(5) {
                    content.append([0x2E, 0x61, 0xFF, 0x00, 0x20][random.next(5)])
                }
                content += [0x0D, 0x0A]
            }
            if random.next(2) == 0 { content += [0x2E, 0x62] }
            var expected: [UInt8] = []
            var isLineStart = true
            for byte in content {
                if isLineStart, byte == 0x2E { expected.append(0x2E) }
                expected.append(byte)
                isLineStart = byte == 0x0A
            }
            if !isLineStart { expected += [0x0D, 0x0A] }
            var pieces: [[UInt8]] = []
            var rest = content[...]
            while !rest.isEmpty {
                let piece = rest.prefix(1 + random.next(7))
                pieces.append(Array(piece))
                rest = rest.dropFirst(piece.count)
            }
            #expect(try stuff(pieces) == expected)
        }
    }
}

/// A small generator with a printed seed.
struct SplitMix {
    var state: UInt64

    mutating func next(_ bound: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((z ^ (z >> 31)) % UInt64(bound))
    }
}
