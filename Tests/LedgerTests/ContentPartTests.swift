// Frames cut into rows of a page, and put together again.

import Testing

@testable import Ledger

@Suite("Parts of frames") struct ContentPartTests {
    private static let sizes = [
        0, 1, ContentPart.size - 1, ContentPart.size, ContentPart.size + 1, 65_623, 200_000,
    ]

    @Test("No part is larger than a page holds, and together they are the frame", arguments: sizes)
    func cuts(_ size: Int) {
        let frame = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let parts = ContentPart.cut(frame, number: 3)
        #expect(parts.allSatisfy { $0.frame == 3 && $0.bytes.count <= ContentPart.size })
        #expect(parts.map(\.number) == (0..<Int32(parts.count)).map { $0 })
        #expect(parts.flatMap(\.bytes) == frame)
        #expect(parts.count == max(1, (size + ContentPart.size - 1) / ContentPart.size))
    }

    @Test("Rows in any order give the frames in theirs, an empty one among them")
    func assembles() {
        let frames = Self.sizes.map { size in (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) } }
        var rows = frames.enumerated().flatMap { ContentPart.cut($1, number: Int32($0)) }
        for order in 0..<4 {
            if order > 1 { rows.shuffle() } else if order == 1 { rows.reverse() }
            var assembly = ContentAssembly()
            for row in rows { assembly.add(frame: row.frame, part: row.number, Array(row.bytes)) }
            #expect(assembly.frames() == frames)
        }
    }
}
