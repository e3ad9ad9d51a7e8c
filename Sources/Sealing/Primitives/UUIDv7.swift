// Version 7 UUIDs (RFC 9562 §5.7): 48 bits of Unix milliseconds, 12 bits of counter (§6.2 method 1), 62 random bits.
// Within a process ids made for the same or a slightly earlier millisecond keep growing, so that rows written together
// land together in an index. Between processes only the millisecond orders them.

import CLinux
import Foundation
import Synchronization

/// Makes time-ordered ids.
public enum UUIDv7 {
    private struct Last {
        var milliseconds: UInt64 = 0
        var counter: UInt16 = 0
    }

    private static let last = Mutex(Last())

    /// How far a clock may step back (milliseconds) before ids follow it.
    private static let toleratedStepBack: UInt64 = 1000

    /// A new id for the moment `date`.
    public static func make(at date: Date) -> UUID {
        var random: (UInt64, UInt16) = (0, 0)
        withUnsafeMutableBytes(of: &random.0) { zegel_random($0.baseAddress, 8) }
        withUnsafeMutableBytes(of: &random.1) { zegel_random($0.baseAddress, 2) }
        let asked = UInt64(clamping: Int64(date.timeIntervalSince1970 * 1000))
        let (milliseconds, counter) = last.withLock { last in
            if asked > last.milliseconds || last.milliseconds - asked > toleratedStepBack {
                // Half of the counter's room is left for ids of the same millisecond.
                last = Last(milliseconds: asked, counter: random.1 & 0x7FF)
            } else if last.counter < 0xFFF {
                last.counter += 1
            } else {
                last = Last(milliseconds: last.milliseconds + 1, counter: random.1 & 0x7FF)
            }
            return (last.milliseconds, last.counter)
        }
        let high = (milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | UInt64(counter)
        let low = random.0 & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return uuid(high, low)
    }

    private static func uuid(_ high: UInt64, _ low: UInt64) -> UUID {
        let bytes = (high.bigEndian, low.bigEndian)
        return withUnsafeBytes(of: bytes) { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }
}
