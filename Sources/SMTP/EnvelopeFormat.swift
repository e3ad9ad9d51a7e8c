/// Stored octets that are not an envelope or a recipient of a version known here.
public enum EnvelopeFormatError: Error, Sendable, Equatable {
    /// The first octet names a version that this program does not know.
    case unknownVersion(UInt8)
    /// The octets end early, go on too long or hold what no writer wrote.
    case malformed
}

/// Writes the fields of a stored record: a version octet, then octets as they are and runs behind a varint length;
/// absent is length 0, a present run has its length plus one.
struct RecordWriter {
    private(set) var bytes: [UInt8]

    init(version: UInt8, capacity: Int) {
        bytes = [version]
        bytes.reserveCapacity(capacity)
    }

    mutating func append(octet: UInt8) { bytes.append(octet) }

    mutating func append(bytes run: [UInt8]) {
        appendLength(run.count + 1)
        bytes.append(contentsOf: run)
    }

    mutating func append(text: String?) {
        guard let text else { return bytes.append(0) }
        appendLength(text.utf8.count + 1)
        bytes.append(contentsOf: text.utf8)
    }

    private mutating func appendLength(_ length: Int) {
        var rest = length
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }
}

/// Reads what `RecordWriter` wrote.
struct RecordReader {
    private let source: [UInt8]
    private var position = 1

    init(_ source: [UInt8], version: UInt8) throws(EnvelopeFormatError) {
        guard let first = source.first else { throw EnvelopeFormatError.malformed }
        guard first == version else { throw EnvelopeFormatError.unknownVersion(first) }
        self.source = source
    }

    mutating func octet() throws(EnvelopeFormatError) -> UInt8 {
        guard position < source.count else { throw EnvelopeFormatError.malformed }
        defer { position += 1 }
        return source[position]
    }

    mutating func bytes() throws(EnvelopeFormatError) -> [UInt8] {
        guard let run = try run() else { throw EnvelopeFormatError.malformed }
        return Array(run)
    }

    mutating func text() throws(EnvelopeFormatError) -> String? {
        guard let run = try run() else { return nil }
        guard let text = String(validating: run, as: UTF8.self) else { throw EnvelopeFormatError.malformed }
        return text
    }

    func finish() throws(EnvelopeFormatError) {
        guard position == source.count else { throw EnvelopeFormatError.malformed }
    }

    private mutating func run() throws(EnvelopeFormatError) -> ArraySlice<UInt8>? {
        var length = 0
        var shift = 0
        while true {
            let octet = try octet()
            guard shift <= 28 else { throw EnvelopeFormatError.malformed }
            length |= Int(octet & 0x7F) << shift
            if octet & 0x80 == 0 { break }
            shift += 7
        }
        guard length > 0 else { return nil }
        let count = length - 1
        guard count <= source.count - position else { throw EnvelopeFormatError.malformed }
        defer { position += count }
        return source[position..<(position + count)]
    }
}
