// Reads the server's binary format out of lent bytes; nil for what does not have its shape.

import Foundation

enum BinaryReader {
    @inline(__always)
    static func integer<I: FixedWidthInteger>(_ field: UnsafeRawBufferPointer, _: I.Type) -> I? {
        guard field.count == MemoryLayout<I>.size else { return nil }
        return I(bigEndian: field.loadUnaligned(as: I.self))
    }

    @inline(__always)
    static func integer<I: FixedWidthInteger>(_ field: Slice<UnsafeRawBufferPointer>, _ type: I.Type) -> I? {
        integer(UnsafeRawBufferPointer(rebasing: field), type)
    }

    static func uuid(_ field: UnsafeRawBufferPointer) -> UUID? {
        guard field.count == 16 else { return nil }
        return UUID(uuid: field.loadUnaligned(as: uuid_t.self))
    }

    static func uuid(_ field: Slice<UnsafeRawBufferPointer>) -> UUID? {
        uuid(UnsafeRawBufferPointer(rebasing: field))
    }

    /// ±infinity become the distant past and future.
    static func timestamp(_ field: UnsafeRawBufferPointer) -> Date? {
        guard let micro = integer(field, Int64.self) else { return nil }
        if micro == .min { return .distantPast }
        if micro == .max { return .distantFuture }
        let (shifted, overflow) = micro.subtractingReportingOverflow(microsecondsFrom2000To2001)
        guard !overflow else { return nil }
        return Date(timeIntervalSinceReferenceDate: Double(shifted) / 1_000_000)
    }

    static func timestamp(_ field: Slice<UnsafeRawBufferPointer>) -> Date? {
        timestamp(UnsafeRawBufferPointer(rebasing: field))
    }

    /// bytea in text form: `\x` and hexadecimal digits.
    static func hexadecimal(_ field: UnsafeRawBufferPointer) -> [UInt8]? {
        guard field.count >= 2, field.count % 2 == 0, field[0] == UInt8(ascii: "\\"),
            field[1] == UInt8(ascii: "x")
        else { return nil }
        func nibble(_ digit: UInt8) -> UInt8? {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
            default: nil
            }
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(field.count / 2 - 1)
        for at in stride(from: 2, to: field.count, by: 2) {
            guard let high = nibble(field[at]), let low = nibble(field[at + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    /// One dimension or none (array_send).
    static func array<T>(
        _ field: UnsafeRawBufferPointer, _ read: (Slice<UnsafeRawBufferPointer>) -> T?
    ) -> [T?]? {
        var rest = field[...]
        func next() -> Int32? {
            guard rest.count >= 4 else { return nil }
            defer { rest = rest.dropFirst(4) }
            return integer(rest.prefix(4), Int32.self)
        }
        guard let dimensions = next(), next() != nil, next() != nil else { return nil }
        if dimensions == 0 { return [] }
        guard dimensions == 1, let count = next(), count >= 0, next() != nil,
            Int(count) <= rest.count / 4
        else { return nil }
        var values: [T?] = []
        values.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let length = next() else { return nil }
            if length == -1 {
                values.append(nil)
                continue
            }
            guard length >= 0, Int(length) <= rest.count, let value = read(rest.prefix(Int(length))) else {
                return nil
            }
            values.append(value)
            rest = rest.dropFirst(Int(length))
        }
        return values
    }
}
