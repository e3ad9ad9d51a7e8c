// Rows of a result, decoded field by field when somebody asks: each value is copied once, out of libpq's buffer.

import Foundation

/// The result of one statement: rows, and what the server said of the command.
public struct PostgresRows: Sendable, RandomAccessCollection {
    let handle: ResultHandle
    /// Notices and warnings that came with this result.
    public internal(set) var notices: [PostgresNotice]

    /// First row.
    public var startIndex: Int { 0 }
    /// One past the last row.
    public var endIndex: Int { handle.rowCount }
    /// One row.
    public subscript(position: Int) -> PostgresRow { PostgresRow(handle: handle, index: position) }

    /// Names of the columns.
    public var columnNames: [String] { (0..<handle.columnCount).map(handle.name(ofColumn:)) }
    /// `INSERT 0 3`, `UPDATE 2`, `COMMIT`, …
    public var commandTag: String { handle.commandTag }
    /// Rows that the command inserted, changed, deleted or returned.
    public var affectedRows: Int { handle.affectedRows }
    /// Whether the commit that this statement made, if it made one (COMMIT itself, or a statement outside a transaction),
    /// came back with a warning.
    public var commitOutcome: PostgresCommitOutcome { PostgresCommitOutcome(notices) }
}

/// One row. Columns are counted from 0. A NULL where the caller expects none, or a type that does not fit, throws
/// `.decoding`.
public struct PostgresRow: Sendable {
    let handle: ResultHandle
    let index: Int

    /// boolean
    public func bool(_ column: Int) throws(PostgresError) -> Bool { try need(column, optionalBool(column)) }
    /// smallint
    public func int2(_ column: Int) throws(PostgresError) -> Int16 { try need(column, integer(column)) }
    /// integer, or anything narrower
    public func int4(_ column: Int) throws(PostgresError) -> Int32 { try need(column, integer(column)) }
    /// bigint, or anything narrower
    public func int8(_ column: Int) throws(PostgresError) -> Int64 { try need(column, integer(column)) }
    /// xid8
    public func xid8(_ column: Int) throws(PostgresError) -> UInt64 { try need(column, optionalXID8(column)) }
    /// double precision
    public func double(_ column: Int) throws(PostgresError) -> Double {
        try need(column, optionalDouble(column))
    }
    /// text, or any type whose binary form is its text (enum, name, varchar, json)
    public func text(_ column: Int) throws(PostgresError) -> String { try need(column, optionalText(column)) }
    /// bytea
    public func bytes(_ column: Int) throws(PostgresError) -> [UInt8] {
        try need(column, optionalBytes(column))
    }
    /// uuid
    public func uuid(_ column: Int) throws(PostgresError) -> UUID { try need(column, optionalUUID(column)) }
    /// timestamptz
    public func timestamp(_ column: Int) throws(PostgresError) -> Date {
        try need(column, optionalTimestamp(column))
    }
    /// interval without months; a day counts 24 hours
    public func interval(_ column: Int) throws(PostgresError) -> Duration {
        try need(column, optionalInterval(column))
    }

    /// integer or NULL
    public func optionalInt4(_ column: Int) throws(PostgresError) -> Int32? { try integer(column) }
    /// bigint or NULL
    public func optionalInt8(_ column: Int) throws(PostgresError) -> Int64? { try integer(column) }

    /// boolean or NULL
    public func optionalBool(_ column: Int) throws(PostgresError) -> Bool? {
        try decode(column, [.bool]) { field, binary in
            guard field.count == 1 else { return nil }
            return binary ? field[0] != 0 : field[0] == UInt8(ascii: "t")
        }
    }

    /// xid8 or NULL
    public func optionalXID8(_ column: Int) throws(PostgresError) -> UInt64? {
        try decode(column, [.xid8]) { field, binary in
            binary
                ? BinaryReader.integer(field, UInt64.self) : UInt64(String(decoding: field, as: UTF8.self))
        }
    }

