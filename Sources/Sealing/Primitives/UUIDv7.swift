// Version 7 UUIDs (RFC 9562 §5.7): 48 bits of Unix milliseconds, 12 bits of counter (§6.2 method 1), 62 random bits.
// Within a process ids made for the same or a slightly earlier millisecond keep growing, so that rows written together
// land together in an index. Between processes only the millisecond orders them.

import CLinux
import Foundation
import Synchronization

/// Makes time-ordered ids.
public enum UUIDv7 {
    /// The last id's millisecond and counter.
    struct Sequence {
        private var milliseconds: UInt64 = 0
        private var counter: UInt16 = 0

        /// How far a clock may step back (milliseconds) before ids follow it.
        private static let toleratedStepBack: UInt64 = 1000

        /// The millisecond and counter of the next id; a new millisecond's counter starts at the low 11 bits of `seed`,
        /// so that half of its room is left for ids of the same millisecond.
        mutating func next(at asked: UInt64, seed: UInt16) -> (milliseconds: UInt64, counter: UInt16) {
            if asked > milliseconds || milliseconds - asked > Self.toleratedStepBack {
                (milliseconds, counter) = (asked, seed & 0x7FF)
            } else if counter < 0xFFF {
                counter += 1
            } else {
                (milliseconds, counter) = (milliseconds + 1, seed & 0x7FF)
            }
            return (milliseconds, counter)
        }
    }

    private static let sequence = Mutex(Sequence())

    /// A new id for the moment `date`.
    public static func make(at date: Date) -> UUID {
        var random: (UInt64, UInt16) = (0, 0)
        withUnsafeMutableBytes(of: &random) { zegel_random($0.baseAddress, 10) }
        let asked = UInt64(clamping: Int64(date.timeIntervalSince1970 * 1000))
        let (milliseconds, counter) = sequence.withLock { $0.next(at: asked, seed: random.1) }
        let high = (milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | UInt64(counter)
        let low = random.0 & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return uuid(high, low)
    }

    private static func uuid(_ high: UInt64, _ low: UInt64) -> UUID {
        let bytes = (high.bigEndian, low.bigEndian)
        return withUnsafeBytes(of: bytes) { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }
}
