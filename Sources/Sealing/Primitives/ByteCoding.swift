// The one way bytes are laid out in sealed records: big-endian integers, and a 32-bit length before everything whose
// length is not fixed. An encoding is therefore unambiguous, and associated data made with it cannot be read two ways.

import Foundation

/// Appends canonical encodings.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    init(reserve: Int = 0) { bytes.reserveCapacity(reserve) }

    mutating func integer(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func uuid(_ value: UUID) {
        withUnsafeBytes(of: value.uuid) { bytes.append(contentsOf: $0) }
    }

    mutating func fixed(_ value: some Sequence<UInt8>) { bytes.append(contentsOf: value) }

    mutating func variable(_ value: [UInt8]) {
        integer(UInt32(value.count))
        bytes.append(contentsOf: value)
    }

    mutating func text(_ value: String) {
        integer(UInt32(value.utf8.count))
        bytes.append(contentsOf: value.utf8)
    }
}

/// Reads canonical encodings; every short, long or ill-formed input is the same error.
struct ByteReader {
    struct Malformed: Error {}

    private let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var remaining: Int { bytes.count - position }

    mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws(Malformed) -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw Malformed() }
        defer { position += size }
        return bytes.withUnsafeBytes { T(bigEndian: $0.loadUnaligned(fromByteOffset: position, as: T.self)) }
    }

    mutating func fixed(_ count: Int) throws(Malformed) -> [UInt8] {
        guard count >= 0, remaining >= count else { throw Malformed() }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    mutating func uuid() throws(Malformed) -> UUID {
        let raw = try fixed(16)
        return raw.withUnsafeBytes { UUID(uuid: $0.loadUnaligned(as: uuid_t.self)) }
    }

    /// A variable part of at most `limit` bytes.
    mutating func variable(limit: Int) throws(Malformed) -> [UInt8] {
        let count = try integer(UInt32.self)
        guard count <= limit else { throw Malformed() }
        return try fixed(Int(count))
    }

    mutating func text(limit: Int) throws(Malformed) -> String {
        guard let value = String(validating: try variable(limit: limit), as: UTF8.self) else {
            throw Malformed()
        }
        return value
    }

    /// The input must end here.
    func end() throws(Malformed) { if remaining != 0 { throw Malformed() } }
}
