// Ids made of counters, in the form of UUIDv7, so that a model may index by the counter and a database may keep the id; and time.

import Foundation

/// Microseconds of a history, or of the clock of one of its servers.
public typealias Ticks = Int64

extension Ticks {
    /// So many seconds.
    static func seconds(_ count: Int) -> Ticks { Ticks(count) * 1_000_000 }
    /// So many milliseconds.
    static func milliseconds(_ count: Int) -> Ticks { Ticks(count) * 1000 }
}

/// Turns counters into ids and back.
public enum SimulatedID {
    /// What an id names.
    public enum Kind: UInt8, Sendable {
        /// A message.
        case message = 1
        /// A worker's id of one lease.
        case worker = 2
        /// An event.
        case event = 3
    }

    /// An id whose first 48 bits are milliseconds, and whose octets 10 to 12 are `number`. The last three are zero: the ledger makes ids
    /// of events from those of messages there.
    public static func make(_ kind: Kind, _ number: Int, milliseconds: Int64 = 0) -> UUID {
        let time = UInt64(bitPattern: milliseconds)
        let low = UInt32(truncatingIfNeeded: number)
        func octet(_ value: UInt64, _ shift: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: value >> shift) }
        return UUID(
            uuid: (
                octet(time, 40), octet(time, 32), octet(time, 24), octet(time, 16), octet(time, 8),
                octet(time, 0), 0x70, kind.rawValue, 0x80, 0, UInt8(truncatingIfNeeded: low >> 16),
                UInt8(truncatingIfNeeded: low >> 8), UInt8(truncatingIfNeeded: low), 0, 0, 0
            ))
    }

    /// The counter of an id.
    public static func number(_ id: UUID) -> Int {
        let octets = id.uuid
        return Int(octets.10) << 16 | Int(octets.11) << 8 | Int(octets.12)
    }

    /// A replay tag of a content, `octets` long.
    public static func tag(_ content: Int, octets: Int = 2) -> [UInt8] {
        var tag = [UInt8](repeating: 0, count: octets)
        tag[0] = UInt8(truncatingIfNeeded: content)
        tag[1] = UInt8(truncatingIfNeeded: content >> 8)
        return tag
    }

    /// The content of a tag.
    public static func content(_ tag: [UInt8]) -> Int { Int(tag[0]) | Int(tag[1]) << 8 }
}
