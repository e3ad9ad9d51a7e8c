// Every value arrives as it was sent, as parameter and through COPY, alone and in arrays.

import Foundation
import Lab
import Testing

@testable import Postgres

private let someUUID = UUID(uuid: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255))
private let someDate = Date(timeIntervalSince1970: 1_763_999_999.123456)

/// A value, its type in SQL, and the server's own text for it: both sides must agree on what was meant.
private struct Sample: CustomTestStringConvertible {
    var value: PostgresValue
    var type: String
    var text: String?
    var same: @Sendable (PostgresRow) throws -> Bool
    var testDescription: String { "\(type) \(text ?? "NULL")".prefix(60).description }
}

private let samples: [Sample] = [
    Sample(value: .bool(true), type: "bool", text: "true") { try $0.bool(0) },
    Sample(value: .bool(false), type: "bool", text: "false") { try !$0.bool(0) },
    Sample(value: .int2(.min), type: "int2", text: "-32768") { try $0.int2(0) == .min },
    Sample(value: .int4(.max), type: "int4", text: "2147483647") { try $0.int4(0) == .max },
    Sample(value: .int4(-2), type: "int4", text: "-2") { try $0.int8(0) == -2 },
    Sample(value: .int8(.min), type: "int8", text: "-9223372036854775808") { try $0.int8(0) == .min },
    Sample(value: .int8(7), type: "int8", text: "7") { try $0.int4(0) == 7 },
    Sample(value: .xid8(.max), type: "xid8", text: "18446744073709551615") { try $0.xid8(0) == .max },
    Sample(value: .double(-0.1), type: "float8", text: "-0.1") { try $0.double(0) == -0.1 },
    Sample(value: .text(""), type: "text", text: "") { try $0.text(0) == "" },
    Sample(value: .text("één ✉️"), type: "text", text: "één ✉️") { try $0.text(0) == "één ✉️" },
    Sample(value: .bytes([]), type: "bytea", text: "\\x") { try $0.bytes(0) == [] },
    Sample(value: .bytes([0, 255, 39, 92]), type: "bytea", text: "\\x00ff275c") {
        try $0.bytes(0) == [0, 255, 39, 92]
    },
    Sample(value: .uuid(someUUID), type: "uuid", text: "01020304-0506-0708-090a-0b0c0d0e0fff") {
        try $0.uuid(0) == someUUID
    },
    Sample(value: .timestamp(someDate), type: "timestamptz", text: "2025-11-24 15:59:59.123456+00") {
        try abs($0.timestamp(0).timeIntervalSince(someDate)) < 0.000_000_5
    },
    Sample(
        value: .timestamp(Date(timeIntervalSince1970: -1.5)), type: "timestamptz",
        text: "1969-12-31 23:59:58.5+00"
    ) { try $0.timestamp(0) == Date(timeIntervalSince1970: -1.5) },
    Sample(value: .interval(.milliseconds(90_061_500)), type: "interval", text: "25:01:01.5") {
        try $0.interval(0) == .milliseconds(90_061_500)
    },
    Sample(value: .null, type: "int8", text: nil) { try $0.optionalInt8(0) == nil },
    Sample(value: .null, type: "uuid", text: nil) { try $0.optionalUUID(0) == nil },
    Sample(value: .null, type: "bytea", text: nil) { try $0.optionalBytes(0) == nil && $0.isNull(0) },
    Sample(value: .int2Array([1, -1]), type: "int2[]", text: "{1,-1}") { try $0.int2Array(0) == [1, -1] },
    Sample(value: .int4Array([]), type: "int4[]", text: "{}") { try $0.int4Array(0) == [] },
    Sample(value: .int4Array([1, 2, .min]), type: "int4[]", text: "{1,2,-2147483648}") {
        try $0.int4Array(0) == [1, 2, .min]
    },
    Sample(value: .optionalInt4Array([1, nil]), type: "int4[]", text: "{1,NULL}") {
        try $0.optionalInt4Array(0) == [1, nil]
    },
    Sample(value: .int8Array([5]), type: "int8[]", text: "{5}") { try $0.int8Array(0) == [5] },
    Sample(value: .optionalInt8Array([nil, 6]), type: "int8[]", text: "{NULL,6}") {
        try $0.optionalInt8Array(0) == [nil, 6]
    },
    Sample(value: .xid8Array([9]), type: "xid8[]", text: "{9}") { try $0.xid8Array(0) == [9] },
    Sample(value: .doubleArray([0.5]), type: "float8[]", text: "{0.5}") { try $0.doubleArray(0) == [0.5] },
    Sample(value: .boolArray([true, false]), type: "bool[]", text: "{t,f}") {
        try $0.boolArray(0) == [true, false]
    },
    Sample(value: .textArray(["a,b", nil, "", "\"{}"]), type: "text[]", text: #"{"a,b",NULL,"","\"{}"}"#) {
        try $0.optionalTextArray(0) == ["a,b", nil, "", "\"{}"]
    },
    Sample(value: .bytesArray([[1], nil, []]), type: "bytea[]", text: #"{"\\x01",NULL,"\\x"}"#) {
        try $0.optionalBytesArray(0) == [[1], nil, []]
    },
    Sample(
        value: .uuidArray([someUUID]), type: "uuid[]", text: "{01020304-0506-0708-090a-0b0c0d0e0fff}"
    ) { try $0.uuidArray(0) == [someUUID] },
    Sample(value: .optionalUUIDArray([nil]), type: "uuid[]", text: "{NULL}") {
        try $0.optionalUUIDArray(0) == [nil]
    },
    Sample(
        value: .timestampArray([Date(timeIntervalSince1970: 0)]), type: "timestamptz[]",
        text: #"{"1970-01-01 00:00:00+00"}"#
    ) { try $0.timestampArray(0) == [Date(timeIntervalSince1970: 0)] },
    Sample(value: .optionalTimestampArray([nil]), type: "timestamptz[]", text: "{NULL}") {
        try $0.optionalTimestampArray(0) == [nil]
    },
]

