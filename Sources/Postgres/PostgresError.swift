// The one error of this target: what failed, in a form that code can decide on and a log may show.

/// A failure of the database or of the connection to it.
///
/// `description` never shows DETAIL, parameter values or row contents, since those are personal data.
public struct PostgresError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: String, Sendable {
        /// The server refused the statement: see `sqlState`.
        case server
        /// No connection could be made.
        case connectFailed
        /// The connection broke while in use, or before the job began.
        case connectionLost
        /// The task that asked was cancelled.
        case cancelled
        /// The deadline of the job passed.
        case timeout
        /// The server or libpq answered what nobody expected.
        case protocolViolation
        /// A result does not have the shape that the caller asked for.
        case decoding
        /// No connection became free within the pool's wait limit.
        case poolExhausted
        /// Too many jobs wait on one connection.
        case queueFull
        /// The connection or pool was closed by its owner.
        case closed
    }

    /// Kind of failure.
    public var code: Code
    /// SQLSTATE, five characters, where the server gave one.
    public var sqlState: String?
    /// The server's primary message, or ours. May hold data (class 22): `description` withholds it then.
    public var message: String
    /// The server's DETAIL. Holds row contents: never log it.
    public var detail: String?
    /// Name of the constraint that was violated.
    public var constraint: String?
    /// Name of the table concerned.
    public var table: String?
    /// Name of the column concerned.
    public var column: String?
    /// Index of the failing step in a pipeline or script, counted from 0.
    public var step: Int?
    /// A commit was sent and its answer never came: nobody knows whether it holds.
    public var inDoubt: Bool

    /// Makes an error.
    public init(
        _ code: Code, _ message: String, sqlState: String? = nil, detail: String? = nil,
        constraint: String? = nil, table: String? = nil, column: String? = nil, step: Int? = nil,
        inDoubt: Bool = false
    ) {
        self.code = code
        self.message = message
        self.sqlState = sqlState
        self.detail = detail
        self.constraint = constraint
        self.table = table
        self.column = column
        self.step = step
        self.inDoubt = inDoubt
    }

    /// The same work may succeed if tried again, on this or another connection: nothing was wrong with its data.
    ///
    /// SQLSTATE 57014 counts: a late cancel may hit a job that it was not meant for. So does 25006: the leader was demoted.
    public var isTransient: Bool {
        switch code {
        case .connectFailed, .connectionLost, .timeout, .poolExhausted, .queueFull: return true
        case .cancelled, .protocolViolation, .decoding, .closed: return false
        case .server:
            guard let state = sqlState else { return false }
            return ["40001", "40P01", "55P03", "57014", "25006"].contains(state)
                || ["08", "53", "57P0"].contains { state.hasPrefix($0) }
        }
    }

    /// Safe for a log.
    public var description: String {
        var text = "postgres \(code.rawValue)"
        if let sqlState { text += " \(sqlState)" }
        if let step { text += " at step \(step)" }
        if let table { text += " table \(table)" }
        if let column { text += " column \(column)" }
        if let constraint { text += " constraint \(constraint)" }
        // Class 22 (data exception) quotes the value in its primary message.
        text += sqlState?.hasPrefix("22") == true ? ": message withheld" : ": \(message)"
        if inDoubt { text += " (commit in doubt)" }
        return text
    }
}
