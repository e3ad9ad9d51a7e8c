// Values that go to the server, each with the type that the server is told.

import Foundation

/// Object ids of built-in types (pg_type.dat); fixed for ever.
struct PostgresType: RawRepresentable, Hashable, Sendable {
    let rawValue: UInt32

    /// Left to the server to infer.
    static let unspecified = PostgresType(rawValue: 0)
    static let bool = PostgresType(rawValue: 16)
    static let bytea = PostgresType(rawValue: 17)
    static let int8 = PostgresType(rawValue: 20)
    static let int2 = PostgresType(rawValue: 21)
    static let int4 = PostgresType(rawValue: 23)
    static let text = PostgresType(rawValue: 25)
    static let float8 = PostgresType(rawValue: 701)
    static let timestamptz = PostgresType(rawValue: 1184)
    static let interval = PostgresType(rawValue: 1186)
    static let uuid = PostgresType(rawValue: 2950)
    static let xid8 = PostgresType(rawValue: 5069)
    static let boolArray = PostgresType(rawValue: 1000)
    static let byteaArray = PostgresType(rawValue: 1001)
    static let int2Array = PostgresType(rawValue: 1005)
    static let int4Array = PostgresType(rawValue: 1007)
    static let textArray = PostgresType(rawValue: 1009)
    static let int8Array = PostgresType(rawValue: 1016)
    static let float8Array = PostgresType(rawValue: 1022)
    static let timestamptzArray = PostgresType(rawValue: 1185)
    static let uuidArray = PostgresType(rawValue: 2951)
    static let xid8Array = PostgresType(rawValue: 271)
}

/// A parameter or a field of a COPY row.
///
/// The server is told the exact type, so it casts where SQL does (`int4` to a `bigint` column) and answers 42804 where SQL
/// does not (text to an enum or jsonb: write `$1::jsonb`). COPY casts nothing: there the type must be the column's.
public enum PostgresValue: Sendable {
    /// NULL of whatever type the server infers.
    case null
    /// boolean
    case bool(Bool)
    /// smallint
    case int2(Int16)
    /// integer
    case int4(Int32)
    /// bigint
    case int8(Int64)
    /// text
    case text(String)
    /// bytea
    case bytes([UInt8])
    /// uuid
    case uuid(UUID)
    /// timestamptz, microseconds
    case timestamp(Date)
    /// xid8
    case xid8(UInt64)
    /// double precision
    case double(Double)
    /// interval of microseconds, no days or months
    case interval(Duration)
    /// smallint[]
    case int2Array([Int16])
    /// integer[]
    case int4Array([Int32])
    /// integer[] with NULLs
    case optionalInt4Array([Int32?])
    /// bigint[]
    case int8Array([Int64])
    /// bigint[] with NULLs
    case optionalInt8Array([Int64?])
    /// xid8[]
    case xid8Array([UInt64])
    /// double precision[]
    case doubleArray([Double])
    /// boolean[]
    case boolArray([Bool])
    /// text[]
    case textArray([String?])
    /// bytea[]
    case bytesArray([[UInt8]?])
    /// uuid[]
    case uuidArray([UUID])
    /// uuid[] with NULLs
    case optionalUUIDArray([UUID?])
    /// timestamptz[]
    case timestampArray([Date])
    /// timestamptz[] with NULLs
    case optionalTimestampArray([Date?])

    var type: PostgresType {
        switch self {
        case .null: .unspecified
        case .bool: .bool
        case .int2: .int2
        case .int4: .int4
        case .int8: .int8
        case .text: .text
        case .bytes: .bytea
        case .uuid: .uuid
        case .timestamp: .timestamptz
        case .xid8: .xid8
        case .double: .float8
        case .interval: .interval
        case .int2Array: .int2Array
        case .int4Array, .optionalInt4Array: .int4Array
        case .int8Array, .optionalInt8Array: .int8Array
        case .xid8Array: .xid8Array
        case .doubleArray: .float8Array
        case .boolArray: .boolArray
        case .textArray: .textArray
        case .bytesArray: .byteaArray
        case .uuidArray, .optionalUUIDArray: .uuidArray
        case .timestampArray, .optionalTimestampArray: .timestamptzArray
        }
    }

    /// The value, or NULL.
    public static func optional(_ value: UUID?) -> PostgresValue { value.map { .uuid($0) } ?? .null }
    /// The value, or NULL.
    public static func optional(_ value: String?) -> PostgresValue { value.map { .text($0) } ?? .null }
    /// The value, or NULL.
    public static func optional(_ value: [UInt8]?) -> PostgresValue { value.map { .bytes($0) } ?? .null }
    /// The value, or NULL.
    public static func optional(_ value: Int32?) -> PostgresValue { value.map { .int4($0) } ?? .null }
    /// The value, or NULL.
    public static func optional(_ value: Int64?) -> PostgresValue { value.map { .int8($0) } ?? .null }
    /// The value, or NULL.
    public static func optional(_ value: Date?) -> PostgresValue { value.map { .timestamp($0) } ?? .null }
}

/// One statement of a pipeline: its text, with `$1 …`, and its parameters.
public struct PostgresStatement: Sendable {
    /// SQL of one statement.
    public var text: String
    /// Values of `$1`, `$2`, …
    public var parameters: [PostgresValue]

    /// Makes a statement.
    public init(_ text: String, _ parameters: [PostgresValue] = []) {
        self.text = text
        self.parameters = parameters
    }
}
