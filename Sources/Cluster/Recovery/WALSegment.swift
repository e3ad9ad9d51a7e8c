// Names of WAL segments and places in the WAL, as PostgreSQL writes them.

import Ledger

/// One segment of 16 MB of a timeline's WAL.
struct WALSegment: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// Octets of a segment, and segments of what PostgreSQL counts as one log.
    static let size = 16 << 20
    private static let perLog = 0x1_0000_0000 / size

    /// The timeline.
    var timeline: UInt32
    /// Counted from the beginning of the WAL.
    var number: Int

    /// - Parameter name: 24 hexadecimal digits: timeline, log, segment in it.
    init?(_ name: String) {
        guard name.utf8.count == 24, name.utf8.allSatisfy({ Self.isDigit($0) }) else { return nil }
        let (first, rest) = (name.prefix(8), name.dropFirst(8))
        guard let timeline = UInt32(first, radix: 16), let log = Int(rest.prefix(8), radix: 16),
            let segment = Int(rest.dropFirst(8), radix: 16), segment < Self.perLog
        else { return nil }
        self.init(timeline: timeline, number: log * Self.perLog + segment)
    }

    /// A segment by its numbers.
    init(timeline: UInt32, number: Int) {
        (self.timeline, self.number) = (timeline, number)
    }

    /// The segment's name.
    var description: String {
        Self.hex(Int(timeline)) + Self.hex(number / Self.perLog) + Self.hex(number % Self.perLog)
    }

    /// The place where it begins.
    var start: Int { number * Self.size }

    /// By timeline, then by number.
    static func < (left: Self, right: Self) -> Bool {
        (left.timeline, left.number) < (right.timeline, right.number)
    }

    /// `0/3000050` as octets from the beginning of the WAL.
    static func position(_ text: String) -> Int? { ShardView.octets(text) }

    private static func isDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte)
    }

    private static func hex(_ value: Int) -> String {
        let digits = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }
}