    /// double precision or NULL
    public func optionalDouble(_ column: Int) throws(PostgresError) -> Double? {
        try decode(column, [.float8]) { field, binary in
            binary
                ? BinaryReader.integer(field, UInt64.self).map(Double.init(bitPattern:))
                : Double(String(decoding: field, as: UTF8.self))
        }
    }

    /// text or NULL
    public func optionalText(_ column: Int) throws(PostgresError) -> String? {
        // Any type passes: enums have no fixed id. What is not UTF-8 is not text.
        try decode(column, []) { field, _ in String(validating: field, as: UTF8.self) }
    }

    /// bytea or NULL
    public func optionalBytes(_ column: Int) throws(PostgresError) -> [UInt8]? {
        try decode(column, [.bytea]) { field, binary in
            binary ? [UInt8](field) : BinaryReader.hexadecimal(field)
        }
    }

    /// uuid or NULL
    public func optionalUUID(_ column: Int) throws(PostgresError) -> UUID? {
        try decode(column, [.uuid]) { field, binary in
            binary ? BinaryReader.uuid(field) : UUID(uuidString: String(decoding: field, as: UTF8.self))
        }
    }

    /// timestamptz or NULL
    public func optionalTimestamp(_ column: Int) throws(PostgresError) -> Date? {
        try decode(column, [.timestamptz]) { field, binary in
            binary ? BinaryReader.timestamp(field) : nil
        }
    }

    /// interval or NULL
    public func optionalInterval(_ column: Int) throws(PostgresError) -> Duration? {
        try decode(column, [.interval]) { field, binary in
            guard binary, field.count == 16, let micro = BinaryReader.integer(field.prefix(8), Int64.self),
                let days = BinaryReader.integer(field.dropFirst(8).prefix(4), Int32.self),
                BinaryReader.integer(field.suffix(4), Int32.self) == 0
            else { return nil }
            return .microseconds(micro) + .seconds(Int64(days) * 86_400)
        }
    }

    /// boolean[] without NULLs
    public func boolArray(_ column: Int) throws(PostgresError) -> [Bool] {
        try array(column, .boolArray) { $0.count == 1 ? $0[$0.startIndex] != 0 : nil }
    }
    /// smallint[] without NULLs
    public func int2Array(_ column: Int) throws(PostgresError) -> [Int16] {
        try array(column, .int2Array) { BinaryReader.integer($0, Int16.self) }
    }
    /// integer[] without NULLs
    public func int4Array(_ column: Int) throws(PostgresError) -> [Int32] {
        try array(column, .int4Array) { BinaryReader.integer($0, Int32.self) }
    }
    /// integer[] with NULLs
    public func optionalInt4Array(_ column: Int) throws(PostgresError) -> [Int32?] {
        try optionalArray(column, .int4Array) { BinaryReader.integer($0, Int32.self) }
    }
    /// bigint[] without NULLs
    public func int8Array(_ column: Int) throws(PostgresError) -> [Int64] {
        try array(column, .int8Array) { BinaryReader.integer($0, Int64.self) }
    }
    /// bigint[] with NULLs
    public func optionalInt8Array(_ column: Int) throws(PostgresError) -> [Int64?] {
        try optionalArray(column, .int8Array) { BinaryReader.integer($0, Int64.self) }
    }
    /// xid8[] without NULLs
    public func xid8Array(_ column: Int) throws(PostgresError) -> [UInt64] {
        try array(column, .xid8Array) { BinaryReader.integer($0, UInt64.self) }
    }
    /// double precision[] without NULLs
    public func doubleArray(_ column: Int) throws(PostgresError) -> [Double] {
        try array(column, .float8Array) {
            BinaryReader.integer($0, UInt64.self).map(Double.init(bitPattern:))
        }
    }
    /// text[] without NULLs
    public func textArray(_ column: Int) throws(PostgresError) -> [String] {
        try array(column, .textArray) { String(validating: $0, as: UTF8.self) }
    }
    /// text[] with NULLs
    public func optionalTextArray(_ column: Int) throws(PostgresError) -> [String?] {
        try optionalArray(column, .textArray) { String(validating: $0, as: UTF8.self) }
    }
    /// bytea[] without NULLs
    public func bytesArray(_ column: Int) throws(PostgresError) -> [[UInt8]] {
        try array(column, .byteaArray) { [UInt8]($0) }
    }
    /// bytea[] with NULLs
    public func optionalBytesArray(_ column: Int) throws(PostgresError) -> [[UInt8]?] {
        try optionalArray(column, .byteaArray) { [UInt8]($0) }
    }
    /// uuid[] without NULLs
    public func uuidArray(_ column: Int) throws(PostgresError) -> [UUID] {
        try array(column, .uuidArray, BinaryReader.uuid)
    }
    /// uuid[] with NULLs
    public func optionalUUIDArray(_ column: Int) throws(PostgresError) -> [UUID?] {
        try optionalArray(column, .uuidArray, BinaryReader.uuid)
    }
    /// timestamptz[] without NULLs
    public func timestampArray(_ column: Int) throws(PostgresError) -> [Date] {
        try array(column, .timestamptzArray, BinaryReader.timestamp)
    }
    /// timestamptz[] with NULLs
    public func optionalTimestampArray(_ column: Int) throws(PostgresError) -> [Date?] {
        try optionalArray(column, .timestamptzArray, BinaryReader.timestamp)
    }

