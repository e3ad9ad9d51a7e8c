import Foundation

/// The id of the `accepted` event of one recipient: the message's id with the recipient's number in its last two bytes turned over,
/// so that a resubmission of the same message writes the same event ids and no table of them need be kept.
enum AcceptedEventID {
    static func make(message: UUID, recipient: Int32) -> UUID {
        var bytes = message.uuid
        let number = UInt16(truncatingIfNeeded: recipient)
        // Bytes 13…15 are random in a UUIDv7; flipping a fixed bit of byte 13 keeps event ids apart from message ids.
        bytes.13 ^= 0x80
        bytes.14 ^= UInt8(number >> 8)
        bytes.15 ^= UInt8(number & 0xFF)
        return UUID(uuid: bytes)
    }

    /// The recipient of whose `accepted` event this is the id; nil: it is another event's.
    static func recipient(of event: UUID, in message: UUID) -> Int32? {
        let (e, m) = (event.uuid, message.uuid)
        let number = Int32(e.14 ^ m.14) << 8 | Int32(e.15 ^ m.15)
        return make(message: message, recipient: number) == event ? number : nil
    }
}
