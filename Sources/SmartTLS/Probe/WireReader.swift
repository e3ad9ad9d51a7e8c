// Reads numbers and vectors from the messages of a server that may be hostile: every read says whether there was
// enough, and nothing is read behind the end.

/// The data ended before what it announced.
struct WireReaderEnd: Error {}

/// A position in octets.
struct WireReader {
    private let octets: ArraySlice<UInt8>
    private var position: Int

    init(_ octets: ArraySlice<UInt8>) {
        self.octets = octets
        position = octets.startIndex
    }

    /// Whether everything was read.
    var isAtEnd: Bool { position == octets.endIndex }

    /// A number of `width` octets, at most 4.
    mutating func number(_ width: Int) throws(WireReaderEnd) -> Int {
        try take(width).reduce(0) { $0 << 8 | Int($1) }
    }

    /// A number of 16 bits, as most code points are.
    mutating func code() throws(WireReaderEnd) -> UInt16 { UInt16(truncatingIfNeeded: try number(2)) }

    /// The next `count` octets.
    mutating func take(_ count: Int) throws(WireReaderEnd) -> ArraySlice<UInt8> {
        guard octets.endIndex - position >= count else { throw WireReaderEnd() }
        defer { position += count }
        return octets[position..<position + count]
    }

    /// Octets with their length in front, a number of `width` octets.
    mutating func vector(_ width: Int) throws(WireReaderEnd) -> ArraySlice<UInt8> {
        try take(try number(width))
    }
}
