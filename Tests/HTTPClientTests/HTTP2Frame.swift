// Frames of HTTP/2 made by hand, right or wrong.

/// An HTTP/2 frame (RFC 9113 §4.1) as octets.
enum HTTP2Frame {
    static func frame(_ type: UInt8, _ flags: UInt8 = 0, _ stream: UInt32 = 0, _ payload: [UInt8] = [])
        -> [UInt8]
    {
        let count = payload.count
        return [
            UInt8(truncatingIfNeeded: count >> 16), UInt8(truncatingIfNeeded: count >> 8),
            UInt8(truncatingIfNeeded: count),
        ]
            + [type, flags] + octets(stream) + payload
    }

    static func data(_ bytes: [UInt8], ends: Bool = false, stream: UInt32 = 1) -> [UInt8] {
        frame(0, ends ? 1 : 0, stream, bytes)
    }

    /// A whole header block of literal fields (RFC 7541 §6.2.2).
    static func headers(
        _ status: String, _ fields: [(String, String)] = [], ends: Bool = false, whole: Bool = true
    ) -> [UInt8] {
        frame(1, (whole ? 4 : 0) | (ends ? 1 : 0), 1, block([(":status", status)] + fields))
    }

    static func continuation(_ fields: [(String, String)]) -> [UInt8] { frame(9, 0, 1, block(fields)) }

    static let settings = frame(4)
    static let ping = frame(6, 0, 0, [UInt8](repeating: 7, count: 8))

    static func reset(_ code: UInt32, stream: UInt32 = 1) -> [UInt8] { frame(3, 0, stream, octets(code)) }

    static func goAway(last: UInt32, _ code: UInt32 = 0) -> [UInt8] {
        frame(7, 0, 0, octets(last) + octets(code))
    }

    static func windowUpdate(_ increment: UInt32, stream: UInt32 = 0) -> [UInt8] {
        frame(8, 0, stream, octets(increment))
    }

    private static func block(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { name, value in [0] + literal(name) + literal(value) }
    }

    /// A string literal (RFC 7541 §5.2) of at most 16 KB, without Huffman coding.
    private static func literal(_ text: String) -> [UInt8] {
        let count = text.utf8.count
        if count < 127 { return [UInt8(count)] + text.utf8 }
        let rest = count - 127
        return rest < 128
            ? [127, UInt8(rest)] + text.utf8
            : [127, UInt8(rest & 127) | 128, UInt8(truncatingIfNeeded: rest >> 7)] + text.utf8
    }

    private static func octets(_ number: UInt32) -> [UInt8] {
        stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: number >> UInt32($0)) }
    }
}
