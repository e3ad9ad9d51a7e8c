// How a sealed frame lies in `content`: cut into parts of which each fits into a page, so that none goes to TOAST.

import Foundation
import Postgres

/// One row of `content`.
struct ContentPart {
    /// Most bytes of a part: a page of 8,192 less its header, the row's and the row's other columns.
    static let size = 8100

    let frame: Int32
    let number: Int32
    let bytes: ArraySlice<UInt8>

    /// The parts of a frame; an empty frame has one.
    static func cut(_ frame: [UInt8], number: Int32) -> [ContentPart] {
        if frame.count <= size { return [ContentPart(frame: number, number: 0, bytes: frame[...])] }
        return stride(from: 0, to: frame.count, by: size).enumerated().map { index, start in
            ContentPart(
                frame: number, number: Int32(index), bytes: frame[start..<min(start + size, frame.count)])
        }
    }
}

/// Puts the parts of one message's frames together again.
struct ContentAssembly {
    private var parts: [(frame: Int32, number: Int32, bytes: [UInt8])] = []
    private var isSorted = true

    mutating func add(frame: Int32, part: Int32, _ bytes: [UInt8]) {
        if let last = parts.last, (last.frame, last.number) > (frame, part) { isSorted = false }
        parts.append((frame, part, bytes))
    }

    /// The frames that are there, in order. One of which a part is missing does not authenticate.
    consuming func frames() -> [[UInt8]] {
        if !isSorted { parts.sort { ($0.frame, $0.number) < ($1.frame, $1.number) } }
        var frames: [[UInt8]] = []
        var last: Int32?
        for part in parts {
            if part.frame == last, !frames.isEmpty {
                frames[frames.count - 1].append(contentsOf: part.bytes)
            } else {
                frames.append(part.bytes)
                last = part.frame
            }
        }
        return frames
    }
}
