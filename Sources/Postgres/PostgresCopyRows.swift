// Rows for COPY … FROM STDIN (FORMAT binary), written once, straight into the bytes that go over the wire.

import Foundation

/// Rows in the server's binary COPY format.
///
/// For each row: `beginRow()`, then exactly as many appends as there are columns, in the order of the columns and of
/// exactly their types (COPY casts nothing).
public struct PostgresCopyRows: Sendable {
    private var writer = BinaryWriter()
    private let columns: Int
    private var columnsLeft = 0
    /// Rows begun so far.
    public private(set) var rowCount = 0

    /// Signature, no flags, no extension (COPY, "Binary Format").
    private static let header: [UInt8] =
        [0x50, 0x47, 0x43, 0x4F, 0x50, 0x59, 0x0A, 0xFF, 0x0D, 0x0A, 0x00] + [0, 0, 0, 0, 0, 0, 0, 0]
    /// A field count of -1 ends the data.
    static let trailer: [UInt8] = [0xFF, 0xFF]

    /// Makes room.
    /// - Parameters:
    ///   - columns: columns of each row.
    ///   - reserve: expected size, in bytes.
    public init(columns: Int, reserve: Int = 0) {
        self.columns = columns
        writer.bytes.reserveCapacity(reserve + Self.header.count)
        writer.bytes.append(contentsOf: Self.header)
    }

    /// Bytes that will go over the wire, header included.
    public var byteCount: Int { writer.bytes.count }

    /// What goes over the wire, save the trailer.
    var bytes: [UInt8] { writer.bytes }

    /// Starts a row. The row before it must be complete.
    public mutating func beginRow() {
        precondition(columnsLeft == 0, "the row before has \(columnsLeft) columns too few")
        columnsLeft = columns
        rowCount += 1
        writer.integer(Int16(truncatingIfNeeded: columns))
    }

    @inline(__always)
    private mutating func take() {
        precondition(columnsLeft > 0, "a row has \(columns) columns")
        columnsLeft -= 1
    }

    /// Appends NULL.
    public mutating func appendNull() {
        take()
        writer.integer(Int32(-1))
    }

    /// Appends any value.
    public mutating func append(_ value: PostgresValue) {
        take()
        writer.field(value)
    }

    /// Appends a uuid.
    public mutating func append(uuid: UUID) {
        take()
        writer.integer(Int32(16))
        writer.uuid(uuid)
    }

    /// Appends a bytea.
    public mutating func append(bytes: [UInt8]) { append(bytes: bytes[...]) }

    /// Appends a bytea.
    public mutating func append(bytes: ArraySlice<UInt8>) {
        take()
        writer.integer(Int32(truncatingIfNeeded: bytes.count))
        writer.bytes.append(contentsOf: bytes)
    }

    /// Appends text.
    public mutating func append(text: String) {
        take()
        var text = text
        text.withUTF8 {
            writer.integer(Int32(truncatingIfNeeded: $0.count))
            writer.bytes.append(contentsOf: $0)
        }
    }

    /// Appends a boolean.
    public mutating func append(bool: Bool) {
        take()
        writer.integer(Int32(1))
        writer.bytes.append(bool ? 1 : 0)
    }

    /// Appends a smallint.
    public mutating func append(int2: Int16) {
        take()
        writer.integer(Int32(2))
        writer.integer(int2)
    }

    /// Appends an integer.
    public mutating func append(int4: Int32) {
        take()
        writer.integer(Int32(4))
        writer.integer(int4)
    }

    /// Appends a bigint.
    public mutating func append(int8: Int64) {
        take()
        writer.integer(Int32(8))
        writer.integer(int8)
    }

    /// Appends a timestamptz.
    public mutating func append(timestamp: Date) {
        take()
        writer.integer(Int32(8))
        writer.integer(BinaryWriter.timestamp(timestamp))
    }
}