    /// Whether the field is NULL.
    public func isNull(_ column: Int) throws(PostgresError) -> Bool {
        try handle.withField(index, column) { (field) throws(PostgresError) in field == nil }
    }

    // MARK: How

    private func need<T>(_ column: Int, _ value: T?) throws(PostgresError) -> T {
        guard let value else { throw PostgresError(.decoding, "column \(column) is NULL") }
        return value
    }

    private func unfit(_ column: Int) -> PostgresError {
        PostgresError(
            .decoding,
            "column \(column) of type \(handle.type(ofColumn: column).rawValue) is not what was asked for")
    }

    private func decode<T>(
        _ column: Int, _ types: [PostgresType], _ read: (UnsafeRawBufferPointer, Bool) -> T?
    ) throws(PostgresError) -> T? {
        try handle.withField(index, column) { (field) throws(PostgresError) in
            guard let field else { return nil }
            guard types.isEmpty || types.contains(handle.type(ofColumn: column)),
                let value = read(field, handle.isBinary)
            else { throw unfit(column) }
            return value
        }
    }

    private func integer<I: FixedWidthInteger & SignedInteger>(_ column: Int) throws(PostgresError) -> I? {
        try handle.withField(index, column) { (field) throws(PostgresError) in
            guard let field else { return nil }
            let type = handle.type(ofColumn: column)
            guard [.int2, .int4, .int8].contains(type) else { throw unfit(column) }
            let wide: Int64? =
                if !handle.isBinary {
                    Int64(String(decoding: field, as: UTF8.self))
                } else if type == .int8 {
                    BinaryReader.integer(field, Int64.self)
                } else if type == .int4 {
                    BinaryReader.integer(field, Int32.self).map(Int64.init)
                } else {
                    BinaryReader.integer(field, Int16.self).map(Int64.init)
                }
            guard let wide, let value = I(exactly: wide) else { throw unfit(column) }
            return value
        }
    }

    private func optionalArray<T>(
        _ column: Int, _ type: PostgresType, _ read: (Slice<UnsafeRawBufferPointer>) -> T?
    ) throws(PostgresError) -> [T?] {
        try handle.withField(index, column) { (field) throws(PostgresError) in
            guard let field else { throw PostgresError(.decoding, "column \(column) is NULL") }
            guard handle.isBinary, handle.type(ofColumn: column) == type,
                let values = BinaryReader.array(field, read)
            else { throw unfit(column) }
            return values
        }
    }

    private func array<T>(
        _ column: Int, _ type: PostgresType, _ read: (Slice<UnsafeRawBufferPointer>) -> T?
    ) throws(PostgresError) -> [T] {
        let values = try optionalArray(column, type, read)
        let present = values.compactMap { $0 }
        guard present.count == values.count else {
            throw PostgresError(.decoding, "the array in column \(column) holds a NULL")
        }
        return present
    }
}
