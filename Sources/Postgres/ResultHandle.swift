// Owner of one PGresult of libpq.

import CLibPQ

/// One result of the server.
///
/// `@unchecked Sendable`: once libpq has handed a PGresult out it never writes to it again, and the library promises that
/// such a result may be passed between threads (libpq, "Behavior in Threaded Programs"). This type only reads it, and frees
/// it once, in `deinit`, when nobody else holds it. PQclear touches no connection.
final class ResultHandle: @unchecked Sendable {
    enum Status {
        case command
        case tuples
        case copyIn
        case pipelineSync
        case pipelineAborted
        case failed
        case unexpected
    }

    private let pointer: OpaquePointer
    let status: Status
    let rowCount: Int
    let columnCount: Int
    let isBinary: Bool

    /// Takes ownership.
    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
        status =
            switch PQresultStatus(pointer) {
            case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: .command
            case PGRES_TUPLES_OK: .tuples
            case PGRES_COPY_IN: .copyIn
            case PGRES_PIPELINE_SYNC: .pipelineSync
            case PGRES_PIPELINE_ABORTED: .pipelineAborted
            case PGRES_FATAL_ERROR, PGRES_BAD_RESPONSE: .failed
            default: .unexpected
            }
        rowCount = Int(PQntuples(pointer))
        columnCount = Int(PQnfields(pointer))
        isBinary = columnCount > 0 && PQfformat(pointer, 0) == 1
    }

    deinit { PQclear(pointer) }

    /// `INSERT 0 3`, `COMMIT`, …
    var commandTag: String { PQcmdStatus(pointer).map { String(cString: $0) } ?? "" }

    /// Rows that the command touched, 0 for one that touches none.
    var affectedRows: Int { PQcmdTuples(pointer).flatMap { Int(String(cString: $0)) } ?? 0 }

    func type(ofColumn column: Int) -> PostgresType {
        PostgresType(rawValue: PQftype(pointer, Int32(column)))
    }

    func name(ofColumn column: Int) -> String {
        PQfname(pointer, Int32(column)).map { String(cString: $0) } ?? ""
    }

    /// Lends the bytes of a field, nil for NULL. They live as long as the call.
    func withField<R>(
        _ row: Int, _ column: Int, _ body: (UnsafeRawBufferPointer?) throws(PostgresError) -> R
    ) throws(PostgresError) -> R {
        guard row >= 0, row < rowCount, column >= 0, column < columnCount else {
            throw PostgresError(.decoding, "no column \(column) in a row of \(columnCount)")
        }
        defer { withExtendedLifetime(self) {} }
        guard PQgetisnull(pointer, Int32(row), Int32(column)) == 0 else { return try body(nil) }
        let count = Int(PQgetlength(pointer, Int32(row), Int32(column)))
        return try body(
            UnsafeRawBufferPointer(start: PQgetvalue(pointer, Int32(row), Int32(column)), count: count))
    }

    private func field(_ code: Character) -> String? {
        guard let ascii = code.asciiValue else { return nil }
        return PQresultErrorField(pointer, Int32(ascii)).map { String(cString: $0) }
    }

    /// The failure that this result reports. Field codes are those of the protocol ("Error and Notice Message Fields").
    func error(code: PostgresError.Code = .server) -> PostgresError {
        let fallback = PQresultErrorMessage(pointer).map { String(cString: $0) } ?? ""
        return PostgresError(
            code,
            field("M") ?? fallback.split(separator: "\n").first.map(String.init) ?? "no message",
            sqlState: field("C"), detail: field("D"), constraint: field("n"), table: field("t"),
            column: field("c"))
    }

    /// FATAL or PANIC: the server closes the connection after this.
    var endsConnection: Bool { ["FATAL", "PANIC"].contains(field("V")) }

    /// A notice that libpq lends for the time of a callback.
    static func notice(_ pointer: OpaquePointer) -> PostgresNotice {
        func field(_ code: Character) -> String {
            PQresultErrorField(pointer, Int32(code.asciiValue ?? 0)).map { String(cString: $0) } ?? ""
        }
        return PostgresNotice(
            severity: field("V"), sqlState: field("C"), message: field("M"), sourceFunction: field("R"))
    }
}
