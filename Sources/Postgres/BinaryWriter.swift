// The binary format of the server's types, written big-endian into one array: for parameters and for COPY alike.

import Foundation

/// Microseconds between the epoch of PostgreSQL (2000-01-01) and that of Foundation (2001-01-01).
let microsecondsFrom2000To2001: Int64 = 31_622_400_000_000

/// Writes values in the server's binary format.
struct BinaryWriter: Sendable {
    var bytes: [UInt8] = []

    @inline(__always)
    mutating func integer<I: FixedWidthInteger>(_ value: I) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func uuid(_ value: UUID) {
        withUnsafeBytes(of: value.uuid) { bytes.append(contentsOf: $0) }
    }

    /// Microseconds since 2000-01-01, rounded; what does not fit becomes ±infinity.
    static func timestamp(_ date: Date) -> Int64 {
        let scaled = (date.timeIntervalSinceReferenceDate * 1_000_000).rounded()
        guard abs(scaled) < 9.2e18 else { return scaled < 0 ? .min : .max }
        return Int64(scaled) + microsecondsFrom2000To2001
    }

    /// Four bytes of length, -1 for NULL, then the value: a field of COPY, an element of an array.
    mutating func field(_ value: PostgresValue) {
        if case .null = value {
            integer(Int32(-1))
            return
        }
        let at = bytes.count
        integer(Int32(0))
        payload(value)
        let length = Int32(bytes.count - at - 4)
        withUnsafeBytes(of: length.bigEndian) { source in
            for index in 0..<4 { bytes[at + index] = source[index] }
        }
    }

    /// The value alone, without its length.
    mutating func payload(_ value: PostgresValue) {
        switch value {
        case .null: break
        case .bool(let value): bytes.append(value ? 1 : 0)
        case .int2(let value): integer(value)
        case .int4(let value): integer(value)
        case .int8(let value): integer(value)
        case .xid8(let value): integer(value)
        case .double(let value): integer(value.bitPattern)
        case .text(let value): bytes.append(contentsOf: value.utf8)
        case .bytes(let value): bytes.append(contentsOf: value)
        case .uuid(let value): uuid(value)
        case .timestamp(let value): integer(Self.timestamp(value))
        case .interval(let value):
            let parts = value.components
            integer(parts.seconds * 1_000_000 + parts.attoseconds / 1_000_000_000_000)
            integer(Int32(0))  // days
            integer(Int32(0))  // months
        case .int2Array(let values): array(values, of: .int2) { $0.integer($1) }
        case .int4Array(let values): array(values, of: .int4) { $0.integer($1) }
        case .int8Array(let values): array(values, of: .int8) { $0.integer($1) }
        case .xid8Array(let values): array(values, of: .xid8) { $0.integer($1) }
        case .doubleArray(let values): array(values, of: .float8) { $0.integer($1.bitPattern) }
        case .boolArray(let values): array(values, of: .bool) { $0.bytes.append($1 ? 1 : 0) }
        case .uuidArray(let values): array(values, of: .uuid) { $0.uuid($1) }
        case .optionalUUIDArray(let values): array(values, of: .uuid) { $0.uuid($1) }
        case .textArray(let values): array(values, of: .text) { $0.bytes.append(contentsOf: $1.utf8) }
        case .bytesArray(let values): array(values, of: .bytea) { $0.bytes.append(contentsOf: $1) }
        case .optionalInt4Array(let values): array(values, of: .int4) { $0.integer($1) }
        case .optionalInt8Array(let values): array(values, of: .int8) { $0.integer($1) }
        case .timestampArray(let values):
            array(values, of: .timestamptz) { $0.integer(Self.timestamp($1)) }
        case .optionalTimestampArray(let values):
            array(values, of: .timestamptz) { $0.integer(Self.timestamp($1)) }
        }
    }

    /// One dimension, lower bound 1 (array_recv); an array without elements has no dimension.
    private mutating func arrayHeader(count: Int, hasNull: Bool, of element: PostgresType) {
        integer(Int32(count == 0 ? 0 : 1))
        integer(Int32(hasNull ? 1 : 0))
        integer(element.rawValue)
        guard count > 0 else { return }
        integer(Int32(count))
        integer(Int32(1))
    }

    private mutating func array<Element>(
        _ values: [Element], of element: PostgresType, _ write: (inout Self, Element) -> Void
    ) {
        arrayHeader(count: values.count, hasNull: false, of: element)
        for value in values { sized(value, write) }
    }

    private mutating func array<Element>(
        _ values: [Element?], of element: PostgresType, _ write: (inout Self, Element) -> Void
    ) {
        arrayHeader(count: values.count, hasNull: values.contains { $0 == nil }, of: element)
        for value in values {
            if let value { sized(value, write) } else { integer(Int32(-1)) }
        }
    }

    private mutating func sized<Element>(_ value: Element, _ write: (inout Self, Element) -> Void) {
        let at = bytes.count
        integer(Int32(0))
        write(&self, value)
        let length = Int32(bytes.count - at - 4)
        withUnsafeBytes(of: length.bigEndian) { source in
            for index in 0..<4 { bytes[at + index] = source[index] }
        }
    }
}