@Test("A value arrives as it was sent, and the server reads it as it was meant")
func valuesRoundTrip() async throws {
    let connection = try await connect()
    for sample in samples {
        let (row, copied) = try await connection.perform { session in
            let row = try session.query(
                "SELECT $1::\(sample.type), $1::\(sample.type)::text", [sample.value])[0]
            try session.execute("CREATE TEMP TABLE t (v \(sample.type))")
            var rows = PostgresCopyRows(columns: 1)
            rows.beginRow()
            rows.append(sample.value)
            _ = try session.script([.copy(table: "t", columns: ["v"], rows)])
            let copied = try session.query("SELECT v, v::text FROM t")[0]
            try session.execute("DROP TABLE t")
            return (row, copied)
        }
        for row in [row, copied] {
            #expect(try sample.same(row), "\(sample.testDescription)")
            #expect(try row.optionalText(1) == sample.text, "\(sample.testDescription)")
        }
    }
    await connection.close()
}

@Test("The short appends of COPY write the same bytes as the general one")
func copyAppends() {
    var short = PostgresCopyRows(columns: 9)
    var general = PostgresCopyRows(columns: 9)
    short.beginRow()
    general.beginRow()
    short.append(uuid: someUUID)
    short.append(bytes: [1, 2])
    short.append(text: "é")
    short.append(bool: true)
    short.append(int2: -3)
    short.append(int4: 4)
    short.append(int8: -5)
    short.append(timestamp: someDate)
    short.appendNull()
    for value: PostgresValue in [
        .uuid(someUUID), .bytes([1, 2]), .text("é"), .bool(true), .int2(-3), .int4(4), .int8(-5),
        .timestamp(someDate), .null,
    ] { general.append(value) }
    #expect(short.bytes == general.bytes)
    #expect(short.rowCount == 1 && short.byteCount == short.bytes.count)
}

@Test("Microseconds survive, over the whole range that mail can meet")
func timestampPrecision() {
    let seed = UInt64.random(in: 0...UInt64.max)
    print("seed \(seed)")
    var random = SplitMix(state: seed)
    for _ in 0..<10_000 {
        let micro = Int64.random(in: -2_000_000_000_000_000...4_000_000_000_000_000, using: &random)
        let bytes = withUnsafeBytes(of: micro.bigEndian) { [UInt8]($0) }
        let date = bytes.withUnsafeBytes { BinaryReader.timestamp($0) }
        #expect(date.map(BinaryWriter.timestamp) == micro)
    }
}

struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

@Test("What does not fit what was asked for is an error, never a wrong value")
func misfits() async throws {
    let connection = try await connect()
    let row = try await connection.perform {
        try $0.query(
            "SELECT 70000::int4, NULL::int4, 'x'::text, '{1,NULL}'::int4[], '{{1},{2}}'::int4[], '1 month'::interval"
        )[0]
    }
    let attempts: [(String, () throws -> Void)] = [
        ("too wide", { _ = try row.int2(0) }), ("NULL", { _ = try row.int4(1) }),
        ("text as int", { _ = try row.int4(2) }), ("text as bytea", { _ = try row.bytes(2) }),
        ("NULL in array", { _ = try row.int4Array(3) }), ("two dimensions", { _ = try row.int4Array(4) }),
        ("months", { _ = try row.interval(5) }), ("no such column", { _ = try row.int4(6) }),
        ("uuid", { _ = try row.uuid(0) }), ("array of another type", { _ = try row.int8Array(3) }),
    ]
    for (name, attempt) in attempts {
        #expect(throws: PostgresError.self, "\(name)") { try attempt() }
    }
    await connection.close()
}

@Test("A bytea of 48 MiB goes and comes back")
func bigBytes() async throws {
    let connection = try await connect()
    let bytes = [UInt8](unsafeUninitializedCapacity: 48 << 20) { buffer, count in
        for index in 0..<(48 << 20) { buffer[index] = UInt8(truncatingIfNeeded: index &* 31) }
        count = 48 << 20
    }
    let same = try await connection.perform { session in
        try session.execute("CREATE TEMP TABLE t (v bytea)")
        _ = try session.query("INSERT INTO t VALUES ($1)", [.bytes(bytes)])
        var rows = PostgresCopyRows(columns: 1, reserve: bytes.count)
        rows.beginRow()
        rows.append(bytes: bytes)
        _ = try session.script([.copy(table: "t", columns: ["v"], rows)])
        return try session.query("SELECT v FROM t").map { try $0.bytes(0) == bytes }
    }
    #expect(same == [true, true])
    await connection.close()
}
